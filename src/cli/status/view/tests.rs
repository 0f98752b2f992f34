//! What the page says in each state.

use serde_json::{Value, json};

use super::*;

fn strike(age: f64, cause: &str, detail: Option<&str>) -> Value {
    json!({ "age_seconds": age, "cause": cause, "code": null, "detail": detail })
}

fn rollover(age: f64, from: &str, to: &str, strikes: &[Value]) -> Value {
    json!({ "event": "rollover", "age_seconds": age, "from": from, "to": to, "reason": "register_failures", "epoch": 2,
            "failures": strikes.len(), "handsets": 1, "handsets_failed": 48, "strikes": strikes })
}

/// Two targets, the second active.
fn status(all_failed: bool, strikes: &[Value], events: &[Value]) -> Value {
    let target = |label: &str, active: bool| {
        json!({ "target": label, "priority": 1, "weight": 1, "addresses": ["192.0.2.1"], "active": active,
                "failures": if active { strikes.len() } else { 0 }, "struck_out": all_failed, "missing_in_dns": false })
    };
    json!({
        "holdline": { "version": "1", "revision": "x", "uptime_seconds": 60.0 },
        "upstream": {
            "source": "_sip._tls.pbx.example", "transport": "tls", "selection": "highest-weight", "active": "b:5061",
            "active_seconds": 3.0, "failing_handsets": 0, "failover_threshold": 3, "min_handsets": 1,
            "all_targets_failed": all_failed, "targets": [target("a:5061", false), target("b:5061", true)],
            "strikes": strikes, "events": events,
            "dns": { "stale": false, "ttl_seconds": 300.0, "age_seconds": 1.0, "next_lookup_seconds": 299.0,
                     "outcome": "ok", "detail": null },
        },
        "flows": [], "bindings": { "count": 7, "orphaned": 0 },
        "registrations": { "in_trouble": 3, "last_hour": { "success": 0, "challenged": 0, "rejected": 0, "failed": 6 },
                           "latency_last_hour": { "mean_ms": null, "max_ms": null } },
        "draining": false,
        "instance": "branch-berlin", "store": { "writable": !all_failed },
        "config": { "refused": all_failed.then_some("failures = \"0\" (holdline.toml:3): must be from 1") },
    })
}

fn page(status: Value) -> String {
    rendered(&serde_json::from_value(status).unwrap())
}

#[test]
fn in_an_alarm_the_reason_is_told_the_runbook_is_named_and_nothing_contradicts_it() {
    let expired = [7.0, 6.0, 5.0].map(|age| strike(age, "tls", Some("certificate expired")));
    let events = [rollover(5.0, "a:5061", "b:5061", &expired), rollover(4.0, "b:5061", "b:5061", &expired)];
    let text = page(status(true, &[], &events));
    let verdict = text.lines().nth(1).unwrap();
    assert!(verdict.starts_with("ALARM ") && verdict.contains("a:5061: tls \"certificate expired\";"), "{text}");
    assert!(text.contains("docs/runbook.md#certificate"), "{text}");
    assert!(!text.contains("0 of 3"), "{text}");
    assert!(text.contains("being tried again"), "{text}");
    assert!(text.contains("7 s to 5 s ago: tls \"certificate expired\", 3 times\n"), "{text}");
    assert!(text.contains("3 counted, 48 phones failed\n"), "strikes are serial: one handset was counted: {text}");
    assert!(text.contains("7 registered, 3 in trouble"), "{text}");
    assert!(text.starts_with("holdline branch-berlin: 1 (x)"), "{text}");
    assert!(text.contains("NOT KEPT") && text.contains("REFUSED, the old ones stay: failures"), "{text}");
    let silent = [strike(5.0, "timeout", None)];
    let text = page(status(true, &[], &[rollover(5.0, "a:5061", "b:5061", &silent)]));
    assert!(text.contains("docs/runbook.md#all-targets-fail"), "{text}");
}

#[test]
fn a_rollover_stays_in_sight_whatever_dns_does() {
    let mut events = vec![rollover(4000.0, "a:5061", "b:5061", &[strike(4001.0, "timeout", None)])];
    events.extend((0..50).map(|n| json!({ "event": "dns_recovered", "age_seconds": 3000.0 - f64::from(n) })));
    let text = page(status(false, &[], &events));
    assert!(text.contains("rolled over: a:5061 -> b:5061"), "{text}");
    assert!(
        text.lines().nth(1).unwrap().starts_with("ROLLED OVER  phones are at b:5061, number 2 in the order (timeout)"),
        "{text}"
    );
}

#[test]
fn of_a_fleet_it_says_who_decided_who_went_alone_and_what_is_away() {
    let mut followed = rollover(5.0, "a:5061", "b:5061", &[]);
    followed["reason"] = "cluster".into();
    followed["decided_by"] = "hamburg\u{1b}[31m".into();
    followed["decided_for"] = "refused now".into();
    let mut of = status(false, &[], &[followed]);
    let cluster = |standing: &str, usable: bool| {
        json!({ "usable": usable, "away": (!usable).then_some("h:6379: refused"), "away_seconds": (!usable).then_some(7.0),
                "standing": standing, "target": "b:5061", "decided_by": "hamburg", "instances": ["berlin", "hamburg"] })
    };
    of["cluster"] = cluster("with", true);
    let text = page(of.clone());
    assert!(text.contains("fleet        with 2 instances at b:5061, where hamburg put it\n"), "{text}");
    assert!(text.contains("cluster (decided by hamburg") && text.contains(": refused now)"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    of["cluster"] = cluster("diverged", false);
    let text = page(of);
    assert!(text.contains("WENT ALONE: the fleet is at b:5061; holdline rejoin"), "{text}");
    assert!(text.contains("AWAY for 7 s: h:6379: refused; see docs/runbook.md#cluster-away"), "{text}");
}
