//! `holdline trace` through the binary: the ladder, whole messages, captures, what failed a while ago, and readers that are slow or
//! go away.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use holdline::agents::Watched;
use holdline::agents::phone::{self, Phone};
use holdline::flow::Transport;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::process::signal;
use super::server::Cast;
use super::stage::{Setup, Stage, registered};
use crate::support::binary;
use crate::support::installed::installed;
use crate::support::sockets;
use crate::support::wait::{PATIENCE, in_time, until};
use crate::transport::certificates::{Authority, Files};

/// A stage with a control socket. What is listed last has to outlive it.
struct Traced {
    stage: Stage,
    folder: TempDir,
    _certificates: Option<(Authority, Files)>,
}

impl Traced {
    async fn start(setup: Setup) -> Traced {
        let folder = tempfile::tempdir().unwrap();
        let stage = setup.with(&[&format!("--state-dir={}", folder.path().display())]).start().await;
        stage.holdline.logged("control socket").await;
        Traced { stage, folder, _certificates: None }
    }

    /// One target, behind TLS.
    async fn behind_tls(further: &[&str]) -> Traced {
        let authority = Authority::new("pbx authority");
        let files = authority.sign("pbx", &["pbx.example"]);
        let tls = Some((files.cert.clone(), files.key.clone()));
        let servers = vec![Cast { name: "a".to_owned(), tls, ..Cast::default() }];
        let setup = Setup { name: "_sip._tls.pbx.example", transport: Transport::Tls, servers, ..Setup::new() };
        let setup = setup.with(&[&format!("--upstream-ca-only={}", authority.file.display())]).with(further);
        Traced { _certificates: Some((authority, files)), ..Traced::start(setup).await }
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let mut all = vec!["trace".to_owned(), format!("--state-dir={}", self.folder.path().display())];
        all.extend(arguments.iter().map(ToString::to_string));
        all
    }

    /// A trace that has begun.
    async fn trace(&self, arguments: &[&str]) -> Trace {
        // Whoever runs the tests in the background ignores Ctrl-C, and so would all that they start.
        let mut command = Command::new("env");
        command.args(["--ignore-environment", "--default-signal=INT", env!("CARGO_BIN_EXE_holdline")]);
        command.args(self.arguments(arguments)).stdin(Stdio::null());
        Trace::start(command).await
    }

