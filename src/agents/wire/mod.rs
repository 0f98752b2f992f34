//! Sockets and client transactions of the SIP agents.
//!
//! A [`Wire`] owns an agent's sockets. Whatever comes in is handed on as an [`Incoming`], except responses to the agent's
//! own requests: those go to the [`Wire::exchange`] that waits for them. A [`Link`] is one way to one peer; it does not
//! keep a socket open, so that a closed port really refuses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::sip::Message;
use crate::flow::Transport;

mod exchange;
mod port;
mod stream;

pub use exchange::{End, Exchange, Timers};
pub use port::{Pit, PortHold};

use exchange::Exchanges;
use stream::Order;

/// Arrivals that may wait for the agent.
const MAX_ARRIVALS: usize = 65_536;
/// Messages that may wait to be written to one connection.
const MAX_ORDERS: usize = 8_192;

/// An event that a [`Wire`] reports to its agent.
#[derive(Debug)]
pub enum Incoming {
    /// A request, or a response that no open transaction wants.
    Message {
        /// The way for an answer.
        link: Link,
        /// The message.
        message: Message,
        /// The time of its arrival.
        at: Instant,
        /// For a response: it came after its transaction had given up (Timer F).
        late: bool,
    },
    /// Bytes that are no SIP message, and no keep-alive either.
    Garbage {
        /// Where they came from.
        link: Link,
        /// What they were.
        bytes: Bytes,
    },
    /// A CRLF keep-alive (RFC 5626 §4.4.1), answered already where it was a ping on a connection.
    KeepAlive {
        /// Where it came from.
        link: Link,
    },
    /// A connection was accepted or made (for TLS: after the handshake).
    Opened {
        /// The connection.
        link: Link,
    },
    /// A connection ended.
    Closed {
        /// Its number.
        link: Link,
        /// The reason in words.
        why: String,
    },
}

/// The treatment of peers that connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// They are served.
    #[default]
    Serve,
    /// They are let in and held; for TLS without a handshake, until served again. Like a stopped process.
    Hold,
    /// They are reset at once.
    Reset,
    /// For TLS the handshake fails with an alert; others are served.
    BreakTls,
}

/// One way to one peer: a datagram socket and an address, or a connection.
#[derive(Debug, Clone)]
pub struct Link {
    /// The transport.
    pub transport: Transport,
    /// The local address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Datagrams(Weak<UdpSocket>),
    Stream { id: u64, orders: mpsc::Sender<Order> },
}

