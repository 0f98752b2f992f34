//! Two baresip handsets call each other through Holdline and Kamailio, talk, hold, and hang up.

use holdline::flow::Transport;

use super::baresip::Baresip;
use super::holdline::Holdline;
use super::kamailio::Kamailio;
use super::tls::Authority;
use crate::support::installed::installed;
use crate::support::process::Signal;

/// Half a second of talk.
const TALK: u64 = 25;

/// How many calls a handset has had, to tell events of this one from those before.
#[derive(Clone, Copy)]
pub(super) struct Nth(pub usize);

/// Who ends a call.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    /// Who called.
    Caller,
    /// Who was called.
    Callee,
}

/// `caller` calls `callee`, which rings and answers.
pub(super) async fn set_up(caller: &mut Baresip, callee: &mut Baresip, user: &str, call: Nth) {
    let rang = caller.count("CALL_RINGING");
    let came = callee.count("CALL_INCOMING");
    caller.dial(user).await;
    callee.happened("CALL_INCOMING", came + 1).await;
    caller.happened("CALL_RINGING", rang + 1).await;
    callee.command("accept", "").await;
    caller.happened("CALL_ESTABLISHED", call.0).await;
    callee.happened("CALL_ESTABLISHED", call.0).await;
}

/// Each hears the other: packets arrive, and they come from the other's own RTP port.
pub(super) async fn talk(one: &mut Baresip, other: &mut Baresip) {
    let (before_one, before_other) = (one.media().await, other.media().await);
    for (listener, before, speaker) in
        [(&mut *one, &before_one, &before_other), (&mut *other, &before_other, &before_one)]
    {
        let media = listener
            .media_until("no packets arrive", |media| {
                media.received >= before.received + TALK && media.sent >= before.sent + TALK
            })
            .await;
        let from = media.from.expect("a sender");
        assert!(from.ip().is_loopback() && from.port() == speaker.port, "{media:?} is not straight from {speaker:?}");
        assert_eq!(media.direction, "sendrecv", "{media:?}");
    }
}

/// `holder` puts the call on hold, and takes it off again.
pub(super) async fn hold(holder: &mut Baresip, held: &mut Baresip) {
    holder.command("hold", "").await;
    held.media_until("is not put on hold", |media| media.direction == "recvonly").await;
    holder.command("resume", "").await;
    held.media_until("is not taken off hold", |media| media.direction == "sendrecv").await;
    // The answer to the re-INVITE must have come back, too.
    holder.media_until("does not go on", |media| media.direction == "sendrecv").await;
}

/// One hangs up; both know that the call is over, and by whom.
pub(super) async fn hang_up(caller: &mut Baresip, callee: &mut Baresip, ends: Ends, call: Nth) {
    let (by, of) = match ends {
        Ends::Caller => (caller, callee),
        Ends::Callee => (callee, caller),
    };
    by.command("hangup", "").await;
    assert_eq!(of.happened("CALL_CLOSED", call.0).await, "Connection reset by peer");
    assert_eq!(by.happened("CALL_CLOSED", call.0).await, "Connection reset by user");
}

/// A whole call, each holding the other once.
pub(super) async fn call(caller: &mut Baresip, callee: &mut Baresip, user: &str, ends: Ends, number: Nth) {
    set_up(caller, callee, user, number).await;
    talk(caller, callee).await;
    hold(caller, callee).await;
    talk(caller, callee).await;
    hold(callee, caller).await;
    talk(caller, callee).await;
    hang_up(caller, callee, ends, number).await;
}

/// A registered handset of `user`.
pub(super) async fn handset(user: &str, holdline: &Holdline, transport: Transport, authority: &Authority) -> Baresip {
    let mut handset = Baresip::start_as(user, holdline.listener(transport), transport, Some(authority)).await;
    handset.is_registered().await;
    handset
}

/// What went wrong that no handset noticed: nothing may.
pub(super) async fn check_quiet(holdline: &Holdline) {
    for labels in ["code_class=\"5xx\"", "code_class=\"6xx\""] {
        assert!(holdline.metric("holdline_responses_total", labels).await < 0.5, "{labels}");
    }
    assert!(holdline.metric("holdline_messages_dropped_total", "").await < 0.5, "something was dropped");
    assert_eq!(holdline.complaints(), Vec::<String>::new());
}

