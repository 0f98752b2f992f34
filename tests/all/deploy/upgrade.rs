//! SIGTERM, and the next version on the same state, while phones refresh and people talk.

use holdline::flow::Transport;

use super::tools::installed;
use crate::peers::baresip::Baresip;
use crate::peers::holdline::Holdline;
use crate::peers::kamailio::Kamailio;
use crate::peers::sipp::{Plan, Sipp};
use crate::peers::tls::Authority;
use crate::support::process::Signal;
use crate::support::wait::until;

const PHONES: usize = 5;
const REGISTERS: &str = "method=\"REGISTER\",side=\"phone\"";

/// Two handsets, a fleet that refreshes every second, and a PBX.
struct Scene {
    kamailio: Kamailio,
    holdline: Holdline,
    a: Baresip,
    b: Baresip,
    fleet: Sipp,
    _kept: (Authority, tempfile::TempDir),
}

impl Scene {
    async fn set(refreshes: usize) -> Scene {
        let authority = Authority::new();
        let kamailio = Kamailio::start(&authority, 3600).await;
        let state = tempfile::tempdir().unwrap();
        let options = ["--state-dir", state.path().to_str().unwrap()];
        let holdline = Holdline::start(&[&kamailio], Transport::Udp, &authority, &options).await;
        let mut a = Baresip::start_as("a", holdline.sip, Transport::Udp, None).await;
        let mut b = Baresip::start_as("b", holdline.sip, Transport::Udp, None).await;
        a.is_registered().await;
        b.is_registered().await;
        let plan = Plan { phones: PHONES, transport: Transport::Udp, expires: 1800, refreshes, pause: 1000 };
        let mut fleet = Sipp::start(&plan, holdline.sip, None);
        fleet.each_granted(2).await;
        Scene { kamailio, holdline, a, b, fleet, _kept: (authority, state) }
    }
}

async fn ring(caller: &mut Baresip, callee: &mut Baresip, user: &str) {
    let (rang, came) = (caller.count("CALL_RINGING"), callee.count("CALL_INCOMING"));
    caller.dial(user).await;
    callee.happened("CALL_INCOMING", came + 1).await;
    caller.happened("CALL_RINGING", rang + 1).await;
}

async fn answer(caller: &mut Baresip, callee: &mut Baresip, call: usize) {
    callee.command("accept", "").await;
    caller.happened("CALL_ESTABLISHED", call).await;
    callee.happened("CALL_ESTABLISHED", call).await;
}

/// One hangs up, and the other hears of it.
async fn hang_up(by: &mut Baresip, of: &mut Baresip, call: usize) {
    by.command("hangup", "").await;
    assert_eq!(of.happened("CALL_CLOSED", call).await, "Connection reset by peer");
    by.happened("CALL_CLOSED", call).await;
}

#[tokio::test]
async fn drain_cuts_neither_a_ringing_call_nor_a_registration() {
    if !installed(
        "deploy::upgrade::drain_cuts_neither_a_ringing_call_nor_a_registration",
        &["baresip", "kamailio", "sipp"],
    ) {
        return;
    }
    let Scene { kamailio, mut holdline, mut a, mut b, fleet, _kept } = Scene::set(30).await;
    ring(&mut a, &mut b, "b").await;
    // The PBX is slow for a moment, so that registrations are in flight, too.
    let refreshed = holdline.metric("holdline_requests_total", REGISTERS).await;
    kamailio.signal(Signal::Stop);
    until("registrations in flight", async || {
        (holdline.metric("holdline_requests_total", REGISTERS).await >= refreshed + 3.0).then_some(())
    })
    .await;
    holdline.terminate();
    until("the drain", async || holdline.output().contains("draining").then_some(())).await;
    kamailio.signal(Signal::Continue);
    answer(&mut a, &mut b, 1).await;
    assert_eq!(holdline.ended().await, 0);
    let output = holdline.output();
    let number = |key: &str| -> Option<u64> {
        output.split_once(key)?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    assert!(number("in_flight=") >= Some(2), "{output}");
    assert_eq!(number("cut_off="), Some(0), "{output}");

    // The next one, on the same state: the call ends as it should, and no phone of the fleet has failed to register.
    holdline.start_again(env!("CARGO_BIN_EXE_holdline")).await;
    hang_up(&mut b, &mut a, 1).await;
    fleet.finish().await;
}

#[tokio::test]
async fn an_upgrade_costs_no_registration_and_a_call_outlives_it() {
    if !installed(
        "deploy::upgrade::an_upgrade_costs_no_registration_and_a_call_outlives_it",
        &["baresip", "kamailio", "sipp"],
    ) {
        return;
    }
    let Scene { kamailio: _kamailio, mut holdline, mut a, mut b, fleet, _kept } = Scene::set(30).await;
    ring(&mut a, &mut b, "b").await;
    answer(&mut a, &mut b, 1).await;

    // The new version is another file, as after an installation.
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("holdline");
    std::fs::copy(env!("CARGO_BIN_EXE_holdline"), &new).unwrap();
    holdline.terminate();
    assert_eq!(holdline.ended().await, 0);
    holdline.start_again(new.to_str().unwrap()).await;

    // The BYE of the call from before, and at once a call to each phone, which has not registered anew meanwhile.
    hang_up(&mut a, &mut b, 1).await;
    ring(&mut b, &mut a, "a").await;
    answer(&mut b, &mut a, 2).await;
    hang_up(&mut a, &mut b, 2).await;
    ring(&mut a, &mut b, "b").await;
    answer(&mut a, &mut b, 3).await;
    hang_up(&mut b, &mut a, 3).await;
    fleet.finish().await;
}
