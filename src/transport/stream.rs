//! One TCP or TLS connection: a task that cuts what it reads into messages and writes what it is given.
//!
//! What goes in is bounded by [`Limits::queue_bytes`](super::Limits), what comes out by the channel to the driver: a peer that
//! sends faster than the driver takes is not read from.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::held::{Holding, Ledger, Order};
use super::said::Said;
use super::{Limits, cause, proxy_protocol, tls};
use crate::flow::{Cause, ConnId, Flow, NetEvent, Side, Transport};
use crate::message::{Frame, Framer};
use crate::metrics::Metrics;

/// Room kept for one read.
const READ: usize = 4096;
/// An empty buffer with more room than this is given back.
const KEEP: usize = 4 * READ;
/// How long a closing connection may take to write what is queued.
const LINGER: Duration = Duration::from_secs(5);
/// The answer to a keep-alive ping, RFC 5626 §4.4.1.
const PONG: Bytes = Bytes::from_static(b"\r\n");

/// What the connections' tasks tell the driver.
pub(super) enum Tell {
    /// An event of a connection that the driver knows.
    Event(NetEvent),
    /// A peer connected; this is how to write to it.
    Accepted(NetEvent, Outlet),
}

/// The driver's end of a connection: dropped, it closes the connection after what is queued has been written.
pub(super) struct Outlet {
    to: mpsc::UnboundedSender<Order>,
    holding: Arc<Holding>,
    side: Side,
    transport: Transport,
}

/// The task's end.
pub(super) struct Inlet {
    from: mpsc::UnboundedReceiver<Order>,
    holding: Arc<Holding>,
}

/// Both ends of the way to a connection.
pub(super) fn outlet(side: Side, transport: Transport, ledger: &Ledger) -> (Outlet, Inlet) {
    let (to, from) = mpsc::unbounded_channel();
    let holding = Arc::new(ledger.open(side, &to));
    (Outlet { to, holding: holding.clone(), side, transport }, Inlet { from, holding })
}

impl Outlet {
    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Queues these bytes; false if the queue is full.
    #[must_use]
    pub(super) fn write(&self, bytes: Bytes, limit: usize) -> bool {
        if !self.holding.queue(bytes.len(), limit) {
            return false;
        }
        // A connection that has just ended says so itself.
        let _ = self.to.send(Order::Write(bytes));
        true
    }

    /// Ends the connection once what is queued has been written; [`Outlet::ended`] says when.
    pub(super) fn finish(&self) {
        let _ = self.to.send(Order::Finish);
    }

    /// Waits until the connection's task has ended.
    pub(super) async fn ended(&self) {
        self.to.closed().await;
    }

    /// Ends the connection without writing what is queued.
    pub(super) fn abort(self) {
        let _ = self.to.send(Order::Abort);
    }
}

/// Who a connection is.
#[derive(Clone)]
pub(super) struct About {
    pub(super) conn: ConnId,
    pub(super) side: Side,
    pub(super) transport: Transport,
    pub(super) limits: Limits,
    pub(super) tell: mpsc::Sender<Tell>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) said: Said,
    /// Who is there, on a connection that was accepted.
    pub(super) peer: Option<IpAddr>,
    /// When it was accepted; `None` for one that we opened.
    pub(super) accepted: Option<Instant>,
}

impl About {
    /// Tells the driver; false if there is none any more.
    pub(super) async fn tell(&self, event: NetEvent) -> bool {
        self.tell.send(Tell::Event(event)).await.is_ok()
    }

    pub(super) fn count_error(&self, reason: &str) {
        self.metrics.connection_errors(self.side, self.transport, reason).inc();
    }
}

/// Why a connection's task ends.
enum End {
    /// The driver let go of it, or is gone.
    Closed,
    /// The peer closed in good order.
    ByPeer,
    /// Anything else, with its metric label.
    Broken(Cause, &'static str),
}

/// Reads and writes until one side ends it.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(stream: S, about: About, inlet: Inlet) {
    let gauge = about.metrics.connections(about.side, about.transport).clone();
    gauge.inc();
    let end = converse(stream, &about, inlet).await;
    gauge.dec();
    let cause = match end {
        End::Closed => return,
        End::ByPeer => Cause::Reset,
        End::Broken(cause, reason) => {
            about.count_error(reason);
            cause
        }
    };
    about.tell(NetEvent::Closed { conn: about.conn, cause }).await;
}