impl Link {
    /// Sends, waiting for room at most as long as the connection is open.
    ///
    /// # Errors
    /// The socket is closed, or the system refuses to send.
    pub async fn send(&self, bytes: Bytes) -> io::Result<()> {
        match &self.way {
            Way::Datagrams(socket) => {
                let socket = socket.upgrade().ok_or(io::ErrorKind::NotConnected)?;
                socket.send_to(&bytes, self.remote).await.map(|_| ())
            }
            Way::Stream { orders, .. } => {
                orders.send(Order::Send(bytes)).await.map_err(|_| io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// True until the socket or connection is closed.
    pub fn is_open(&self) -> bool {
        match &self.way {
            Way::Datagrams(socket) => socket.strong_count() > 0,
            Way::Stream { orders, .. } => !orders.is_closed(),
        }
    }

    /// The number of the connection, `None` for datagrams.
    pub fn connection(&self) -> Option<u64> {
        match self.way {
            Way::Datagrams(_) => None,
            Way::Stream { id, .. } => Some(id),
        }
    }

    /// Ends a connection, in order (FIN) or at once (RST). Nothing for datagrams.
    pub async fn end(&self, reset: bool) {
        if let Way::Stream { orders, .. } = &self.way {
            let order = if reset { Order::Reset } else { Order::Close };
            let _ = orders.send(order).await;
            orders.closed().await;
        }
    }

    /// The same socket, another peer. For datagrams only; a connection stays what it is.
    #[must_use]
    pub fn to(&self, remote: SocketAddr) -> Link {
        let remote = if matches!(self.way, Way::Datagrams(_)) { remote } else { self.remote };
        Link { remote, ..self.clone() }
    }
}

/// An agent's sockets. Dropping it closes them all.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    /// One task for each datagram socket and each listener, by its address.
    sockets: Mutex<Vec<Socket>>,
}

#[derive(Debug)]
struct Socket {
    transport: Transport,
    addr: SocketAddr,
    task: JoinHandle<()>,
    /// The datagram socket, kept open by this alone (and by its task).
    udp: Option<Arc<UdpSocket>>,
}

#[derive(Debug)]
struct Shared {
    incoming: mpsc::Sender<Incoming>,
    admission: watch::Sender<Admission>,
    exchanges: Exchanges,
    connections: Mutex<HashMap<u64, Link>>,
    tasks: Mutex<JoinSet<()>>,
    next: AtomicU64,
}

impl Wire {
    /// Without any socket yet, and what its agent has to read.
    pub fn new() -> (Wire, mpsc::Receiver<Incoming>) {
        let (incoming, receiver) = mpsc::channel(MAX_ARRIVALS);
        let shared = Shared {
            incoming,
            admission: watch::Sender::default(),
            exchanges: Exchanges::default(),
            connections: Mutex::default(),
            tasks: Mutex::default(),
            next: AtomicU64::new(1),
        };
        (Wire { shared: Arc::new(shared), sockets: Mutex::default() }, receiver)
    }

    /// Opens a datagram socket; `held` where a [`PortHold`] has the port. The link leads nowhere yet, see [`Link::to`].
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn bind_udp(&self, local: SocketAddr, held: bool) -> io::Result<Link> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(local), socket2::Type::DGRAM, None)?;
        // A whole fleet may answer at once.
        let _ = socket.set_recv_buffer_size(4 << 20);
        if held {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&local.into())?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let local = socket.local_addr()?;
        let way = Way::Datagrams(Arc::downgrade(&socket));
        let link = Link { transport: Transport::Udp, local, remote: local, way };
        let task = tokio::spawn(receive(Arc::clone(&socket), link.clone(), Arc::clone(&self.shared)));
        lock(&self.sockets).push(Socket { transport: Transport::Udp, addr: local, task, udp: Some(socket) });
        Ok(link)
    }

    /// Listens for connections, with TLS where a configuration is given.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn listen(&self, local: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<SocketAddr> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(local)?;
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
        let task = tokio::spawn(accept(listener, addr, tls.map(TlsAcceptor::from), Arc::clone(&self.shared)));
        lock(&self.sockets).push(Socket { transport, addr, task, udp: None });
        Ok(addr)
    }

