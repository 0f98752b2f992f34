//! One handset's registration: Call-ID, CSeq and credentials over its lifetime, RFC 3261 §10.2 and §22.2.

use std::time::Instant;

use super::record::Final;
use super::{RegisterOutcome, Shared, new_branch};
use crate::agents::digest::{Challenge, Credentials};
use crate::agents::sip::{self, Message, NameAddr};
use crate::agents::wire::{End, Exchange, Link};

/// Challenges that are answered in one registration: the first, and one for a nonce that went stale or belongs to
/// another server.
const MAX_CHALLENGES: usize = 2;

#[derive(Debug)]
pub(super) struct Registration {
    call_id: String,
    from_tag: String,
    cseq: u32,
    /// The challenge that was last answered, and how often its nonce was used.
    known: Option<(Challenge, u32)>,
}

impl Registration {
    pub(super) fn new() -> Registration {
        Registration { call_id: sip::random_token(12), from_tag: sip::random_token(4), cseq: 0, known: None }
    }

    /// Registers, or with `expires` 0 takes it back, answering challenges.
    pub(super) async fn run(&mut self, shared: &Shared, expires: u32) -> RegisterOutcome {
        let outcome = self.register_once(shared, expires).await;
        shared.record.update(|record| record.registered = matches!(outcome, RegisterOutcome::Registered(1..)));
        outcome
    }

    async fn register_once(&mut self, shared: &Shared, expires: u32) -> RegisterOutcome {
        if !shared.options.remembers_nonce {
            self.known = None;
        }
        for answered in 0..=MAX_CHALLENGES {
            let exchange = match self.once(shared, expires).await {
                Ok(exchange) => exchange,
                Err(why) => {
                    shared.record.update(|record| record.broke(Instant::now(), why));
                    return RegisterOutcome::Broken;
                }
            };
            match exchange.end {
                End::TimerF => {
                    shared.record.update(|record| record.timer_f += 1);
                    return RegisterOutcome::TimedOut;
                }
                End::Broken(why) => {
                    shared.record.update(|record| record.broke(Instant::now(), why));
                    return RegisterOutcome::Broken;
                }
                End::Final(message) => match message.status() {
                    200..300 => return RegisterOutcome::Registered(accept(shared, &message, expires)),
                    401 | 407 if answered < MAX_CHALLENGES && self.learn(&message) => {}
                    status => return RegisterOutcome::Rejected(status),
                },
            }
        }
        RegisterOutcome::Rejected(401)
    }

    /// One transaction.
    async fn once(&mut self, shared: &Shared, expires: u32) -> Result<Exchange, String> {
        let link = shared.link().await.map_err(|error| error.to_string())?;
        let branch = new_branch();
        let (request, authorized) = self.build(shared, &link, &branch, expires);
        let exchange = shared.wire.exchange(&link, request, &branch, shared.options.timers).await;
        if let End::Final(message) = &exchange.end {
            let answer = Final {
                status: message.status(),
                at: Instant::now(),
                took: exchange.took,
                sent: exchange.sent,
                provisional: exchange.provisional.clone(),
                authorized,
                server: message.header("Server").map(str::to_owned),
                message: message.clone(),
            };
            shared.record.update(|record| record.answered(answer));
        }
        Ok(exchange)
    }

    fn build(&mut self, shared: &Shared, link: &Link, branch: &str, expires: u32) -> (bytes::Bytes, bool) {
        let options = &shared.options;
        let uri = options.registrar_uri.clone().unwrap_or_else(|| format!("sip:{}", options.domain));
        self.cseq += 1;
        let mut headers = shared.common_headers(link, branch);
        for (name, value) in &mut headers {
            if *name == "From" {
                *value = format!("<sip:{}>;tag={}", options.aor(), self.from_tag);
            }
        }
        let contact = shared.contact(link);
        headers.push(("To", format!("<sip:{}>", options.aor())));
        headers.push(("Call-ID", self.call_id.clone()));
        headers.push(("CSeq", format!("{} REGISTER", self.cseq)));
        headers.push(("Contact", format!("<{contact}>{};expires={expires}", options.contact_params)));
        headers.extend(options.supported.iter().map(|tags| ("Supported", tags.clone())));
        headers.extend(options.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let authorized = self.known.is_some();
        if let Some((challenge, uses)) = &mut self.known {
            *uses += 1;
            let (user, nonce_use) =
                ((options.user.as_str(), options.password.as_str()), (&*sip::random_token(8), *uses));
            let credentials = Credentials::answer(challenge, user, ("REGISTER", &uri), nonce_use);
            headers.push(("Authorization", credentials.to_string()));
        }
        shared.record.update(|record| record.contact_sent = contact);
        (sip::request("REGISTER", &uri, &headers, b""), authorized)
    }

    /// Takes up the first challenge that it can answer. It may be another server's than the one answered before.
    fn learn(&mut self, message: &Message) -> bool {
        let wanted = |name: &str| name.eq_ignore_ascii_case("WWW-Authenticate");
        let mut values = message.headers.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| value);
        let challenge = values.find_map(|value| Challenge::read(value));
        self.known = challenge.map(|challenge| (challenge, 0));
        self.known.is_some()
    }
}

/// Records the content of a 2xx and returns the seconds granted.
fn accept(shared: &Shared, message: &Message, asked: u32) -> u32 {
    let contacts = message.contacts();
    shared.record.update(|record| {
        let own = |c: &&NameAddr| c.uri == record.contact_sent;
        let granted = contacts.iter().find(own).and_then(|c| c.param("expires").and_then(|e| e.parse().ok()));
        let granted = if asked == 0 { 0 } else { granted.or(message.expires()).unwrap_or(asked) };
        record.granted = Some(granted);
        record.contacts_back = contacts.iter().map(|c| c.uri.clone()).collect();
        record.server = message.header("Server").map(str::to_owned);
        granted
    })
}