    /// A trace of what has been, to its end.
    async fn last(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(binary::holdline(self.arguments(arguments)));
        let output = in_time("a trace of what has been", command.output()).await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A running `holdline trace`.
struct Trace {
    child: Child,
    out: Watched<String>,
    err: Watched<String>,
}

impl Trace {
    async fn start(command: Command) -> Trace {
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Watched::new(String::new()), Watched::new(String::new()));
        collect(child.stdout.take().unwrap(), out.clone());
        collect(child.stderr.take().unwrap(), err.clone());
        let trace = Trace { child, out, err };
        trace.err.wait("a trace that has begun", PATIENCE, |text| text.contains("; Ctrl-C ends it")).await.unwrap();
        trace
    }

    /// What it has printed once this is part of it, so many times.
    async fn until(&self, part: &str, times: usize) -> String {
        let waited = self.out.wait(part, PATIENCE, |text| text.matches(part).count() >= times).await;
        let text = self.out.read(Clone::clone);
        assert!(waited.is_ok(), "no {part:?} in\n{text}");
        text
    }
}

fn collect(from: impl tokio::io::AsyncRead + Unpin + Send + 'static, into: Watched<String>) {
    let mut lines = BufReader::new(from).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            into.update(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
}

/// The text with times, ports and Call-IDs as they are in every run: of the same width.
fn timeless(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let time = line.len() > 12 && line.as_bytes()[2] == b':' && line.as_bytes()[8] == b'.';
        let line = if time { format!("00:00:00.000{}", &line[12..]) } else { line.to_owned() };
        let line = if line.starts_with("Call-ID ") { "Call-ID …".to_owned() } else { line };
        lines.push(line);
    }
    lines.join("\n")
}

/// The ladder of a handset's registration, as it is in every run.
fn registration(handset: SocketAddr, target: u16) -> String {
    let left = format!("{:14}204@pbx.example {handset} udp", "");
    let right = format!("{:14}{:>65}", "", format!("a.pbx.example:{target} 127.0.0.1:{target} tls"));
    let blank = " ".repeat(31);
    let up = |n: u8| {
        format!(
            "00:00:00.000  |--------- REGISTER {n} --------->|{blank}|\n{}00:00:00.000  |{blank}|--------- REGISTER {n} --------->|",
            if n == 1 { format!("{right}\n") } else { String::new() }
        )
    };
    let down = |arrow: &str| format!("00:00:00.000  |{blank}|{arrow}|\n00:00:00.000  |{arrow}|{blank}|");
    [
        "Call-ID …".to_owned(),
        left,
        up(1),
        down("<------ 401 Unauthorized ------"),
        up(2),
        down("<----------- 200 OK -----------"),
    ]
    .join("\n")
}

#[tokio::test]
async fn trace_shows_a_handsets_registration_over_tls_as_a_ladder_of_eighty_columns() {
    let traced = Traced::behind_tls(&[]).await;
    let mut trace = traced.trace(&["204"]).await;
    registered(traced.stage.phone("300").register().await);
    let phone = traced.stage.phone("204");
    registered(phone.register().await);
    let text = trace.until("200 OK", 2).await;
    let handset = phone.local().await.unwrap();
    assert_eq!(timeless(&text), registration(handset, traced.stage.servers[0].tls_port), "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() < 80) && !text.contains('\x1b'), "{text}");
    signal(&trace.child, "INT").await;
    in_time("its end", trace.child.wait()).await.unwrap();
    assert_eq!(trace.err.read(|text| text.lines().count()), 1, "Ctrl-C ends it without a word");
    assert_eq!(trace.out.read(Clone::clone), text);
}

#[tokio::test]
async fn trace_fits_a_terminal_of_eighty_columns_with_colours() {
    let test = "loopback::trace::trace_fits_a_terminal_of_eighty_columns_with_colours";
    if !installed(test, &["tmux"]) {
        return;
    }
    let traced = Traced::behind_tls(&[]).await;
    let terminal = Terminal::start(&traced.folder, &traced.arguments(&["204"])).await;
    terminal.until("Ctrl-C ends it", 1).await;
    let phone = traced.stage.phone("204");
    registered(phone.register().await);
    let screen = terminal.until("200 OK", 2).await;
    let (_, text) = screen.split_once('\n').unwrap();
    let handset = phone.local().await.unwrap();
    assert_eq!(timeless(text.trim_end()), registration(handset, traced.stage.servers[0].tls_port), "\n{screen}");
    let coloured = terminal.tmux(&["capture-pane", "-e", "-p"]).await;
    assert!(coloured.contains("\x1b[36m") && coloured.contains("\x1b[32m"), "{coloured:?}");
}

/// A terminal of 80 columns that shows one command.
struct Terminal {
    folder: TempDir,
}

impl Terminal {
    async fn start(beside: &TempDir, arguments: &[String]) -> Terminal {
        // A socket's path has 107 bytes at most.
        let folder = tempfile::tempdir_in(beside.path()).unwrap();
        let terminal = Terminal { folder };
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let command = format!("'{}' {}; cat", env!("CARGO_BIN_EXE_holdline"), quoted.join(" "));
        terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "40", &command]).await;
        terminal
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("tmux");
        command.args(["-f", "/dev/null", "-S"]).arg(self.folder.path().join("s")).args(arguments);
        command.env_remove("TMUX").env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        let output = in_time("tmux", command.output()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn until(&self, part: &str, times: usize) -> String {
        until(part, async || {
            let screen = self.tmux(&["capture-pane", "-p"]).await;
            (screen.matches(part).count() >= times).then_some(screen)
        })
        .await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("s");
        // It may have ended already.
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn trace_shows_whole_messages_and_masks_what_is_secret() {
    let traced = Traced::start(Setup::new()).await;
    let masked = traced.trace(&["--raw"]).await;
    let open = traced.trace(&["--raw", "--secrets", "204"]).await;
    let phone = traced.stage.phone("204");
    registered(phone.register().await);
    let sdp = b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20\r\n";
    let headers = [("Content-Type", "application/sdp".to_owned())];
    phone.request("INVITE", "sip:300@pbx.example", &headers, sdp).await;
    let digest = traced.stage.servers[0].report().await.digests.pop().unwrap();
    let (key, crypto) = ("WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:");
    let shown = masked.until(crypto, 1).await;
    assert!(!shown.contains(&digest) && !shown.contains(key), "{shown}");
    assert!(shown.contains(&format!("response=\"{}\"", "x".repeat(digest.len()))), "{shown}");
    assert!(shown.contains(&format!("{crypto}{}|2^20", "x".repeat(key.len()))), "{shown}");
    let shown = open.until(key, 1).await;
    assert!(shown.contains(&digest), "{shown}");
    let line = traced.stage.holdline.logged_times("trace asked for over the control socket", 2).await;
    assert_eq!(line["secrets"], true, "whoever reads secrets is in the log");
}

#[tokio::test]
async fn trace_writes_a_capture_that_tshark_and_sngrep_read_as_sip() {
    let test = "loopback::trace::trace_writes_a_capture_that_tshark_and_sngrep_read_as_sip";
    if !installed(test, &["tshark", "sngrep"]) {
        return;
    }
    let listen = if crate::transport::has_ipv6() { ",udp:[::1]:0" } else { "" };
    let traced = Traced::behind_tls(&[&format!("--listen=udp:127.0.0.1:0,tcp:127.0.0.1:0{listen}")]).await;
    let file = traced.folder.path().join("trace.pcap");
    let trace = traced.trace(&["--pcap", &file.display().to_string()]).await;
    let udp = traced.stage.phone("204");
    registered(udp.register().await);
    registered(traced.stage.phone_like("205", |options| options.over(Transport::Tcp)).register().await);
    let mut registrations = 2;
    if !listen.is_empty() {
        registered(over_ipv6(&traced.stage).register().await);
        registrations += 1;
    }
    trace.until("200 OK", 2 * registrations).await;

    let read = |arguments: &[&str]| tshark(&file, traced.folder.path(), arguments);
    let summary = read(&[]);
    for complaint in ["_ws.malformed", "!sip", "_ws.expert.severity >= 8388608", "udp.checksum.status == 0"] {
        let found = read(&["-o", "udp.check_checksum:TRUE", "-Y", complaint]);
        assert!(found.is_empty(), "{complaint}:\n{found}\nof\n{summary}");
    }
    assert_eq!(read(&["-Y", "sip.Method == \"REGISTER\""]).lines().count(), 4 * registrations, "{summary}");
    let fields = ["-T", "fields", "-e", "ip.src", "-e", "udp.srcport", "-e", "ip.dst", "-e", "udp.dstport"];
    let filter = format!("udp.port == {}", udp.local().await.unwrap().port());
    let directions = read(&[&["-Y", &filter], &fields[..]].concat());
    let (ours, its) = (traced.stage.holdline.socket("phone", Transport::Udp), udp.local().await.unwrap());
    let (to_us, from_us) = (addresses(its, ours), addresses(ours, its));
    assert_eq!(directions.lines().collect::<Vec<_>>(), [&to_us, &from_us, &to_us, &from_us]);
    let target = traced.stage.servers[0].tls_port;
    let to_target = read(&["-Y", &format!("sip.Request-Line && udp.dstport == {target}")]);
    assert_eq!(to_target.lines().count(), 2 * registrations, "TLS in clear: {summary}");
    if !listen.is_empty() {
        assert_eq!(read(&["-Y", "ipv6"]).lines().count(), 4, "{summary}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // What sngrep takes for SIP it writes to another file.
    let copy = traced.folder.path().join("copy.pcap");
    let mut sngrep = Command::new("timeout");
    sngrep.args(["60", "sngrep", "-N", "-q", "-I"]).arg(&file).arg("-O").arg(&copy).env("TERM", "xterm");
    let output = sngrep.env("HOME", traced.folder.path()).stdin(Stdio::null()).output().unwrap();
    let copied = tshark(&copy, traced.folder.path(), &["-Y", "sip"]);
    assert_eq!(copied.lines().count(), 8 * registrations, "{output:?}\n{copied}");
}

fn over_ipv6(stage: &Stage) -> Phone {
    let lines = stage.holdline.lines();
    let six = lines.iter().filter_map(binary::address).find(SocketAddr::is_ipv6).unwrap();
    Phone::start(phone::Options::new("206", six)).unwrap()
}

fn addresses(from: SocketAddr, to: SocketAddr) -> String {
    format!("{}\t{}\t{}\t{}", from.ip(), from.port(), to.ip(), to.port())
}

/// What tshark prints about a file, of which it is told nothing.
fn tshark(file: &Path, home: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark").arg("-r").arg(file).args(arguments).env("HOME", home).output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn trace_looks_back_at_the_strikes_of_a_rollover_that_nobody_watched() {
    let traced = Traced::start(Setup::new().with(&["--attempt-timeout=500ms"])).await;
    assert_eq!(traced.last(&["--last", "5m"]).await, "nothing of the kind has failed in the last 5 min\n");
    traced.stage.servers[0].behave("silent").await;
    registered(traced.stage.phone("204").register().await);
    let text = traced.last(&["--last", "5m", "204"]).await;
    let label = &traced.stage.labels[0];
    for (count, part) in [
        (1, "strike 1".to_owned()),
        (1, "strike 2".to_owned()),
        (1, "the last strike".to_owned()),
        (1, format!("rollover: {label} -> ")),
        (4, " REGISTER 1 ".to_owned()),
    ] {
        assert_eq!(text.matches(&part).count(), count, "{part}:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    assert!(traced.last(&["--last", "5m", "300"]).await.contains("rollover"), "what moved everybody is for everybody");
    let raw = traced.last(&["--last", "5m", "--raw", "204"]).await;
    assert_eq!(raw.matches("REGISTER sip:pbx.example SIP/2.0").count(), 4, "{raw}");
}

#[tokio::test]
async fn trace_shows_failures_alone_once_they_have_failed() {
    let traced = Traced::start(Setup::new().with(&["--retry=false", "--exhausted=503"])).await;
    let trace = traced.trace(&["--failures"]).await;
    registered(traced.stage.phone("300").register().await);
    traced.stage.servers[0].behave("answer 503").await;
    assert!(!traced.stage.phone("204").register().await.is_registered());
    let text = trace.until("answered 503, strike 1", 1).await;
    assert!(text.contains("204@pbx.example") && !text.contains("300@pbx.example"), "{text}");
    assert!(text.contains("|<--- 503 Service Unavailable --|"), "the target's answer: {text}");
}

#[tokio::test]
async fn trace_that_nobody_reads_loses_messages_and_delays_nothing() {
    let traced = Traced::start(Setup::new()).await;
    let mut command = binary::holdline(traced.arguments(&["--raw"]));
    command.stdout(Stdio::piped());
    let mut running = binary::Running::start(command);
    traced.stage.holdline.logged("trace asked for over the control socket").await;
    let socket = sockets::udp();
    flood(&socket, traced.stage.holdline.socket("phone", Transport::Udp), 4000);
    registered(traced.stage.phone("204").register().await);
    let mut out = running.child.stdout.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        let mut buffer = vec![0; 65_536];
        while !String::from_utf8_lossy(&text[text.len().saturating_sub(70_000)..]).contains("messages lost here") {
            let read = std::io::Read::read(&mut out, &mut buffer).unwrap();
            assert_ne!(read, 0, "it ended");
            text.extend(&buffer[..read]);
        }
        text.len()
    });
    assert!(in_time("what was lost", read).await.unwrap() < 4_000_000, "it does not hold what it has no room for");
}

/// So many requests with a body, each answered before the next one goes: Holdline keeps up.
fn flood(socket: &UdpSocket, to: SocketAddr, many: usize) {
    let body = "x".repeat(1000);
    for n in 0..many {
        let request = format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{n};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:flood@pbx.example>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: {n}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\n{body}",
            socket.local_addr().unwrap()
        );
        socket.send_to(request.as_bytes(), to).unwrap();
        socket.recv_from(&mut [0; 2048]).expect("an answer");
    }
}

#[tokio::test]
async fn traces_are_bounded_and_leave_other_questions_room_and_a_closed_pipe_ends_one() {
    let traced = Traced::start(Setup::new()).await;
    let mut traces = Vec::new();
    for _ in 0..4 {
        traces.push(traced.trace(&[]).await);
    }
    let refused = binary::holdline(traced.arguments(&[])).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), said.contains("4 traces run already")), (Some(69), true), "{said}");
    let state_dir = format!("--state-dir={}", traced.folder.path().display());
    let phones = binary::holdline(["phones", &state_dir]).output().unwrap();
    assert_eq!(phones.status.code(), Some(1), "it is answered: {phones:?}");
    drop(traces);
    // One that ends makes room, as soon as it is seen to have ended.
    until("room for another trace", async || {
        let mut command = binary::holdline(traced.arguments(&[]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let mut first = BufReader::new(child.stderr.take().unwrap()).lines();
        let begun = first.next_line().await.unwrap().is_some_and(|line| line.contains("Ctrl-C"));
        if !begun {
            return None;
        }
        drop(child.stdout.take());
        registered(traced.stage.phone("204").register().await);
        let ended = in_time("an end for want of a reader", child.wait()).await.unwrap();
        let more = first.next_line().await.unwrap();
        assert!(ended.success() && more.is_none(), "{ended:?} {more:?}");
        Some(())
    })
    .await;
    let mut trace = traced.trace(&[]).await;
    drop(traced.stage);
    let ended = tokio::time::timeout(Duration::from_secs(60), trace.child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(69), "Holdline has gone, and that is said");
    let said = trace.err.wait("why", PATIENCE, |text| text.contains("has stopped") || text.contains("broke off"));
    said.await.unwrap();
}
