//! What a desk phone does beside calling: hold, transfers, lamps (BLF) and the message light (MWI), in both directions, over
//! every transport, and with loss and duplication.

use std::time::Duration;

use super::pair::{Pair, Way, play, play_one_way};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn hold_and_resume_by_either_side() {
    play(|pair| {
        pair.call();
        for who in [pair.caller, pair.callee] {
            for body in ["v=0\r\na=sendonly\r\n", "v=0\r\na=sendrecv\r\n"] {
                let again = pair.ask_inside(who, "INVITE", "", body);
                assert_eq!(pair.wait(who, again), 200, "{}", pair.ladder());
                let other = if who == pair.caller { pair.callee } else { pair.caller };
                let arrived = pair.world.uas[other].got.iter().rfind(|got| got.method == "INVITE").expect("it came");
                assert!(arrived.request.ends_with(body.as_bytes()), "SDP passes byte for byte");
            }
        }
        pair.hang_up(pair.callee);
    });
}

/// REFER to whom one talks to, who tells by NOTIFY how the new call goes.
#[test]
fn a_blind_transfer() {
    play(|pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        pair.call();
        let refer = pair.ask_inside(caller, "REFER", "Refer-To: <sip:202@pbx.example.com>\r\n", "");
        assert_eq!(pair.wait(caller, refer), 202, "{}", pair.ladder());
        notify_progress(pair, callee, caller);
        pair.hang_up(caller);
    });
}

fn notify_progress(pair: &mut Pair, from: usize, to: usize) {
    for (state, fragment) in
        [("active;expires=60", "SIP/2.0 100 Trying"), ("terminated;reason=noresource", "SIP/2.0 200 OK")]
    {
        let extra = format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n");
        let notify = pair.ask_inside(from, "NOTIFY", &extra, fragment);
        assert_eq!(pair.wait(from, notify), 200, "{}", pair.ladder());
        let arrived = pair.world.uas[to].got.last().expect("it came");
        assert!(arrived.request.ends_with(fragment.as_bytes()));
    }
}

/// A second call to where the first shall go; then REFER with Replaces. The one who is referred calls with Replaces.
#[test]
fn an_attended_transfer() {
    play(|pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        pair.call();
        let consult = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, consult), 200);
        pair.wait_for(callee, "both ACKs", |ua| ua.got.iter().filter(|got| got.ack.is_some()).count() == 2);
        let second = pair.caller().dialogs[1].call_id.clone();
        let refer_to = format!("Refer-To: <sip:202@pbx.example.com?Replaces={second}%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n");
        let refer = pair.ask_in(caller, 0, "REFER", &refer_to, "");
        assert_eq!(pair.wait(caller, refer), 202, "{}", pair.ladder());
        let arrived = pair.callee().got.iter().find(|got| got.method == "REFER").expect("it came").request.clone();
        assert!(String::from_utf8_lossy(&arrived).contains(&refer_to), "untouched");
        notify_progress(pair, callee, caller);
        // The PBX ends the consultation that was replaced, the transferor the first call.
        let bye = pair.ask_in(callee, 1, "BYE", "", "");
        assert_eq!(pair.wait(callee, bye), 200, "{}", pair.ladder());
        pair.hang_up(caller);
    });
}

