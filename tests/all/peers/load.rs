//! SIPp makes fifty calls a second for a minute through Holdline: no call fails, nothing unexpected comes, nothing is sent
//! twice. Then Holdline's tables and its memory are as before.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdline::flow::Transport;

use super::holdline::Holdline;
use super::sipp::{Plan, Sipp, statistic};
use super::tls::Authority;
use super::{DOMAIN, file};
use crate::support::installed::installed;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::wait::within;

/// A second's calls of a whole test.
const RATE: usize = 50;

/// A minute's.
const CALLS: usize = RATE * 60;

/// A minute's calls, and time to spare for a busy machine.
const LOAD_BOUND: Duration = Duration::from_secs(150);

/// Transactions end 32 s after their answers (Timers J, L and M), and these must have been waited for.
const QUIET_BOUND: Duration = Duration::from_secs(60);

/// A SIPp that makes or takes calls.
struct Agent {
    name: &'static str,
    process: Process,
    local: SocketAddr,
}

impl Agent {
    /// `arguments` beside those that every one gets; `files` go into its folder.
    fn start(name: &'static str, local: SocketAddr, arguments: &[&str], files: &[(&str, &str)]) -> Agent {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("SIPp's file");
        }
        let mut all: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-t", "u1", "-i", &local.ip().to_string(), "-p", &local.port().to_string(), "-nostdin"]);
        add(&["-key", "domain", DOMAIN, "-buff_size", "4000000", "-l", "2000"]);
        add(&["-trace_logs", "-log_file", "log", "-trace_err", "-error_file", "errors"]);
        add(&["-trace_stat", "-stf", "statistics", "-fd", "1"]);
        Agent { name, process: Process::start(folder, "sipp", &all).expect("sipp starts"), local }
    }

    fn count(&self, name: &str) -> usize {
        statistic(&self.process, name).unwrap_or(0)
    }

    /// Waits until so many of its calls have succeeded and none is open.
    async fn succeeded(&self, calls: usize) {
        self.until(&format!("{calls} calls, and none open"), || {
            self.count("SuccessfulCall(C)") >= calls && self.count("CurrentCall") == 0
        })
        .await;
        self.check();
    }

    /// Waits until two thirds of its calls have succeeded.
    async fn two_thirds(&self, calls: usize) {
        self.until("two thirds of the calls", || self.count("SuccessfulCall(C)") >= calls * 2 / 3).await;
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let waited = within(LOAD_BOUND, what, async || {
            self.check();
            let calls = self.count("SuccessfulCall(C)");
            if done() { Ok(()) } else { Err(format!("{calls} calls")) }
        });
        waited.await.unwrap_or_else(|late| panic!("{}: {late}\n{}", self.name, self.process.output()));
    }

    /// No failed call, and no message that its scenario does not expect.
    fn check(&self) {
        for counter in
            ["FailedCall(C)", "FailedUnexpectedMessage(C)", "OutOfCallMsgs(C)", "DeadCallMsgs(C)", "Warnings(C)"]
        {
            let count = self.count(counter);
            assert_eq!(count, 0, "{}: {counter}; its errors:\n{}", self.name, self.process.read("errors"));
        }
    }
}

