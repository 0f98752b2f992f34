//! A call as tshark sees it on the wire: no SIP that Wireshark's dissector finds malformed, and every Content-Length right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdline::flow::Transport;

use super::calls::{Ends, Nth, call, handset};
use super::holdline::Holdline;
use super::kamailio::Kamailio;
use super::tls::Authority;
use crate::support::installed::installed;
use crate::support::installed::not_run;
use crate::support::process::{Process, Signal};
use crate::support::wait::until;

/// A running capture of some ports of the loopback interface.
struct Capture {
    process: Process,
    file: PathBuf,
    ports: Vec<u16>,
}

impl Capture {
    async fn start(ports: &[u16]) -> Capture {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("call.pcapng");
        let filter = ports.iter().map(|port| format!("port {port}")).collect::<Vec<_>>().join(" or ");
        // Of its own accord it would wait for a block of packets before it writes any.
        let arguments = ["-i", "lo", "-f", &filter, "-B", "16", "-w", &file.display().to_string()].map(str::to_owned);
        let mut process = Process::start(folder, "dumpcap", &arguments).expect("dumpcap starts");
        until("a capture", async || {
            assert!(process.ended().is_none(), "dumpcap ended: {}", process.output());
            process.output().contains("File: ").then_some(())
        })
        .await;
        Capture { process, file, ports: ports.to_vec() }
    }

    /// Ends the capture once everything up to now is in the file: nothing more has come for a second.
    async fn end(&mut self) {
        let mut last = (0, 0);
        until("an end of packets", async || {
            let size = std::fs::metadata(&self.file).map_or(0, |file| file.len());
            last = if size == last.0 { (size, last.1 + 1) } else { (size, 0) };
            (size > 0 && last.1 >= 50).then_some(())
        })
        .await;
        self.process.signal(Signal::Interrupt);
        until("dumpcap's end", async || self.process.ended()).await;
    }

    /// What tshark prints about the capture with these arguments, all its ports decoded as SIP.
    fn tshark(&self, arguments: &[&str]) -> String {
        let decode = self.ports.iter().flat_map(|port| {
            ["udp", "tcp"].into_iter().flat_map(move |kind| ["-d".to_owned(), format!("{kind}.port=={port},sip")])
        });
        let output = Command::new("tshark")
            .arg("-r")
            .arg(&self.file)
            .args(decode)
            .args(arguments)
            .env("HOME", self.file.parent().unwrap_or(Path::new("/")))
            .output()
            .expect("tshark runs");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What each sender put on the wire: every datagram, and each direction of every connection.
    fn payloads(&self) -> Vec<Vec<u8>> {
        let datagrams = self.tshark(&["-Y", "udp", "-T", "fields", "-e", "udp.payload"]);
        let mut all: Vec<Vec<u8>> = datagrams.lines().map(bytes).collect();
        let numbers = self.tshark(&["-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.stream"]);
        for stream in numbers.lines().collect::<BTreeSet<_>>() {
            let text = self.tshark(&["-q", "-z", &format!("follow,tcp,raw,{stream}")]);
            let mut directions = [Vec::new(), Vec::new()];
            for line in text.lines() {
                // The second peer's lines are indented.
                let direction = usize::from(line.starts_with('\t'));
                let digits = line.trim();
                if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    directions[direction].extend(bytes(digits));
                }
            }
            all.extend(directions);
        }
        all
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("hexadecimal")).collect()
}

/// Takes SIP messages off the front until nothing is left, and counts them. Every one must say how long its body is, and
/// the next must begin right behind that.
fn messages(mut text: &[u8]) -> usize {
    let mut count = 0;
    loop {
        // Empty lines keep a flow open.
        while let Some(rest) = text.strip_prefix(b"\r\n") {
            text = rest;
        }
        if text.is_empty() || text.iter().all(|byte| *byte == 0) {
            return count;
        }
        let head = text.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole header") + 4;
        let header = String::from_utf8_lossy(&text[..head]);
        let first = header.lines().next().unwrap_or_default();
        assert!(first.starts_with("SIP/2.0 ") || first.ends_with(" SIP/2.0"), "a message begins with {first:?}");
        let lengths: Vec<usize> = header
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| matches!(name.trim().to_ascii_lowercase().as_str(), "content-length" | "l"))
            .map(|(_, value)| value.trim().parse().expect("a number"))
            .collect();
        assert_eq!(lengths.len(), 1, "{header}");
        let body = text.get(head..head + lengths[0]);
        assert!(body.is_some(), "Content-Length {} of {}:\n{header}", lengths[0], text.len() - head);
        text = &text[head + lengths[0]..];
        count += 1;
    }
}

/// A capture of nothing shows whether this user may capture at all.
fn may_capture(test: &str) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("probe.pcapng").display().to_string();
    let probe = Command::new("timeout")
        .args(["30", "dumpcap", "-i", "lo", "-a", "duration:1", "-f", "port 1", "-w", &file])
        .output()
        .expect("dumpcap runs");
    probe.status.success() || not_run(test, &["the right to capture on lo"])
}

#[tokio::test]
async fn a_calls_capture_is_clean() {
    let test = "peers::capture::a_calls_capture_is_clean";
    if !installed(test, &["baresip", "kamailio", "tshark", "dumpcap"]) || !may_capture(test) {
        return;
    }
    for upstream in [Transport::Tcp, Transport::Udp] {
        let authority = Authority::new();
        let kamailio = Kamailio::start(&authority, 3600).await;
        let holdline = Holdline::start(&[&kamailio], upstream, &authority, &[]).await;
        let mut capture = Capture::start(&[holdline.sip.port(), holdline.upstream.port(), kamailio.sip.port()]).await;
        let mut a = handset("a", &holdline, Transport::Udp, &authority).await;
        let mut b = handset("b", &holdline, Transport::Tcp, &authority).await;
        call(&mut a, &mut b, "b", Ends::Caller, Nth(1)).await;
        call(&mut b, &mut a, "a", Ends::Callee, Nth(2)).await;
        tokio::time::timeout(Duration::from_secs(60), capture.end()).await.expect("an end of the capture");

        // Two calls of an INVITE, four re-INVITEs and a BYE each; Wireshark must have found them to be SIP.
        for method in ["REGISTER", "INVITE", "ACK", "BYE"] {
            let found = capture.tshark(&["-Y", &format!("sip.Method == \"{method}\"")]);
            assert!(found.lines().count() >= 8, "{method}:\n{found}");
        }
        for complaint in ["_ws.malformed", "sip && _ws.expert.severity >= 8388608"] {
            let found = capture.tshark(&["-Y", complaint, "-V"]);
            assert!(found.is_empty(), "{complaint}:\n{found}");
        }
        let counted: usize = capture.payloads().iter().map(|payload| messages(payload)).sum();
        assert!(counted >= 100, "only {counted} messages");
    }
}
