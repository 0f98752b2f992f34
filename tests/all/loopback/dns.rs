//! DNS that changes, fails, and is not there.

use std::time::Duration;

use holdline::agents::dns::{Mode, Srv};
use serde_json::Value;
use tokio::time::Instant;

use super::process::Holdline;
use super::stage::{Setup, Stage, Theatre, registered};

/// The shortest lifetime that is believed.
const TTL: u32 = 5;

fn short() -> Setup {
    Setup { ttl: TTL, ..Setup::new() }
}

async fn goes_on_with_the_last_good_set(mode: Mode, outcome: &str) {
    let stage = short().start().await;
    let phone = stage.phone("100");
    registered(phone.register().await);
    assert_eq!(stage.holdline.metrics().await.get("dns_stale"), 0);

    stage.dns.set_mode(mode);
    let metrics = stage.holdline.until("dns_stale", 1).await;
    assert!(metrics.get(&format!("dns_lookups_total{{outcome=\"{outcome}\",record=\"srv\"}}")) >= 1);
    assert_eq!(metrics.get("targets"), 2);
    let line = stage.holdline.logged("DNS lookup failed, going on with the last good set").await;
    assert_eq!((&line["outcome"], &line["level"]), (&outcome.into(), &"WARN".into()), "{line}");
    assert_eq!(stage.holdline.get("/readyz").await.0, 200);
    registered(phone.register().await);
    assert_eq!((stage.active().await, stage.failovers().await), (0, 0));

    stage.dns.set_mode(Mode::Answer);
    stage.holdline.until("dns_stale", 0).await;
    stage.holdline.logged("DNS answers again").await;
    assert_eq!(phone.record().errors(), Vec::<String>::new());
}

#[tokio::test]
async fn dns_failing_later_leaves_the_last_good_set() {
    tokio::join!(
        goes_on_with_the_last_good_set(Mode::Silent, "timeout"),
        goes_on_with_the_last_good_set(Mode::ServFail, "servfail"),
        goes_on_with_the_last_good_set(Mode::NxDomain, "nxdomain"),
        goes_on_with_the_last_good_set(Mode::NoData, "nodata"),
    );
}

/// Holdline beside a DNS server that is silent, and what it makes of that.
async fn without_dns(setup: &Setup) -> Stage {
    let theatre = Theatre::open(setup).await;
    theatre.dns.set_mode(Mode::Silent);
    let holdline = Holdline::start(&theatre.arguments(setup)).await;
    theatre.with(holdline)
}

#[tokio::test]
async fn dns_missing_at_the_start_is_waited_for_and_the_first_register_served_late() {
    let stage = without_dns(&Setup::new()).await;
    let phone = stage.phone("100");
    assert_eq!(stage.holdline.get("/livez").await.0, 200, "it lives: a pod that waits for DNS is not killed");
    assert_eq!(stage.holdline.get("/readyz").await.0, 503);
    let (outcome, ()) = tokio::join!(phone.register(), async {
        stage.holdline.logged("DNS lookup failed, no target yet").await;
        assert_eq!(stage.holdline.get("/readyz").await.0, 503);
        let back = Instant::now();
        stage.dns.set_mode(Mode::Answer);
        stage.holdline.until_page("/readyz", 200).await;
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    });
    registered(outcome);
    let record = phone.record();
    assert_eq!(record.errors(), Vec::<String>::new(), "late rather than refused");
    assert!(record.finals[0].took > Duration::from_secs(1), "it was held: {:?}", record.finals[0].took);
    assert_eq!((stage.count(0).await, stage.failovers().await), (0, 0), "waiting is no strike");
}

#[tokio::test]
async fn dns_missing_at_the_start_does_not_matter_where_there_is_state() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new().with(&[&format!("--state-dir={}", folder.path().display())]);
    let mut stage = setup.clone().start().await;
    registered(stage.phone("100").register().await);
    stage.holdline.signal("TERM").await;
    assert_eq!(stage.holdline.ended().await.code(), Some(0));

    stage.dns.set_mode(Mode::Silent);
    let arguments = [format!("--srv={}", setup.name), format!("--nameserver={}", stage.dns.addr())];
    stage.holdline = Holdline::start(&[&arguments[..], &setup.arguments].concat()).await;
    registered(stage.phone("101").register().await);
    assert!(stage.servers[0].report().await.registered.contains(&"101@pbx.example".to_owned()));
    assert_eq!(stage.holdline.get("/readyz").await.0, 200);
    assert_eq!(stage.holdline.metrics().await.get("dns_stale"), 1);
}

#[tokio::test]
async fn dns_is_asked_again_at_the_ttl_and_a_new_set_moves_nobody() {
    let stage = short().start().await;
    let phone = stage.phone("100");
    for _ in 0..10 {
        registered(phone.register().await);
    }
    assert_eq!(stage.dns.count("_sip._udp.pbx.example", "SRV"), 1, "requests ask nothing");

    let [a, b] = [stage.servers[0].port, stage.servers[1].port];
    stage.dns.set_loopback("c.pbx.example", TTL);
    let records =
        [Srv::new(1, 0, b, "c.pbx.example"), Srv::new(10, 0, a, "a.pbx.example"), Srv::new(20, 0, b, "b.pbx.example")];
    stage.dns.set_srv("_sip._udp.pbx.example", TTL, &records);
    stage.holdline.until("targets", 3).await;
    let asked: Vec<_> =
        stage.dns.questions().iter().filter(|question| question.record == "SRV").map(|question| question.at).collect();
    let pause = asked[1] - asked[0];
    assert!((4.9..9.0).contains(&pause.as_secs_f64()), "{pause:?}");
    registered(phone.register().await);
    assert_eq!(stage.active().await, 0, "the active target keeps its place");
    assert_eq!(stage.servers[1].report().await.registers(), 0);
    let status = stage.holdline.status().await;
    assert_eq!(status["upstream"]["targets"][0]["target"], format!("c.pbx.example:{b}"), "{status:#}");
}

#[tokio::test]
async fn dns_without_the_active_target_in_two_answers_moves_on() {
    let stage = short().start().await;
    let phone = stage.phone("100");
    registered(phone.register().await);
    let b = Srv::new(20, 0, stage.servers[1].port, "b.pbx.example");
    stage.dns.set_srv("_sip._udp.pbx.example", TTL, &[b]);

    let missing = |status: &Value| {
        let targets = status["upstream"]["targets"].as_array().unwrap();
        targets.iter().any(|target| target["missing_in_dns"] == true)
    };
    stage.holdline.until_status("one answer without it", missing).await;
    registered(phone.register().await);
    assert_eq!(stage.active().await, 0, "one answer is not enough");

    stage.holdline.until("failovers_total{reason=\"target_removed\"}", 1).await;
    let line = stage.holdline.logged("rolled over").await;
    assert_eq!(
        (&line["from"], &line["to"]),
        (&stage.labels[0].clone().into(), &stage.labels[1].clone().into()),
        "{line}"
    );
    assert_eq!(line["reason"], "target_removed", "{line}");
    registered(phone.register().await);
    assert_eq!(stage.servers[1].report().await.registered, ["100@pbx.example"]);
    assert_eq!(phone.record().errors(), Vec::<String>::new());
    assert_eq!(stage.failovers().await, 0, "no strike was needed");
}
