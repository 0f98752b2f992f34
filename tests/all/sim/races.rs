//! Messages that cross each other, and rollovers at the worst moment.

use std::time::Duration;

use super::pair::{Pair, Way, play, play_one_way};
use super::server::Manner;
use super::world::{address, header, what};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// The CANCEL leaves at every moment around the 200: whoever comes first wins, and the caller ends what he did not want.
#[test]
fn cancel_against_200() {
    for offset in 0..12 {
        for way in Way::all() {
            let mut pair = Pair::new(way, 1);
            crossing_cancel(&mut pair, 1_994 + offset);
            pair.end();
        }
    }
    play(|pair| crossing_cancel(pair, 1_999));
}

fn crossing_cancel(pair: &mut Pair, after: u32) {
    let caller = pair.caller;
    let invite = pair.ask("INVITE", "", "v=0");
    pair.world.run_for(after * MILLI);
    if pair.caller().asked[invite].provisionals.is_empty() {
        // RFC 3261 §9.1: not before a provisional answer.
        pair.wait_for(caller, "an answer", |ua| {
            !ua.asked[invite].provisionals.is_empty() || !ua.asked[invite].finals.is_empty()
        });
    }
    pair.world.act(caller, |ua, now| ua.cancel(invite, now));
    let own = pair.wait(caller, invite + 1);
    assert!(matches!(own, 200 | 481), "{own}: 481 only where the INVITE is over and forgotten\n{}", pair.ladder());
    match pair.wait(caller, invite) {
        487 => {}
        200 => {
            pair.world.run_for(SECOND);
            pair.hang_up(caller);
        }
        other => panic!("{other}\n{}", pair.ladder()),
    }
}

/// The first target is silent. The caller hangs up before the second try, between them, and while the second one rings.
#[test]
fn a_cancel_between_two_tries_stops_the_next_one() {
    for (after, reaches_b) in [(1_000, false), (3_990, false), (4_010, true), (5_000, true)] {
        for way in Way::all().filter(|way| way.outward) {
            let mut pair = Pair::new(way, 1);
            let second = pair.world.ua_of_target("b");
            pair.world.uas[second].manner.answers = None;
            pair.world.server("a").manner = Manner::Silent;
            let (caller, invite) = (pair.caller, pair.ask("INVITE", "", "v=0"));
            pair.world.run_for(after * MILLI);
            pair.world.act(caller, |ua, now| ua.cancel(invite, now));
            assert_eq!(pair.wait(caller, invite + 1), 200);
            assert_eq!(pair.wait(caller, invite), 487, "{after} ms\n{}", pair.ladder());
            assert_eq!(pair.world.uas[second].count("INVITE"), usize::from(reaches_b), "{after} ms\n{}", pair.ladder());
            assert_eq!(pair.world.uas[second].count("CANCEL"), usize::from(reaches_b), "{after} ms\n{}", pair.ladder());
            pair.end();
        }
    }
}

