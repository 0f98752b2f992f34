//! What the core hands out about requests that fail: the messages of each, and what the three-strike rule made of it.

use std::time::Duration;

use holdline::flow::{Side, Transport};
use holdline::proxy::{Direction, Failed, Settings};
use holdline::upstream::{Outcome, Reason};

use super::server::Manner;
use super::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);

/// Side and direction of each message, and its first word.
fn messages(failed: &Failed) -> Vec<(Side, Direction, String)> {
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).split(' ').next().unwrap_or_default().to_owned();
    failed.passed.iter().map(|passed| (passed.leg.side, passed.direction, word(&passed.bytes))).collect()
}

fn request() -> (Side, Direction, String) {
    (Side::Phone, Direction::In, "REGISTER".to_owned())
}

#[test]
fn each_strike_hands_out_its_messages_and_so_does_the_rollover() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(20 * SECOND);
    assert_eq!(world.active(), "b");
    assert_eq!(
        world.failures.iter().map(|failed| failed.strike).collect::<Vec<_>>(),
        [Some((true, 1)), Some((true, 2)), Some((true, 0))]
    );
    let mut sent_at = Vec::new();
    for failed in &world.failures {
        assert_eq!(messages(failed), [request(), (Side::Upstream, Direction::Out, "REGISTER".to_owned())]);
        assert_eq!(failed.handset.as_deref(), Some("200@pbx.example.com"));
        let [request, sent] = &failed.passed[..] else { panic!("two messages") };
        assert_eq!((&*failed.target, sent.leg.target.as_ref()), ("a.pbx.example.com:5060", Some(&failed.target)));
        assert_eq!(request.leg.remote.to_string(), "10.1.0.1:5060");
        sent_at.push(sent.at - request.at);
    }
    assert!(sent_at.is_sorted() && sent_at[2] > 7 * SECOND, "when each left: {sent_at:?}");
    let [rollover] = &world.rollovers[..] else { panic!("one rollover: {:?}", world.rollovers) };
    assert_eq!((rollover.reason, rollover.count), (Reason::RegisterFailures, 3));
}

#[test]
fn an_answered_strike_has_its_answer_and_a_connection_refused_has_none() {
    let proxy = Settings { retry: false, ..Settings::default() };
    for (manner, transport, expected) in
        [(Manner::Status(503), Transport::Tcp, Some("SIP/2.0")), (Manner::NoConnect, Transport::Tcp, None)]
    {
        let mut world = World::new(Setup { proxy: proxy.clone(), transport, ..Setup::default() });
        world.server("a").manner = manner;
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(6 * SECOND);
        let strike = world.failures.iter().find(|failed| failed.strike.is_some()).expect("a strike");
        let mut messages = messages(strike);
        assert_eq!(messages.remove(0), request());
        let answer = messages.pop().map(|(_, direction, word)| (direction, word));
        assert_eq!(answer, expected.map(|word| (Direction::In, word.to_owned())), "{messages:?}");
    }
}

#[test]
fn what_a_handset_is_refused_is_a_failure_and_a_challenge_is_none() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.failures.is_empty(), "challenged, then registered: {:?}", world.failures);
    world.server("a").manner = Manner::Status(403);
    world.register(phone);
    world.run_for(SECOND);
    let [failed] = &world.failures[..] else { panic!("one failure: {:?}", world.failures) };
    assert_eq!((failed.strike, failed.outcome), (None, Outcome::Response(403)));
    let ends = messages(failed).last().cloned();
    assert_eq!(ends, Some((Side::Phone, Direction::Out, "SIP/2.0".to_owned())));
}