    /// Connects, with TLS where a configuration and a server name are given.
    ///
    /// # Errors
    /// What the system or the handshake says.
    pub async fn connect(
        &self,
        remote: SocketAddr,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> io::Result<Link> {
        let tcp = TcpStream::connect(remote).await?;
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        match tls {
            None => Ok(self.shared.adopt(Transport::Tcp, local, remote, tcp).await),
            Some((config, name)) => {
                let stream = TlsStream::from(TlsConnector::from(config).connect(name, tcp).await?);
                Ok(self.shared.adopt(Transport::Tls, local, remote, stream).await)
            }
        }
    }

    /// Where it is bound for a transport.
    pub fn local(&self, transport: Transport) -> Option<SocketAddr> {
        lock(&self.sockets).iter().find(|s| s.transport == transport).map(|s| s.addr)
    }

    /// The datagram socket, towards a peer.
    pub fn udp_to(&self, remote: SocketAddr) -> Option<Link> {
        let sockets = lock(&self.sockets);
        let socket = sockets.iter().find(|s| s.transport == Transport::Udp)?;
        let way = Way::Datagrams(Arc::downgrade(socket.udp.as_ref()?));
        Some(Link { transport: Transport::Udp, local: socket.addr, remote, way })
    }

    /// Sets the treatment of peers that connect.
    pub fn set_admission(&self, admission: Admission) {
        self.shared.admission.send_replace(admission);
    }

    /// The open connections.
    pub fn connections(&self) -> Vec<Link> {
        lock(&self.shared.connections).values().cloned().collect()
    }

    /// Closes every listener and datagram socket; resolves when they are closed.
    pub async fn close_sockets(&self) {
        let sockets = std::mem::take(&mut *lock(&self.sockets));
        for socket in sockets {
            socket.task.abort();
            let _ = socket.task.await;
            drop(socket.udp);
        }
    }

    /// Ends every connection, in order or by reset; resolves when they are closed.
    pub async fn end_connections(&self, reset: bool) {
        for link in self.connections() {
            link.end(reset).await;
        }
    }

    /// One non-INVITE client transaction (RFC 3261 §17.1.2): sends, repeats on datagrams, and waits for the answer.
    /// The request's top Via carries `branch`, which no earlier one may have had.
    pub async fn exchange(&self, link: &Link, request: Bytes, branch: &str, timers: Timers) -> Exchange {
        self.shared.exchanges.run(link, request, branch, timers).await
    }

    /// Responses that were repeated by the peer after their transaction had ended well.
    pub fn absorbed(&self) -> u64 {
        self.shared.exchanges.absorbed()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for socket in lock(&self.sockets).drain(..) {
            socket.task.abort();
        }
        lock(&self.shared.tasks).abort_all();
        lock(&self.shared.connections).clear();
    }
}

impl Shared {
    /// Starts to serve a connection.
    async fn adopt<S: stream::Stream>(
        self: &Arc<Self>,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        stream: S,
    ) -> Link {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (orders, receiver) = mpsc::channel(MAX_ORDERS);
        let link = Link { transport, local, remote, way: Way::Stream { id, orders } };
        lock(&self.connections).insert(id, link.clone());
        let _ = self.incoming.send(Incoming::Opened { link: link.clone() }).await;
        self.spawn(stream::serve(stream, receiver, link.clone(), Arc::clone(self)));
        link
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Sorts what came in.
    async fn arrived(&self, link: &Link, bytes: Bytes) {
        let at = Instant::now();
        let link = link.clone();
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            let _ = self.incoming.send(Incoming::KeepAlive { link }).await;
            return;
        }
        let Some(message) = Message::read(&bytes) else {
            let _ = self.incoming.send(Incoming::Garbage { link, bytes }).await;
            return;
        };
        let (message, late) = if message.is_request() {
            (message, false)
        } else {
            match self.exchanges.deliver(message, at) {
                exchange::Delivery::Taken => return,
                exchange::Delivery::Late(message) => (message, true),
                exchange::Delivery::Stray(message) => (message, false),
            }
        };
        let _ = self.incoming.send(Incoming::Message { link, message, at, late }).await;
    }

    async fn ended(&self, link: Link, why: String) {
        if let Some(id) = link.connection() {
            lock(&self.connections).remove(&id);
            self.exchanges.connection_ended(id, &why);
        }
        let _ = self.incoming.send(Incoming::Closed { link, why }).await;
    }
}

async fn receive(socket: Arc<UdpSocket>, link: Link, shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error here reports that an earlier datagram met a closed port; the timers deal with that.
        let Ok((length, remote)) = socket.recv_from(&mut buffer).await else { continue };
        shared.arrived(&link.to(remote), Bytes::copy_from_slice(&buffer[..length])).await;
    }
}

async fn accept(listener: TcpListener, local: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((tcp, remote)) = listener.accept().await else { continue };
        shared.spawn(admit(tcp, local, remote, tls.clone(), Arc::clone(&shared)));
    }
}

/// Lets a connection in, or not, as the agent's behaviour says.
async fn admit(
    mut tcp: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) {
    let _ = tcp.set_nodelay(true);
    let mut admission = shared.admission.subscribe();
    let hold = |now: &Admission| *now != Admission::Hold || tls.is_none();
    let Ok(now) = admission.wait_for(hold).await.map(|now| *now) else { return };
    match (now, tls) {
        (Admission::Reset, _) => stream::reset(&tcp),
        (Admission::BreakTls, Some(_)) => stream::refuse_handshake(&mut tcp).await,
        (_, None) => drop(shared.adopt(Transport::Tcp, local, remote, tcp).await),
        (_, Some(acceptor)) => {
            if let Ok(stream) = acceptor.accept(tcp).await {
                shared.adopt(Transport::Tls, local, remote, TlsStream::from(stream)).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
