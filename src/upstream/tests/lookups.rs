//! Lookups: their schedule, and that their answers do nothing to healthy handsets.

use super::*;

#[test]
fn the_first_lookup_starts_at_once_and_targets_come_in_order() {
    let mut bench = Bench::new(settings(), None);
    assert_eq!(bench.actions, [UpstreamAction::Lookup]);
    assert!(!bench.upstream.ready());
    assert_eq!(bench.upstream.begin_attempt(bench.now), None, "held, and no strike");
    let records = vec![record('a', 20, 0), record('b', 10, 50), record('c', 10, 100)];
    bench.answer(Ok(RecordSet::new(records, Duration::from_secs(60))));
    assert!(bench.upstream.ready());
    assert_eq!((bench.order().as_str(), bench.active()), ("cba", 'c'));
    assert_eq!(bench.upstream.active().unwrap().1, 1, "the first activation");
    assert!(bench.rollovers().is_empty(), "it is no rollover");
    assert_eq!(bench.upstream.next_after("a.example.com:5060").unwrap().label.to_string(), "c.example.com:5060");
    assert_eq!(bench.upstream.next_after("gone:1").unwrap().label.to_string(), "c.example.com:5060");
}

#[test]
fn the_record_is_asked_again_at_its_ttl_within_bounds() {
    for (ttl, expected) in [(0, 5), (4, 5), (5, 5), (60, 60), (3600, 3600), (86_400, 3600), (u64::from(u32::MAX), 3600)]
    {
        let mut bench = Bench::new(settings(), None);
        let answer = RecordSet { ttl: Duration::from_secs(ttl), ..set("ab") };
        bench.answer(Ok(answer.clone()));
        bench.actions.clear();
        for _ in 0..3 {
            assert_eq!(bench.refresh(Ok(answer.clone())), Duration::from_secs(expected), "TTL {ttl}");
        }
    }
}

#[test]
fn a_refresh_that_says_the_same_does_nothing() {
    let mut bench = Bench::with("ab");
    bench.refresh(Ok(set("ab")));
    assert_eq!((bench.upstream.snapshot(bench.now).dns.outcome, bench.upstream.stale()), (Some("ok"), false));
    assert_eq!(bench.actions, []);
}

#[test]
fn dns_down_at_boot_is_asked_again_often_enough_to_be_ready_soon() {
    let mut bench = Bench::new(settings(), None);
    bench.actions.clear();
    bench.answer(Err(LookupFailure::Timeout));
    for _ in 0..100 {
        let slept = bench.refresh(Err(LookupFailure::Timeout));
        assert!(slept <= Duration::from_secs(2), "{slept:?}");
        assert!(!bench.upstream.ready());
    }
    bench.refresh(Ok(set("ab")));
    assert!(bench.upstream.ready());
    let events = serde_json::to_value(bench.upstream.snapshot(bench.now).events).unwrap();
    let listed: Vec<_> = events.as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(listed, ["dns_failing", "dns_recovered", "targets_changed"], "once, not a hundred times");
}

#[test]
fn the_last_good_set_holds_whatever_way_dns_fails_later() {
    for failure in [
        LookupFailure::Timeout,
        LookupFailure::ServFail,
        LookupFailure::NxDomain,
        LookupFailure::NoData,
        LookupFailure::NoService,
        LookupFailure::Error("refused".to_owned()),
    ] {
        let mut bench = Bench::with("ab");
        bench.attempts(&[TIMEOUT; 3]);
        for round in 0..50 {
            let slept = bench.refresh(Err(failure.clone()));
            assert_eq!(slept, Duration::from_secs(if round == 0 { 60 } else { 30 }), "{failure}");
        }
        assert_eq!((bench.active(), bench.order().as_str()), ('b', "ab"), "{failure}");
        assert!(bench.upstream.stale());
        bench.refresh(Ok(set("ab")));
        assert!(!bench.upstream.stale());
        assert_eq!((bench.active(), bench.rollovers().len()), ('b', 1), "{failure}");
    }
}

#[test]
fn empty_and_unusable_answers_keep_the_last_good_set_too() {
    let nothing = RecordSet::new(Vec::new(), Duration::from_secs(60));
    let dot = RecordSet::new(vec![Record { host: ".".to_owned(), ..Record::default() }], Duration::from_secs(60));
    let port_zero = RecordSet::new(vec![Record { port: 0, ..record('c', 1, 1) }], Duration::from_secs(60));
    for (answer, outcome) in [(nothing, "nodata"), (dot, "nodata"), (port_zero, "error")] {
        let mut bench = Bench::with("ab");
        for _ in 0..3 {
            bench.refresh(Ok(answer.clone()));
        }
        assert_eq!((bench.active(), bench.order().as_str()), ('a', "ab"));
        assert!(bench.upstream.stale());
        assert_eq!(bench.upstream.snapshot(bench.now).dns.outcome, Some(outcome));
    }
}

