//! One OPTIONS (RFC 3261 §11) and its answer: who is there, and does it speak SIP.
//!
//! The request is a transaction of its own from a socket of its own: a running Holdline never sees it, so it can neither
//! count for its failover nor against it. It is built by `rsip`, as our agents' messages are; answers come from untrusted peers
//! and are read by Holdline's own scanner.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::plain::plain_bytes;
use super::report::OptionsLook;
use crate::agents::sip::{random_token, request};
use crate::flow::Transport;
use crate::message::{Frame, Framer, MAX_MESSAGE, Message};

/// Timer E of RFC 3261 §17.1.2.2 for UDP: T1, doubled up to T2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// One request, and how its answer is recognised.
pub(super) struct Options {
    bytes: Bytes,
    call_id: String,
}

/// Why there is no answer that counts.
#[derive(Debug)]
pub(super) enum Silence {
    /// The socket said so.
    Io(io::Error),
    /// The connection ended in order.
    Closed,
    /// What came is not SIP.
    NotSip,
}

impl Options {
    /// A request to this SIP URI (`sip:HOST[:PORT]`), from this socket.
    #[must_use]
    pub(super) fn new(uri: &str, transport: Transport, local: SocketAddr) -> Options {
        let host = uri.strip_prefix("sip:").unwrap_or(uri);
        let call_id = random_token(12);
        let (branch, tag) = (random_token(8), random_token(6));
        let via = transport.via_token();
        let headers = [
            ("Via", format!("SIP/2.0/{via} {local};rport;branch=z9hG4bK{branch}")),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:holdline@{host}>;tag={tag}")),
            ("To", format!("<{uri}>")),
            ("Call-ID", call_id.clone()),
            ("CSeq", "1 OPTIONS".to_owned()),
            ("Contact", format!("<sip:holdline@{local};transport={}>", transport.as_str())),
            ("Accept", "application/sdp".to_owned()),
            ("User-Agent", concat!("holdline/", env!("CARGO_PKG_VERSION"), " (srv)").to_owned()),
        ];
        Options { bytes: request("OPTIONS", uri, &headers, b""), call_id }
    }

    /// Over a connected UDP socket, repeated as RFC 3261 §17.1.2.2 asks, until a final response comes. Does not end by
    /// itself where nothing answers.
    pub(super) async fn over_udp(&self, socket: &UdpSocket) -> Result<OptionsLook, Silence> {
        let started = Instant::now();
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut pause = T1;
        let mut strange = false;
        loop {
            socket.send(&self.bytes).await.map_err(Silence::Io)?;
            let again = Instant::now() + pause;
            while let Ok(received) =
                timeout(again.saturating_duration_since(Instant::now()), socket.recv(&mut buffer)).await
            {
                let length = received.map_err(Silence::Io)?;
                match self.read(Bytes::copy_from_slice(&buffer[..length]), started) {
                    Some(Answer::Final(answer)) => return Ok(answer),
                    Some(Answer::Provisional) => {}
                    // A peer may echo, or send keep-alives: only what comes twice in vain is reported.
                    None if strange && length > 4 => return Err(Silence::NotSip),
                    None => strange |= length > 4,
                }
            }
            pause = (pause * 2).min(T2);
        }
    }

    /// Over a connection, TLS or not, until a final response comes. Does not end by itself where nothing answers.
    pub(super) async fn over_stream(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<OptionsLook, Silence> {
        let started = Instant::now();
        stream.write_all(&self.bytes).await.map_err(Silence::Io)?;
        stream.flush().await.map_err(Silence::Io)?;
        let mut framer = Framer::new(MAX_MESSAGE);
        loop {
            while let Some(frame) = framer.next().map_err(|_| Silence::NotSip)? {
                let Frame::Message(bytes) = frame else { continue };
                if let Some(Answer::Final(answer)) = self.read(bytes, started) {
                    return Ok(answer);
                }
            }
            if stream.read_buf(framer.buffer()).await.map_err(Silence::Io)? == 0 {
                return Err(Silence::Closed);
            }
        }
    }

    /// `None`: not an answer to this request.
    fn read(&self, bytes: Bytes, started: Instant) -> Option<Answer> {
        let message = Message::scan(bytes).ok()?;
        if message.is_request() || message.call_id() != self.call_id.as_bytes() {
            return None;
        }
        if message.status() < 200 {
            return Some(Answer::Provisional);
        }
        let server = message.named(b"Server").next().or_else(|| message.named(b"User-Agent").next());
        Some(Answer::Final(OptionsLook {
            status: message.status(),
            reason: plain_bytes(message.reason()),
            round_trip_ms: millis(started.elapsed()),
            server: server.map(|header| plain_bytes(message.value(header))).filter(|text| !text.is_empty()),
        }))
    }
}

enum Answer {
    Provisional,
    Final(OptionsLook),
}

/// Milliseconds with one decimal.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new("sip:pbx.example.com", Transport::Udp, "192.0.2.9:5062".parse().unwrap())
    }

    fn answer(options: &Options, status_line: &str, headers: &str) -> Bytes {
        let call_id = &options.call_id;
        format!("{status_line}\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx\r\nCall-ID: {call_id}\r\n{headers}\r\n")
            .into()
    }

    #[test]
    fn the_request_is_one_that_holdline_itself_would_accept() {
        for uri in ["sip:pbx.example.com", "sip:[2001:db8::1]:5070"] {
            let options = Options::new(uri, Transport::Tls, "[2001:db8::9]:5062".parse().unwrap());
            let message = Message::scan(options.bytes.clone()).unwrap();
            assert_eq!(message.check(Transport::Tls), Ok(()), "{message:?}");
            assert_eq!(message.method_name(), b"OPTIONS");
        }
    }

    #[test]
    fn only_an_answer_to_this_request_counts_and_strangers_text_is_made_plain() {
        let (options, other) = (options(), options());
        let now = Instant::now();
        assert!(options.read(answer(&other, "SIP/2.0 200 OK", ""), now).is_none());
        assert!(options.read(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"), now).is_none());
        assert!(matches!(options.read(answer(&options, "SIP/2.0 100 Trying", ""), now), Some(Answer::Provisional)));
        let hostile = answer(&options, "SIP/2.0 404 No\u{1b}[31m", "Server: evil\u{1b}]0;x\u{7}\u{202e}\r\n");
        let Some(Answer::Final(look)) = options.read(hostile, now) else { panic!("an answer") };
        assert_eq!((look.status, look.reason.as_str()), (404, "No\\u{1b}[31m"));
        assert_eq!(look.server.unwrap(), "evil\\u{1b}]0;x\\u{7}\\u{202e}");
    }
}
