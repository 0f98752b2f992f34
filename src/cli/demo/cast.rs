//! The cast: DNS, two registrars, Holdline, and the handsets.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::DemoArgs;
use super::child::{Holdline, Setting, default, differing};
use super::narrator::Narrator;
use crate::agents::dns::{self, Srv};
use crate::agents::phone::{self, Phone, Refresh};
use crate::agents::registrar::{self, Behaviour, Registrar};
use crate::agents::wire::Timers;
use crate::flow::Transport;

/// The customer's domain.
pub(super) const DOMAIN: &str = "pbx.demo.example";
/// The record that Holdline looks up.
const SRV: &str = "_sip._udp.pbx.demo.example";
/// Seconds that DNS answers may be kept.
const TTL: u32 = 30;
/// The handsets refresh this often, so that the story is short.
const REFRESH: Duration = Duration::from_secs(4);

/// The whole cast.
pub(super) struct Cast {
    /// Kept running; it has no lines of its own.
    _dns: dns::Server,
    /// The primary: priority 10.
    pub(super) a: Registrar,
    /// The secondary: priority 20.
    pub(super) b: Registrar,
    /// The one it is about.
    pub(super) holdline: Holdline,
    /// Registered through it.
    pub(super) phones: Vec<Phone>,
    /// Behaves wrongly on request.
    pub(super) rejects: bool,
    /// Holdline's setting.
    pub(super) failures: String,
    /// Holdline's setting.
    pub(super) attempt_timeout: &'static str,
    /// When the handsets were switched on.
    pub(super) since: Instant,
}

impl Cast {
    /// Starts everything but the handsets' registering, and prints where each one is.
    pub(super) async fn assemble(args: &DemoArgs, say: &Narrator) -> anyhow::Result<Cast> {
        say.chapter("Who plays (everything on 127.0.0.1, ephemeral ports)");
        let named = |name| registrar::Options { kept: 10_000, ..registrar::Options::named(name) };
        let a = Registrar::start(named("pbx-a")).context("registrar A cannot be started")?;
        let b = Registrar::start(named("pbx-b")).context("registrar B cannot be started")?;
        if args.registrar_rejects {
            for registrar in [&a, &b] {
                registrar.behave(Behaviour::Answer(403)).await.context("a registrar cannot be told to reject")?;
            }
        }
        let dns = dns::Server::start().await.context("the DNS server cannot be started")?;
        let (port_a, port_b) = (a.addr(Transport::Udp).port(), b.addr(Transport::Udp).port());
        let (name_a, name_b) = (format!("a.{DOMAIN}"), format!("b.{DOMAIN}"));
        dns.set_srv(SRV, TTL, &[Srv::new(10, 0, port_a, &name_a), Srv::new(20, 0, port_b, &name_b)]);
        dns.set_loopback(&name_a, TTL);
        dns.set_loopback(&name_b, TTL);
        say.tell(&format!("DNS server   {}   {SRV}", dns.addr()));
        say.tell(&format!("registrar A  {}   priority 10  {name_a}:{port_a}", a.addr(Transport::Udp)));
        say.tell(&format!("registrar B  {}   priority 20  {name_b}:{port_b}", b.addr(Transport::Udp)));

        let settings = settings(args, &dns);
        let holdline = Holdline::start(&settings).await.context("Holdline cannot be started")?;
        say.tell(&format!(
            "Holdline     {} (UDP), {} (TCP), {} towards the registrars",
            holdline.udp, holdline.tcp, holdline.upstream
        ));
        say.tell("its settings that differ from the shipped defaults:");
        for ((name, value), default) in differing(&settings) {
            let default = if default.is_empty() { "none" } else { default };
            say.tell(&format!("    {name} = {value}   (default: {default})"));
        }
        say.tell(&format!("metrics      http://{}/metrics", holdline.admin));
        say.tell(&format!("status       http://{}/   (open it: it shows what follows as it happens)", holdline.admin));

        let phones = (0..args.phones).map(|number| Phone::start(options(number, &holdline))).collect::<Result<_, _>>();
        let phones = phones.context("a phone cannot be started")?;
        let cast = Cast {
            _dns: dns,
            a,
            b,
            holdline,
            phones,
            rejects: args.registrar_rejects,
            failures: args.failures.map_or_else(|| default("failures").to_owned(), |n| n.to_string()),
            attempt_timeout: default("attempt_timeout"),
            since: Instant::now(),
        };
        cast.introduce_phones(say);
        Ok(cast)
    }

    fn introduce_phones(&self, say: &Narrator) {
        let over = |t| self.phones.iter().filter(|p| p.options().transport == t).count();
        let (udp, tcp) = (over(Transport::Udp), over(Transport::Tcp));
        say.tell(&format!("{} phones    {udp} over UDP, {tcp} over TCP", self.phones.len()));
        say.tell(&format!(
            "             they refresh every {} s or so, whatever they are granted, so that this is short;",
            REFRESH.as_secs()
        ));
        say.tell("             they give up on a REGISTER after 32 s (RFC 3261) or 16 s (Cisco SPA), as real ones do");
    }

    /// The handsets' refreshing begins.
    pub(super) fn switch_phones_on(&self) {
        for (number, phone) in (0_u32..).zip(&self.phones) {
            // Not in step: between half the interval and the whole.
            phone.set_refresh(Refresh::Every(REFRESH / 16 * (16 - number % 8)));
        }
    }
}

/// The settings of Holdline. Everything else is as shipped.
fn settings(args: &DemoArgs, dns: &dns::Server) -> Vec<Setting> {
    let mut settings: Vec<Setting> = vec![
        ("srv", SRV.to_owned()),
        ("nameserver", dns.addr().to_string()),
        ("listen", "udp:127.0.0.1:0".to_owned()),
        ("listen", "tcp:127.0.0.1:0".to_owned()),
        ("upstream_bind", "127.0.0.1:0".to_owned()),
        ("admin", "127.0.0.1:0".to_owned()),
        ("log_format", "json".to_owned()),
    ];
    settings.extend(args.failures.map(|n| ("failures", n.to_string())));
    settings
}

/// Handsets of several kinds.
fn options(number: u16, holdline: &Holdline) -> phone::Options {
    let transport = if number % 3 == 2 { Transport::Tcp } else { Transport::Udp };
    let mut options = phone::Options::new(&format!("{}", 100 + number), holdline.phone_side(transport)).over(transport);
    DOMAIN.clone_into(&mut options.domain);
    "Holdline-Demo-Phone/1".clone_into(&mut options.user_agent);
    options.retry = REFRESH;
    if number % 4 == 1 {
        options.timers = Timers::giving_up_after(Duration::from_secs(16));
    }
    if number % 6 == 3 {
        // As a Cisco 79xx: it sends from one port, listens on another and knows no rport.
        (options.rport, options.split_ports) = (false, true);
    }
    options
}