async fn calls(test: &str, phone: Transport, upstream: Transport) {
    if !installed(test, &["baresip", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    let holdline = Holdline::start(&[&kamailio], upstream, &authority, &[]).await;
    let mut a = handset("a", &holdline, phone, &authority).await;
    let mut b = handset("b", &holdline, phone, &authority).await;
    call(&mut a, &mut b, "b", Ends::Caller, Nth(1)).await;
    call(&mut b, &mut a, "a", Ends::Caller, Nth(2)).await;
    call(&mut a, &mut b, "b", Ends::Callee, Nth(3)).await;
    check_quiet(&holdline).await;
}

#[tokio::test]
async fn udp_phones_call_over_a_udp_upstream() {
    calls("peers::calls::udp_phones_call_over_a_udp_upstream", Transport::Udp, Transport::Udp).await;
}

#[tokio::test]
async fn tcp_phones_call_over_a_tcp_upstream() {
    calls("peers::calls::tcp_phones_call_over_a_tcp_upstream", Transport::Tcp, Transport::Tcp).await;
}

#[tokio::test]
async fn tls_phones_call_over_a_tls_upstream() {
    calls("peers::calls::tls_phones_call_over_a_tls_upstream", Transport::Tls, Transport::Tls).await;
}

#[tokio::test]
async fn udp_phones_call_over_a_tls_upstream() {
    calls("peers::calls::udp_phones_call_over_a_tls_upstream", Transport::Udp, Transport::Tls).await;
}

#[tokio::test]
async fn tls_phones_call_over_a_udp_upstream() {
    calls("peers::calls::tls_phones_call_over_a_udp_upstream", Transport::Tls, Transport::Udp).await;
}

#[tokio::test]
async fn udp_phones_call_over_a_tcp_upstream() {
    calls("peers::calls::udp_phones_call_over_a_tcp_upstream", Transport::Udp, Transport::Tcp).await;
}

#[tokio::test]
async fn tcp_phones_call_over_a_udp_upstream() {
    calls("peers::calls::tcp_phones_call_over_a_udp_upstream", Transport::Tcp, Transport::Udp).await;
}

#[tokio::test]
async fn tcp_phones_call_over_a_tls_upstream() {
    calls("peers::calls::tcp_phones_call_over_a_tls_upstream", Transport::Tcp, Transport::Tls).await;
}

#[tokio::test]
async fn tls_phones_call_over_a_tcp_upstream() {
    calls("peers::calls::tls_phones_call_over_a_tcp_upstream", Transport::Tls, Transport::Tcp).await;
}

/// Two calls are up when the PBX falls silent and every phone moves to the next one. The first PBX comes back, still
/// carrying them: they go on there, and each is ended from another side.
async fn calls_outlive_a_rollover(test: &str, phone: Transport, upstream: Transport) {
    if !installed(test, &["baresip", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let first = Kamailio::start(&authority, 20).await;
    let second = Kamailio::start(&authority, 20).await;
    let mut holdline = Holdline::start(&[&first, &second], upstream, &authority, &[]).await;
    let mut a = handset("a", &holdline, phone, &authority).await;
    let mut b = handset("b", &holdline, phone, &authority).await;
    let mut c = handset("c", &holdline, phone, &authority).await;
    let mut d = handset("d", &holdline, phone, &authority).await;
    set_up(&mut a, &mut b, "b", Nth(1)).await;
    set_up(&mut c, &mut d, "d", Nth(1)).await;
    talk(&mut a, &mut b).await;

    first.signal(Signal::Stop);
    holdline.rolled_over(1.0).await;
    second.registered(4).await;
    first.signal(Signal::Continue);

    talk(&mut a, &mut b).await;
    hold(&mut a, &mut b).await;
    hang_up(&mut a, &mut b, Ends::Caller, Nth(1)).await;
    hold(&mut d, &mut c).await;
    hang_up(&mut c, &mut d, Ends::Callee, Nth(1)).await;
    // The next call goes the new way.
    call(&mut b, &mut a, "a", Ends::Callee, Nth(2)).await;
    assert!((holdline.metric("holdline_failovers_total", "").await - 1.0).abs() < 0.5, "one rollover, and no way back");
}

#[tokio::test]
async fn calls_of_udp_phones_outlive_a_rollover() {
    let test = "peers::calls::calls_of_udp_phones_outlive_a_rollover";
    calls_outlive_a_rollover(test, Transport::Udp, Transport::Udp).await;
}

#[tokio::test]
async fn calls_of_udp_phones_outlive_a_rollover_of_a_tls_upstream() {
    let test = "peers::calls::calls_of_udp_phones_outlive_a_rollover_of_a_tls_upstream";
    calls_outlive_a_rollover(test, Transport::Udp, Transport::Tls).await;
}

#[tokio::test]
async fn calls_of_tls_phones_outlive_a_rollover_of_a_udp_upstream() {
    let test = "peers::calls::calls_of_tls_phones_outlive_a_rollover_of_a_udp_upstream";
    calls_outlive_a_rollover(test, Transport::Tls, Transport::Udp).await;
}
