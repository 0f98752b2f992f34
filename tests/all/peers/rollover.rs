//! One of two Kamailios dies or goes silent: SIPp counts no failed registration, baresip stays registered.

use holdline::flow::Transport;

use super::baresip::Baresip;
use super::holdline::Holdline;
use super::kamailio::Kamailio;
use super::sipp::{Plan, Sipp};
use super::tls::Authority;
use crate::support::installed::installed;
use crate::support::process::Signal;

const PHONES: usize = 10;

/// Phones register at the first Kamailio, which `signal` then ends or stops in the middle of their refreshes. Every one
/// of them is answered with 200 all the same, at last by the second.
async fn phones_do_not_notice(test: &str, upstream: Transport, signal: Signal) {
    if !installed(test, &["sipp", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let first = Kamailio::start(&authority, 3600).await;
    let second = Kamailio::start(&authority, 3600).await;
    let mut holdline = Holdline::start(&[&first, &second], upstream, &authority, &[]).await;
    let plan = Plan { phones: PHONES, transport: Transport::Udp, expires: 1800, refreshes: 10, pause: 1000 };
    let mut sipp = Sipp::start(&plan, holdline.sip, None);
    sipp.each_granted(2).await;
    assert_eq!(first.registered(PHONES).await.len(), PHONES);
    assert_eq!(second.locations().await, []);

    first.signal(signal);
    holdline.rolled_over(1.0).await;
    second.registered(PHONES).await;
    if matches!(signal, Signal::Stop) {
        // Back again, with what it had not read yet: nobody moves, and nobody is disturbed.
        first.signal(Signal::Continue);
    }
    sipp.finish().await;
    assert!((holdline.metric("holdline_failovers_total", "").await - 1.0).abs() < 0.5, "one rollover, and no way back");
    assert!(
        holdline.metric("holdline_register_exhausted_total", "").await < 0.5,
        "no phone was left without an answer"
    );
}

#[tokio::test]
async fn a_killed_pbx_over_udp_costs_no_phone_a_registration() {
    let test = "peers::rollover::a_killed_pbx_over_udp_costs_no_phone_a_registration";
    phones_do_not_notice(test, Transport::Udp, Signal::Kill).await;
}

#[tokio::test]
async fn a_killed_pbx_over_tls_costs_no_phone_a_registration() {
    let test = "peers::rollover::a_killed_pbx_over_tls_costs_no_phone_a_registration";
    phones_do_not_notice(test, Transport::Tls, Signal::Kill).await;
}

#[tokio::test]
async fn a_stopped_pbx_over_udp_costs_no_phone_a_registration() {
    let test = "peers::rollover::a_stopped_pbx_over_udp_costs_no_phone_a_registration";
    phones_do_not_notice(test, Transport::Udp, Signal::Stop).await;
}

#[tokio::test]
async fn a_stopped_pbx_over_tcp_costs_no_phone_a_registration() {
    let test = "peers::rollover::a_stopped_pbx_over_tcp_costs_no_phone_a_registration";
    phones_do_not_notice(test, Transport::Tcp, Signal::Stop).await;
}

/// Short registrations, so that the handset refreshes often; it is the same process from first to last.
async fn baresip_stays(test: &str, signal: Signal) {
    if !installed(test, &["baresip", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let first = Kamailio::start(&authority, 5).await;
    let second = Kamailio::start(&authority, 5).await;
    let mut holdline = Holdline::start(&[&first, &second], Transport::Udp, &authority, &[]).await;
    let mut baresip = Baresip::start(holdline.sip).await;
    baresip.registered(2).await;
    assert_eq!(first.registered(1).await[0].aor, "200");

    first.signal(signal);
    holdline.rolled_over(1.0).await;
    assert_eq!(second.registered(1).await[0].aor, "200");
    let before = baresip.count("REGISTER_OK");
    baresip.registered(before + 2).await;
}

#[tokio::test]
async fn baresip_stays_registered_when_the_pbx_is_killed() {
    baresip_stays("peers::rollover::baresip_stays_registered_when_the_pbx_is_killed", Signal::Kill).await;
}

#[tokio::test]
async fn baresip_stays_registered_when_the_pbx_goes_silent() {
    baresip_stays("peers::rollover::baresip_stays_registered_when_the_pbx_goes_silent", Signal::Stop).await;
}
