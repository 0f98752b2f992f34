//! Kamailio as the hosted PBX: `tests/peers/registrar.cfg`, over UDP, TCP and TLS.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixDatagram;

use super::tls::Authority;
use super::{DOMAIN, file};
use crate::support::ports::free_address;
use crate::support::process::{Process, Signal};
use crate::support::wait::until;

/// A running registrar.
pub(crate) struct Kamailio {
    process: Process,
    /// UDP and TCP.
    pub sip: SocketAddr,
    /// TLS.
    pub sips: SocketAddr,
}

/// One row of its location table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// User part of the address of record.
    pub aor: String,
    /// The Contact's URI.
    pub contact: String,
    /// Seconds left.
    pub expires: i64,
    /// The Path's URIs, if any.
    pub path: Option<String>,
    /// The listener it came in by: `udp:127.0.0.1:20001`.
    pub socket: String,
}

impl Kamailio {
    /// Starts one that grants registrations of at most `max_expires` seconds, and waits until it answers.
    pub(crate) async fn start(authority: &Authority, max_expires: u32) -> Kamailio {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (certificate, key) = authority.issue(&[DOMAIN]);
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("certificate.pem"), certificate).expect("a certificate");
        fs::write(at("key.pem"), key).expect("a key");
        let tls = ["server", "client"].map(|side| {
            // Kamailio's default method does not get along with Debian's OpenSSL.
            format!(
                "[{side}:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n\
                 certificate = {}\nprivate_key = {}\n",
                at("certificate.pem"),
                at("key.pem")
            )
        });
        fs::write(at("tls.cfg"), tls.concat()).expect("a TLS configuration");

        let sip = free_address();
        let sips = free_address();
        let arguments = [
            "-f".to_owned(),
            file("registrar.cfg"),
            "-A".to_owned(),
            format!("RPC_SOCKET=\"{}\"", at("rpc")),
            "-A".to_owned(),
            format!("TLS_CONFIG=\"{}\"", at("tls.cfg")),
            "-A".to_owned(),
            format!("MAX_EXPIRES={max_expires}"),
            "-l".to_owned(),
            format!("udp:{sip}"),
            "-l".to_owned(),
            format!("tcp:{sip}"),
            "-l".to_owned(),
            format!("tls:{sips}"),
            // In the foreground, logging to standard error, with little memory.
            "-DD".to_owned(),
            "-E".to_owned(),
            "-m".to_owned(),
            "64".to_owned(),
            "-Y".to_owned(),
            folder.path().display().to_string(),
        ];
        let process = Process::start(folder, "kamailio", &arguments).expect("kamailio starts");
        let mut kamailio = Kamailio { process, sip, sips };
        until("Kamailio answers", async || {
            assert!(kamailio.process.ended().is_none(), "Kamailio ended: {}", kamailio.process.output());
            kamailio.call("core.version", json!([])).await.ok()
        })
        .await;
        kamailio
    }

    /// Its location table.
    pub(crate) async fn locations(&self) -> Vec<Location> {
        let dump = self.call("ul.dump", json!([])).await.expect("ul.dump");
        let mut rows = Vec::new();
        for domain in list(&dump["Domains"]) {
            for aor in list(&domain["Domain"]["AoRs"]) {
                for contact in list(&aor["Info"]["Contacts"]) {
                    let contact = &contact["Contact"];
                    let text = |key: &str| contact[key].as_str().unwrap_or_default().to_owned();
                    rows.push(Location {
                        aor: aor["Info"]["AoR"].as_str().unwrap_or_default().to_owned(),
                        contact: text("Address"),
                        expires: contact["Expires"].as_i64().unwrap_or_default(),
                        path: Some(text("Path")).filter(|path| path != "[not set]"),
                        socket: text("Socket"),
                    });
                }
            }
        }
        rows
    }

    /// Waits until its location table has `count` rows.
    pub(crate) async fn registered(&self, count: usize) -> Vec<Location> {
        until(&format!("{count} locations at {}", self.sip), async || {
            Some(self.locations().await).filter(|rows| rows.len() == count)
        })
        .await
    }

    /// Has it send an OPTIONS to whatever Contact it holds for `user`, and returns the final status it got.
    pub(crate) async fn options(&self, user: &str) -> u64 {
        let uri = format!("sip:{user}@{DOMAIN}");
        // To itself, so that its own lookup chooses Contact, Path and connection.
        let next = format!("sip:{}", self.sip);
        let headers = format!("From: <sip:pbx@{DOMAIN}>\r\nTo: <{uri}>\r\nContact: <sip:pbx@{}>\r\n", self.sip);
        let answer = self.call("tm.t_uac_wait_block", json!(["OPTIONS", uri, next, ".", headers])).await;
        answer.expect("tm.t_uac_wait_block")["code"].as_u64().unwrap_or_default()
    }

    /// Kills, stops or continues all its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// One call over JSON-RPC; the error is a text.
    async fn call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let own = tempfile::tempdir_in(self.process.folder()).map_err(|error| error.to_string())?;
        let socket = UnixDatagram::bind(own.path().join("reply")).map_err(|error| error.to_string())?;
        let request = json!({"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1}).to_string();
        socket.send_to(request.as_bytes(), self.process.file("rpc")).await.map_err(|error| error.to_string())?;
        let mut reply = vec![0; 256 * 1024];
        let length = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut reply))
            .await
            .map_err(|_| format!("no answer to {method}"))?
            .map_err(|error| error.to_string())?;
        let reply: Value = serde_json::from_slice(&reply[..length]).map_err(|error| error.to_string())?;
        if reply["error"].is_null() { Ok(reply["result"].clone()) } else { Err(reply["error"].to_string()) }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
