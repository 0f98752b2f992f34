//! A POST over HTTP/1.1, with or without TLS.

use std::fmt;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Undelivered;
use crate::trust::connector;

/// One try: the name looked up, connected, the handshake done, and answered.
const TRY: Duration = Duration::from_secs(10);

/// `http://` or `https://`. Its path is often the secret that lets one post there: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// The error says what would be right, and repeats nothing of the text.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        const FORM: &str = "not a web hook's address; write https://HOST[:PORT]/PATH";
        let uri: Uri = text.parse().map_err(|_| FORM)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("only http:// and https:// can be posted to");
        }
        let authority = uri.authority().ok_or(FORM)?;
        if authority.as_str().contains('@') {
            return Err("a user or password in the address is not sent; the receiver has to know by the path");
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(FORM);
        }
        Ok(Url(uri))
    }

    fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }
}

/// Without its path.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}/…", self.0.scheme_str().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// One try.
pub(super) async fn post(url: &Url, body: &str) -> Result<(), Undelivered> {
    let again = |what: String| Undelivered { what: format!("{url}: {what}"), again: true };
    let status = match timeout(TRY, exchange(url, body)).await {
        Err(_) => return Err(again(format!("no answer within {TRY:?}"))),
        Ok(answer) => answer.map_err(&again)?,
    };
    match status.as_u16() {
        200..300 => Ok(()),
        408 | 425 | 429 | 500.. => Err(again(format!("answered {status}"))),
        _ => Err(Undelivered { what: format!("{url}: answered {status}"), again: false }),
    }
}

async fn exchange(url: &Url, body: &str) -> Result<StatusCode, String> {
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|error| error.to_string())?;
    if !url.is_tls() {
        return ask(stream, url, body).await;
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| error.to_string())?;
    let stream = connector()?.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    ask(stream, url, body).await
}

/// Sends the request and reads the head of its answer. The connection ends with it.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    body: &str,
) -> Result<StatusCode, String> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let path = url.0.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, url.0.authority().map_or("", |authority| authority.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("holdline/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|error| error.to_string())?;
    // It ends with the sender. What goes wrong on it comes out of the request, too.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a web hook's connection ended");
        }
    });
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(answer.status())
}
