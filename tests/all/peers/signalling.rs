//! What a PBX does with what handsets send in special cases: a registrar that binds and unbinds, a call that is
//! taken back.

use holdline::flow::Transport;

use super::holdline::Holdline;
use super::kamailio::Kamailio;
use super::line::{Line, hop_by_hop};
use super::tls::Authority;
use crate::support::installed::installed;

/// As pjsip's applications do after a reconnection: the old Contact goes with the new one, or in a REGISTER of its own.
#[tokio::test]
async fn a_handset_that_renews_its_contact_over_tcp_stays_at_kamailio() {
    let test = "peers::signalling::a_handset_that_renews_its_contact_over_tcp_stays_at_kamailio";
    if !installed(test, &["kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let holdline = Holdline::start(&[&kamailio], Transport::Udp, &authority, &[]).await;

    let mut first = Line::open("200", holdline.sip).await;
    let before = first.contact(first.local.port());
    first.register(&[format!("{before};expires=600")]).await;
    let bound = kamailio.registered(1).await;

    let mut second = Line::open("200", holdline.sip).await;
    let now = second.contact(second.local.port());
    let answer = second.register(&[format!("{now};expires=600"), format!("{before};expires=0")]).await;
    assert!(answer.contains(&now) && !answer.contains(&before), "{answer}");
    assert_eq!(kamailio.registered(1).await[0].contact, bound[0].contact);

    let answer = second.register(&[format!("{before};expires=0")]).await;
    assert!(answer.contains(&now), "{answer}");
    assert_eq!(kamailio.registered(1).await[0].contact, bound[0].contact);

    second.register(&[format!("{now};expires=0")]).await;
    kamailio.registered(0).await;
}

/// A PBX whose branch to the other handset runs into its time answers 408; the sender need not wait for its own time-out.
#[tokio::test]
async fn a_408_of_kamailio_to_a_message_reaches_the_handset() {
    let test = "peers::signalling::a_408_of_kamailio_to_a_message_reaches_the_handset";
    if !installed(test, &["kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let holdline = Holdline::start(&[&kamailio], Transport::Udp, &authority, &[]).await;
    let mut silent = Line::open("201", holdline.sip).await;
    let contact = silent.contact(silent.local.port());
    silent.register(&[contact]).await;

    let mut sender = Line::open("200", holdline.sip).await;
    let message = sender.request("MESSAGE", "201", "");
    sender.send(&message).await;
    silent.receive_a("MESSAGE sip:201@").await;
    sender.receive_a("SIP/2.0 408 ").await;
}

/// A hunt group's proxy cancels the other handsets so; Kamailio passes on what it was told, and so does Holdline, both ways.
#[tokio::test]
async fn a_cancels_reason_reaches_the_other_handset_through_kamailio() {
    let test = "peers::signalling::a_cancels_reason_reaches_the_other_handset_through_kamailio";
    if !installed(test, &["kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let holdline = Holdline::start(&[&kamailio], Transport::Udp, &authority, &[]).await;
    let mut callee = Line::open("201", holdline.sip).await;
    let contact = callee.contact(callee.local.port());
    callee.register(&[contact]).await;

    let mut caller = Line::open("200", holdline.sip).await;
    let contact = format!("Contact: {}\r\n", caller.contact(caller.local.port()));
    let invite = caller.authorized("INVITE", "201", &contact).await;
    let arrived = callee.receive_a("INVITE ").await;
    callee.answer(&arrived, "180 Ringing").await;
    caller.receive_a("SIP/2.0 180 ").await;

    let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
    caller.send(&hop_by_hop(&invite, "CANCEL", reason)).await;
    let cancel = callee.receive_a("CANCEL ").await;
    assert!(cancel.contains(reason), "{cancel}");
    callee.answer(&cancel, "200 OK").await;
    callee.answer(&arrived, "487 Request Terminated").await;
    caller.receive_a("SIP/2.0 487 ").await;
}
