//! One page of an HTTP listener: status and body.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wait::{PATIENCE, in_time};

/// Asks once, and blocks.
pub(crate) fn get_blocking(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request(address, path).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(parts(&answer))
}

/// Asks once.
///
/// # Panics
/// When no answer comes in time.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(request(address, path).as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    Ok(parts(&in_time(path, ask).await?))
}

fn request(address: SocketAddr, path: &str) -> String {
    // Version 1.0: the body comes as it is, and the connection ends behind it.
    format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")
}

/// The status, 0 without one, and the body.
fn parts(answer: &[u8]) -> (u16, String) {
    let answer = String::from_utf8_lossy(answer);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}