/// The first target was only slow: it answers while the second one rings. One of them has the call, the other is cancelled,
/// and the caller sees one answer.
#[test]
fn a_late_first_target_does_not_make_a_second_call() {
    for way in Way::all().filter(|way| way.outward) {
        let mut pair = Pair::new(way, 1);
        let second = pair.world.ua_of_target("b");
        let (caller, first) = (pair.caller, pair.callee);
        pair.world.server("a").manner = Manner::Silent;
        let invite = pair.ask("INVITE", "", "v=0");
        pair.world.run_for(4_500 * MILLI);
        assert_eq!(pair.world.uas[second].count("INVITE"), 1, "{}", pair.ladder());
        wake(&mut pair, "a", first);
        assert_eq!(pair.wait(caller, invite), 200, "{}", pair.ladder());
        pair.wait_for(second, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        pair.hang_up(caller);
        pair.wait_for(first, "its CANCEL", |ua| ua.count("CANCEL") == 1);
        assert_eq!(pair.world.uas[first].got[0].status, Some(487), "{}", pair.ladder());
        let cancel = pair.world.uas[first].got.iter().find(|got| got.method == "CANCEL").expect("it came");
        let reason = header(&cancel.request, "Reason");
        assert_eq!(reason.as_deref(), Some("SIP;cause=200"), "the call was completed elsewhere (RFC 3326)");
        pair.end();
    }
}

/// A target that was silent takes up what reached it meanwhile.
fn wake(pair: &mut Pair, name: &str, ua: usize) {
    pair.world.server(name).manner = Manner::Normal;
    let held = pair.world.server(name).received.iter().rev().map(|(_, bytes)| bytes.clone());
    let invite = held.into_iter().find(|bytes| what(bytes) == "INVITE").expect("it got the INVITE");
    pair.world.act(ua, |ua, now| ua.receive(&invite, now));
}

/// The abandoned target answers 200 without ever having rung: a 2xx is always relayed, also after a failure, or there would be
/// a call that nobody ends.
#[test]
fn a_late_2xx_of_an_abandoned_branch_is_forwarded_also_after_a_failure() {
    for way in Way::all().filter(|way| way.outward) {
        let mut pair = Pair::new(way, 1);
        let second = pair.world.ua_of_target("b");
        let (caller, first) = (pair.caller, pair.callee);
        pair.world.uas[second].manner.answers = Some((SECOND, 486));
        pair.world.server("a").manner = Manner::Silent;
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 486, "{}", pair.ladder());
        pair.world.run_for(SECOND);
        pair.world.uas[first].manner = super::ua::Manner::default();
        wake(&mut pair, "a", first);
        let got = pair.world.uas[first].got.len() - 1;
        pair.world.act(first, |ua, now| ua.respond(got, 200, now));
        pair.wait_for(caller, "the 200", |ua| ua.asked[invite].finals.len() == 2);
        pair.wait_for(first, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        pair.hang_up(caller);
        pair.world.run_for(400 * SECOND);
        pair.world.assert_nothing_in_flight();
    }
}

/// The slow first target says 503 while the second one is being asked: the better answer is waited for.
#[test]
fn a_late_failure_of_the_first_target_does_not_end_the_second_try() {
    for way in Way::all().filter(|way| way.outward) {
        let mut pair = Pair::new(way, 1);
        let second = pair.world.ua_of_target("b");
        let (caller, first) = (pair.caller, pair.callee);
        pair.world.server("a").manner = Manner::Silent;
        pair.world.uas[first].manner = super::ua::Manner::default();
        pair.world.uas[first].manner.answers = Some((MILLI, 503));
        let invite = pair.ask("INVITE", "", "v=0");
        pair.world.run_for(4_500 * MILLI);
        wake(&mut pair, "a", first);
        assert_eq!(pair.wait(caller, invite), 200, "{}", pair.ladder());
        pair.wait_for(second, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        pair.hang_up(caller);
        pair.world.run_for(400 * SECOND);
        pair.world.assert_nothing_in_flight();
    }
}

#[test]
fn bye_against_re_invite() {
    play(|pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        pair.call();
        let again = pair.ask_inside(callee, "INVITE", "", "v=0");
        let bye = pair.ask_inside(caller, "BYE", "", "");
        assert_eq!(pair.wait(caller, bye), 200, "{}", pair.ladder());
        assert_eq!(pair.wait(callee, again), 200, "{}", pair.ladder());
    });
}

/// Every ACK is lost for ten seconds: each 2xx that comes again passes, and so does each ACK.
#[test]
fn a_2xx_that_comes_again_passes_and_so_does_its_ack() {
    for way in Way::all() {
        let mut pair = Pair::new(way, 1);
        let (caller, callee) = (pair.caller, pair.callee);
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 200);
        // What the callee would see is put off: as if the ACK had been lost.
        let dropped = |pair: &mut Pair| {
            pair.wait_for(callee, "an ACK", |ua| ua.got[0].ack.is_some());
            let now = pair.world.now;
            pair.world.uas[callee].got[0].ack = None;
            pair.world.act(callee, |ua, _| ua.respond(0, 200, now));
        };
        for _ in 0..3 {
            dropped(&mut pair);
            pair.world.run_for(SECOND);
        }
        pair.wait_for(callee, "the last ACK", |ua| ua.got[0].ack.is_some());
        assert_eq!(pair.caller().asked[invite].finals.len(), 1, "one call");
        let passed = pair.steps().iter().filter(|step| step.ends_with(" ACK")).count();
        assert_eq!(passed, 8, "four, and each over two hops\n{}", pair.ladder());
        pair.hang_up(caller);
        pair.end();
    }
}

