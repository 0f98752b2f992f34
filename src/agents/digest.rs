//! Digest access authentication for SIP: RFC 3261 §22, RFC 8760 (SHA-256), RFC 7616.
//!
//! `rsip` has digests too, but writes `SHA256` where RFC 8760 says `SHA-256` and counts `nc` in decimal; peers that read
//! the RFC would not understand our agents. MD5 comes from RustCrypto (`ring` has none, on purpose), SHA-256 from `ring`.

use std::fmt;

use md5::{Digest as _, Md5};

use super::sip::{hex, split_list};

/// A hash that a registrar asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 3261.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl Algorithm {
    /// The `algorithm` parameter.
    pub fn token(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn from_token(token: &str) -> Option<Algorithm> {
        [Algorithm::Md5, Algorithm::Sha256].into_iter().find(|a| a.token().eq_ignore_ascii_case(token))
    }

    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()),
        }
    }
}

/// One WWW-Authenticate (or Proxy-Authenticate) header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The protection domain that asks.
    pub realm: String,
    /// The server's number used once.
    pub nonce: String,
    /// The hash it wants.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered.
    pub qop_auth: bool,
    /// The password was right, only the nonce is too old.
    pub stale: bool,
}

impl Challenge {
    /// Reads a header value. `None` for another scheme, an unknown algorithm or missing parameters.
    pub fn read(value: &str) -> Option<Challenge> {
        let params = Params::read(value)?;
        Some(Challenge {
            realm: params.get("realm")?.to_owned(),
            nonce: params.get("nonce")?.to_owned(),
            algorithm: Algorithm::from_token(params.get("algorithm").unwrap_or("MD5"))?,
            qop_auth: params.get("qop").is_some_and(|q| split_list(q).iter().any(|q| q.eq_ignore_ascii_case("auth"))),
            stale: params.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (realm, nonce) = (&self.realm, &self.nonce);
        write!(f, "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}", self.algorithm.token())?;
        if self.qop_auth {
            f.write_str(", qop=\"auth\"")?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        Ok(())
    }
}

/// One Authorization (or Proxy-Authorization) header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user that answers.
    pub username: String,
    /// From the challenge.
    pub realm: String,
    /// From the challenge.
    pub nonce: String,
    /// The Request-URI.
    pub uri: String,
    /// From the challenge.
    pub algorithm: Algorithm,
    /// The client's number used once and the count of uses of the nonce, where `qop=auth` was offered.
    pub auth: Option<(String, u32)>,
    /// The proof.
    pub response: String,
}

impl Credentials {
    /// The answer to a challenge, for the `nc`-th use of its nonce.
    pub fn answer(
        challenge: &Challenge,
        (username, password): (&str, &str),
        (method, uri): (&str, &str),
        (cnonce, nc): (&str, u32),
    ) -> Credentials {
        let mut credentials = Credentials {
            username: username.to_owned(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: uri.to_owned(),
            algorithm: challenge.algorithm,
            auth: challenge.qop_auth.then(|| (cnonce.to_owned(), nc)),
            response: String::new(),
        };
        credentials.response = credentials.expected(password, method);
        credentials
    }

    /// True if the password is the one this was made with.
    pub fn proves(&self, password: &str, method: &str) -> bool {
        self.response == self.expected(password, method)
    }

    /// Reads a header value. `None` for another scheme, an unknown algorithm or missing parameters.
    pub fn read(value: &str) -> Option<Credentials> {
        let params = Params::read(value)?;
        let auth = match params.get("qop") {
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let nc = params.get("nc").filter(|nc| nc.len() == 8)?;
                Some((params.get("cnonce")?.to_owned(), u32::from_str_radix(nc, 16).ok()?))
            }
            Some(_) => return None,
            None => None,
        };
        Some(Credentials {
            username: params.get("username")?.to_owned(),
            realm: params.get("realm")?.to_owned(),
            nonce: params.get("nonce")?.to_owned(),
            uri: params.get("uri")?.to_owned(),
            algorithm: Algorithm::from_token(params.get("algorithm").unwrap_or("MD5"))?,
            auth,
            response: params.get("response")?.to_owned(),
        })
    }

    /// RFC 7616 §3.4.1.
    fn expected(&self, password: &str, method: &str) -> String {
        let (username, realm, nonce, uri) = (&self.username, &self.realm, &self.nonce, &self.uri);
        let a1 = self.algorithm.hash(&format!("{username}:{realm}:{password}"));
        let a2 = self.algorithm.hash(&format!("{method}:{uri}"));
        self.algorithm.hash(&match &self.auth {
            Some((cnonce, nc)) => format!("{a1}:{nonce}:{nc:08x}:{cnonce}:auth:{a2}"),
            None => format!("{a1}:{nonce}:{a2}"),
        })
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Credentials { username, realm, nonce, uri, response, .. } = self;
        write!(f, "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", ")?;
        write!(f, "response=\"{response}\", algorithm={}", self.algorithm.token())?;
        if let Some((cnonce, nc)) = &self.auth {
            write!(f, ", cnonce=\"{cnonce}\", qop=auth, nc={nc:08x}")?;
        }
        Ok(())
    }
}

struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    fn read(value: &'a str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(char::is_whitespace)?;
        let pairs = split_list(rest).into_iter().filter_map(|p| p.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
        scheme.eq_ignore_ascii_case("Digest").then(|| Params(pairs.collect()))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(algorithm: Algorithm, qop_auth: bool) -> Challenge {
        Challenge { realm: "r".into(), nonce: "n".into(), algorithm, qop_auth, stale: false }
    }

    /// The worked example of RFC 7616 §3.9.1, with both hashes.
    #[test]
    fn the_example_of_the_rfc() {
        for (algorithm, response) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = Challenge {
                realm: "http-auth@example.org".into(),
                nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".into(),
                ..challenge(algorithm, true)
            };
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let user = ("Mufasa", "Circle of Life");
            let answer = Credentials::answer(&challenge, user, ("GET", "/dir/index.html"), (cnonce, 1));
            assert_eq!(answer.response, response);
        }
    }

    #[test]
    fn written_and_read_again_they_are_the_same() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            for qop in [true, false] {
                let challenge = Challenge { stale: qop, ..challenge(algorithm, qop) };
                assert_eq!(Challenge::read(&challenge.to_string()), Some(challenge.clone()));
                let answer = Credentials::answer(&challenge, ("u", "p"), ("REGISTER", "sip:x"), ("c", 31));
                assert_eq!(Credentials::read(&answer.to_string()), Some(answer.clone()));
                assert!(answer.proves("p", "REGISTER"));
                assert!(!answer.proves("q", "REGISTER") && !answer.proves("p", "INVITE"));
            }
        }
    }

    #[test]
    fn other_schemes_and_hashes_are_refused() {
        assert_eq!(Challenge::read("Basic realm=\"x\""), None);
        assert_eq!(Challenge::read("Digest realm=\"x\", nonce=\"y\", algorithm=SHA-512-256"), None);
    }
}