#[test]
fn a_failed_lookup_with_a_short_ttl_is_not_repeated_faster_than_the_ttl_bound() {
    let mut bench = Bench::new(settings(), None);
    bench.answer(Ok(RecordSet { ttl: Duration::ZERO, ..set("ab") }));
    bench.actions.clear();
    bench.refresh(Err(LookupFailure::Timeout));
    assert_eq!(bench.refresh(Err(LookupFailure::Timeout)), MIN_TTL);
}

#[test]
fn a_refresh_in_another_order_moves_nobody() {
    let mut bench = Bench::new(settings(), None);
    let mut records: Vec<Record> = "abcde".chars().map(|l| record(l, 10, 10)).collect();
    bench.answer(Ok(RecordSet::new(records.clone(), Duration::from_secs(60))));
    bench.actions.clear();
    for _ in 0..10 {
        records.rotate_left(1);
        bench.refresh(Ok(RecordSet::new(records.clone(), Duration::from_secs(60))));
    }
    assert_eq!((bench.order().as_str(), bench.active()), ("abcde", 'a'));
    assert_eq!(bench.actions, []);
}

#[test]
fn a_resolver_that_returns_alternating_subsets_moves_nobody() {
    let mut bench = Bench::with("a");
    for round in 0..100 {
        bench.refresh(Ok(subset(if round % 2 == 0 { "bc" } else { "ab" })));
        assert_eq!(bench.active(), 'a', "round {round}");
    }
    assert!(bench.rollovers().is_empty());
}

/// The same with the addresses of a target, which resolvers like to rotate.
#[test]
fn rotating_addresses_keep_their_places() {
    let with = |addresses: &[u8]| {
        let addresses = addresses.iter().map(|n| [192, 0, 2, *n].into()).collect();
        RecordSet::new(vec![Record { addresses, ..record('a', 1, 1) }], Duration::from_secs(60))
    };
    let last = |bench: &Bench| -> Vec<String> {
        bench.upstream.targets()[0].addresses.iter().map(ToString::to_string).collect()
    };
    let mut bench = Bench::new(settings(), None);
    bench.answer(Ok(with(&[2, 1, 3])));
    bench.actions.clear();
    bench.refresh(Ok(with(&[1, 3, 2])));
    assert_eq!(last(&bench), ["192.0.2.2", "192.0.2.1", "192.0.2.3"]);
    assert!(bench.take(|a| matches!(a, UpstreamAction::SetChanged)).is_empty());
    bench.refresh(Ok(with(&[4, 3, 2])));
    assert_eq!(last(&bench), ["192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    assert_eq!(bench.take(|a| matches!(a, UpstreamAction::SetChanged)).len(), 1);
    let ip = |n| [192, 0, 2, n].into();
    assert!(bench.upstream.is_upstream_address(ip(1)), "calls may still come from the old address");
    assert!(!bench.upstream.is_upstream_address(ip(9)));
}

#[test]
fn the_active_target_keeps_its_place_when_others_come_and_go() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 4]);
    bench.refresh(Ok(subset("bx")));
    assert_eq!((bench.active(), bench.order().as_str(), bench.count()), ('b', "bx", 1));
    bench.refresh(Ok(subset("abz")));
    assert_eq!((bench.active(), bench.order().as_str(), bench.count()), ('b', "abz", 1));
    assert_eq!(bench.rollovers().len(), 1);
    bench.attempts(&[TIMEOUT; 2]);
    assert_eq!(bench.active(), 'z', "the next in the order of now");
}

#[test]
fn a_change_of_weight_or_priority_reorders_but_moves_nobody() {
    let mut bench = Bench::with("ab");
    bench.refresh(Ok(set("ba")));
    assert_eq!((bench.order().as_str(), bench.active()), ("ba", 'a'));
    assert!(bench.rollovers().is_empty());
    assert_eq!(bench.persisted().len(), 1);
}

#[test]
fn a_target_missing_from_two_good_answers_in_a_row_is_left_for_the_top_of_the_order() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 3]);
    bench.rollovers();
    let on_b = bench.begin();
    bench.refresh(Ok(set("ac")));
    assert_eq!((bench.active(), bench.order().as_str()), ('b', "abc"), "one answer is not enough");
    assert!(bench.upstream.snapshot(bench.now).targets[1].missing_in_dns);
    bench.refresh(Err(LookupFailure::Timeout));
    bench.refresh(Err(LookupFailure::NxDomain));
    assert_eq!(bench.active(), 'b', "a failed lookup is no answer");
    bench.refresh(Ok(set("ac")));
    assert_eq!((bench.active(), bench.order().as_str()), ('a', "ac"));
    let rollovers = bench.rollovers();
    assert_eq!((rollovers.len(), rollovers[0].reason), (1, Reason::TargetRemoved));
    assert_eq!((&*rollovers[0].from, &*rollovers[0].to), ("b.example.com:5060", "a.example.com:5060"));
    assert!(!bench.finish(&on_b, 1, TIMEOUT).counted, "a new epoch");
    assert_eq!(bench.persisted().last().unwrap().active, "a.example.com:5060");
    assert!(bench.upstream.target("b.example.com:5060").is_some(), "its dialogs go on");
    assert!(bench.upstream.is_upstream_address([192, 0, 2, 2].into()));
}

