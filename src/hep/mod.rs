//! Copies of messages for a Homer, or whatever else understands HEP3.
//!
//! The driver copies a message into a bounded queue and goes on; a thread of its own filters, masks what is secret, and sends. What
//! does not fit or cannot be sent is dropped and counted: nothing ever waits for a receiver.

mod packet;
mod way;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{io, thread};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::flow::Transport;
use crate::message::{Message, masked};
use crate::metrics::{HepPacket, Metrics};
use crate::proxy::{Direction, Leg};
use way::Way;

/// Messages that wait to be sent.
pub const HELD_ITEMS: usize = 1024;

/// Bytes of them.
const HELD_BYTES: usize = 1 << 20;

/// Where copies go, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// UDP, TCP, or TLS.
    pub transport: Transport,
    /// The receiver's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number by which the receiver tells its sources apart.
    pub capture_id: u32,
    /// Only these methods, requests and answers; empty: all.
    pub methods: Vec<String>,
    /// So many of a hundred calls. All messages of a call are copied, or none.
    pub share: u8,
}

/// A message that waits.
#[derive(Debug)]
struct Copied {
    at: Duration,
    leg: Leg,
    direction: Direction,
    bytes: Bytes,
}

/// The driver's end.
#[derive(Debug)]
pub struct Hep {
    waiting: mpsc::Sender<Copied>,
    held: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// Sends from now on, on a thread of its own, until the process ends.
pub fn start(settings: Settings, metrics: Arc<Metrics>) -> io::Result<Hep> {
    let (waiting, copies) = mpsc::channel(HELD_ITEMS);
    let held = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sender = Sender { way: Way::new(&settings), settings, held: held.clone(), metrics: metrics.clone() };
    let send = move || runtime.block_on(sender.run(copies));
    thread::Builder::new().name("hep".to_owned()).spawn(send)?;
    Ok(Hep { waiting, held, metrics })
}

impl Hep {
    /// Copies a message. `unix`: since 1970. Never waits.
    pub fn copy(&self, leg: &Leg, direction: Direction, bytes: &Bytes, unix: Duration) {
        let size = bytes.len();
        if self.held.load(Ordering::Relaxed) + size <= HELD_BYTES
            && let Ok(room) = self.waiting.try_reserve()
        {
            self.held.fetch_add(size, Ordering::Relaxed);
            // What it is a part of may be a large buffer of a stream.
            let bytes = Bytes::copy_from_slice(bytes);
            room.send(Copied { at: unix, leg: leg.clone(), direction, bytes });
        } else {
            self.metrics.hep_packets(HepPacket::Dropped).inc();
        }
    }
}

/// The sending end.
struct Sender {
    way: Way,
    settings: Settings,
    held: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Sender {
    async fn run(mut self, mut copies: mpsc::Receiver<Copied>) {
        while let Some(copied) = copies.recv().await {
            self.held.fetch_sub(copied.bytes.len(), Ordering::Relaxed);
            let Ok(message) = Message::scan(copied.bytes.clone()) else { continue };
            if !self.settings.want(&message) {
                continue;
            }
            let payload = masked(&copied.bytes);
            let sent = match packet::packet(&copied, message.call_id(), &payload, self.settings.capture_id) {
                Some(packet) => self.way.send(&packet).await,
                None => false,
            };
            self.metrics.hep_packets(if sent { HepPacket::Sent } else { HepPacket::Dropped }).inc();
        }
    }
}

impl Settings {
    /// Whether a message is copied. An answer belongs to the method of its CSeq.
    fn want(&self, message: &Message) -> bool {
        let buf = message.bytes();
        let method = match message.cseq() {
            Some(cseq) => cseq.method.of(buf),
            None => message.method_name(),
        };
        let wanted = self.methods.is_empty() || self.methods.iter().any(|wanted| wanted.as_bytes() == method);
        wanted && (self.share >= 100 || place(message.call_id()) < u64::from(self.share))
    }
}

/// The place of a call among a hundred: the same for each of its messages, on both legs, and after a restart.
fn place(call_id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    call_id.hash(&mut hasher);
    hasher.finish() % 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Side;

    fn settings(methods: &[&str], share: u8) -> Settings {
        let methods = methods.iter().map(ToString::to_string).collect();
        Settings { transport: Transport::Udp, host: "h".to_owned(), port: 9060, capture_id: 1, methods, share }
    }

    fn message(start: &str, method: &str, call_id: &str) -> Message {
        let text = format!("{start}\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n");
        Message::scan(Bytes::from(text)).unwrap()
    }

    #[test]
    fn a_method_is_wanted_with_its_answers() {
        let invites = settings(&["INVITE", "BYE"], 100);
        assert!(invites.want(&message("INVITE sip:a SIP/2.0", "INVITE", "c")));
        assert!(invites.want(&message("SIP/2.0 200 OK", "BYE", "c")));
        assert!(!invites.want(&message("SIP/2.0 200 OK", "REGISTER", "c")));
        assert!(settings(&[], 100).want(&message("SIP/2.0 200 OK", "REGISTER", "c")));
    }

    #[test]
    fn a_share_takes_whole_calls() {
        let some = settings(&[], 25);
        let wanted = |n: usize| some.want(&message("BYE sip:a SIP/2.0", "BYE", &format!("call-{n}")));
        let calls: Vec<bool> = (0..4000).map(wanted).collect();
        let share = calls.iter().filter(|wanted| **wanted).count();
        assert!((850..1150).contains(&share), "{share} of 4000");
        for (n, wanted) in calls.iter().enumerate() {
            let answer = message("SIP/2.0 200 OK", "BYE", &format!("call-{n}"));
            assert_eq!(some.want(&answer), *wanted, "an answer goes with its request");
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (metrics, (waiting, copies)) = (Metrics::new(), mpsc::channel(HELD_ITEMS));
        let hep = Hep { waiting, held: Arc::default(), metrics: metrics.clone() };
        let address = "192.0.2.1:5060".parse().unwrap();
        let leg = Leg { side: Side::Phone, transport: Transport::Udp, local: address, remote: address, target: None };
        let large = Bytes::from(vec![b'x'; HELD_BYTES / 2]);
        for _ in 0..5 {
            hep.copy(&leg, Direction::In, &large, Duration::ZERO);
        }
        assert_eq!((copies.len(), metrics.hep_packets(HepPacket::Dropped).get()), (2, 3), "by bytes");
        for _ in 0..HELD_ITEMS {
            hep.copy(&leg, Direction::In, &Bytes::new(), Duration::ZERO);
        }
        assert_eq!((copies.len(), metrics.hep_packets(HepPacket::Dropped).get()), (HELD_ITEMS, 5), "by number");
    }
}
