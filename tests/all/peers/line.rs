//! A handset of our own on a TCP connection, for messages that no peer here sends of its own accord.

use std::net::SocketAddr;

use holdline::agents::digest::{Challenge, Credentials};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::DOMAIN;
use crate::support::wait::in_time;

/// A connection of a handset of `user`.
pub(crate) struct Line {
    user: String,
    stream: TcpStream,
    /// Where it comes from.
    pub local: SocketAddr,
    read: Vec<u8>,
    requests: u32,
}

impl Line {
    pub(crate) async fn open(user: &str, to: SocketAddr) -> Line {
        let stream = TcpStream::connect(to).await.expect("a listener");
        let local = stream.local_addr().expect("an address");
        Line { user: user.to_owned(), stream, local, read: Vec::new(), requests: 0 }
    }

    /// Its Contact, as if the connection came from this port.
    pub(crate) fn contact(&self, port: u16) -> String {
        format!("<sip:{}@127.0.0.1:{port};transport=tcp;ob>", self.user)
    }

    /// The next message, without any body.
    pub(crate) async fn receive(&mut self) -> String {
        in_time("a message", async {
            loop {
                if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    let head: Vec<u8> = self.read.drain(..end + 4).collect();
                    return String::from_utf8(head).expect("text");
                }
                let count = self.stream.read_buf(&mut self.read).await.expect("a connection");
                assert!(count > 0, "the connection ended");
            }
        })
        .await
    }

    /// The next message that begins so; others are passed over.
    pub(crate) async fn receive_a(&mut self, begins: &str) -> String {
        loop {
            let message = self.receive().await;
            if message.starts_with(begins) {
                return message;
            }
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("a connection");
    }

    /// Answers a request.
    pub(crate) async fn answer(&mut self, request: &str, status: &str) {
        let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let tag = format!(";tag={}", self.local.port());
        let line = |line: &str| {
            let untagged = line.starts_with("To:") && !line.contains(";tag=");
            [line, if untagged { &tag } else { "" }, "\r\n"].concat()
        };
        let lines: Vec<String> =
            request.lines().filter(|text| kept.iter().any(|name| text.starts_with(name))).map(line).collect();
        self.send(&format!("SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n", lines.concat())).await;
    }

    /// A new request to `to` (a user), with these header lines.
    pub(crate) fn request(&mut self, method: &str, to: &str, headers: &str) -> String {
        self.requests += 1;
        let (user, local, n) = (&self.user, self.local, self.requests);
        let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { format!("sip:{to}@{DOMAIN}") };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{}x{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag={n}\r\nTo: <sip:{to}@{DOMAIN}>\r\nCall-ID: {}-{method}\r\n\
             CSeq: {n} {method}\r\n{headers}Content-Length: 0\r\n\r\n",
            local.port(),
            local.port(),
        )
    }

    /// Sends a request, answers the challenge that it meets, and returns the request as it was sent last.
    pub(crate) async fn authorized(&mut self, method: &str, to: &str, headers: &str) -> String {
        let first = self.request(method, to, headers);
        self.send(&first).await;
        let refused = self.receive_a("SIP/2.0 40").await;
        if method == "INVITE" {
            self.send(&hop_by_hop(&first, "ACK", "")).await;
        }
        let (name, answer) = match refused.lines().find(|line| line.starts_with("Proxy-Authenticate:")) {
            Some(line) => (line, "Proxy-Authorization"),
            None => (
                refused.lines().find(|line| line.starts_with("WWW-Authenticate:")).expect("a challenge"),
                "Authorization",
            ),
        };
        let challenge = Challenge::read(name.split_once(':').expect("a value").1.trim()).expect("Digest");
        let uri = first.split(' ').nth(1).expect("a Request-URI");
        let credentials = Credentials::answer(&challenge, (&self.user, "secret"), (method, uri), ("c", 1));
        let again = self.request(method, to, &format!("{headers}{answer}: {credentials}\r\n"));
        self.send(&again).await;
        again
    }

    /// Registers these Contacts, and returns the answer.
    pub(crate) async fn register(&mut self, contacts: &[String]) -> String {
        let lines: Vec<String> = contacts.iter().map(|contact| format!("Contact: {contact}\r\n")).collect();
        let user = self.user.clone();
        self.authorized("REGISTER", &user, &lines.concat()).await;
        let answer = self.receive_a("SIP/2.0 ").await;
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        answer
    }
}

/// The ACK of an INVITE's failure, or its CANCEL, with these header lines beside.
pub(crate) fn hop_by_hop(invite: &str, method: &str, lines: &str) -> String {
    let text = invite.replacen("INVITE sip:", &format!("{method} sip:"), 1);
    text.replace(" INVITE\r\n", &format!(" {method}\r\n")).replace("Content-Length", &format!("{lines}Content-Length"))
}
