//! baresip as a real handset, without sound.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::process::Process;
use super::{DOMAIN, file, free_port, until};

/// A running handset, user 200.
pub struct Baresip {
    process: Process,
    events: Arc<Mutex<Vec<String>>>,
    _reader: JoinSet<()>,
}

impl Baresip {
    /// Starts one whose outbound proxy is `proxy`, over UDP.
    pub async fn start(proxy: SocketAddr) -> Baresip {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let common = fs::read_to_string(file("baresip.conf")).expect("baresip.conf");
        let config = format!("{common}sip_listen 127.0.0.1:{}\nctrl_tcp_listen {control}\n", free_port());
        // A minute is asked for; how long it is granted is the registrar's choice.
        let account = format!("<sip:200@{DOMAIN}>;auth_pass=secret;outbound=\"sip:{proxy};transport=udp\";regint=60\n");
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
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut reader = JoinSet::new();
        reader.spawn(read_events(stream, Arc::clone(&events)));
        Baresip { process, events, _reader: reader }
    }

    /// Its registration events so far: `REGISTER_OK`, `REGISTER_FAIL` …
    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has been registered `times` times since the start, none of its tries having failed.
    pub async fn registered(&mut self, times: usize) {
        until(&format!("baresip registered {times} times"), async || {
            assert!(self.process.ended().is_none(), "baresip ended: {}", self.process.output());
            let events = self.events();
            assert!(!events.iter().any(|event| event == "REGISTER_FAIL"), "baresip saw a failure: {events:?}");
            (events.iter().filter(|event| *event == "REGISTER_OK").count() >= times).then_some(())
        })
        .await;
    }
}

/// Netstrings (`12:hello world!,`) with a JSON object in each.
async fn read_events(mut stream: TcpStream, events: Arc<Mutex<Vec<String>>>) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        text.extend_from_slice(&part[..length]);
        while let Some((object, end)) = netstring(&text) {
            if object["event"].as_bool() == Some(true) && object["class"] == "register" {
                let kind = object["type"].as_str().unwrap_or_default().to_owned();
                events.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
            }
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