async fn converse<S: AsyncRead + AsyncWrite>(stream: S, about: &About, mut inlet: Inlet) -> End {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut framer = Framer::new(about.limits.message_bytes);
    let mut queue: VecDeque<Bytes> = VecDeque::new();
    let (mut reading, mut closing, mut unflushed) = (true, false, false);
    // While `silent`: when a message must have begun. While `partial`: when the message begun must be complete. While `closing`: when
    // writing must be done.
    let mut deadline = pin!(sleep(Duration::ZERO));
    let mut silent = false;
    if let Some(accepted) = about.accepted {
        silent = true;
        deadline.as_mut().reset(accepted + about.limits.silent_timeout);
    }
    let mut partial = false;
    let mut first = true;

    loop {
        if closing && queue.is_empty() && !unflushed {
            let _ = tokio::time::timeout(LINGER, writer.shutdown()).await;
            return End::Closed;
        }
        if reading && framer.buffer().capacity() - framer.buffer().len() < READ / 4 {
            framer.buffer().reserve(READ);
        }
        tokio::select! {
            biased;
            order = inlet.from.recv(), if !closing => match order {
                Some(Order::Write(bytes)) => queue.push_back(bytes),
                Some(Order::Abort) => return End::Closed,
                Some(Order::Yield) => {
                    tracing::debug!(conn = %about.conn, side = about.side.as_str(), "it held most of too much: closed");
                    return End::Broken(Cause::Local, "memory");
                }
                Some(Order::Finish) | None => {
                    (closing, reading) = (true, false);
                    deadline.as_mut().reset(Instant::now() + LINGER);
                }
            },
            written = write(&mut writer, &mut queue), if unflushed || !queue.is_empty() => match written {
                Ok(count) => {
                    unflushed = count > 0;
                    inlet.holding.written(count);
                    about.metrics.sent_bytes(about.side).inc_by(count as u64);
                }
                Err(error) => return broken(&error, about),
            },
            read = reader.read_buf(framer.buffer()), if reading => match read {
                Ok(0) => return End::ByPeer,
                Ok(count) => {
                    about.metrics.received_bytes(about.side).inc_by(count as u64);
                    let begins = std::mem::take(&mut first) && about.side == Side::Phone;
                    if let Some(peer) = about.peer.filter(|_| begins && proxy_protocol::is_begun(framer.buffer())) {
                        proxy_protocol::unexpected(&about.said, peer);
                        return End::Broken(Cause::Reset, "proxy_protocol");
                    }
                    match cut(&mut framer, about, &mut queue).await {
                        Cut::All { message } => {
                            // A message has its time from its first byte on; more bytes do not lengthen it.
                            if framer.is_partial() && (message || !partial) {
                                deadline.as_mut().reset(Instant::now() + about.limits.message_timeout);
                            }
                            partial = framer.is_partial();
                            silent &= !partial && !message;
                            inlet.holding.buffer(kept(framer.buffer()));
                        }
                        Cut::Unframed => {
                            // The driver closes after the core's answers.
                            about.count_error("framing");
                            reading = false;
                        }
                        Cut::NoDriver => return End::Closed,
                    }
                }
                Err(error) => return broken(&error, about),
            },
            () = &mut deadline, if closing || (partial || silent) && reading => {
                if closing {
                    return End::Closed;
                }
                if silent {
                    tracing::debug!(conn = %about.conn, side = about.side.as_str(), "accepted, then no message: closed");
                    return End::Broken(Cause::Timeout, "silent");
                }
                tracing::debug!(conn = %about.conn, side = about.side.as_str(), "half a message, then nothing: closed");
                return End::Broken(Cause::Timeout, "idle");
            },
        }
    }
}

/// Bytes that a half-read message takes. A large one's room is given back with it.
fn kept(buffer: &mut BytesMut) -> usize {
    if !buffer.is_empty() {
        return buffer.capacity();
    }
    if buffer.capacity() > KEEP {
        *buffer = BytesMut::new();
    }
    0
}

enum Cut {
    /// Everything complete was handed over; `message`: there was at least one message.
    All {
        message: bool,
    },
    Unframed,
    NoDriver,
}

/// Hands over every complete frame and queues the answers to pings.
async fn cut(framer: &mut Framer, about: &About, queue: &mut VecDeque<Bytes>) -> Cut {
    let conn = about.conn;
    let mut message = false;
    loop {
        let event = match framer.next() {
            Ok(Some(Frame::Message(bytes))) => {
                message = true;
                NetEvent::Received { flow: Flow::Conn(conn), bytes }
            }
            Ok(Some(Frame::Ping)) => {
                // A peer that pings without reading gets no pile of pongs.
                if queue.len() < 64 {
                    queue.push_back(PONG);
                }
                NetEvent::KeepAlive { conn }
            }
            Ok(Some(Frame::Pong)) => NetEvent::KeepAlive { conn },
            Ok(None) => return Cut::All { message },
            Err(error) => {
                let reason = error.reason();
                let bytes = error.into_bytes();
                let told = about.tell(NetEvent::Unframed { conn, bytes, reason }).await;
                return if told { Cut::Unframed } else { Cut::NoDriver };
            }
        };
        if !about.tell(event).await {
            return Cut::NoDriver;
        }
    }
}

/// Writes some of the queue, several messages in one call where the stream can; flushes if it is empty (and returns 0).
async fn write(writer: &mut (impl AsyncWrite + Unpin), queue: &mut VecDeque<Bytes>) -> io::Result<usize> {
    if queue.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    let mut slices = [io::IoSlice::new(&[]); 16];
    for (slice, bytes) in slices.iter_mut().zip(queue.iter()) {
        *slice = io::IoSlice::new(bytes);
    }
    let count = queue.len().min(slices.len());
    let written = writer.write_vectored(&slices[..count]).await?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut left = written;
    while left > 0
        && let Some(front) = queue.front_mut()
    {
        if front.len() > left {
            front.advance(left);
            break;
        }
        left -= front.len();
        queue.pop_front();
    }
    Ok(written)
}

fn broken(error: &io::Error, about: &About) -> End {
    let cause = cause::of_stream(error);
    // In TLS 1.3 a server refuses our certificate only after the handshake: this line is all there is to explain it.
    if cause == Cause::Tls
        && about.side == Side::Upstream
        && let Some(more_like_it) = about.said.due("upstream TLS")
    {
        let detail = tls::explain(error);
        tracing::warn!(conn = %about.conn, detail, more_like_it, "an upstream TLS connection broke");
    }
    End::Broken(cause, cause.as_str())
}
