//! The call flows of RFC 3665 §3 that have a proxy in them, in both directions, over every transport, and with loss and
//! duplication.

use std::time::Duration;

use super::pair::{Pair, Way, play, play_one_way};
use super::server::Manner;
use super::world::header;

const SECOND: Duration = Duration::from_secs(1);

/// §3.2: through proxies, ended by the caller.
fn session(pair: &mut Pair) {
    pair.call();
    pair.hang_up(pair.caller);
}

#[test]
fn rfc_3665_3_2_a_session_through_proxies() {
    play(session);
}

#[test]
fn rfc_3665_3_2_a_session_ended_by_the_called() {
    play(|pair| {
        pair.call();
        pair.hang_up(pair.callee);
    });
}

#[test]
fn rfc_3665_3_2_a_session_whose_pbx_records_its_route_too() {
    play(|pair| {
        pair.callee_mut().manner.records = true;
        pair.call();
        pair.hang_up(pair.caller);
    });
}

#[test]
fn rfc_3665_3_2_as_a_ladder() {
    let mut pair = Pair::new(Way::OUT, 1);
    session(&mut pair);
    pair.assert_ladder(
        "
            1.010 phone 0→holdline INVITE
            1.011 holdline→phone 0 100
            1.011 holdline→a INVITE
            1.012 a→holdline 100
            1.112 a→holdline 180
            1.113 holdline→phone 0 180
            3.012 a→holdline 200
            3.013 holdline→phone 0 200
            3.014 phone 0→holdline ACK
            3.015 holdline→a ACK
            3.016 phone 0→holdline BYE
            3.017 holdline→a BYE
            3.018 a→holdline 200
            3.019 holdline→phone 0 200
        ",
    );
}

/// §3.3: the PBX wants credentials.
#[test]
fn rfc_3665_3_3_a_session_with_proxy_authentication() {
    play_one_way(true, |pair| {
        pair.callee_mut().manner.challenges = true;
        let (caller, uri) = (pair.caller, pair.uri.clone());
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 407);
        pair.world.act(caller, |ua, now| {
            ua.again(invite, &uri, "Proxy-Authorization: Digest username=\"200\"\r\n", "v=0", now)
        });
        assert_eq!(pair.wait(caller, invite + 1), 200);
        pair.wait_for(pair.callee, "the ACK", |ua| {
            ua.got.iter().any(|got| got.status == Some(200) && got.ack.is_some())
        });
        pair.hang_up(caller);
    });
}

/// §3.4: the first proxy does not answer. The next target has the call, and nobody else moves.
#[test]
fn rfc_3665_3_4_a_session_with_proxy_failure() {
    play_one_way(true, |pair| {
        let second = pair.world.ua_of_target("b");
        pair.world.server("a").manner = Manner::Silent;
        let caller = pair.caller;
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 200, "{}", pair.ladder());
        pair.wait_for(second, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        pair.hang_up(caller);
        assert_eq!((pair.world.active().as_str(), pair.world.count()), ("a", 0));
        assert_eq!(pair.world.uas[second].count("BYE"), 1);
    });
}

#[test]
fn rfc_3665_3_4_as_a_ladder() {
    let mut pair = Pair::new(Way::OUT, 1);
    pair.world.ua_of_target("b");
    pair.world.server("a").manner = Manner::Silent;
    let (caller, invite) = (pair.caller, pair.ask("INVITE", "", "v=0"));
    assert_eq!(pair.wait(caller, invite), 200, "{}", pair.ladder());
    pair.world.run_for(SECOND / 10);
    pair.hang_up(caller);
    pair.assert_ladder(
        "
            1.010 phone 0→holdline INVITE
            1.011 holdline→phone 0 100
            1.011 holdline→a INVITE
            1.511 holdline→a INVITE
            2.511 holdline→a INVITE
            4.511 holdline→a INVITE
            5.012 holdline→b INVITE
            5.013 b→holdline 100
            5.113 b→holdline 180
            5.114 holdline→phone 0 180
            7.013 b→holdline 200
            7.014 holdline→phone 0 200
            7.015 phone 0→holdline ACK
            7.016 holdline→b ACK
            7.115 phone 0→holdline BYE
            7.116 holdline→b BYE
            7.117 b→holdline 200
            7.118 holdline→phone 0 200
        ",
    );
}

/// §3.6: a redirection goes to the caller, who asks the other place without an offer and answers in the ACK.
#[test]
fn rfc_3665_3_6_a_session_after_a_redirection_with_the_answer_in_the_ack() {
    play(|pair| {
        let (caller, callee, uri) = (pair.caller, pair.callee, pair.uri.clone());
        pair.callee_mut().manner.answers = Some((SECOND, 302));
        pair.callee_mut().manner.elsewhere = Some("sip:elsewhere@pbx.example.com".into());
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 302);
        let moved = header(pair.caller().asked[invite].answer.as_ref().expect("the 302"), "Contact");
        assert_eq!(moved.as_deref(), Some("<sip:elsewhere@pbx.example.com>"), "it is the caller's to follow");
        pair.callee_mut().manner.answers = Some((SECOND, 200));
        pair.world.act(caller, |ua, now| {
            let sent = ua.again(invite, &uri, "", "", now);
            ua.answer_in_ack("v=0 the answer");
            sent
        });
        assert_eq!(pair.wait(caller, invite + 1), 200);
        pair.wait_for(callee, "the ACK", |ua| ua.got.iter().any(|got| got.status == Some(200) && got.ack.is_some()));
        let ack = pair.callee().got.iter().rev().find_map(|got| got.ack.clone()).expect("an ACK");
        assert!(ack.ends_with(b"v=0 the answer"));
        pair.hang_up(caller);
    });
}

