//! SIPp as a handful of phones: `tests/peers/register.xml`, and `options.xml` for what comes to them unasked.

use std::fs;
use std::net::SocketAddr;

use holdline::flow::Transport;

use super::tls::Tunnel;
use super::{DOMAIN, file};
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::wait::until;

/// What the phones do.
pub(crate) struct Plan {
    /// How many phones: `phone1` …
    pub phones: usize,
    /// How they talk to their outbound proxy.
    pub transport: Transport,
    /// Seconds they ask for.
    pub expires: u32,
    /// Refreshes after the first registration.
    pub refreshes: usize,
    /// Milliseconds before each.
    pub pause: u64,
}

/// Running phones.
pub(crate) struct Sipp {
    process: Process,
    phones: usize,
    /// Where the phones say they listen.
    pub local: SocketAddr,
    // This SIPp speaks no TLS: its TCP goes through a tunnel, its Via and Contact say TLS.
    _tunnel: Option<Tunnel>,
}

/// One 2xx a phone got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The user part.
    pub phone: String,
    /// The 2xx's Contact header.
    pub contact: String,
}

impl Sipp {
    /// Starts phones whose outbound proxy is `proxy`.
    pub(crate) fn start(plan: &Plan, proxy: SocketAddr, tunnel: Option<Tunnel>) -> Sipp {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fields = (1..=plan.phones)
            .map(|phone| format!("phone{phone};[authentication username=phone{phone} password=secret]\n"));
        let fields: String = std::iter::once("SEQUENTIAL\n".to_owned()).chain(fields).collect();
        fs::write(folder.path().join("phones.csv"), fields).expect("the phones' list");
        let local = SocketAddr::from((proxy.ip(), free_port()));
        let remote = tunnel.as_ref().map_or(proxy, Tunnel::entrance);
        let mut arguments: Vec<String> = vec![remote.to_string()];
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-sf", &file("register.xml"), "-oocsf", &file("options.xml"), "-inf", "phones.csv"]);
        add(&["-t", if plan.transport == Transport::Udp { "u1" } else { "t1" }]);
        add(&["-i", &local.ip().to_string(), "-p", &local.port().to_string()]);
        add(&["-m", &plan.phones.to_string(), "-r", "50", "-nostdin"]);
        add(&["-key", "domain", DOMAIN, "-key", "via", plan.transport.via_token()]);
        add(&["-key", "phone_transport", plan.transport.as_str()]);
        add(&["-key", "expires", &plan.expires.to_string(), "-key", "supported", "path"]);
        add(&["-key", "rounds", &plan.refreshes.to_string(), "-key", "pause", &plan.pause.to_string()]);
        add(&["-trace_logs", "-log_file", "log", "-trace_err", "-error_file", "errors"]);
        add(&["-trace_stat", "-stf", "statistics", "-fd", "1"]);
        let process = Process::start(folder, "sipp", &arguments).expect("sipp starts");
        Sipp { process, phones: plan.phones, local, _tunnel: tunnel }
    }

    /// Every 2xx so far.
    pub(crate) fn granted(&self) -> Vec<Granted> {
        let log = self.process.read("log");
        log.lines()
            .filter_map(|line| line.strip_prefix("registered "))
            .filter_map(|line| {
                let (phone, rest) = line.split_once(" round=")?;
                let contact = rest.split_once(" contact=")?.1.split_once(" expires=")?.0;
                Some(Granted { phone: phone.to_owned(), contact: contact.trim().to_owned() })
            })
            .collect()
    }

    /// Waits until each phone has been granted at least `times` registrations.
    pub(crate) async fn each_granted(&mut self, times: usize) -> Vec<Granted> {
        until(&format!("each phone registered {times} times"), async || {
            let all = self.granted();
            let ended = self.process.ended();
            assert!(
                ended.is_none_or(|code| code == 0),
                "SIPp counts a failed registration:\n{}",
                self.process.read("errors")
            );
            let enough = |phone| all.iter().filter(|one| one.phone == format!("phone{phone}")).count() >= times;
            (1..=self.phones).all(enough).then_some(all)
        })
        .await
    }

    /// The Request-URIs of the OPTIONS that came to the phones.
    pub(crate) fn options(&self) -> Vec<String> {
        let log = self.process.read("log");
        let uris = log.lines().filter_map(|line| line.strip_prefix("options uri="));
        uris.map(|uri| uri.trim_end_matches(" SIP/2.0").to_owned()).collect()
    }

    /// Waits for the end of the plan: every phone's every registration answered with 200, by SIPp's own count.
    pub(crate) async fn finish(mut self) {
        let code = until("SIPp's end", async || self.process.ended()).await;
        let (succeeded, failed) = (self.count("SuccessfulCall(C)"), self.count("FailedCall(C)"));
        let errors = self.process.read("errors");
        assert_eq!((code, succeeded, failed), (0, Some(self.phones), Some(0)), "SIPp's count; its errors:\n{errors}");
    }

    /// Waits until a phone has had to send a REGISTER again.
    pub(crate) async fn retransmitted(&self) {
        until("a retransmission", async || (self.count("Retransmissions(C)") > Some(0)).then_some(())).await;
    }

    /// A cumulative counter, from the last line of SIPp's statistics.
    fn count(&self, name: &str) -> Option<usize> {
        statistic(&self.process, name)
    }
}

/// A counter from the last line of a SIPp's statistics (`-trace_stat -stf statistics`).
pub(crate) fn statistic(process: &Process, name: &str) -> Option<usize> {
    let statistics = process.read("statistics");
    // The last line may be half written.
    let mut lines = statistics[..=statistics.rfind('\n')?].lines();
    let index = lines.next()?.split(';').position(|one| one == name)?;
    lines.next_back()?.split(';').nth(index)?.parse().ok()
}
