//! baresip as a real handset, without a sound card: it plays a file into its calls.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use holdline::flow::Transport;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;

use super::tls::Authority;
use super::{DOMAIN, file};
use crate::support::ports::{free_address, free_port};
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, until, within};

/// A running handset.
pub(crate) struct Baresip {
    process: Process,
    user: String,
    control: OwnedWriteHalf,
    heard: Arc<Mutex<Heard>>,
    _reader: JoinSet<()>,
}

/// What its control port has said.
#[derive(Default)]
struct Heard {
    events: Vec<Event>,
    answers: Vec<Value>,
}

/// One event of the handset.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `REGISTER_OK`, `CALL_ESTABLISHED` …
    pub kind: String,
    /// What goes with it: why a call was closed, for instance.
    pub parameter: String,
}

/// A call's media, by the handset's own report.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received from the peer.
    pub received: u64,
    /// Where those came from.
    pub from: Option<SocketAddr>,
    /// Its own RTP address's port.
    pub port: u16,
    /// `sendrecv`, `recvonly` …
    pub direction: String,
}

impl Baresip {
    /// Starts user 200, whose outbound proxy is `proxy`, over UDP.
    pub(crate) async fn start(proxy: SocketAddr) -> Baresip {
        Self::start_as("200", proxy, Transport::Udp, None).await
    }

    /// Starts a handset of `user`; over TLS it trusts `authority` and nobody else.
    pub(crate) async fn start_as(
        user: &str,
        proxy: SocketAddr,
        transport: Transport,
        authority: Option<&Authority>,
    ) -> Baresip {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control = free_address();
        let common = fs::read_to_string(file("baresip.conf")).expect("baresip.conf");
        let music = folder.path().join("music.wav");
        fs::write(&music, sound()).expect("a sound file");
        let rtp = free_port();
        let mut config = format!(
            "{common}sip_listen 127.0.0.1:{}\nctrl_tcp_listen {control}\naudio_source aufile,{}\nrtp_ports {rtp}-{}\n",
            free_port(),
            music.display(),
            rtp + 1
        );
        if let Some(authority) = authority {
            config.push_str("sip_cafile ");
            config.push_str(&authority.file().display().to_string());
            config.push('\n');
        }
        // A minute is asked for; how long it is granted is the registrar's choice.
        let account = format!(
            "<sip:{user}@{DOMAIN}>;auth_pass=secret;outbound=\"sip:{proxy};transport={transport}\";regint=60\n"
        );
        for (name, text) in [("config", config.as_str()), ("accounts", account.as_str()), ("contacts", "")] {
            fs::write(folder.path().join(name), text).expect("baresip's file");
        }
        let arguments = ["-f".to_owned(), folder.path().display().to_string()];
        let mut process = Process::start(folder, "baresip", &arguments).expect("baresip starts");
        let stream = until("baresip's control port", async || {
            assert!(process.ended().is_none(), "baresip ended: {}", process.output());
            TcpStream::connect(control).await.ok()
        })
        .await;
        let (reader, control) = stream.into_split();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut task = JoinSet::new();
        task.spawn(listen(reader, Arc::clone(&heard)));
        Baresip { process, user: user.to_owned(), control, heard, _reader: task }
    }

