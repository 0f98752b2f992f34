//! kill -9, at any moment: what a PBX and a phone rely on is known to the next process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use holdline::agents::dns::{self, Srv};
use tokio::time::Instant;

use super::peer::{Peer, answer, header};
use crate::support::ports::free_port;
use crate::support::wait::{until, until_blocking};

/// A process that is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(state: &Path, phones: u16, upstream: u16, more: &[String]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
        command.args(["run", "--admin=127.0.0.1:0", "--log-level=error", "--register-interval=0"]);
        command.arg(format!("--listen=udp:127.0.0.1:{phones}")).arg(format!("--upstream-bind=127.0.0.1:{upstream}"));
        command.arg(format!("--state-dir={}", state.display())).args(more);
        Process(command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn register(user: &str, phone: u16, sequence: u32) -> String {
    format!(
        "REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{phone};branch=z9hG4bK-{user}-{sequence};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.example>;tag=f\r\nTo: <sip:{user}@pbx.example>\r\nCall-ID: {user}\r\n\
         CSeq: {sequence} REGISTER\r\nContact: <sip:{user}@127.0.0.1:{phone}>;expires=3600\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Numbers that look random and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What happened so far, by user.
#[derive(Default)]
struct Seen {
    /// Contacts that the registrar has answered 200 to.
    accepted: HashMap<String, String>,
    /// Users whose phone saw that 200.
    granted: HashSet<String>,
    /// Users whose phone was asked since this was emptied.
    reached: HashSet<String>,
    /// Final answers to the registrar's INVITEs.
    refused: HashMap<String, String>,
}

/// One Holdline after the other on the same ports and directory, a registrar and phones.
struct Lane {
    seen: Arc<Mutex<Seen>>,
    registrar: Peer,
    phones: Peer,
    state: tempfile::TempDir,
    ports: (u16, u16),
    asked: u32,
}

impl Lane {
    fn new() -> Lane {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let at_registrar = seen.clone();
        let registrar = Peer::new(move |socket, from, message| {
            let mut seen = at_registrar.lock().unwrap();
            let call = header(message, "Call-ID:").unwrap_or_default().to_owned();
            if message.starts_with("REGISTER ") {
                let contact = header(message, "Contact:").unwrap();
                let uri = contact.trim_start_matches('<').split('>').next().unwrap().to_owned();
                let contact = format!("Contact: <{uri}>;expires=3600\r\n");
                seen.accepted.insert(call, uri);
                drop(seen);
                socket.send_to(answer(message, "200 OK", &contact).as_bytes(), from).unwrap();
            } else if let Some(status) = message.strip_prefix("SIP/2.0 ").filter(|status| !status.starts_with('1')) {
                seen.refused.insert(call, status.lines().next().unwrap().to_owned());
            }
        });
        let at_phones = seen.clone();
        let phones = Peer::new(move |socket, from, message| {
            let mut seen = at_phones.lock().unwrap();
            if message.starts_with("SIP/2.0 200 ") {
                seen.granted.insert(header(message, "Call-ID:").unwrap().to_owned());
            } else if let Some(uri) = message.strip_prefix("INVITE sip:") {
                seen.reached.insert(uri.split('@').next().unwrap().to_owned());
                drop(seen);
                socket.send_to(answer(message, "486 Busy Here", "").as_bytes(), from).unwrap();
            }
        });
        let ports = (free_port(), free_port());
        Lane { seen, registrar, phones, state: tempfile::tempdir().unwrap(), ports, asked: 0 }
    }

    fn start(&self) -> Process {
        let proxy = format!("--outbound-proxy=127.0.0.1:{}", self.registrar.port());
        Process::start(self.state.path(), self.ports.0, self.ports.1, &[proxy])
    }

    fn register(&self, user: &str, sequence: u32) {
        let message = register(user, self.phones.port(), sequence);
        self.phones.socket.send_to(message.as_bytes(), ("127.0.0.1", self.ports.0)).unwrap();
    }

    /// Until a phone's REGISTER is answered.
    fn until_it_serves(&self, user: &str) {
        let mut sequence = 0;
        until_blocking("it serves", || {
            sequence += 1;
            self.register(user, sequence);
            self.seen.lock().unwrap().granted.contains(user)
        });
    }

    /// The registrar calls each of these; every phone must ring.
    fn call(&mut self, users: &[String]) {
        for some in users.chunks(50) {
            self.asked += 1;
            self.seen.lock().unwrap().reached.clear();
            until_blocking("every phone rings, or somebody says why not", || {
                let seen = self.seen.lock().unwrap();
                let missing: Vec<&String> = some.iter().filter(|user| !seen.reached.contains(*user)).collect();
                let invites: Vec<String> =
                    missing.iter().map(|user| self.invite(user, &seen.accepted[user.as_str()])).collect();
                for user in &missing {
                    let refused = seen.refused.get(&format!("{user}-{}", self.asked));
                    assert!(refused.is_none(), "{user} was granted {}: {refused:?}", seen.accepted[user.as_str()]);
                }
                drop(seen);
                for invite in &invites {
                    self.registrar.socket.send_to(invite.as_bytes(), ("127.0.0.1", self.ports.1)).unwrap();
                }
                invites.is_empty()
            });
        }
    }

    fn invite(&self, user: &str, contact: &str) -> String {
        let (registrar, round) = (self.registrar.port(), self.asked);
        format!(
            "INVITE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{registrar};branch=z9hG4bK-call-{user}-{round}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@pbx.example>;tag=c\r\nTo: <sip:{user}@pbx.example>\r\n\
             Call-ID: {user}-{round}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@127.0.0.1:{registrar}>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// Users whose Contact the registrar has, and whose phone knows it, beginning with `prefix`.
    fn served(&self, prefix: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let both = seen.granted.iter().filter(|user| user.starts_with(prefix) && seen.accepted.contains_key(*user));
        let mut users: Vec<String> = both.cloned().collect();
        users.sort();
        users
    }
}

/// How many were served in all.
fn lane(seed: u64, kills: u32) -> usize {
    let mut chance = Chance(seed);
    let mut lane = Lane::new();
    for kill in 0..kills {
        let mut holdline = lane.start();
        lane.until_it_serves(&format!("first{kill}"));
        if kill > 0 {
            let users = lane.served(&format!("u{}-", kill - 1));
            lane.call(&users);
        }
        // Most within the second in which the store gathers, some about when it writes.
        let moment = if kill % 10 == 9 { 900_000 + chance.below(300_000) } else { chance.below(60_000) };
        let until = Instant::now() + Duration::from_micros(moment);
        let mut n = 0;
        while Instant::now() < until {
            lane.register(&format!("u{kill}-{n}"), 1);
            n += 1;
            thread::sleep(Duration::from_micros(500));
        }
        holdline.kill();
    }
    let _holdline = lane.start();
    lane.until_it_serves("last");
    let users = lane.served("u");
    lane.call(&users);
    users.len()
}

#[test]
fn killed_at_two_hundred_moments_it_knows_every_contact_that_a_phone_saw_accepted() {
    let begun = Instant::now();
    let lanes: Vec<_> = (1..=4).map(|seed| thread::spawn(move || lane(seed, 50))).collect();
    let served: usize = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
    println!("{served} contacts, 200 kills, {:?}", begun.elapsed());
    assert!(served > 2000, "only {served} phones were served: this shows little");
}

/// The first request that another target sees may be the last thing the process does.
#[tokio::test(flavor = "multi_thread")]
async fn killed_with_the_first_request_to_another_target_it_stays_there() {
    for _ in 0..5 {
        let dns = dns::Server::start().await.unwrap();
        let first_asked = Arc::new(Mutex::new(0));
        let asked = first_asked.clone();
        let first = Peer::new(move |socket, from, message| {
            *asked.lock().unwrap() += 1;
            socket.send_to(answer(message, "503 Service Unavailable", "").as_bytes(), from).unwrap();
        });
        let victim: Arc<Mutex<Option<Process>>> = Arc::default();
        let to_kill = victim.clone();
        let second = Peer::new(move |socket, from, message| match to_kill.lock().unwrap().take() {
            Some(mut process) => process.kill(),
            None => drop(socket.send_to(answer(message, "200 OK", "").as_bytes(), from)),
        });
        let granted = Arc::new(AtomicBool::new(false));
        let seen = granted.clone();
        let phone = Peer::new(move |_, _, message| {
            seen.fetch_or(message.starts_with("SIP/2.0 200 "), Ordering::Relaxed);
        });
        dns.set_loopback("a.pbx.example", 3600);
        dns.set_loopback("b.pbx.example", 3600);
        let records = [(10, &first, "a"), (20, &second, "b")]
            .map(|(priority, peer, name)| Srv::new(priority, 0, peer.port(), &format!("{name}.pbx.example")));
        dns.set_srv("_sip._udp.pbx.example", 3600, &records);

        let state = tempfile::tempdir().unwrap();
        let ports = (free_port(), free_port());
        let arguments = ["--srv=_sip._udp.pbx.example".to_owned(), format!("--nameserver={}", dns.addr())];
        *victim.lock().unwrap() = Some(Process::start(state.path(), ports.0, ports.1, &arguments));
        let say = |sequence| {
            let message = register("phone", phone.port(), sequence);
            phone.socket.send_to(message.as_bytes(), ("127.0.0.1", ports.0)).unwrap();
        };
        let mut sequence = 0;
        until("the second target is asked", async || {
            sequence += 1;
            say(sequence);
            victim.lock().unwrap().is_none().then_some(())
        })
        .await;
        let before = *first_asked.lock().unwrap();
        assert!(before >= 3, "{before}");

        let _restarted = Process::start(state.path(), ports.0, ports.1, &arguments);
        until("a phone is served after the restart", async || {
            sequence += 1;
            say(sequence);
            granted.load(Ordering::Relaxed).then_some(())
        })
        .await;
        assert_eq!(*first_asked.lock().unwrap(), before, "a restart is no failback");
    }
}
