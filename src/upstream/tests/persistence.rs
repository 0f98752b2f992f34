//! Restarts.

use super::*;

/// The state of a Holdline that has rolled to b.
fn state_on_b() -> Persisted {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 3]);
    let written = serde_json::to_vec(bench.persisted().last().unwrap()).unwrap();
    serde_json::from_slice(&written).unwrap()
}

#[test]
fn a_restart_is_no_failback() {
    let mut bench = Bench::new(settings(), Some(state_on_b()));
    assert!(bench.upstream.ready(), "ready without DNS");
    assert!(bench.upstream.stale());
    assert_eq!((bench.active(), bench.order().as_str()), ('b', "ab"));
    assert!(bench.rollovers().is_empty());
    assert_eq!(bench.take(|a| matches!(a, UpstreamAction::Lookup)).len(), 1, "and asked for at once");
    bench.answer(Ok(set("ab")));
    assert_eq!(bench.active(), 'b');
    assert!(!bench.upstream.stale());
}

#[test]
fn a_start_without_dns_goes_on_with_the_stored_set_and_its_strikes_work() {
    let mut bench = Bench::new(settings(), Some(state_on_b()));
    bench.actions.clear();
    bench.answer(Err(LookupFailure::Timeout));
    for _ in 0..20 {
        bench.refresh(Err(LookupFailure::Timeout));
    }
    assert_eq!(bench.active(), 'b');
    bench.attempts(&[TIMEOUT; 3]);
    assert_eq!(bench.active(), 'a');
}

#[test]
fn a_stored_active_target_that_dns_no_longer_knows_is_left_after_two_answers() {
    let mut bench = Bench::new(settings(), Some(state_on_b()));
    bench.actions.clear();
    bench.answer(Ok(set("ac")));
    assert_eq!(bench.active(), 'b');
    bench.refresh(Ok(set("ac")));
    assert_eq!(bench.active(), 'a');
    assert_eq!(bench.rollovers()[0].reason, Reason::TargetRemoved);
}

#[test]
fn state_of_another_upstream_is_not_used() {
    for source in [
        Source::Srv { name: "_sip._udp.example.net".to_owned() },
        Source::Static { host: "a.example.com".to_owned(), port: None },
    ] {
        let bench = Bench::new(Settings::new(source, Transport::Udp), Some(state_on_b()));
        assert!(!bench.upstream.ready());
    }
    let same = Source::Srv { name: SRV.to_ascii_uppercase() };
    assert!(Bench::new(Settings::new(same, Transport::Tls), Some(state_on_b())).upstream.ready(), "names have no case");
}

#[test]
fn nonsense_in_the_state_does_no_harm() {
    let good = state_on_b();
    let no_records = Persisted { records: Vec::new(), ..good.clone() };
    assert!(!Bench::new(settings(), Some(no_records)).upstream.ready());
    let no_port = Persisted { records: vec![Record { port: 0, ..record('a', 1, 1) }], ..good.clone() };
    assert!(!Bench::new(settings(), Some(no_port)).upstream.ready());
    let unknown = Bench::new(settings(), Some(Persisted { active: "x:1".to_owned(), ..good }));
    assert_eq!(unknown.active(), 'a', "the top of the stored set");
}

#[test]
fn the_weighted_order_survives_a_restart() {
    let weighted = Settings { selection: Selection::Weighted, ..settings() };
    let records: Vec<Record> = "abcdefgh".chars().map(|l| record(l, 1, 10)).collect();
    let now = base();
    let mut before = Bench { upstream: Upstream::new(weighted.clone(), None, 4711, now), now, actions: Vec::new() };
    before.answer(Ok(RecordSet::new(records, Duration::from_secs(60))));
    let state = before.persisted().pop();
    let after = Bench { upstream: Upstream::new(weighted, state, 815, now), now, actions: Vec::new() };
    assert_eq!(after.order(), before.order());
}

#[test]
fn only_changes_are_written() {
    let mut bench = Bench::new(settings(), None);
    bench.actions.clear();
    bench.answer(Ok(set("ab")));
    assert_eq!(bench.persisted().len(), 1, "the first set");
    bench.attempts(&[TIMEOUT, TIMEOUT, OK, CHALLENGE]);
    bench.refresh(Ok(set("ab")));
    assert_eq!(bench.persisted().len(), 0);
    bench.attempts(&[TIMEOUT; 3]);
    assert_eq!(bench.persisted().len(), 1, "the rollover");
    bench.refresh(Ok(set("abc")));
    assert_eq!(bench.persisted().len(), 1, "another set");
    bench.upstream.roll(None, bench.now).unwrap();
    bench.drain();
    assert_eq!(bench.persisted().len(), 1, "by hand");
}