/// The transferee is a phone of ours: it is referred, and calls with Replaces.
#[test]
fn an_attended_transfer_of_the_phone() {
    play_one_way(false, |pair| {
        let (pbx, phone) = (pair.caller, pair.callee);
        pair.call();
        let refer = pair.ask_inside(pbx, "REFER", "Refer-To: <sip:202@pbx.example.com?Replaces=x>\r\n", "");
        assert_eq!(pair.wait(pbx, refer), 202);
        pair.world.act(phone, |ua, now| {
            ua.outside("INVITE", "sip:202@pbx.example.com", "Replaces: x;to-tag=1;from-tag=2\r\n", "v=0", now)
        });
        let invite = pair.callee().asked.len() - 1;
        assert_eq!(pair.wait(phone, invite), 200, "{}", pair.ladder());
        pair.wait_for(pbx, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        notify_progress(pair, phone, pbx);
        pair.hang_up(pbx);
        let bye = pair.ask_in(phone, 1, "BYE", "", "");
        assert_eq!(pair.wait(phone, bye), 200, "{}", pair.ladder());
    });
}

/// SUBSCRIBE, the state at once, every change, a refresh, the end.
fn subscription(pair: &mut Pair, event: &str) {
    let (watcher, notifier) = (pair.caller, pair.callee);
    let subscribe = pair.ask("SUBSCRIBE", &format!("Event: {event}\r\nExpires: 300\r\n"), "");
    assert_eq!(pair.wait(watcher, subscribe), 200, "{}", pair.ladder());
    pair.wait_for(notifier, "a dialog", |ua| !ua.dialogs.is_empty());
    let active = format!("Event: {event}\r\nSubscription-State: active\r\n");
    for state in ["idle", "ringing", "confirmed", "idle"] {
        let notify = pair.ask_inside(notifier, "NOTIFY", &active, state);
        assert_eq!(pair.wait(notifier, notify), 200, "{}", pair.ladder());
        pair.world.run_for(20 * SECOND);
    }
    for expires in ["300", "0"] {
        let refresh = pair.ask_inside(watcher, "SUBSCRIBE", &format!("Event: {event}\r\nExpires: {expires}\r\n"), "");
        assert_eq!(pair.wait(watcher, refresh), 200, "{}", pair.ladder());
        let notify = pair.ask_inside(notifier, "NOTIFY", &active, "idle");
        assert_eq!(pair.wait(notifier, notify), 200, "{}", pair.ladder());
    }
    assert_eq!(pair.caller().count("NOTIFY"), 6, "each once");
}

#[test]
fn a_lamp_blf() {
    play(|pair| subscription(pair, "dialog"));
}

#[test]
fn a_message_light_mwi_that_is_subscribed_to() {
    play(|pair| subscription(pair, "message-summary"));
}

/// Many PBXs send it unasked: outside of any dialog, to the registered Contact.
#[test]
fn a_message_light_mwi_that_comes_unasked() {
    play_one_way(false, |pair| {
        let pbx = pair.caller;
        for waiting in ["Messages-Waiting: yes", "Messages-Waiting: no"] {
            let extra = "Event: message-summary\r\nSubscription-State: active\r\n";
            let notify = pair.ask("NOTIFY", extra, waiting);
            assert_eq!(pair.wait(pbx, notify), 200, "{}", pair.ladder());
            assert!(pair.callee().got.last().expect("it came").request.ends_with(waiting.as_bytes()));
        }
    });
}

/// A rollover: the lamp's refresh stays with the old PBX while that lives.
#[test]
fn a_lamp_is_refreshed_where_it_was_lit_also_after_a_rollover() {
    for way in Way::all().filter(|way| way.outward) {
        let mut pair = Pair::new(way, 1);
        let (watcher, notifier) = (pair.caller, pair.callee);
        let subscribe = pair.ask("SUBSCRIBE", "Event: dialog\r\nExpires: 300\r\n", "");
        assert_eq!(pair.wait(watcher, subscribe), 200);
        pair.world.roll();
        let refresh = pair.ask_inside(watcher, "SUBSCRIBE", "Event: dialog\r\nExpires: 300\r\n", "");
        assert_eq!(pair.wait(watcher, refresh), 200, "{}", pair.ladder());
        let notify = pair.ask_inside(notifier, "NOTIFY", "Event: dialog\r\nSubscription-State: active\r\n", "busy");
        assert_eq!(pair.wait(notifier, notify), 200, "{}", pair.ladder());
        assert_eq!(pair.callee().count("SUBSCRIBE"), 2);
        pair.end();
    }
}
