//! A listener that admits a bounded number of connections, each for a bounded time, and of one source only a few.
//!
//! It never waits for a place: beyond a bound the oldest connection that has not sent a request gives way, so that idle ones
//! keep nobody out. A probe sends its request at once and is never the one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use crate::flow::source_of;

/// Connections at once.
pub(super) const CONNECTIONS: usize = 64;

/// Of those, from one source address (IPv6: one /64).
pub(super) const OF_ONE_SOURCE: usize = 8;

/// From accepting a connection to the end of its request's head.
const HEAD: Duration = Duration::from_secs(2);

/// From accepting a connection to its end: one request, one answer. For one that stays: from one write to the next.
const LIFETIME: Duration = Duration::from_secs(10);

/// What the kernel takes for a peer that does not read, in bytes.
const UNREAD: usize = 64 << 10;

pub(super) struct Bounded {
    listener: TcpListener,
    places: Places,
    next: u64,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Bounded { listener, places: Places::default(), next: 0 }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            // Requests that are here are read before the next connection can drive out theirs.
            yield_now().await;
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    self.next += 1;
                    let Some((visit, told)) = self.places.take(self.next, source_of(addr.ip())) else {
                        tracing::debug!(remote = %addr, "admin connection closed: as many as may be have asked and wait");
                        continue;
                    };
                    // A kernel that does not want to has a bound of its own.
                    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(UNREAD);
                    let place = Held { places: self.places.clone(), number: self.next, told };
                    return (Guarded::new(stream, visit, place), addr);
                }
                // Out of file descriptors, most likely: some will be free in a while.
                Err(error) => {
                    tracing::debug!(%error, "admin connection not accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connections there are, oldest first.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u64, Place>>>);

#[derive(Debug)]
struct Place {
    visit: Visit,
    /// Dropped, it tells the connection to end.
    _end: oneshot::Sender<()>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection, where need be that of an older one without a request. `None`: all have sent theirs.
    fn take(&self, number: u64, source: IpAddr) -> Option<(Visit, oneshot::Receiver<()>)> {
        let mut places = self.lock();
        let same = |place: &Place| place.visit.source == source;
        let crowded = places.values().filter(|place| same(place)).count() >= OF_ONE_SOURCE;
        if crowded || places.len() >= CONNECTIONS {
            let idle = places.iter().find(|(_, place)| !place.visit.has_asked() && (same(place) || !crowded));
            let idle = idle.map(|(number, _)| *number)?;
            places.remove(&idle);
        }
        let visit = Visit { source, asked: Arc::default(), stays: Arc::default() };
        let (end, told) = oneshot::channel();
        places.insert(number, Place { visit: visit.clone(), _end: end });
        Some((visit, told))
    }
}

/// A connection's own place, free when this is dropped.
struct Held {
    places: Places,
    number: u64,
    told: oneshot::Receiver<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.lock().remove(&self.number);
    }
}

/// One connection, as the pages see it.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    source: IpAddr,
    asked: Arc<AtomicBool>,
    stays: Arc<AtomicBool>,
}

impl Visit {
    /// Its source address; of an IPv6 one the /64.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// The head of a request is here: from now on the connection gives way to no other.
    pub(super) fn asks(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on the connection stays for as long as its peer reads what is written.
    pub(super) fn stay_while_read(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Visit {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().visit.clone()
    }
}

/// A connection that ends when its time is over, whatever its peer does.
pub(super) struct Guarded {
    stream: TcpStream,
    accepted: Instant,
    deadline: Pin<Box<Sleep>>,
    /// The deadline is that of the whole exchange, no longer that of the head.
    heard: bool,
    visit: Visit,
    place: Held,
}

impl Guarded {
    fn new(stream: TcpStream, visit: Visit, place: Held) -> Self {
        let accepted = Instant::now();
        Guarded { stream, accepted, deadline: Box::pin(sleep(HEAD)), heard: false, visit, place }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if Pin::new(&mut self.place.told).poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if !self.heard && self.visit.has_asked() {
            self.heard = true;
            self.deadline.as_mut().reset(self.accepted + LIFETIME);
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        if self.visit.stays.load(Ordering::Relaxed) {
            self.deadline.as_mut().reset(Instant::now() + LIFETIME);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