#[test]
fn coming_back_in_between_starts_the_two_answers_afresh() {
    let mut bench = Bench::with("ab");
    for _ in 0..5 {
        bench.refresh(Ok(subset("b")));
        bench.refresh(Ok(subset("ab")));
    }
    assert_eq!(bench.active(), 'a');
}

#[test]
fn strikes_against_a_target_that_is_missing_once_roll_on_as_ever() {
    let mut bench = Bench::with("abc");
    bench.refresh(Ok(subset("abc")));
    bench.attempts(&[TIMEOUT; 3]);
    bench.refresh(Ok(subset("ac")));
    assert_eq!(bench.active(), 'b');
    bench.attempts(&[TIMEOUT; 3]);
    assert_eq!(bench.active(), 'c');
    bench.refresh(Ok(subset("ac")));
    assert_eq!((bench.active(), bench.order().as_str()), ('c', "ac"));
}

#[test]
fn a_target_that_could_not_be_resolved_this_time_keeps_the_addresses_it_had() {
    let mut bench = Bench::with("ab");
    let mut answer = set("ab");
    answer.records[0].addresses.clear();
    answer.unresolved = vec!["a.example.com".to_owned()];
    bench.refresh(Ok(answer.clone()));
    assert_eq!(bench.upstream.targets()[0].addresses, set("ab").records[0].addresses);
    answer.unresolved.clear();
    bench.refresh(Ok(answer));
    assert!(bench.upstream.targets()[0].addresses.is_empty(), "now DNS says that it has none");
    assert_eq!(bench.active(), 'a', "which is a matter for strikes");
}

#[test]
fn past_targets_are_bounded() {
    let mut bench = Bench::with("a");
    for n in 1..200u16 {
        let one = Record { port: 6000 + n, ..record('a', 1, 1) };
        bench.refresh(Ok(RecordSet::new(vec![one], Duration::from_secs(60))));
    }
    assert!(bench.upstream.target("a.example.com:6001").is_none());
    assert!(bench.upstream.target("a.example.com:6197").is_some());
    assert!(bench.upstream.past.len() <= MAX_PAST_TARGETS);
}

#[test]
fn a_lookup_that_never_reports_back_is_asked_again() {
    let mut bench = Bench::new(settings(), None);
    bench.actions.clear();
    let slept = bench.sleep();
    assert_eq!(bench.actions, [UpstreamAction::Lookup]);
    assert!(slept >= Duration::from_secs(10), "well beyond the bound of a lookup: {slept:?}");
}

#[test]
fn a_static_address_is_ready_at_once_and_never_looked_up() {
    for (host, label) in [("192.0.2.7", "192.0.2.7:5061"), ("2001:db8::7", "[2001:db8::7]:5061")] {
        let source = Source::Static { host: host.to_owned(), port: None };
        let mut bench = Bench::new(Settings::new(source, Transport::Tls), None);
        assert!(bench.upstream.ready() && !bench.upstream.stale());
        assert_eq!(&*bench.upstream.active().unwrap().0.label, label);
        assert!(bench.take(|a| matches!(a, UpstreamAction::Lookup)).is_empty());
        assert_eq!(bench.upstream.poll_timeout(), None);
        bench.attempts(&[TIMEOUT; 3]);
        assert_eq!(bench.rollovers().len(), 1);
    }
}

#[test]
fn a_static_name_gets_its_port_from_the_configuration_or_the_transport() {
    for (port, label) in [(None, "proxy.example.com:5060"), (Some(5080), "proxy.example.com:5080")] {
        let source = Source::Static { host: "proxy.example.com".to_owned(), port };
        let mut bench = Bench::new(Settings::new(source, Transport::Tcp), None);
        assert!(!bench.upstream.ready());
        let record = Record { host: "proxy.example.com".to_owned(), ..record('p', 0, 0) };
        bench.answer(Ok(RecordSet::new(vec![Record { port: 0, ..record }], Duration::from_secs(60))));
        assert_eq!(&*bench.upstream.active().unwrap().0.label, label);
    }
}

#[test]
fn the_weighted_order_is_drawn_once_and_stays_over_refreshes() {
    let weighted = Settings { selection: Selection::Weighted, ..settings() };
    let answer = |rotate: usize| {
        let mut records: Vec<Record> = "abcdefgh".chars().map(|l| record(l, 1, 10)).collect();
        records.rotate_left(rotate);
        RecordSet::new(records, Duration::from_secs(60))
    };
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let now = base();
        let mut bench = Bench { upstream: Upstream::new(weighted.clone(), None, seed, now), now, actions: Vec::new() };
        bench.answer(Ok(answer(0)));
        bench.actions.clear();
        let drawn = bench.order();
        for rotate in 1..8 {
            bench.refresh(Ok(answer(rotate)));
            assert_eq!(bench.order(), drawn);
        }
        orders.insert(drawn);
    }
    assert!(orders.len() > 10, "different seeds draw differently");
}
