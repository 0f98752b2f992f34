//! Phones over TLS: one connection each.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::tally::Tally;

/// Phones with a connection each.
pub(crate) struct Phones {
    connections: Vec<StreamOwned<ClientConnection, TcpStream>>,
    made: u64,
}

impl Phones {
    /// `count` phones, connected to `proxy` by its name `localhost`.
    pub(crate) fn connect(proxy: SocketAddr, ca: &Path, count: u32) -> io::Result<Phones> {
        let config = client(ca)?;
        let mut connections = Vec::new();
        for _ in 0..count {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let tls = ClientConnection::new(Arc::clone(&config), name).map_err(io::Error::other)?;
            let stream = connect(proxy)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.set_nodelay(true)?;
            connections.push(StreamOwned::new(tls, stream));
        }
        Ok(Phones { connections, made: 0 })
    }

    /// Registers every phone.
    pub(crate) fn each_once(&mut self) -> io::Result<()> {
        let mut tally = Tally::default();
        for phone in 0..self.connections.len() {
            self.register(phone, &mut tally)?;
        }
        Ok(())
    }

    /// One phone after the other refreshes, until `length` is over.
    pub(crate) fn refresh(&mut self, length: Duration) -> io::Result<Tally> {
        let end = Instant::now() + length;
        let mut tally = Tally::default();
        while Instant::now() < end {
            for phone in 0..self.connections.len() {
                self.register(phone, &mut tally)?;
            }
        }
        Ok(tally)
    }

    fn register(&mut self, phone: usize, tally: &mut Tally) -> io::Result<()> {
        let number = self.made;
        self.made += 1;
        let stream = &mut self.connections[phone];
        let local = stream.sock.local_addr()?;
        let sent = Instant::now();
        stream.write_all(request(phone as u64, number, local).as_bytes())?;
        stream.flush()?;
        let mut answer = Vec::new();
        let mut part = [0; 2048];
        // Empty lines before a message keep a connection alive (RFC 3261 §7.5, RFC 5626 §3.5.1).
        while !answer.trim_ascii_start().windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => return Err(io::Error::other("the proxy closed a phone's connection")),
                length => answer.extend_from_slice(&part[..length]),
            }
        }
        if answer.trim_ascii_start().starts_with(b"SIP/2.0 200 ") {
            tally.complete(sent.elapsed());
        } else {
            tally.lost += 1;
        }
        Ok(())
    }
}

/// Who trusts this authority alone.
pub(crate) fn client(ca: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A refresh as a phone over TLS sends it.
pub(crate) fn request(phone: u64, number: u64, local: SocketAddr) -> String {
    format!(
        "REGISTER sip:pbx.example.com SIP/2.0\r\n\
         Via: SIP/2.0/TLS {local};branch=z9hG4bK-{phone}-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{phone}@pbx.example.com>;tag=f{phone}\r\n\
         To: <sip:{phone}@pbx.example.com>\r\n\
         Call-ID: 7c1f0e5b4a{phone:08}@{local}\r\n\
         CSeq: {} REGISTER\r\n\
         Contact: <sip:{phone}@{local};transport=tls>\r\n\
         Expires: 3600\r\n\
         Content-Length: 0\r\n\r\n",
        number + 1
    )
}

/// The proxy may have been started this moment.
fn connect(proxy: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(proxy) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}