/// The longest time for which a thread that wanted to run every few milliseconds could not.
struct Stalls {
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    fn watch() -> Stalls {
        let (longest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (Arc::clone(&longest), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let gap = last.elapsed();
                last = Instant::now();
                seen.fetch_max(u64::try_from(gap.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Stalls { longest, stop, thread: Some(thread) }
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What was sent twice, by SIPp's count and by Holdline's.
async fn retransmissions(agents: &[&Agent], holdline: &Holdline) -> usize {
    let counted: usize = agents.iter().map(|agent| agent.count("Retransmissions(C)")).sum();
    counted + holdline.metric("holdline_retransmissions_total", "").await as usize
}

/// Runs `round` until one passes without a retransmission. One with retransmissions is forgiven, twice, where the machine
/// itself stood still for long enough to explain them: half a second (T1) is what all programs on the way have together.
async fn without_retransmissions(test: &str, round: impl AsyncFn() -> usize) {
    for attempt in 1..=3 {
        let stalls = Stalls::watch();
        let retransmitted = round().await;
        if retransmitted == 0 {
            return;
        }
        let stall = stalls.longest();
        assert!(
            attempt < 3 && stall >= Duration::from_millis(100),
            "{test}: {retransmitted} retransmissions; the longest stall of the machine was {stall:?}"
        );
        eprintln!("{test}: {retransmitted} retransmissions, but the machine stood still for {stall:?}; once more");
    }
}

/// Holdline's resident memory, in bytes.
struct Memory {
    /// Before the first call.
    before: f64,
    /// After two thirds of the minute: more transactions than now there will never be, for those of the first calls have
    /// ended by now.
    full: f64,
}

async fn resident(holdline: &Holdline) -> f64 {
    let bytes = holdline.metric("process_resident_memory_bytes", "").await;
    assert!(bytes > 0.0);
    bytes
}

/// Nothing is left of the calls: no transaction, and no memory. The last third of the calls fits where the first ones were,
/// and an allocator keeps some of that for the next ones; one kilobyte lost with every call would be seen in the former.
async fn check_nothing_left(holdline: &Holdline, Memory { before, full }: Memory) {
    let waited = within(QUIET_BOUND, "the last transaction's end", async || {
        let left = holdline.metric("holdline_transactions", "").await;
        if left < 0.5 { Ok(()) } else { Err(format!("{left} transactions are left")) }
    });
    waited.await.unwrap_or_else(|late| panic!("{late}"));
    let after = resident(holdline).await;
    let seen = format!(
        "resident memory: {:.1} MB before the calls, {:.1} MB during them, {:.1} MB after them",
        before / 1e6,
        full / 1e6,
        after / 1e6
    );
    eprintln!("{seen}");
    assert!(after <= full + CALLS as f64 / 3.0 * 1024.0, "{seen}");
    assert!(after <= before + 16e6, "{seen}");
}

/// The calls reached their end without Holdline's noticing anything, either.
async fn check_quiet(holdline: &Holdline) {
    for labels in ["code_class=\"5xx\"", "code_class=\"6xx\""] {
        assert!(holdline.metric("holdline_responses_total", labels).await < 0.5, "{labels}");
    }
    assert!(holdline.metric("holdline_messages_dropped_total", "").await < 0.5, "something was dropped");
    assert!(holdline.metric("holdline_udp_receive_drops_total", "").await < 0.5, "the kernel dropped something");
    assert_eq!(holdline.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn sipps_own_pair_makes_fifty_calls_a_second_and_leaves_nothing() {
    let test = "peers::load::sipps_own_pair_makes_fifty_calls_a_second_and_leaves_nothing";
    if !installed(test, &["sipp"]) {
        return;
    }
    without_retransmissions(test, async || {
        let uas = Agent::start("uas", free_address(), &["-sn", "uas"], &[]);
        let authority = Authority::new();
        let holdline = Holdline::before(&[uas.local.port()], Transport::Udp, &authority, &[]).await;
        let before = resident(&holdline).await;
        let (proxy, rate, calls) = (holdline.sip.to_string(), RATE.to_string(), CALLS.to_string());
        let uac = Agent::start("uac", free_address(), &[&proxy, "-sn", "uac", "-r", &rate, "-m", &calls], &[]);
        uac.two_thirds(CALLS).await;
        let memory = Memory { before, full: resident(&holdline).await };
        uac.succeeded(CALLS).await;
        uas.succeeded(CALLS).await;
        let retransmitted = retransmissions(&[&uac, &uas], &holdline).await;
        check_quiet(&holdline).await;
        check_nothing_left(&holdline, memory).await;
        retransmitted
    })
    .await;
}

/// Phones that have registered with digest call the PBX, and the PBX calls them, at once: two provisional answers, the
/// second with PRACK, hold by re-INVITE, BYE from either side; every fourth call is cancelled while it rings.
#[tokio::test]
async fn our_own_scenarios_make_fifty_calls_a_second_in_both_directions_and_leave_nothing() {
    let test = "peers::load::our_own_scenarios_make_fifty_calls_a_second_in_both_directions_and_leave_nothing";
    if !installed(test, &["sipp"]) {
        return;
    }
    without_retransmissions(test, both_directions).await;
}

async fn both_directions() -> usize {
    const PHONES: usize = 20;
    let callee = file("callee.xml");
    let pbx = Agent::start("callee at the PBX", free_address(), &["-sf", &callee], &[]);
    let authority = Authority::new();
    let holdline = Holdline::before(&[pbx.local.port()], Transport::Udp, &authority, &[]).await;
    let plan = Plan { phones: PHONES, transport: Transport::Udp, expires: 3600, refreshes: 0, pause: 0 };
    let registering = Sipp::start(&plan, holdline.sip, None);
    let phones = registering.local;
    registering.finish().await;
    pbx.succeeded(PHONES).await;
    let log = pbx.process.read("log");
    let contacts: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("contact ")).map(str::trim).collect();
    assert_eq!(contacts.len(), PHONES, "{log}");
    // Whoever listens at the phones' Contacts from now on.
    let phone = Agent::start("callee at the phones", phones, &["-sf", &callee], &[]);
    let before = resident(&holdline).await;

    let caller = file("caller.xml");
    let (rate, calls) = ((RATE / 2).to_string(), (CALLS / 2).to_string());
    let common = ["-sf", &caller, "-r", &rate, "-m", &calls, "-inf", "calls.csv"];
    // A phone's call is ended by either side; what the PBX's caller began it ends itself: requests of a phone go to the SRV
    // target, and this SIPp calls from a port of its own.
    let kinds = |ends: [&'static str; 4]| move |index: usize| ends[index % 4];
    let row = |kind: &str, index: usize, uri: &str| format!("{kind};{uri};phone{}\n", index % PHONES + 1);
    let (up_kind, down_kind) =
        (kinds(["talk", "leave", "talk", "cancel"]), kinds(["leave", "leave", "leave", "cancel"]));
    let called = format!("sip:callee@{DOMAIN}");
    let up: String = (0..PHONES).map(|index| row(up_kind(index), index, &called)).collect();
    let down: String = contacts.iter().enumerate().map(|(index, uri)| row(down_kind(index), index, uri)).collect();
    let start = |name, proxy: SocketAddr, rows: &str| {
        let proxy = proxy.to_string();
        let arguments = [&[proxy.as_str()], common.as_slice()].concat();
        Agent::start(name, free_address(), &arguments, &[("calls.csv", &format!("SEQUENTIAL\n{rows}"))])
    };
    let calls_up = start("caller at the phones", holdline.sip, &up);
    let calls_down = start("caller at the PBX", holdline.upstream, &down);
    calls_up.two_thirds(CALLS / 2).await;
    calls_down.two_thirds(CALLS / 2).await;
    let memory = Memory { before, full: resident(&holdline).await };
    calls_up.succeeded(CALLS / 2).await;
    calls_down.succeeded(CALLS / 2).await;
    pbx.succeeded(PHONES + CALLS / 2).await;
    phone.succeeded(CALLS / 2).await;

    let retransmitted = retransmissions(&[&pbx, &phone, &calls_up, &calls_down], &holdline).await;
    check_quiet(&holdline).await;
    check_nothing_left(&holdline, memory).await;
    retransmitted
}
