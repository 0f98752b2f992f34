//! One connection: framing, writing, and the ways to end it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsStream;

use super::{Link, Shared};

/// Longer messages end the connection.
const MAX_MESSAGE: usize = 1 << 20;

/// What the agent wants of a connection.
#[derive(Debug)]
pub(super) enum Order {
    /// Write this.
    Send(Bytes),
    /// End it after what was written.
    Close,
    /// End it with RST.
    Reset,
}

/// A TCP connection, perhaps inside TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves a connection until it ends, then says so.
pub(super) async fn serve<S: Stream>(
    mut stream: S,
    mut orders: mpsc::Receiver<Order>,
    link: Link,
    shared: Arc<Shared>,
) {
    let why = match pump(&mut stream, &mut orders, &link, &shared).await {
        Ok(why) => why.to_owned(),
        Err(error) => error.to_string(),
    };
    // The socket is closed before the event is reported: a link that is reported closed is closed.
    drop(stream);
    shared.ended(link, why).await;
    drop(orders);
}

async fn pump<S: Stream>(
    stream: &mut S,
    orders: &mut mpsc::Receiver<Order>,
    link: &Link,
    shared: &Arc<Shared>,
) -> io::Result<&'static str> {
    let mut buffer = BytesMut::with_capacity(8192);
    loop {
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok("closed by the peer");
                }
                loop {
                    match next_frame(&mut buffer)? {
                        Frame::Incomplete => break,
                        Frame::Message(bytes) => shared.arrived(link, bytes).await,
                        Frame::Ping => {
                            stream.write_all(b"\r\n").await?;
                            shared.arrived(link, Bytes::from_static(b"\r\n\r\n")).await;
                        }
                        Frame::Pong => shared.arrived(link, Bytes::from_static(b"\r\n")).await,
                    }
                }
            }
            order = orders.recv() => match order {
                Some(Order::Send(bytes)) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                Some(Order::Close) => {
                    let _ = tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await;
                    return Ok("closed by us");
                }
                Some(Order::Reset) => {
                    reset(stream.tcp());
                    return Ok("reset by us");
                }
                None => return Ok("no longer wanted"),
            }
        }
    }
}

/// Makes the coming close an RST.
pub(super) fn reset(tcp: &TcpStream) {
    let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// Answers a ClientHello with a fatal `handshake_failure` alert, RFC 8446 §6.2.
pub(super) async fn refuse_handshake(tcp: &mut TcpStream) {
    let mut hello = [0; 4096];
    let _ = tcp.read(&mut hello).await;
    let _ = tcp.write_all(&[21, 3, 3, 0, 2, 2, 40]).await;
    let _ = tcp.shutdown().await;
}

enum Frame {
    Incomplete,
    Message(Bytes),
    Ping,
    Pong,
}

/// RFC 3261 §18.3; a missing Content-Length means no body.
fn next_frame(buffer: &mut BytesMut) -> io::Result<Frame> {
    if buffer.starts_with(b"\r\n\r\n") {
        buffer.advance(4);
        return Ok(Frame::Ping);
    }
    if buffer.starts_with(b"\r\n") && buffer.len() != 3 {
        buffer.advance(2);
        return Ok(Frame::Pong);
    }
    let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if buffer.len() > MAX_MESSAGE { Err(too_long()) } else { Ok(Frame::Incomplete) };
    };
    let text = String::from_utf8_lossy(&buffer[..head]);
    let is_length = |name: &str| name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l");
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let body = match fields.find(|(name, _)| is_length(name.trim())) {
        Some((_, value)) => value.trim().parse().map_err(|_| too_long())?,
        None => 0_usize,
    };
    let whole = head.saturating_add(4).saturating_add(body);
    if whole > MAX_MESSAGE {
        return Err(too_long());
    }
    Ok(if buffer.len() < whole { Frame::Incomplete } else { Frame::Message(buffer.split_to(whole).freeze()) })
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the stream cannot be framed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_keep_alives_are_told_apart() {
        let mut buffer = BytesMut::from(&b"\r\n\r\nA b SIP/2.0\r\nl: 2\r\n\r\nhi\r\nB b SIP/2.0\r\n\r\nC"[..]);
        let mut seen = Vec::new();
        loop {
            match next_frame(&mut buffer).unwrap() {
                Frame::Incomplete => break,
                Frame::Message(bytes) => seen.push(bytes.len().to_string()),
                Frame::Ping => seen.push("ping".into()),
                Frame::Pong => seen.push("pong".into()),
            }
        }
        assert_eq!(seen, ["ping", "23", "pong", "15"]);
        assert_eq!(&buffer[..], b"C");
    }
}
