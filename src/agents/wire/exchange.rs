//! Client transactions: the exchanges that wait for responses, and RFC 3261 §17.1.2 with its timers.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::{Link, lock};
use crate::agents::sip::Message;

/// The most ended transactions that are remembered, to distinguish repeated and late responses from strays.
const MAX_ENDED: usize = 65_536;

/// Timers of the non-INVITE client transaction, RFC 3261 §17.1.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// T1: the first interval of Timer E.
    pub t1: Duration,
    /// T2: its longest interval.
    pub t2: Duration,
    /// Timer F: when the transaction gives up.
    pub f: Duration,
}

impl Timers {
    /// As the RFC says, but giving up after `f` as many desk phones do (32 s by the RFC, 16 s, 7.5 s).
    pub fn giving_up_after(f: Duration) -> Timers {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), f }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timers::giving_up_after(Duration::from_secs(32))
    }
}

/// The course of a transaction.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// How often the request was sent.
    pub sent: u32,
    /// Provisional responses and when they came, counted from the first sending.
    pub provisional: Vec<(u16, Duration)>,
    /// From the first sending to the end.
    pub took: Duration,
    /// The way it ended.
    pub end: End,
}

/// The end of a transaction.
#[derive(Debug, Clone)]
pub enum End {
    /// With a final response.
    Final(Message),
    /// Without one: Timer F.
    TimerF,
    /// The connection ended, or the request could not be sent.
    Broken(String),
}

impl Exchange {
    /// One that could not even begin.
    pub fn broken(why: &str) -> Exchange {
        let end = End::Broken(why.to_owned());
        Exchange { sent: 0, provisional: Vec::new(), took: Duration::ZERO, end }
    }

    /// The final response's status; 0 without one.
    pub fn status(&self) -> u16 {
        self.response().map_or(0, Message::status)
    }

    /// The final response.
    pub fn response(&self) -> Option<&Message> {
        match &self.end {
            End::Final(message) => Some(message),
            End::TimerF | End::Broken(_) => None,
        }
    }
}

/// Where a response belongs.
pub(super) enum Delivery {
    /// To a transaction that is open or that ended well.
    Taken,
    /// To one that gave up.
    Late(Message),
    /// To none.
    Stray(Message),
}

/// Branch and method.
type Key = (String, String);

#[derive(Debug)]
struct Waiting {
    connection: Option<u64>,
    news: mpsc::UnboundedSender<News>,
}

#[derive(Debug)]
enum News {
    Response(Message, Instant),
    Broken(String),
}

#[derive(Debug, Default)]
pub(super) struct Exchanges {
    waiting: Mutex<HashMap<Key, Waiting>>,
    ended: Mutex<Ended>,
    absorbed: AtomicU64,
}

#[derive(Debug, Default)]
struct Ended {
    /// True where a final response had come.
    answered: HashMap<Key, bool>,
    order: VecDeque<Key>,
}

impl Exchanges {
    pub(super) async fn run(&self, link: &Link, request: Bytes, branch: &str, timers: Timers) -> Exchange {
        let method = request.split(|b| *b == b' ').next().unwrap_or_default();
        let key = (branch.to_owned(), String::from_utf8_lossy(method).into_owned());
        let (news, mut receiver) = mpsc::unbounded_channel();
        let _open = Open { exchanges: self, key: key.clone() };
        lock(&self.waiting).insert(key.clone(), Waiting { connection: link.connection(), news });

        let start = Instant::now();
        let mut exchange = Exchange { sent: 0, provisional: Vec::new(), took: Duration::ZERO, end: End::TimerF };
        let give_up = start + timers.f;
        let mut interval = timers.t1;
        let mut timer_e = Some(start);
        let mut at = start;
        loop {
            // Biased, so that a response that is there already is never passed over for a timer.
            tokio::select! {
                biased;
                news = receiver.recv() => match news {
                    Some(News::Response(message, when)) if message.status() < 200 => {
                        exchange.provisional.push((message.status(), when - start));
                        // Proceeding: from the next firing on, Timer E has the interval T2.
                        interval = timers.t2;
                    }
                    Some(News::Response(message, when)) => {
                        at = when;
                        exchange.end = End::Final(message);
                        break;
                    }
                    Some(News::Broken(why)) => {
                        at = Instant::now();
                        exchange.end = End::Broken(why);
                        break;
                    }
                    None => break,
                },
                () = sleep_until(give_up.into()) => {
                    at = Instant::now();
                    break;
                }
                () = sleep_until(timer_e.unwrap_or(give_up).into()), if timer_e.is_some() => {
                    if let Err(error) = link.send(request.clone()).await {
                        exchange.end = End::Broken(error.to_string());
                        break;
                    }
                    exchange.sent += 1;
                    timer_e = (!link.transport.is_reliable()).then(|| Instant::now() + interval);
                    interval = (interval * 2).min(timers.t2);
                }
            }
        }
        exchange.took = at.saturating_duration_since(start);
        lock(&self.ended).remember(key, exchange.response().is_some());
        exchange
    }

    pub(super) fn deliver(&self, message: Message, at: Instant) -> Delivery {
        let key = (message.branch().to_owned(), message.method().to_owned());
        if let Some(waiting) = lock(&self.waiting).get(&key) {
            let _ = waiting.news.send(News::Response(message, at));
            return Delivery::Taken;
        }
        match lock(&self.ended).answered.get(&key) {
            Some(true) => {
                self.absorbed.fetch_add(1, Ordering::Relaxed);
                Delivery::Taken
            }
            Some(false) => Delivery::Late(message),
            None => Delivery::Stray(message),
        }
    }

    pub(super) fn connection_ended(&self, id: u64, why: &str) {
        for waiting in lock(&self.waiting).values().filter(|w| w.connection == Some(id)) {
            let _ = waiting.news.send(News::Broken(why.to_owned()));
        }
    }

    pub(super) fn absorbed(&self) -> u64 {
        self.absorbed.load(Ordering::Relaxed)
    }
}

impl Ended {
    fn remember(&mut self, key: Key, answered: bool) {
        if self.answered.insert(key.clone(), answered).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }
}

/// Takes the transaction out of the table however its future ends.
struct Open<'a> {
    exchanges: &'a Exchanges,
    key: Key,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.exchanges.waiting).remove(&self.key);
    }
}
