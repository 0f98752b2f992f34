//! Where the shared memory is, as the setting `cluster` says it.

use std::fmt;

/// A host and a port.
pub(super) type Place = (String, u16);

/// Port of Redis where none is given.
const REDIS: u16 = 6379;
/// Port of Sentinel where none is given.
const SENTINEL: u16 = 26379;
/// Servers or Sentinels that may be named.
const MOST: usize = 16;

/// The server, or the Sentinels that know which server it is. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Over TLS; the Sentinels, too.
    pub(super) tls: bool,
    /// The user of an ACL; `default` without one.
    pub(super) user: Option<String>,
    /// Where to connect, or whom to ask, in turn.
    pub(super) places: Vec<Place>,
    /// The name that the Sentinels know the server by; `None`: there are none.
    pub(super) primary: Option<String>,
    /// Number of the database.
    pub(super) database: i64,
}

impl Address {
    /// It names a user.
    #[must_use]
    pub fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// `redis://[USER@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS, `redis+sentinel://[USER@]HOST[:PORT],…/NAME[/DATABASE]`,
    /// `rediss+sentinel://` with TLS. The error says what would be right, and repeats nothing of the text.
    pub fn parse(text: &str) -> Result<Address, &'static str> {
        const FORM: &str =
            "write redis://HOST[:PORT][/DATABASE], rediss:// for TLS, or redis+sentinel://HOST[:PORT],HOST[:PORT]/NAME";
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let (tls, sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(FORM),
        };
        if rest.contains(['?', '#', ' ']) {
            return Err(FORM);
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(
                    "a password in the address would be seen by every user of the machine; give cluster_password_file",
                );
            }
            Some((user, rest)) => (Some(user.to_owned()).filter(|user| !user.is_empty()), rest),
            None => (None, rest),
        };
        let mut path = rest.split('/');
        let places = path.next().unwrap_or_default();
        let default = if sentinel { SENTINEL } else { REDIS };
        let places: Vec<Place> =
            places.split(',').map(|place| self::place(place, default)).collect::<Option<_>>().ok_or(FORM)?;
        if places.len() > MOST || (!sentinel && places.len() > 1) {
            return Err("one server, or up to 16 Sentinels (redis+sentinel://)");
        }
        let primary =
            if sentinel {
                let name = path.next().filter(|name| !name.is_empty());
                Some(name.ok_or(
                    "the name is missing that the Sentinels know the server by: redis+sentinel://HOST,HOST/NAME",
                )?)
            } else {
                None
            };
        let database = match path.next() {
            None | Some("") => 0,
            Some(number) => number.parse().ok().filter(|number| (0..=65_535).contains(number)).ok_or(FORM)?,
        };
        if path.next().is_some() {
            return Err(FORM);
        }
        Ok(Address { tls, user, places, primary: primary.map(str::to_owned), database })
    }
}

/// `HOST[:PORT]`; an IPv6 address in brackets.
fn place(text: &str, default: u16) -> Option<Place> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { default } else { port.parse().ok().filter(|port| *port != 0)? };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(fits)).then(|| (host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { tls, places, primary, .. } = self;
        let places: Vec<String> = places.iter().map(shown).collect();
        let scheme = if *tls { "rediss" } else { "redis" };
        match primary {
            Some(name) => write!(f, "{scheme}+sentinel://{}/{name}", places.join(",")),
            None => write!(f, "{scheme}://{}", places.join(",")),
        }
    }
}

/// As one writes it.
pub(super) fn shown((host, port): &Place) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_operators_write_them() {
        let one = Address::parse("redis://redis.example").unwrap();
        assert_eq!((one.places[0].clone(), one.tls, one.database), (("redis.example".to_owned(), 6379), false, 0));
        let one = Address::parse("rediss://holdline@[2001:db8::1]:7000/3").unwrap();
        assert_eq!((one.user.as_deref(), one.tls, one.database), (Some("holdline"), true, 3));
        assert_eq!(one.to_string(), "rediss://[2001:db8::1]:7000");
        let three = Address::parse("redis+sentinel://a,b:26380,c/mymaster").unwrap();
        assert_eq!((three.places.len(), three.primary.as_deref()), (3, Some("mymaster")));
        assert_eq!(three.to_string(), "redis+sentinel://a:26379,b:26380,c:26379/mymaster");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for wrong in [
            "",
            "redis.example:6379",
            "http://s3cret",
            "redis://",
            "redis://s3cret:0",
            "redis://s3cret:99999",
            "redis://a,b",
            "redis://:s3cret@h",
            "redis://u:s3cret@h",
            "redis+sentinel://s3cret",
            "redis://h/s3cret",
            "redis://h?s3cret=1",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(!error.contains("s3cret") && !error.is_empty(), "{wrong}: {error}");
        }
        assert!(Address::parse("redis://u:p@h").unwrap_err().contains("cluster_password_file"));
    }
}
