use std::sync::Arc;

use super::recent::{call_id, messages, note};
use super::*;
use crate::flow::{Cause, Transport};
use crate::proxy::Passed;
use crate::upstream::{Outcome, TargetId};

const AT: Duration = Duration::from_secs(1_764_421_234);

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

fn leg(side: Side) -> Leg {
    let (remote, target) = match side {
        Side::Phone => ("192.0.2.7:5060", None),
        Side::Upstream => ("203.0.113.5:5060", Some(TargetId::from("a:5060"))),
    };
    Leg {
        side,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        target,
    }
}

fn text(start: &str, from: &str, to: &str, call_id: &str) -> Bytes {
    Bytes::from(format!(
        "{start}\r\nFrom: <sip:{from}@pbx>;tag=1\r\nTo: <sip:{to}@PBX>\r\nCall-ID: {call_id}\r\nCSeq: 1 X\r\n\r\n"
    ))
}

/// As [`Look::new`], without a core that knows the bindings.
fn look(side: Side, direction: Direction, bytes: &Bytes) -> Look {
    let (leg, message) = (leg(side), Message::scan(bytes.clone()).unwrap());
    let handset = handset(&message, &leg, direction);
    Look { leg, direction, bytes: bytes.clone(), handset, called: None, call_id: message.call_id().into() }
}

fn failed(handset: &str, call: &str, strike: Option<(bool, u32)>, at: Instant) -> Failed {
    let bytes = text("REGISTER sip:pbx SIP/2.0", handset, handset, call);
    let passed = vec![Passed { at, leg: leg(Side::Phone), direction: Direction::In, bytes }];
    let target = TargetId::from("a:5060");
    let handset = Some(Arc::from(format!("{handset}@pbx")));
    Failed { handset, target, outcome: Outcome::Failed(Cause::Timeout), strike, passed }
}

#[test]
fn a_handset_is_who_sends_a_request_or_is_sent_one_on_either_leg() {
    let request = text("INVITE sip:204@pbx SIP/2.0", "100", "204", "c");
    let answer = text("SIP/2.0 180 Ringing", "100", "204", "c");
    for (side, direction, bytes, aor) in [
        (Side::Phone, Direction::In, &request, "100@pbx"),
        (Side::Phone, Direction::Out, &request, "204@pbx"),
        (Side::Phone, Direction::In, &answer, "204@pbx"),
        (Side::Phone, Direction::Out, &answer, "100@pbx"),
        (Side::Upstream, Direction::In, &request, "204@pbx"),
        (Side::Upstream, Direction::Out, &request, "100@pbx"),
        (Side::Upstream, Direction::In, &answer, "100@pbx"),
        (Side::Upstream, Direction::Out, &answer, "204@pbx"),
    ] {
        assert_eq!(look(side, direction, bytes).handset.as_deref(), Some(aor), "{side:?} {direction:?} {bytes:?}");
    }
}

#[test]
fn once_a_message_of_a_call_matched_the_call_is_followed_on_both_legs() {
    let mut filter = Filter::new(" 204 ", false);
    let other = text("BYE sip:x SIP/2.0", "1204", "300", "other");
    assert!(!filter.wants(&look(Side::Phone, Direction::In, &other)), "an extension is no part of another");
    let group = text("INVITE sip:hunt@pbx SIP/2.0", "300", "hunt", "c1");
    assert!(!filter.wants(&look(Side::Upstream, Direction::In, &group)));
    let called = Look { called: Some(Arc::from("204@pbx")), ..look(Side::Upstream, Direction::In, &group) };
    assert!(filter.wants(&called), "by the Contact that it names");
    assert!(filter.wants(&look(Side::Phone, Direction::Out, &group)), "its other leg");
    assert!(!filter.wants(&look(Side::Phone, Direction::In, &other)));

    let mut filter = Filter::new("c1", false);
    assert!(filter.wants(&look(Side::Upstream, Direction::In, &group)), "a Call-ID");
    let mut filter = Filter::new("192.0.2.7", false);
    assert!(filter.wants(&look(Side::Phone, Direction::In, &other)), "an address of a handset");
    assert!(filter.wants(&look(Side::Upstream, Direction::Out, &other)), "and what becomes of its request");
    assert!(!Filter::new("", true).wants(&look(Side::Phone, Direction::In, &other)), "only what fails");
}