/// The 487's ACK is hop by hop: what is lost on one side is sent again on that side.
#[test]
fn the_487_after_a_cancel_is_acknowledged_hop_by_hop() {
    play(|pair| {
        pair.callee_mut().manner.answers = None;
        let (caller, callee) = (pair.caller, pair.callee);
        let invite = pair.ask("INVITE", "", "v=0");
        pair.wait_for(caller, "100", |ua| !ua.asked[invite].provisionals.is_empty());
        pair.world.run_for(SECOND);
        pair.world.act(caller, |ua, now| ua.cancel(invite, now));
        assert_eq!(pair.wait(caller, invite), 487, "{}", pair.ladder());
        pair.wait_for(callee, "the ACK", |ua| ua.got[0].ack.is_some());
        let to_callee = pair.callee().got[0].ack.clone().expect("an ACK");
        let from_caller = super::world::headers(&to_callee, "Via");
        assert_eq!(from_caller.len(), 1, "Holdline's own: {from_caller:?}");
    });
}

#[test]
fn a_rollover_while_it_rings_leaves_the_call_where_it_is() {
    play(|pair| {
        let (caller, callee) = (pair.caller, pair.callee);
        let invite = pair.ask("INVITE", "", "v=0");
        pair.wait_for(caller, "100", |ua| !ua.asked[invite].provisionals.is_empty());
        pair.world.run_for(SECOND);
        pair.world.roll();
        assert_eq!(pair.wait(caller, invite), 200, "{}", pair.ladder());
        pair.wait_for(callee, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        pair.hang_up(caller);
        assert!(pair.world.servers[&address("b")].received.is_empty(), "{}", pair.ladder());
    });
}

#[test]
fn a_rollover_while_it_rings_and_the_caller_hangs_up() {
    play(|pair| {
        pair.callee_mut().manner.answers = None;
        let caller = pair.caller;
        let invite = pair.ask("INVITE", "", "v=0");
        pair.wait_for(caller, "100", |ua| !ua.asked[invite].provisionals.is_empty());
        pair.world.run_for(SECOND);
        pair.world.roll();
        pair.world.act(caller, |ua, now| ua.cancel(invite, now));
        assert_eq!(pair.wait(caller, invite), 487, "{}", pair.ladder());
        assert!(pair.world.servers[&address("b")].received.is_empty(), "{}", pair.ladder());
    });
}

#[test]
fn a_call_set_up_before_a_rollover_is_ended_where_it_is_by_either_side() {
    for by_caller in [true, false] {
        play(|pair| {
            pair.call();
            pair.world.roll();
            assert_eq!(pair.world.active(), "b");
            let (caller, callee) = (pair.caller, pair.callee);
            let hold = pair.ask_inside(callee, "INVITE", "", "v=0");
            assert_eq!(pair.wait(callee, hold), 200, "{}", pair.ladder());
            pair.hang_up(if by_caller { caller } else { callee });
            assert!(pair.world.servers[&address("b")].received.is_empty(), "{}", pair.ladder());
        });
    }
}

/// New calls go to the new target from the moment of the rollover, while the old ones go on.
#[test]
fn after_a_rollover_a_new_call_goes_to_the_new_target() {
    play_one_way(true, |pair| {
        let second = pair.world.ua_of_target("b");
        let caller = pair.caller;
        pair.call();
        pair.world.roll();
        let invite = pair.ask("INVITE", "", "v=0");
        assert_eq!(pair.wait(caller, invite), 200);
        pair.wait_for(second, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        let bye = pair.ask_in(caller, 1, "BYE", "", "");
        assert_eq!(pair.wait(caller, bye), 200);
        pair.hang_up(caller);
        assert_eq!((pair.callee().count("BYE"), pair.world.uas[second].count("BYE")), (1, 1));
    });
}
