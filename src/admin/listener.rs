//! A listener that admits a bounded number of connections, each for a bounded time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 64;

/// From accepting a connection to its end: one request, one answer. For one that stays: from one write to the next.
const LIFETIME: Duration = Duration::from_secs(10);

/// What the kernel takes for a peer that does not read, in bytes.
const UNREAD: usize = 64 << 10;

pub(super) struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Bounded { listener, free: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await;
            match (permit, self.listener.accept().await) {
                (Ok(permit), Ok((stream, addr))) => {
                    // A kernel that does not want to has a bound of its own.
                    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(UNREAD);
                    let deadline = Box::pin(sleep(LIFETIME));
                    return (Guarded { stream, deadline, stay: Stay::default(), _permit: permit }, addr);
                }
                // Out of file descriptors, most likely: some will be free in a while.
                (_, Err(error)) => {
                    tracing::debug!(%error, "admin connection not accepted");
                    sleep(Duration::from_millis(100)).await;
                }
                (Err(_), Ok(_)) => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Lets an answer take longer than a connection's time.
#[derive(Debug, Clone, Default)]
pub(super) struct Stay(Arc<AtomicBool>);

impl Stay {
    /// From now on the connection stays for as long as its peer reads what is written.
    pub(super) fn while_read(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Stay {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().stay.clone()
    }
}

/// A connection that ends when its time is over, whatever its peer does.
pub(super) struct Guarded {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    stay: Stay,
    _permit: OwnedSemaphorePermit,
}

impl Guarded {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
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
        if self.stay.0.load(Ordering::Relaxed) {
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
