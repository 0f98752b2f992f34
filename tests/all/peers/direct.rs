//! The peers without Holdline between them: where this fails, the fault is in the peers or in how they are run.

use holdline::flow::Transport;

use super::baresip::Baresip;
use super::kamailio::Kamailio;
use super::sipp::{Plan, Sipp};
use super::tls::{Authority, Tunnel};
use crate::support::installed::installed;
use crate::support::process::Signal;

async fn phones_register_directly(transport: Transport) {
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let plan = Plan { phones: 3, transport, expires: 1800, refreshes: 500, pause: 200 };
    let (server, tunnel) = match transport {
        Transport::Tls => (kamailio.sips, Some(Tunnel::open(kamailio.sips, super::DOMAIN, &authority).await)),
        Transport::Udp | Transport::Tcp => (kamailio.sip, None),
    };
    let mut sipp = Sipp::start(&plan, server, tunnel);
    sipp.each_granted(2).await;
    for row in kamailio.registered(3).await {
        let own = format!("sip:{}@{};transport={transport};line=", row.aor, sipp.local);
        assert!(row.contact.starts_with(&own), "{row:?}");
        assert!((1700..=1800).contains(&row.expires), "{row:?}");
    }
    if transport != Transport::Tls {
        assert_eq!(kamailio.options("phone2").await, 200);
        let options = sipp.options();
        assert!(options.len() == 1 && options[0].starts_with("sip:phone2@"), "{options:?}");
    }
}

#[tokio::test]
async fn sipp_registers_at_kamailio_over_udp() {
    if installed("peers::direct::sipp_registers_at_kamailio_over_udp", &["sipp", "kamailio"]) {
        phones_register_directly(Transport::Udp).await;
    }
}

#[tokio::test]
async fn sipp_registers_at_kamailio_over_tcp() {
    if installed("peers::direct::sipp_registers_at_kamailio_over_tcp", &["sipp", "kamailio"]) {
        phones_register_directly(Transport::Tcp).await;
    }
}

#[tokio::test]
async fn sipp_registers_at_kamailio_over_tls() {
    if installed("peers::direct::sipp_registers_at_kamailio_over_tls", &["sipp", "kamailio"]) {
        phones_register_directly(Transport::Tls).await;
    }
}

#[tokio::test]
async fn baresip_registers_at_kamailio_and_stays_registered() {
    if installed("peers::direct::baresip_registers_at_kamailio_and_stays_registered", &["baresip", "kamailio"]) {
        let kamailio = Kamailio::start(&Authority::new(), 2).await;
        let mut baresip = Baresip::start(kamailio.sip).await;
        baresip.registered(3).await;
        assert_eq!(kamailio.registered(1).await[0].aor, "200");
    }
}

/// What the rollover's tests rely on: a stopped Kamailio is silent, a continued one is back.
#[tokio::test]
async fn a_stopped_kamailio_is_silent_until_it_continues() {
    if installed("peers::direct::a_stopped_kamailio_is_silent_until_it_continues", &["sipp", "kamailio"]) {
        let kamailio = Kamailio::start(&Authority::new(), 3600).await;
        let plan = Plan { phones: 1, transport: Transport::Udp, expires: 1800, refreshes: 8, pause: 100 };
        kamailio.signal(Signal::Stop);
        let sipp = Sipp::start(&plan, kamailio.sip, None);
        sipp.retransmitted().await;
        assert_eq!(sipp.granted(), []);
        kamailio.signal(Signal::Continue);
        sipp.finish().await;
    }
}
