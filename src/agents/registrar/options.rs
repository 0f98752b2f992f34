//! What a registrar is like from the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::agents::digest::Algorithm;

/// What a registrar is like from the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Told in the Server header of every response, so that a handset's record says who answered.
    pub name: String,
    /// The digest realm.
    pub realm: String,
    /// Every user's password. `None`: nobody is asked for one.
    pub password: Option<String>,
    /// Hashes that are offered, best first (RFC 8760 §2.4).
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// The longest expiry that is granted, in seconds.
    pub grant: u32,
    /// A shorter expiry than this is answered 423, in seconds.
    pub min_expires: u32,
    /// More Contacts of one address-of-record are answered 403 (Asterisk's `max_contacts`).
    pub max_contacts: usize,
    /// Answers a request whose Call-ID and CSeq were seen on another branch with this status (482 as RFC 3261 §8.2.2.2
    /// asks, 400 or 500 as some do).
    pub merged: Option<u16>,
    /// Insists that the digest's `uri` is the Request-URI (RFC 3261 §22.4); most registrars in the field do not.
    pub strict_uri: bool,
    /// Answers 439 to a `reg-id` whose first Path lacks `ob`, as RFC 5626 §6 asks.
    pub outbound: bool,
    /// Methods other than REGISTER and what they are answered; the rest gets 200.
    pub answers: HashMap<String, u16>,
    /// Offers TLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Connects to TLS Contacts with these roots.
    pub tls_client: Option<Arc<ClientConfig>>,
    /// Messages that the record keeps at least; at twice as many the oldest half goes.
    pub kept: usize,
    /// The ports to bind; 0 for ephemeral ones. First UDP and TCP, then TLS.
    pub ports: (u16, u16),
}

impl Options {
    /// A registrar of this name with password `secret`, MD5 and SHA-256, granting an hour at most.
    pub fn named(name: &str) -> Options {
        Options {
            name: name.to_owned(),
            realm: format!("{name}.realm"),
            password: Some("secret".to_owned()),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            nonce_lifetime: Duration::from_secs(3600),
            grant: 3600,
            min_expires: 0,
            max_contacts: 10,
            merged: None,
            strict_uri: false,
            outbound: false,
            answers: HashMap::from([("INVITE".to_owned(), 480)]),
            tls: None,
            tls_client: None,
            kept: 100_000,
            ports: (0, 0),
        }
    }
}