#[tokio::test]
async fn a_slow_reader_loses_messages_and_learns_how_many() {
    let (mut to, mut from) = subscription::pair(Filter::default());
    let message = |size: usize| {
        let mut seen = look(Side::Phone, Direction::In, &text("A sip:b SIP/2.0", "a", "b", "c")).seen(AT);
        seen.bytes = Bytes::from(vec![b'x'; size]);
        Item::Message(seen)
    };
    for _ in 0..20 {
        to.offer(message(HELD_BYTES / 16));
    }
    for _ in 0..16 {
        assert!(matches!(from.next().await, Some(Item::Message(_))));
    }
    assert!(from.ready().is_none(), "four did not fit");
    to.offer(message(1));
    assert!(matches!(from.ready(), Some(Item::Lost(4))));
    assert!(matches!(from.ready(), Some(Item::Message(_))), "and it goes on");
    for _ in 0..HELD_ITEMS + 5 {
        to.offer(message(1));
    }
    let mut received = 0;
    while from.ready().is_some() {
        received += 1;
    }
    assert_eq!(received, HELD_ITEMS);
    assert!(to.is_there(), "it is said as soon as there is room, without another message");
    assert!(matches!(from.ready(), Some(Item::Lost(5))));
    drop(from);
    assert!(!to.is_there());
}

#[test]
fn so_many_traces_and_no_more_and_one_that_ends_makes_room() {
    let mut tap = Tap::default();
    assert!(!tap.listens());
    let mut traces: Vec<Traced> = (0..TRACES).map(|_| tap.trace(Filter::default(), None, AT).unwrap()).collect();
    assert!(tap.trace(Filter::default(), None, AT).is_err());
    assert!(tap.trace(Filter::default(), Some(AT), AT).is_ok(), "a look back takes no place");
    traces.pop();
    assert!(tap.trace(Filter::default(), None, AT).is_ok());
    traces.clear();
    tap.tidy();
    assert!(!tap.listens(), "nobody looks any more");
}

#[test]
fn strikes_outlast_any_number_of_other_failures() {
    let (mut tap, now) = (Tap::default(), now());
    for (n, strikes) in [1, 2, 0].into_iter().enumerate() {
        tap.failed(failed("204", &format!("s{n}"), Some((true, strikes)), now), now, AT);
    }
    for n in 0..5000 {
        tap.failed(failed("300", &format!("n{n}"), None, now), now, AT + Duration::from_secs(1));
    }
    let past = |tap: &mut Tap, last: u64, filter: Filter| {
        let at = AT + Duration::from_secs(2);
        let Ok(Traced::Past(past)) = tap.trace(filter.clone(), Some(Duration::from_secs(last)), at) else {
            panic!("the past")
        };
        past.items(&filter)
    };
    let items = past(&mut tap, 300, Filter::new("204", true));
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Attempt { strike: true, .. })).count(), 3);
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Message(_))).count(), 3);
    let all = past(&mut tap, 300, Filter::default());
    assert_eq!(all.len(), 6 + 512, "bounded");
    assert!(past(&mut tap, 1, Filter::new("204", true)).is_empty(), "too long ago");
}

#[test]
fn long_messages_push_nothing_out_and_bytes_are_bounded() {
    let (mut tap, now) = (Tap::default(), now());
    tap.failed(failed("204", "s", Some((true, 1)), now), now, AT);
    for n in 0..500 {
        let mut long = failed("204", &n.to_string(), Some((true, 1)), now);
        long.passed[0].bytes = Bytes::from(vec![b'x'; 60_000]);
        tap.failed(long, now, AT);
    }
    let Ok(Traced::Past(past)) = tap.trace(Filter::default(), Some(AT), AT) else { panic!("the past") };
    let items = past.items(&Filter::default());
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Message(_))).count(), 1, "only the short one is kept");
    assert_eq!(items.len(), 502, "that they failed is not forgotten");
}

#[test]
fn tries_of_one_request_share_it() {
    let (mut tap, now) = (Tap::default(), now());
    for strikes in 1..=2 {
        let later = now + Duration::from_secs(4 * strikes);
        tap.failed(failed("204", "same", Some((true, strikes as u32)), now), later, AT + (later - now));
    }
    let Ok(Traced::Past(past)) = tap.trace(Filter::default(), Some(AT), AT) else { panic!("the past") };
    let items = past.items(&Filter::default());
    assert_eq!(items.len(), 3, "{items:?}");
    assert!(matches!(&items[0], Item::Message(seen) if seen.at == AT), "when it came, not when it failed");
}

#[tokio::test]
async fn of_failures_alone_each_is_shown_when_it_has_failed() {
    let (mut tap, now) = (Tap::default(), now());
    let Ok(Traced::Live(mut live)) = tap.trace(Filter::new("", true), None, AT) else { panic!("a trace") };
    let one = failed("204", "c", Some((true, 1)), now);
    assert_eq!(messages(&one, now, AT).count(), 1);
    assert!(note(&one, AT).is_some());
    assert_eq!(call_id(&one.passed[0].bytes), b"c");
    tap.failed(one, now, AT);
    assert!(matches!(live.ready(), Some(Item::Message(seen)) if *seen.call_id == *b"c"));
    assert!(matches!(live.ready(), Some(Item::Attempt { strikes: 1, .. })));
    assert!(live.ready().is_none());
}