/// §3.7: re-INVITE by either side.
#[test]
fn rfc_3665_3_7_a_session_with_re_invite() {
    play(|pair| {
        pair.call();
        for who in [pair.caller, pair.callee] {
            let again = pair.ask_inside(who, "INVITE", "", "v=0 elsewhere");
            assert_eq!(pair.wait(who, again), 200);
        }
        pair.hang_up(pair.caller);
    });
}

/// §3.8: no answer; the caller gives up.
fn no_answer(pair: &mut Pair) {
    pair.callee_mut().manner.answers = None;
    let caller = pair.caller;
    let invite = pair.ask("INVITE", "", "v=0");
    pair.wait_for(caller, "ringing", |ua| ua.asked[invite].provisionals.contains(&180));
    pair.world.act(caller, |ua, now| ua.cancel(invite, now));
    assert_eq!(pair.wait(caller, invite + 1), 200, "the CANCEL's own answer");
    assert_eq!(pair.wait(caller, invite), 487);
}

#[test]
fn rfc_3665_3_8_no_answer_and_cancel() {
    play(|pair| {
        // A 180 is sent once: in bad weather it may be lost, so it is enough that Holdline said 100.
        pair.callee_mut().manner.answers = None;
        let caller = pair.caller;
        let invite = pair.ask("INVITE", "", "v=0");
        pair.wait_for(caller, "100", |ua| !ua.asked[invite].provisionals.is_empty());
        pair.world.run_for(3 * SECOND);
        pair.world.act(caller, |ua, now| ua.cancel(invite, now));
        assert_eq!(pair.wait(caller, invite + 1), 200, "the CANCEL's own answer");
        assert_eq!(pair.wait(caller, invite), 487, "{}", pair.ladder());
    });
}

/// RFC 3326: "Call completed elsewhere" keeps a group's lists of missed calls clean.
#[test]
fn a_cancel_takes_its_reason_along() {
    for way in Way::all() {
        for rings_first in [true, false] {
            let mut pair = Pair::new(way, 1);
            let said = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nPrivacy: id\r\nP-Own: x\r\n";
            pair.callee_mut().manner.answers = None;
            let (caller, callee) = (pair.caller, pair.callee);
            let invite = pair.ask("INVITE", "", "v=0");
            if rings_first {
                pair.wait_for(caller, "ringing", |ua| ua.asked[invite].provisionals.contains(&180));
            }
            pair.world.act(caller, |ua, now| ua.cancel_saying(invite, said, now));
            assert_eq!(pair.wait(caller, invite), 487, "{}", pair.ladder());
            let cancel = pair.world.uas[callee].got.iter().find(|got| got.method == "CANCEL").expect("it came");
            let text = String::from_utf8_lossy(&cancel.request);
            assert!(text.contains(said), "{way:?}: {text}");
        }
    }
}

#[test]
fn rfc_3665_3_8_as_a_ladder() {
    let mut pair = Pair::new(Way::IN, 1);
    no_answer(&mut pair);
    pair.assert_ladder(
        "
            1.010 a→holdline INVITE
            1.011 holdline→a 100
            1.011 holdline→phone 0 INVITE
            1.112 phone 0→holdline 180
            1.113 holdline→a 180
            1.114 a→holdline CANCEL
            1.115 holdline→a 200
            1.115 holdline→phone 0 CANCEL
            1.116 phone 0→holdline 200
            1.116 phone 0→holdline 487
            1.117 holdline→phone 0 ACK
            1.117 holdline→a 487
            1.118 a→holdline ACK
        ",
    );
    pair.end();
}

/// §3.9, §3.11, and what else a callee may say: relayed as it is, but for a 503, which is 500 beyond a proxy.
#[test]
fn rfc_3665_3_9_busy_3_11_temporarily_unavailable_and_other_failures() {
    for (status, seen) in
        [(486, 486), (480, 480), (404, 404), (302, 302), (600, 600), (603, 603), (500, 500), (503, 500)]
    {
        for way in Way::all() {
            let mut pair = Pair::new(way, 1);
            fails(&mut pair, status, seen);
            pair.end();
        }
    }
    play(|pair| fails(pair, 486, 486));
    play(|pair| fails(pair, 480, 480));
}

fn fails(pair: &mut Pair, status: u16, seen: u16) {
    pair.callee_mut().manner.answers = Some((SECOND, status));
    let (caller, invite) = (pair.caller, pair.ask("INVITE", "", "v=0"));
    assert_eq!(pair.wait(caller, invite), seen, "{}", pair.ladder());
}