    /// Its events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// How often an event has happened.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.events().iter().filter(|event| event.kind == kind).count()
    }

    /// Waits until an event has happened `times` times since the start, and returns the last's parameter. No registration and
    /// no transfer may have failed meanwhile.
    pub(crate) async fn happened(&mut self, kind: &str, times: usize) -> String {
        until(&format!("{}: {kind} the {times}. time", self.user), async || {
            assert!(self.process.ended().is_none(), "baresip ended: {}", self.process.output());
            let events = self.events();
            assert!(!events.iter().any(|event| event.kind.ends_with("_FAIL")), "baresip saw a failure: {events:?}");
            let mut matching = events.into_iter().filter(|event| event.kind == kind);
            matching.nth(times - 1).map(|event| event.parameter)
        })
        .await
    }

    /// Waits until it has been registered `times` times since the start, none of its tries having failed.
    pub(crate) async fn registered(&mut self, times: usize) {
        self.happened("REGISTER_OK", times).await;
    }

    /// Waits until it says that it is registered, whether or not that was before its control port was connected to.
    pub(crate) async fn is_registered(&mut self) {
        let own = format!("sip:{}@{DOMAIN} ", self.user);
        let waited = within(PATIENCE, &own, async || {
            let report = self.command("reginfo", "").await;
            if report.contains(&own) && report.contains("OK") { Ok(()) } else { Err(report) }
        });
        waited.await.unwrap_or_else(|late| panic!("{late}"));
    }

    /// Calls a user of the domain.
    pub(crate) async fn dial(&mut self, user: &str) {
        self.command("dial", &format!("sip:{user}@{DOMAIN}")).await;
    }

    /// Gives one of its long commands (`accept`, `hold`, `resume`, `hangup` …) and returns what it says to that.
    pub(crate) async fn command(&mut self, command: &str, parameters: &str) -> String {
        let token = format!("{command}-{}", self.heard.lock().unwrap_or_else(PoisonError::into_inner).answers.len());
        let text = json!({"command": command, "params": parameters, "token": token}).to_string();
        let netstring = format!("{}:{text},", text.len());
        self.control.write_all(netstring.as_bytes()).await.expect("baresip's control port takes a command");
        until(&format!("{}'s answer to {command}", self.user), async || {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = heard.answers.iter().find(|answer| answer["token"] == token.as_str())?;
            assert_eq!(answer["ok"], true, "{command}: {answer}");
            Some(answer["data"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// The current call's media.
    pub(crate) async fn media(&mut self) -> Media {
        let report = self.command("audio_debug", "").await;
        let number = |key: &str| after(&report, key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let local = after(&report, "local: 0.0.0.0:").or_else(|| after(&report, "local: 127.0.0.1:"));
        Media {
            sent: number("TX: packets="),
            received: number("rcvd="),
            from: after(&report, "IP=").and_then(|text| text.parse().ok()),
            port: local.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no local address in {report}")),
            direction: after(&report, "audio dir=").unwrap_or_default().to_owned(),
        }
    }

    /// Waits until the current call's media satisfy `condition`.
    pub(crate) async fn media_until(&mut self, what: &str, condition: impl Fn(&Media) -> bool) -> Media {
        let what = format!("{}: {what}", self.user);
        let waited = within(PATIENCE, &what, async || {
            let media = self.media().await;
            if condition(&media) { Ok(media) } else { Err(format!("{media:?}")) }
        });
        let media = waited.await;
        media.unwrap_or_else(|late| panic!("{late}"))
    }
}

/// The word behind `key`, up to a space, a line's end, a comma or a slash.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = &text[text.find(key)? + key.len()..];
    rest.split([' ', '\n', ',', '/']).next()
}

/// A minute's tone, as a WAV file of 16-bit samples, 8,000 a second.
pub(crate) fn sound() -> Vec<u8> {
    const RATE: u32 = 8_000;
    let samples: Vec<u8> =
        (0..RATE * 60).flat_map(|n| if n % 20 < 10 { 4_000_i16 } else { -4_000 }.to_le_bytes()).collect();
    let length = samples.len() as u32;
    let mut wav = Vec::with_capacity(samples.len() + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(length + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    // PCM, one channel.
    for (value, bytes) in [(16, 4), (1, 2), (1, 2), (RATE, 4), (RATE * 2, 4), (2, 2), (16, 2)] {
        wav.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&length.to_le_bytes());
    wav.extend_from_slice(&samples);
    wav
}

/// Netstrings (`12:hello world!,`) with a JSON object in each.
async fn listen(mut stream: OwnedReadHalf, heard: Arc<Mutex<Heard>>) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        text.extend_from_slice(&part[..length]);
        while let Some((object, end)) = netstring(&text) {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            if object["response"] == true {
                heard.answers.push(object);
            } else if object["event"] == true {
                let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
                heard.events.push(Event { kind: text("type"), parameter: text("param") });
            }
            drop(heard);
            text.drain(..end);
        }
    }
}

/// The first whole netstring's content, and where it ends.
fn netstring(text: &[u8]) -> Option<(Value, usize)> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&text[..colon]).ok()?.parse().ok()?;
    let object = text.get(colon + 1..colon + 1 + length)?;
    (text.len() > colon + 1 + length).then(|| (serde_json::from_slice(object).unwrap_or_default(), colon + length + 2))
}
