//! A stage set for one story: a DNS server, registrars as its targets, Holdline in front of them, phones.

use std::time::Duration;

use holdline::agents::dns::{self, Srv};
use holdline::agents::phone::{self, Phone, RegisterOutcome};
use holdline::agents::wire::Timers;
use holdline::flow::Transport;
use tokio::process::Command;

use super::process::{Holdline, command};
use super::server::{Cast, Server};

/// Long enough that no refresh comes in between.
const TTL: u32 = 3600;

/// What is set up differently from the usual.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The SRV name; its labels say the transport.
    pub name: &'static str,
    pub transport: Transport,
    /// The registrars, in order of priority. Host `a` is `a.pbx.example`.
    pub servers: Vec<Cast>,
    pub ttl: u32,
    /// Further arguments of Holdline.
    pub arguments: Vec<String>,
}

impl Setup {
    /// Registrars `a` and `b` behind UDP, everything at its default.
    pub(crate) fn new() -> Setup {
        Setup {
            name: "_sip._udp.pbx.example",
            transport: Transport::Udp,
            servers: cast(&["a", "b"]),
            ttl: TTL,
            arguments: Vec::new(),
        }
    }

    /// The same behind TCP.
    pub(crate) fn tcp() -> Setup {
        Setup { name: "_sip._tcp.pbx.example", transport: Transport::Tcp, ..Setup::new() }
    }

    pub(crate) fn with(mut self, arguments: &[&str]) -> Setup {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Other registrars.
    pub(crate) fn served_by(self, servers: Vec<Cast>) -> Setup {
        Setup { servers, ..self }
    }

    /// Starts all of it.
    pub(crate) async fn start(self) -> Stage {
        self.start_with(|_| {}).await
    }

    /// The same, with a change to the command before it runs.
    pub(crate) async fn start_with(self, prepare: impl FnOnce(&mut Command)) -> Stage {
        let theatre = Theatre::open(&self).await;
        let mut command = command(&theatre.arguments(&self));
        prepare(&mut command);
        let holdline = Holdline::start_with(command).await;
        holdline.until_page("/readyz", 200).await;
        theatre.with(holdline)
    }
}

/// Registrars of these names that ask for passwords.
pub(crate) fn cast(names: &[&str]) -> Vec<Cast> {
    names.iter().map(|name| Cast { name: (*name).to_owned(), ..Cast::default() }).collect()
}

/// Registrars of these names that ask nobody for a password.
pub(crate) fn trusting(names: &[&str]) -> Vec<Cast> {
    cast(names).into_iter().map(|cast| Cast { trusting: true, ..cast }).collect()
}

/// Everything but Holdline.
pub(crate) struct Theatre {
    pub dns: dns::Server,
    pub servers: Vec<Server>,
    /// The metric labels of the targets.
    pub labels: Vec<String>,
}

impl Theatre {
    pub(crate) async fn open(setup: &Setup) -> Theatre {
        let dns = dns::Server::start().await.unwrap();
        let mut servers = Vec::new();
        for cast in &setup.servers {
            servers.push(Server::cast(cast).await);
        }
        let mut records = Vec::new();
        for (place, (cast, server)) in setup.servers.iter().zip(&servers).enumerate() {
            let host = format!("{}.pbx.example", cast.name);
            dns.set_loopback(&host, setup.ttl);
            records.push(Srv::new(10 * (1 + place as u16), 0, server.port_for(setup.transport), &host));
        }
        dns.set_srv(setup.name, setup.ttl, &records);
        let labels = records.iter().map(|record| format!("{}:{}", record.target, record.port)).collect();
        Theatre { dns, servers, labels }
    }

    /// The arguments of a Holdline for this theatre.
    pub(crate) fn arguments(&self, setup: &Setup) -> Vec<String> {
        let mut arguments = vec![format!("--srv={}", setup.name), format!("--nameserver={}", self.dns.addr())];
        arguments.extend(setup.arguments.iter().cloned());
        arguments
    }

    pub(crate) fn with(self, holdline: Holdline) -> Stage {
        Stage { dns: self.dns, servers: self.servers, labels: self.labels, holdline }
    }
}

/// All of it, running.
pub(crate) struct Stage {
    pub dns: dns::Server,
    pub servers: Vec<Server>,
    /// The metric labels of the targets.
    pub labels: Vec<String>,
    pub holdline: Holdline,
}

impl Stage {
    /// A UDP phone as the RFC has it.
    pub(crate) fn phone(&self, user: &str) -> Phone {
        self.phone_like(user, |options| options)
    }

    /// A UDP phone that gives up after so long.
    pub(crate) fn impatient(&self, user: &str, f: Duration) -> Phone {
        self.phone_like(user, |options| phone::Options { timers: Timers::giving_up_after(f), ..options })
    }

    /// A phone with other options.
    pub(crate) fn phone_like(&self, user: &str, change: impl FnOnce(phone::Options) -> phone::Options) -> Phone {
        phone(&self.holdline, user, change)
    }

    /// A series of the target at this place.
    pub(crate) fn target(&self, place: usize, family: &str) -> String {
        format!("{family}{{target=\"{}\"}}", self.labels[place])
    }

    /// Which target is active: its place.
    pub(crate) async fn active(&self) -> usize {
        let metrics = self.holdline.metrics().await;
        let active: Vec<usize> =
            (0..self.labels.len()).filter(|place| metrics.get(&self.target(*place, "target_active")) == 1).collect();
        assert_eq!(active.len(), 1, "one target is active: {metrics:?}");
        active[0]
    }

    /// Consecutive failures counted against a target.
    pub(crate) async fn count(&self, place: usize) -> u64 {
        self.holdline.metrics().await.get(&self.target(place, "target_consecutive_register_failures"))
    }

    /// How often the three-strike rule has moved the fleet.
    pub(crate) async fn failovers(&self) -> u64 {
        self.holdline.metrics().await.get("failovers_total{reason=\"register_failures\"}")
    }
}

/// A phone of a Holdline's.
pub(crate) fn phone(holdline: &Holdline, user: &str, change: impl FnOnce(phone::Options) -> phone::Options) -> Phone {
    let options = change(phone::Options::new(user, holdline.socket("phone", Transport::Udp)));
    let proxy = match options.transport {
        Transport::Udp => options.proxy,
        other => holdline.socket("phone", other),
    };
    Phone::start(phone::Options { proxy, ..options }).unwrap()
}

/// Registers, and must succeed.
#[track_caller]
pub(crate) fn registered(outcome: RegisterOutcome) {
    assert!(outcome.is_registered(), "{outcome:?}");
}
