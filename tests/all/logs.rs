//! The log: how much of it there is, that it can be read by machines, and what never stands in it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdline::flow::Transport;
use holdline::logging::{Format, Settings, to};
use serde_json::Value;
use tracing::dispatcher::with_default;
use tracing_subscriber::fmt::MakeWriter;

use crate::sim::server::Manner;
use crate::sim::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);

/// Where the log goes while a test runs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Lines {
    /// What was written since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }

    fn take_json(&self) -> Vec<Value> {
        self.take().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// Runs with the log at this level, in this form.
fn logged<T>(level: &str, format: Format, run: impl FnOnce(&Lines) -> T) -> T {
    crate::support::callsites::stay_open();
    let lines = Lines::default();
    let settings = Settings { format, level: level.to_owned() };
    with_default(&to(&settings, lines.clone()), || {
        // A callsite that another test's thread meets for the first time just now may not know of this log yet.
        tracing::callsite::rebuild_interest_cache();
        run(&lines)
    })
}

/// Registers every phone once, spread over this time.
fn round(world: &mut World, over: Duration) {
    let phones = world.phones.len();
    for phone in 0..phones {
        world.register(phone);
        world.run_for(over / phones as u32);
    }
    world.forget();
}

#[test]
fn log_of_a_healthy_day_with_a_thousand_phones_is_at_most_twenty_lines() {
    // Before these come the lines of the start: `log_of_a_start_is_short` counts them.
    const START: usize = 10;
    logged("info", Format::Json, |lines| {
        let mut world = World::new(Setup {
            proxy: holdline::proxy::Settings { register_interval: None, ..Default::default() },
            ..Setup::default()
        });
        for n in 0..1000 {
            world.phone(if n % 4 == 0 { Transport::Tcp } else { Transport::Udp });
        }
        // A connection without a registration would be idle before long.
        round(&mut world, 300 * SECOND);
        let mut registers = 1000;
        while world.seconds() < 24.0 * 3600.0 {
            round(&mut world, 3000 * SECOND);
            registers += 1000;
            let without = world.phones.iter().find(|phone| !phone.registered());
            assert!(without.is_none(), "after {} s: {without:?}", world.seconds());
        }
        assert!(registers >= 28_000 && world.lookups >= 280, "{registers} REGISTERs, {} lookups", world.lookups);
        let said = lines.take_json();
        assert!(said.len() + START <= 20, "{said:#?}");
        assert!(said.iter().all(|line| line["level"] == "INFO"), "{said:#?}");
    });
}

#[test]
fn log_of_an_outage_is_one_summary_for_each_target_in_ten_seconds() {
    for (transport, manner) in [
        (Transport::Udp, Manner::Silent),
        (Transport::Udp, Manner::Status(503)),
        (Transport::Tcp, Manner::Refuse),
        (Transport::Tls, Manner::TlsFailure),
        (Transport::Tcp, Manner::Reset),
    ] {
        logged("info", Format::Json, |lines| {
            let mut world = World::new(Setup { transport, ..Setup::default() });
            for _ in 0..200 {
                world.phone(Transport::Udp);
            }
            world.server("a").manner = manner.clone();
            world.server("b").manner = manner.clone();
            let (mut total, mut rollovers) = (0, 0);
            lines.take();
            for window in 0..30 {
                for phone in 0..200 {
                    if phone % 30 == window {
                        for again in (phone..200).step_by(30) {
                            world.register(again);
                        }
                    }
                }
                // Shorter than the ten seconds, so that two lines in one window are one too many.
                world.run_for(Duration::from_millis(9_990));
                let said = lines.take_json();
                let mut keys: Vec<String> = said
                    .iter()
                    .map(|l| format!("{} {} {} {}", l["message"], l["target"], l["target_host"], l["from"]))
                    .collect();
                keys.sort();
                let all = keys.len();
                keys.dedup();
                assert_eq!(keys.len(), all, "{transport} {manner:?}: {said:#?}");
                // One summary and one rollover for each of the two targets; and that none serves, once.
                assert!(all <= 5, "{transport} {manner:?}: {said:#?}");
                total += all;
                rollovers += said.iter().filter(|line| line["message"] == "rolled over").count();
            }
            assert!(total > 10 && rollovers > 0, "{transport} {manner:?}: an outage is told of");
        });
    }
}

#[test]
fn log_tells_once_that_no_target_serves_and_that_one_does_again() {
    logged("info", Format::Json, |lines| {
        let mut world = World::new(Setup::default());
        let phone = world.phone(Transport::Udp);
        for name in ["a", "b"] {
            world.server(name).manner = Manner::Status(503);
        }
        for _ in 0..6 {
            world.register(phone);
            world.run_for(20 * SECOND);
        }
        for name in ["a", "b"] {
            world.server(name).manner = Manner::Normal;
        }
        world.register(phone);
        world.run_for(20 * SECOND);
        let said = lines.take_json();
        let of = |message: &str| said.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
        let desperate = of("every target has failed since the last success");
        assert_eq!((desperate.len(), &desperate[0]["level"]), (1, &"ERROR".into()), "{said:#?}");
        assert_eq!(of("registrations succeed again").len(), 1, "{said:#?}");
    });
}

#[test]
fn log_follows_a_message_by_its_call_id() {
    for level in ["debug", "trace"] {
        logged(level, Format::Json, |lines| {
            let mut world = World::new(Setup { transport: Transport::Tcp, ..Setup::default() });
            let phone = world.phone(Transport::Udp);
            world.server("a").manner = Manner::Status(503);
            world.register(phone);
            world.run_for(30 * SECOND);
            for name in ["a", "b"] {
                world.server(name).manner = Manner::Silent;
            }
            world.register(phone);
            world.run_for(60 * SECOND);
            let said = lines.take_json();
            let call_id = "call0@10.1.0.1";
            let mut about: Vec<&str> = said
                .iter()
                .filter(|line| line["call_id"] == call_id)
                .map(|line| line["message"].as_str().unwrap())
                .collect();
            about.sort_unstable();
            about.dedup();
            let mut expected = vec![
                "REGISTER attempt ended",
                "answered",
                "forwarded",
                "left without a final answer",
                "request",
                "response sent",
            ];
            if level == "trace" {
                expected.extend(["received", "retransmission absorbed", "sent"]);
            }
            expected.sort_unstable();
            assert_eq!(about, expected, "{level}");
            // What is about a message says which.
            for line in &said {
                let of_message =
                    ["method", "status", "uri", "packet", "attempt"].iter().any(|field| !line[*field].is_null());
                assert_eq!(
                    of_message || line["outcome"].is_string() && line["class"].is_string(),
                    line["call_id"].is_string(),
                    "{line}"
                );
            }
        });
    }
}

#[test]
fn log_lines_cannot_be_forged_by_an_untrusted_peer() {
    let hostile: &[u8] = b"OPTIONS sip:a\x1b[2J\xe2\x80\xaeb@pbx.example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bKx\x07;rport\r\nMax-Forwards: 70\r\n\
        From: <sip:200@pbx.example.com>;tag=1\x1b]0;x\x07\r\nTo: <sip:a@pbx.example.com>\r\n\
        Call-ID: x\x0b\x1b[31m\x852026-01-01T00:00:00Z ERROR forged\xff\r\nCSeq: 1 OPTIONS\r\n\
        Subject: one\r\n\t2026-01-01T00:00:00Z ERROR forged\r\nContent-Length: 0\r\n\r\n";
    logged("trace", Format::Text, |lines| {
        let mut world = World::new(Setup::default());
        let phone = world.phone(Transport::Udp);
        world.phone_sends(phone, hostile.to_vec().into());
        world.phone_sends(phone, b"\x1b[31m\r\n2026-01-01T00:00:00Z ERROR forged\r\n\r\n".to_vec().into());
        world.run_for(60 * SECOND);
        tracing::warn!(
            name = %"a\r\nERROR forged\x1b[1m",
            reason = "b\nERROR forged\u{202e}",
            detail = ?"c\n",
            "{}",
            "d\nERROR forged \u{9b}31m"
        );
        let text = lines.take();
        assert!(text.contains("packet=") && text.contains("call_id="), "{text}");
        for line in text.lines() {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == 27 && time.ends_with('Z') && time.starts_with("20"), "{line}");
            let level = rest.split_whitespace().next().unwrap();
            assert!(["TRACE", "DEBUG", "INFO", "WARN"].contains(&level), "{line}");
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
    });
    logged("info", Format::Json, |lines| {
        tracing::warn!(name = %"a\r\n{\"level\":\"ERROR\"}\x1b[1m\u{2028}", count = 3, good = true, "b\n\"");
        let text = lines.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["count"], &line["good"]), (&"b\n\"".into(), &3.into(), &true.into()));
        assert_eq!(line["name"], "a\r\n{\"level\":\"ERROR\"}\x1b[1m\u{2028}");
        assert_eq!((&line["level"], &line["module"]), (&"WARN".into(), &module_path!().into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    });
}
