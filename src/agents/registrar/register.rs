//! What is right: RFC 3261 §10.3 with digest authentication (§22) and Path (RFC 3327).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Binding, Shared, State};
use crate::agents::digest::{Challenge, Credentials};
use crate::agents::sip::{self, Message, NameAddr};
use crate::agents::wire::Link;

/// Nonces that are remembered; then all are forgotten, which costs a handset one more round.
const MAX_NONCES: usize = 65_536;

/// The nonces of one registrar, with their issue and the highest count seen.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    issued: HashMap<String, (Instant, u32)>,
    retired: HashSet<String>,
}

impl Nonces {
    fn issue(&mut self, now: Instant) -> String {
        if self.issued.len() >= MAX_NONCES {
            self.expire();
        }
        let nonce = sip::random_token(16);
        self.issued.insert(nonce.clone(), (now, 0));
        nonce
    }

    pub(super) fn expire(&mut self) {
        self.retired = self.issued.drain().map(|(nonce, _)| nonce).collect();
    }

    /// Uses a nonce for the `nc`-th time.
    fn take(&mut self, credentials: &Credentials, now: Instant, lifetime: Duration) -> Freshness {
        if self.retired.contains(&credentials.nonce) {
            return Freshness::Stale;
        }
        match self.issued.get_mut(&credentials.nonce) {
            None => Freshness::Foreign,
            Some((since, _)) if now.saturating_duration_since(*since) > lifetime => Freshness::Stale,
            Some((_, highest)) => match credentials.auth {
                // A count that does not grow is a replay (RFC 7616 §5.12).
                Some((_, nc)) if nc <= *highest => Freshness::Stale,
                Some((_, nc)) => {
                    *highest = nc;
                    Freshness::Fresh
                }
                None => Freshness::Fresh,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Fresh,
    Stale,
    /// Another server's.
    Foreign,
}

/// The refusal of a REGISTER, with its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    status: u16,
    headers: Vec<(&'static str, String)>,
}

impl Rejection {
    fn bare(status: u16) -> Rejection {
        Rejection { status, headers: Vec::new() }
    }

    fn with(status: u16, name: &'static str, value: &str) -> Rejection {
        Rejection { status, headers: vec![(name, value.to_owned())] }
    }
}

impl Shared {
    /// A REGISTER as it should be answered.
    pub(super) fn register(&self, state: &mut State, link: &Link, message: &Message, at: Instant) -> Bytes {
        match self.check(state, message, at).and_then(|()| self.update_bindings(link, message, at)) {
            Ok(headers) => self.answer(link, message, 200, &headers),
            Err(refusal) => self.refuse(link, message, &refusal),
        }
    }

    /// Any other request.
    pub(super) fn other(&self, link: &Link, message: &Message, status: u16) -> Bytes {
        let mut headers = Vec::new();
        if status < 300 {
            headers.push(("Contact", format!("<sip:{};transport={}>", link.local, link.transport)));
            headers.extend(message.list("Record-Route").iter().map(|route| ("Record-Route", (*route).to_owned())));
            if message.method() == "SUBSCRIBE" || message.method() == "PUBLISH" {
                headers.push(("Expires", message.expires().unwrap_or(300).to_string()));
            }
            if message.method() == "PUBLISH" {
                headers.push(("SIP-ETag", sip::random_token(4)));
            }
        }
        self.answer(link, message, status, &headers)
    }

    /// Any status, with the Via completed as RFC 3261 §18.2.1 and RFC 3581 §4 ask.
    pub(super) fn answer(&self, link: &Link, message: &Message, status: u16, more: &[(&str, String)]) -> Bytes {
        let mut via = message.list("Via").first().copied().unwrap_or_default().to_owned();
        if let Some(top) = message.via() {
            let rport = top.param("rport").is_some();
            if rport {
                let parts = via.split(';').map(|p| match p.split('=').next().unwrap_or("").trim() {
                    name if name.eq_ignore_ascii_case("rport") => format!("rport={}", link.remote.port()),
                    _ => p.to_owned(),
                });
                via = parts.collect::<Vec<_>>().join(";");
            }
            if rport || top.host() != link.remote.ip().to_string() {
                via = format!("{via};received={}", link.remote.ip());
            }
        }
        let mut headers = vec![("Server", self.options.name.clone())];
        headers.extend(more.iter().cloned());
        sip::response(message, &via, &sip::random_token(4), status, &headers, b"")
    }

    pub(super) fn refuse(&self, link: &Link, message: &Message, rejection: &Rejection) -> Bytes {
        self.answer(link, message, rejection.status, &rejection.headers)
    }

    /// Checks the credentials against the password, RFC 3261 §22.2.
    pub(super) fn check(&self, state: &mut State, message: &Message, now: Instant) -> Result<(), Rejection> {
        let Some(password) = &self.options.password else { return Ok(()) };
        let ours = |c: &Credentials| c.realm == self.options.realm && self.options.algorithms.contains(&c.algorithm);
        let values = message.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Authorization"));
        let given = values.filter_map(|(_, value)| Credentials::read(value)).find(ours);
        let Some(credentials) = given else { return Err(self.challenge(state, false, now)) };
        let same_uri = !self.options.strict_uri || credentials.uri == message.uri();
        let proven = same_uri && credentials.proves(password, message.method());
        match state.nonces.take(&credentials, now, self.options.nonce_lifetime) {
            Freshness::Fresh if proven && message.to_aor().starts_with(&format!("{}@", credentials.username)) => Ok(()),
            Freshness::Fresh if proven => Err(Rejection::bare(403)),
            Freshness::Stale => Err(self.challenge(state, proven, now)),
            Freshness::Fresh | Freshness::Foreign => Err(self.challenge(state, false, now)),
        }
    }

    fn challenge(&self, state: &mut State, stale: bool, now: Instant) -> Rejection {
        let nonce = state.nonces.issue(now);
        let challenge = |algorithm| {
            let (realm, nonce) = (self.options.realm.clone(), nonce.clone());
            ("WWW-Authenticate", Challenge { realm, nonce, algorithm, qop_auth: true, stale }.to_string())
        };
        Rejection { status: 401, headers: self.options.algorithms.iter().copied().map(challenge).collect() }
    }

    /// RFC 3261 §10.3 steps 6 to 8. The headers of the 200.
    fn update_bindings(
        &self,
        link: &Link,
        message: &Message,
        now: Instant,
    ) -> Result<Vec<(&'static str, String)>, Rejection> {
        let aor = message.to_aor();
        let path: Vec<String> = message.list("Path").into_iter().map(str::to_owned).collect();
        if let Some(tag) = message.list("Require").into_iter().find(|tag| !tag.eq_ignore_ascii_case("path")) {
            return Err(Rejection::with(420, "Unsupported", tag));
        }
        if !path.is_empty() && !message.has_token("Supported", "path") {
            return Err(Rejection::with(420, "Unsupported", "path"));
        }
        let (call_id, (cseq, _)) = (message.call_id().to_owned(), message.cseq().ok_or(Rejection::bare(400))?);
        if message.list("Contact") == ["*"] {
            if message.expires() != Some(0) {
                return Err(Rejection::bare(400));
            }
            self.locations.update(|all| all.remove(&aor, None));
        }
        for contact in message.contacts() {
            let asked = contact.param("expires").and_then(|e| e.parse().ok()).or(message.expires());
            let seconds: u32 = asked.unwrap_or(self.options.grant);
            if seconds == 0 {
                self.locations.update(|all| all.remove(&aor, Some(&contact.uri)));
                continue;
            }
            if seconds < self.options.min_expires {
                return Err(Rejection::with(423, "Min-Expires", &self.options.min_expires.to_string()));
            }
            if self.options.outbound && contact.param("reg-id").is_some() && !first_hop_is_outbound(&path) {
                return Err(Rejection::bare(439));
            }
            let others = |b: &&Binding| b.contact != contact.uri;
            if self.locations.read(|all| all.of(&aor, now).filter(others).count()) >= self.options.max_contacts {
                return Err(Rejection::bare(403));
            }
            let binding = Binding {
                aor: aor.clone(),
                contact: contact.uri,
                params: contact.params.into_iter().filter(|(n, _)| !n.eq_ignore_ascii_case("expires")).collect(),
                expires: now + Duration::from_secs(seconds.min(self.options.grant).into()),
                path: path.clone(),
                call_id: call_id.clone(),
                cseq,
                link: link.clone(),
                since: now,
            };
            self.locations.update(|all| all.put(binding));
        }
        let mut headers =
            self.locations.read(|all| all.of(&aor, now).map(|b| contact_header(b, now)).collect::<Vec<_>>());
        headers.extend(path.into_iter().map(|path| ("Path", path)));
        Ok(headers)
    }
}

fn contact_header(binding: &Binding, now: Instant) -> (&'static str, String) {
    let unquoted = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
    let param = |(name, value): &(String, Option<String>)| match value {
        Some(value) if !value.is_empty() && value.chars().all(unquoted) => format!(";{name}={value}"),
        Some(value) => format!(";{name}=\"{value}\""),
        None => format!(";{name}"),
    };
    let params: String = binding.params.iter().map(param).collect();
    ("Contact", format!("<{}>;expires={}{params}", binding.contact, binding.seconds_left(now)))
}

/// RFC 5626 §6: the Path value of the edge that the handset talks to (the last in the list) carries `ob`.
fn first_hop_is_outbound(path: &[String]) -> bool {
    path.last().is_some_and(|edge| NameAddr::read(edge).uri.split(';').any(|p| p.eq_ignore_ascii_case("ob")))
}
