//! SIPp phones register through Holdline at Kamailio, over each pair of transports. What Kamailio holds is compared with
//! what Holdline promised, and what Kamailio sends to the Contact it holds must reach the phone.

use holdline::flow::Transport;

use super::holdline::Holdline;
use super::kamailio::{Kamailio, Location};
use super::sipp::{Plan, Sipp};
use super::tls::{Authority, Tunnel};
use crate::support::installed::installed;

const PHONES: usize = 4;

/// Seconds that phones ask for and Kamailio grants.
const EXPIRES: u32 = 1800;

struct Row {
    kamailio: Kamailio,
    holdline: Holdline,
    sipp: Sipp,
    locations: Vec<Location>,
}

/// Phones over `phone`, Kamailio over `upstream`; returns when every phone has registered and refreshed.
async fn register(phone: Transport, upstream: Transport, options: &[&str]) -> Row {
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let holdline = Holdline::start(&[&kamailio], upstream, &authority, options).await;
    let plan = Plan { phones: PHONES, transport: phone, expires: EXPIRES, refreshes: 1000, pause: 250 };
    let listener = holdline.listener(phone);
    let tunnel =
        if phone == Transport::Tls { Some(Tunnel::open(listener, "localhost", &authority).await) } else { None };
    let mut sipp = Sipp::start(&plan, listener, tunnel);
    sipp.each_granted(2).await;
    let locations = kamailio.registered(PHONES).await;
    Row { kamailio, holdline, sipp, locations }
}

impl Row {
    /// The URI that a phone itself registered, up to a parameter that SIPp numbers.
    fn own_contact(&self, user: &str, phone: Transport) -> String {
        format!("sip:{user}@{};transport={phone};line=", self.sipp.local)
    }

    /// What every phone was granted: its own Contact, for at most `register_interval`'s 300 seconds, and not for less than a
    /// third of them.
    fn check_granted(&self, phone: Transport) {
        for granted in self.sipp.granted() {
            let own = format!("<{}", self.own_contact(&granted.phone, phone));
            assert!(granted.contact.starts_with(&own), "{granted:?} is not {own}");
            let seconds = granted.contact.split_once(">;expires=").and_then(|(_, seconds)| seconds.parse::<u32>().ok());
            assert!(seconds.is_some_and(|seconds| (100..=300).contains(&seconds)), "{granted:?}");
            assert!(!granted.contact.contains(','), "one binding each: {granted:?}");
        }
    }

    /// An OPTIONS from Kamailio, by its own lookup, reaches each phone and is answered.
    async fn check_options(&self, phone: Transport) {
        for number in 1..=PHONES {
            let user = format!("phone{number}");
            assert_eq!(self.kamailio.options(&user).await, 200, "OPTIONS to {user}");
            let own = self.own_contact(&user, phone);
            let reached = self.sipp.options();
            assert!(reached.iter().any(|uri| uri.starts_with(&own)), "{own} is not among {reached:?}");
        }
        assert_eq!(self.sipp.options().len(), PHONES, "nobody else's OPTIONS");
    }
}

/// Kamailio's own binding is the phone's whole one; it came in by the upstream's transport.
fn check_location(location: &Location, upstream: Transport) {
    assert!((i64::from(EXPIRES) - 60..=i64::from(EXPIRES)).contains(&location.expires), "{location:?}");
    assert!(location.socket.starts_with(&format!("{upstream}:")), "{location:?}");
}

async fn rewritten(test: &str, phone: Transport, upstream: Transport) {
    if !installed(test, &["sipp", "kamailio"]) {
        return;
    }
    let row = register(phone, upstream, &[]).await;
    row.check_granted(phone);
    let mut users = Vec::new();
    for location in &row.locations {
        check_location(location, upstream);
        assert_eq!(location.path, None, "{location:?}");
        let (user, rest) =
            location.contact.strip_prefix("sip:").and_then(|uri| uri.split_once('@')).expect("a user part");
        assert!(is_binding_id(user), "{location:?}");
        users.push(user.to_owned());
        let (address, transport) = rest.split_once(";transport=").unwrap_or((rest, "udp"));
        assert_eq!(
            (address, transport),
            (row.holdline.upstream.to_string().as_str(), upstream.as_str()),
            "{location:?}"
        );
    }
    users.sort();
    users.dedup();
    assert_eq!(users.len(), PHONES, "an ID for each phone");
    row.check_options(phone).await;
}

/// `h` and 26 characters of lower-case base32.
fn is_binding_id(user: &str) -> bool {
    user.len() == 27
        && user.starts_with('h')
        && user[1..].bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
}

async fn with_path(test: &str, phone: Transport, upstream: Transport) {
    if !installed(test, &["sipp", "kamailio"]) {
        return;
    }
    let row = register(phone, upstream, &["--contact", "path"]).await;
    row.check_granted(phone);
    for location in &row.locations {
        check_location(location, upstream);
        assert!(location.contact.starts_with(&row.own_contact(&location.aor, phone)), "{location:?}");
        let path = location.path.clone().unwrap_or_default();
        let uri = path.trim_start_matches('<').trim_end_matches('>').strip_prefix("sip:").unwrap_or_default();
        let (user, rest) = uri.split_once('@').expect("a user part");
        assert!(is_binding_id(user), "{location:?}");
        let mut parts = rest.split(';');
        assert_eq!(parts.next(), Some(row.holdline.upstream.to_string().as_str()), "{location:?}");
        let parameters: Vec<&str> = parts.collect();
        assert!(parameters.contains(&"lr") && parameters.contains(&"ob"), "{location:?}");
        let transport = parameters.iter().find_map(|one| one.strip_prefix("transport=")).unwrap_or("udp");
        assert_eq!(transport, upstream.as_str(), "{location:?}");
    }
    row.check_options(phone).await;
}

#[tokio::test]
async fn udp_phones_to_a_udp_upstream() {
    rewritten("peers::matrix::udp_phones_to_a_udp_upstream", Transport::Udp, Transport::Udp).await;
}

#[tokio::test]
async fn udp_phones_to_a_tcp_upstream() {
    rewritten("peers::matrix::udp_phones_to_a_tcp_upstream", Transport::Udp, Transport::Tcp).await;
}

#[tokio::test]
async fn udp_phones_to_a_tls_upstream() {
    rewritten("peers::matrix::udp_phones_to_a_tls_upstream", Transport::Udp, Transport::Tls).await;
}

#[tokio::test]
async fn tcp_phones_to_a_tls_upstream() {
    rewritten("peers::matrix::tcp_phones_to_a_tls_upstream", Transport::Tcp, Transport::Tls).await;
}

#[tokio::test]
async fn tls_phones_to_a_tls_upstream() {
    rewritten("peers::matrix::tls_phones_to_a_tls_upstream", Transport::Tls, Transport::Tls).await;
}

#[tokio::test]
async fn path_from_udp_phones_to_a_udp_upstream() {
    with_path("peers::matrix::path_from_udp_phones_to_a_udp_upstream", Transport::Udp, Transport::Udp).await;
}

#[tokio::test]
async fn path_from_tcp_phones_to_a_tls_upstream() {
    with_path("peers::matrix::path_from_tcp_phones_to_a_tls_upstream", Transport::Tcp, Transport::Tls).await;
}
