//! Who is answered: by which name this listener was asked for, and with which token.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::hmac;

use super::Pages;
use super::listener::Visit;

/// Answered without a token: kubelet has none to give, and there is nothing in the answer.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What the administrator says about who is answered.
#[derive(Debug, Clone, Default)]
pub struct Admitted {
    /// Host names by which the listener may be asked for, beside every address and `localhost`.
    pub hosts: Vec<String>,
    /// What a request has to show, but for `/livez` and `/readyz`.
    pub token: Option<Token>,
}

/// A bearer token (RFC 6750). Only a digest of it is kept, and that is never shown.
#[derive(Clone)]
pub struct Token(hmac::Tag);

/// What is signed with a token to compare it.
const WORD: &[u8] = b"holdline admin";

impl Token {
    /// Keeps a token's digest.
    #[must_use]
    pub fn new(token: &[u8]) -> Self {
        Token(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), WORD))
    }

    /// The time this takes says nothing about the token: digests are compared, in constant time.
    fn is(&self, given: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, given), WORD, self.0.as_ref()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Who is answered now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Access(Arc<RwLock<Arc<Admitted>>>);

impl Access {
    /// Of the settings at the start.
    #[must_use]
    pub fn new(admitted: Admitted) -> Self {
        Access(Arc::new(RwLock::new(Arc::new(admitted))))
    }

    /// Other settings from the next request on.
    pub fn renew(&self, admitted: Admitted) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(admitted);
    }

    fn now(&self) -> Arc<Admitted> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks at every request before its page does.
pub(super) async fn admit(
    State(pages): State<Pages>,
    ConnectInfo(visit): ConnectInfo<Visit>,
    request: Request,
    next: Next,
) -> Response {
    visit.asks();
    let admitted = pages.shared.access.now();
    match named(&request) {
        Named::Nothing => return refuse(StatusCode::BAD_REQUEST, "a request has one Host header\n"),
        Named::Host(host) if !admitted.knows(host) => {
            return refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "ask by address, as localhost, or by a name in admin_host\n",
            );
        }
        Named::Host(_) | Named::Old => {}
    }
    let open = OPEN.contains(&request.uri().path());
    match &admitted.token {
        Some(token) if !open && !bearer(request.headers()).is_some_and(|given| token.is(given)) => {
            let mut refusal = refuse(StatusCode::UNAUTHORIZED, "this page needs the token in admin_token_file\n");
            let challenge = HeaderValue::from_static("Bearer realm=\"holdline\"");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            refusal
        }
        Some(_) | None => next.run(request).await,
    }
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], why).into_response()
}

/// By which name a request asks for this listener.
enum Named<'a> {
    Host(&'a str),
    /// HTTP/1.0 without Host: no browser asks so.
    Old,
    /// No Host, several, or one that is no text (RFC 9112 §3.2).
    Nothing,
}

fn named(request: &Request) -> Named<'_> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // A target in absolute form says it instead of Host (RFC 9112 §3.2.2).
        (Some(header), None) => match request.uri().authority().map(Authority::as_str) {
            Some(authority) => Named::Host(authority),
            None => header.to_str().map_or(Named::Nothing, Named::Host),
        },
        (None, _) if request.version() == Version::HTTP_10 && request.uri().authority().is_none() => Named::Old,
        _ => Named::Nothing,
    }
}

/// RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

impl Admitted {
    /// A page of another site that has its own name point here (DNS rebinding) asks by that name.
    fn knows(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((inner, port)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => ("localhost", port),
            Some(_) => return false,
            None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
        };
        let number = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if !number || (!port.is_empty() && !port.starts_with(':')) {
            return false;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_localhost_and_what_is_configured_are_known_and_nothing_that_looks_like_them() {
        let admitted = Admitted { hosts: vec!["proxy1.example.com".to_owned()], token: None };
        for host in [
            "127.0.0.1",
            "127.0.0.1:9460",
            "192.0.2.1:80",
            "[::1]",
            "[2001:db8::1]:9460",
            "localhost",
            "LocalHost:9460",
            "proxy1.example.com:9460",
            "PROXY1.example.com.",
        ] {
            assert!(admitted.knows(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9460",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "a@localhost",
            "localhost:evil",
            "[::1",
            "[evil]",
            "[::1]x",
            "::1",
            "127.1",
            "0x7f000001",
            "proxy1.example.com.evil.example",
        ] {
            assert!(!admitted.knows(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_the_whole_token_and_is_never_shown() {
        let token = Token::new(b"0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"0123456789ABCDEF"] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(hidden)");
    }
}