/// §3.10: the called does not answer at all.
#[test]
fn rfc_3665_3_10_no_response() {
    play_one_way(false, |pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        // A phone that was switched off: nothing comes back, and a TCP phone's connection is still thought to be there.
        pair.world.uas[callee].manner = super::ua::Manner::default();
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 408, "{}", pair.ladder());
    });
    let mut pair = Pair::new(Way::OUT, 1);
    for name in ["a", "b"] {
        pair.world.server(name).manner = Manner::Silent;
    }
    let (caller, invite) = (pair.caller, pair.ask("INVITE", "", "v=0"));
    let begun = pair.world.now;
    assert_eq!(pair.wait(caller, invite), 408);
    assert!(pair.world.now - begun <= 37 * SECOND, "64·T1 after the last try began");
    pair.end();
}

#[test]
fn a_session_with_reliable_provisionals() {
    play(|pair| {
        pair.callee_mut().manner.reliable = true;
        pair.call();
        let caller = pair.caller;
        let pracks: Vec<usize> =
            (0..pair.caller().asked.len()).filter(|asked| pair.caller().asked[*asked].method == "PRACK").collect();
        for prack in &pracks {
            assert_eq!(pair.wait(caller, *prack), 200, "{}", pair.ladder());
        }
        // In bad weather the 200 may be there before any 183.
        assert!(pracks.len() == 1 || pair.world.loss > 0.0, "{}", pair.ladder());
        assert_eq!(pair.callee().count("PRACK"), pracks.len(), "{}", pair.ladder());
        pair.hang_up(pair.callee);
    });
}

#[test]
fn whatever_the_method_it_passes_inside_and_outside_of_dialogs() {
    play(|pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        for method in ["OPTIONS", "MESSAGE", "PUBLISH", "INFO", "BREW"] {
            let asked = pair.ask(method, "", "a body");
            assert_eq!(pair.wait(caller, asked), 200, "{method}\n{}", pair.ladder());
            let arrived = pair.callee().got.last().expect("it arrived");
            assert!(arrived.method == method && arrived.request.ends_with(b"a body"));
        }
        pair.call();
        for who in [caller, callee] {
            for method in ["UPDATE", "INFO", "MESSAGE", "OPTIONS", "BREW"] {
                let asked = pair.ask_inside(who, method, "", "");
                assert_eq!(pair.wait(who, asked), 200, "{method}\n{}", pair.ladder());
            }
        }
        pair.hang_up(caller);
    });
}

/// A PBX that forks: provisionals with several To tags, and two phones that pick up at once. All of it is the caller's.
#[test]
fn several_early_dialogs_and_several_2xx_pass() {
    for way in Way::all().filter(|way| way.outward) {
        let mut pair = Pair::new(way, 1);
        pair.callee_mut().manner = super::ua::Manner::default();
        let (caller, callee, invite) = (pair.caller, pair.callee, pair.ask("INVITE", "", "v=0"));
        pair.wait_for(callee, "the INVITE", |ua| ua.count("INVITE") == 1);
        for status in [180, 200] {
            let one = pair.world.uas[callee].respond(0, status, pair.world.now).remove(0);
            let other = String::from_utf8_lossy(&one).replace("got0", "got0b").into_bytes();
            pair.world.act(callee, |_, _| vec![one, other.into()]);
            pair.world.run_for(SECOND / 10);
        }
        assert_eq!(pair.caller().asked[invite].finals.len(), 2, "{}", pair.ladder());
        assert_eq!(pair.caller().dialogs.len(), 2, "two calls, one of which the caller ends");
        assert!(pair.caller().asked[invite].provisionals.iter().filter(|status| **status == 180).count() == 2);
        for dialog in 0..2 {
            let bye = pair.ask_in(caller, dialog, "BYE", "", "");
            assert_eq!(pair.wait(caller, bye), 200, "{}", pair.ladder());
        }
        pair.world.run_for(400 * SECOND);
        pair.world.assert_nothing_in_flight();
    }
}

/// Timer C: over three minutes after the last sign of life it is cancelled. Each 101–199 begins it anew.
#[test]
fn what_rings_for_three_minutes_without_a_word_is_cancelled() {
    for way in Way::all() {
        let mut pair = Pair::new(way, 1);
        pair.callee_mut().manner = super::ua::Manner::default();
        let (caller, callee, invite) = (pair.caller, pair.callee, pair.ask("INVITE", "", "v=0"));
        pair.wait_for(callee, "the INVITE", |ua| ua.count("INVITE") == 1);
        for _ in 0..3 {
            pair.world.act(callee, |ua, now| ua.respond(0, 180, now));
            pair.world.run_for(150 * SECOND);
            assert_eq!(pair.callee().count("CANCEL"), 0, "{}", pair.ladder());
        }
        pair.world.run_for(60 * SECOND);
        assert_eq!(pair.callee().count("CANCEL"), 1, "{}", pair.ladder());
        assert_eq!(pair.wait(caller, invite), 487);
        pair.end();
    }
}
