//! The failover table: what makes a rollover, and what does not. Every row goes through the same story.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use holdline::agents::phone::{self, Phone, RegisterOutcome};
use holdline::agents::wire::Timers;
use holdline::flow::Transport;
use serde_json::Value;

use super::process::Holdline;
use super::server::Cast;
use super::stage::{Setup, Stage, Theatre, cast, registered, trusting};
use crate::transport::certificates::Authority;

/// What a registrar does, and what Holdline calls it.
#[derive(Clone, Copy)]
struct Row {
    transport: Transport,
    /// In the words of the registrar's process.
    behaviour: &'static str,
    /// `register_failures_total{reason}`.
    reason: &'static str,
    /// A strike in the log line.
    told: &'static str,
}

const fn row(transport: Transport, behaviour: &'static str, reason: &'static str, told: &'static str) -> Row {
    Row { transport, behaviour, reason, told }
}

/// Each REGISTER of a phone is one attempt, so that strikes can be dealt one by one, and an attempt that fails without an
/// answer is told to the phone at once.
const ONE_BY_ONE: [&str; 2] = ["--retry=false", "--exhausted=503"];

#[tokio::test]
async fn failover_silence() {
    play(row(Transport::Udp, "silent", "timeout", "timeout"), Setup::new().with(&["--attempt-timeout=600ms"])).await;
}

#[tokio::test]
async fn failover_connect_refused_over_udp() {
    play(row(Transport::Udp, "refuse", "refused", "refused"), Setup::new()).await;
}

#[tokio::test]
async fn failover_connect_refused_over_tcp() {
    play(row(Transport::Tcp, "refuse", "refused", "refused"), Setup::tcp()).await;
}

#[tokio::test]
async fn failover_connection_reset() {
    play(row(Transport::Tcp, "reset-on-accept", "reset", "reset"), Setup::tcp()).await;
}

/// The registrars behind TLS, with an authority that lives as long as they do.
fn behind_tls() -> (Authority, Setup) {
    let authority = Authority::new("failover");
    let files = authority.sign("pbx", &["pbx.example"]);
    let with_tls = |cast: Cast| Cast { tls: Some((files.cert.clone(), files.key.clone())), ..cast };
    let servers = cast(&["a", "b"]).into_iter().map(with_tls).collect();
    let setup = Setup { name: "_sip._tls.pbx.example", transport: Transport::Tls, servers, ..Setup::new() };
    let setup = setup.with(&[&format!("--upstream-ca-only={}", authority.file.display())]);
    (authority, setup)
}

#[tokio::test]
async fn failover_tls_handshake_failure() {
    let (_authority, setup) = behind_tls();
    play(row(Transport::Tls, "break-tls", "tls", "tls"), setup).await;
}

/// The handshake, or the REGISTER on a connection that was open already.
#[tokio::test]
async fn failover_silence_over_tls() {
    let (_authority, setup) = behind_tls();
    play(row(Transport::Tls, "silent", "timeout", "timeout"), setup.with(&["--attempt-timeout=600ms"])).await;
}

/// No answer even to the SYN.
#[tokio::test]
async fn failover_silence_at_the_connect() {
    let setup = Setup::tcp().with(&["--attempt-timeout=600ms", "--connect-timeout=500ms"]);
    play(row(Transport::Tcp, "unreachable", "timeout", "timeout"), setup).await;
}

#[tokio::test]
async fn failover_500() {
    play(row(Transport::Udp, "answer 500", "response", "500"), Setup::new()).await;
}

#[tokio::test]
async fn failover_503() {
    play(row(Transport::Tcp, "answer 503", "response", "503"), Setup::tcp()).await;
}

#[tokio::test]
async fn failover_408() {
    play(row(Transport::Udp, "answer 408", "response", "408"), Setup::new()).await;
}

#[tokio::test]
async fn failover_challenge_then_503() {
    play(row(Transport::Udp, "challenge-then 503", "response", "503"), Setup::new()).await;
}

/// Two strikes and a 2xx; strikes with every neutral answer in between; the rollover and its one log line; no failback; the
/// same on the second target, and round to the first.
async fn play(row: Row, setup: Setup) {
    let stage = setup.with(&ONE_BY_ONE).start().await;
    let players = Players::of(&stage, row);
    let [a, b] = [0, 1];

    // Handsets that this PBX serves: their word counts by itself.
    registered(players.unlucky.register().await);
    registered(players.other.register().await);
    strike(&stage, row, a, &players.unlucky, 1).await;
    strike(&stage, row, a, &players.unlucky, 2).await;
    assert_eq!((stage.active().await, stage.failovers().await), (a, 0), "two do not roll over");
    stage.servers[a].behave("normal").await;
    registered(players.lucky.register().await);
    assert_eq!(stage.count(a).await, 0, "a 2xx resets");

    strike(&stage, row, a, &players.unlucky, 1).await;
    neutral(&stage, a, &players.lucky, 1).await;
    strike(&stage, row, a, &players.other, 2).await;
    neutral(&stage, a, &players.lucky, 2).await;
    assert!(stage.holdline.said("rolled over").is_empty());
    last_strike(&stage, row, a, &players.unlucky, 1).await;
    assert_eq!((stage.active().await, stage.count(a).await, stage.count(b).await), (b, 0, 0));
    told(&stage, row, &stage.holdline.logged("rolled over").await);

    stage.servers[a].behave("normal").await;
    let before = stage.servers[a].report().await.registers();
    registered(players.lucky.register().await);
    registered(stage.phone("new").register().await);
    assert_eq!(stage.servers[a].report().await.registers(), before, "no failback, and nobody asks how it does");
    assert_eq!(stage.servers[b].report().await.registered.len(), 2);
    assert_eq!((stage.active().await, stage.failovers().await), (b, 1));

    strike(&stage, row, b, &players.unlucky, 1).await;
    strike(&stage, row, b, &players.unlucky, 2).await;
    assert_eq!(stage.active().await, b);
    last_strike(&stage, row, b, &players.unlucky, 2).await;
    assert_eq!(stage.active().await, a, "after the last comes the first again");
    registered(players.lucky.register().await);
    assert_eq!(stage.holdline.said("rolled over").len(), 2);

    let metrics = stage.holdline.metrics().await;
    for (place, failures) in [(a, 5), (b, 3)] {
        let target = &stage.labels[place];
        let series = format!("register_failures_total{{reason=\"{}\",target=\"{target}\"}}", row.reason);
        assert_eq!(metrics.get(&series), failures, "{target}");
        let failed = format!("register_attempts_total{{outcome=\"failed\",target=\"{target}\"}}");
        assert_eq!(metrics.get(&failed), failures, "no failure of another kind at {target}");
    }
}

/// The phones of a row.
struct Players {
    unlucky: Phone,
    other: Phone,
    lucky: Phone,
}

impl Players {
    fn of(stage: &Stage, row: Row) -> Players {
        // Where a target is silent, so is Holdline: these do not wait for it. Elsewhere an answer may be late on a busy machine.
        let patience = if row.reason == "timeout" { Duration::from_millis(300) } else { Duration::from_secs(32) };
        let timers = Timers::giving_up_after(patience);
        let change = |options| phone::Options { timers, remembers_nonce: false, ..options };
        let fresh = |user| stage.phone_like(user, change);
        Players { unlucky: fresh("unlucky"), other: fresh("other"), lucky: stage.phone("lucky") }
    }
}

/// One failed REGISTER, which makes the count this.
async fn strike(stage: &Stage, row: Row, place: usize, phone: &Phone, count: u32) {
    fail(stage, row, place, phone).await;
    let series = stage.target(place, "target_consecutive_register_failures");
    stage.holdline.until(&series, u64::from(count)).await;
}

/// One failed REGISTER, which makes this the `times`-th rollover.
async fn last_strike(stage: &Stage, row: Row, place: usize, phone: &Phone, times: u32) {
    fail(stage, row, place, phone).await;
    stage.holdline.until("failovers_total{reason=\"register_failures\"}", u64::from(times)).await;
}

async fn fail(stage: &Stage, row: Row, place: usize, phone: &Phone) {
    stage.servers[place].behave(row.behaviour).await;
    let outcome = phone.register().await;
    assert!(!outcome.is_registered(), "{} over {}: {outcome:?}", row.behaviour, row.transport);
}

/// Answers that say something about the phone, not about the target.
async fn neutral(stage: &Stage, place: usize, phone: &Phone, count: u64) {
    stage.servers[place].behave("normal").await;
    for code in [401, 403, 404, 423] {
        stage.servers[place].next(&[code]).await;
        assert_eq!(phone.register().await, RegisterOutcome::Rejected(code));
        assert_eq!(stage.count(place).await, count, "{code} is neutral");
    }
}

/// From, to, the three failures, and from how many handsets: in one line.
fn told(stage: &Stage, row: Row, line: &Value) {
    assert_eq!(line["from"], stage.labels[0], "{line}");
    assert_eq!(line["to"], stage.labels[1], "{line}");
    assert_eq!(line["reason"], "register_failures", "{line}");
    assert_eq!((&line["failures"], &line["handsets"]), (&3.into(), &2.into()), "{line}");
    let strikes: Vec<&str> = line["strikes"].as_str().unwrap().split(", ").collect();
    assert_eq!(strikes.len(), 3, "{line}");
    assert!(strikes.iter().all(|strike| strike.split(' ').next() == Some(row.told)), "{line}");
}

#[tokio::test]
async fn failover_a_target_without_any_address() {
    let setup = Setup { ttl: 5, ..Setup::new() }.with(&ONE_BY_ONE);
    let theatre = Theatre::open(&setup).await;
    theatre.dns.set_addresses("a.pbx.example", setup.ttl, &[]);
    let holdline = Holdline::start(&theatre.arguments(&setup)).await;
    let stage = theatre.with(holdline);
    stage.holdline.until_page("/readyz", 200).await;
    let phone = stage.phone("100");
    let strike = async |count: u64| {
        assert_eq!(phone.register().await, RegisterOutcome::Rejected(503));
        assert_eq!(stage.count(0).await, count);
    };
    let addresses = async |some: bool| {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        stage.dns.set_addresses("a.pbx.example", setup.ttl, if some { std::slice::from_ref(&address) } else { &[] });
        let is = |status: &Value| {
            status["upstream"]["targets"][0]["addresses"].as_array().is_some_and(|a| a.is_empty() != some)
        };
        stage.holdline.until_status("the addresses DNS has now", is).await;
    };

    strike(1).await;
    strike(2).await;
    assert_eq!((stage.active().await, stage.failovers().await), (0, 0));
    addresses(true).await;
    stage.servers[0].next(&[403]).await;
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(403));
    assert_eq!(stage.count(0).await, 2);
    registered(phone.register().await);
    assert_eq!(stage.count(0).await, 0);

    addresses(false).await;
    strike(1).await;
    strike(2).await;
    strike(0).await;
    assert_eq!((stage.active().await, stage.failovers().await), (1, 1));
    let line = stage.holdline.logged("rolled over").await;
    assert_eq!(line["strikes"].as_str().unwrap().matches("unresolved").count(), 3, "{line}");
    registered(phone.register().await);
}

/// IPv6 only, and Holdline leaves from an IPv4 address.
#[tokio::test]
async fn failover_a_target_of_the_other_family_is_unreachable() {
    for setup in [Setup::new(), Setup::tcp()] {
        let setup = setup.with(&ONE_BY_ONE);
        let theatre = Theatre::open(&setup).await;
        theatre.dns.set_addresses("a.pbx.example", setup.ttl, &[IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        let holdline = Holdline::start(&theatre.arguments(&setup)).await;
        let stage = theatre.with(holdline);
        stage.holdline.until_page("/readyz", 200).await;
        let phone = stage.phone("100");
        for count in [1, 2, 0] {
            assert_eq!(phone.register().await, RegisterOutcome::Rejected(503), "{}", setup.name);
            assert_eq!(stage.count(0).await, count, "{}", setup.name);
        }
        let line = stage.holdline.logged("rolled over").await;
        assert_eq!(line["strikes"].as_str().unwrap().matches("unreachable").count(), 3, "{line}");
        registered(phone.register().await);
        assert_eq!(stage.active().await, 1);
    }
}

/// A dead address of a target that has another one is no failure of the target.
#[tokio::test]
async fn failover_a_second_address_belongs_to_the_same_attempt() {
    let setup = Setup::tcp().with(&ONE_BY_ONE);
    let theatre = Theatre::open(&setup).await;
    // Nobody listens at the first one.
    let addresses = [[127, 0, 0, 7], [127, 0, 0, 1]].map(IpAddr::from);
    theatre.dns.set_addresses("a.pbx.example", setup.ttl, &addresses);
    let holdline = Holdline::start(&theatre.arguments(&setup)).await;
    let stage = theatre.with(holdline);
    for number in 0..4 {
        registered(stage.phone(&format!("{}", 100 + number)).register().await);
        assert_eq!(stage.count(0).await, 0);
    }
    assert_eq!(stage.servers[0].report().await.registered.len(), 4);
}

/// Everything at its default, in real time: the third strike falls twelve seconds after the phone's REGISTER.
#[tokio::test]
async fn failover_silence_at_the_default_times() {
    let three = async {
        let stage = Setup::new().start().await;
        stage.servers[0].behave("silent").await;
        let phone = stage.phone("100");
        registered(phone.register().await);
        let record = phone.record();
        assert_eq!(record.finals.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401, 200]);
        let took = record.finals[0].took.as_secs_f64();
        assert!((11.9..14.0).contains(&took), "{took}");
        let provisional = &record.finals[0].provisional;
        assert!(provisional.iter().all(|(status, at)| *status == 100 && at.as_secs_f64() >= 3.4), "{provisional:?}");
        assert!(!provisional.is_empty(), "a 100 when Timer E reaches T2");
        let report = stage.servers[0].report().await;
        assert_eq!((report.branches, report.registers_with_repetitions), (3, 12), "each at 0, 0.5, 1.5, 3.5 s");
        assert_eq!((stage.active().await, stage.failovers().await), (1, 1));
        let timeouts = format!("register_failures_total{{reason=\"timeout\",target=\"{}\"}}", stage.labels[0]);
        assert_eq!(stage.holdline.metrics().await.get(&timeouts), 3);
        let line = stage.holdline.logged("rolled over").await;
        assert_eq!(line["handsets"], 1, "{line}");
    };
    let two = async {
        let stage = Setup::new().start().await;
        stage.servers[0].behave("silent").await;
        let phone = stage.phone("100");
        let (outcome, ()) = tokio::join!(phone.register(), async {
            stage.holdline.until(&stage.target(0, "target_consecutive_register_failures"), 2).await;
            stage.servers[0].behave("normal").await;
        });
        registered(outcome);
        assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 0, 0));
        assert_eq!(phone.record().errors(), Vec::<String>::new());
    };
    tokio::join!(three, two);
}

#[tokio::test]
async fn failover_a_single_target_wraps_to_itself() {
    let stage = Setup::new().served_by(cast(&["a"])).with(&ONE_BY_ONE).start().await;
    let phone = stage.phone("100");
    stage.servers[0].behave("answer 503").await;
    for _ in 0..7 {
        assert!(!phone.register().await.is_registered());
    }
    assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 1, 2));
    assert_eq!(stage.servers[0].report().await.registers(), 7, "one REGISTER, one attempt: it does not spin");
    assert_eq!(stage.holdline.metrics().await.get("all_targets_failed"), 1);
    stage.servers[0].behave("normal").await;
    registered(phone.register().await);
    assert_eq!(stage.count(0).await, 0);
    assert_eq!(stage.holdline.metrics().await.get("all_targets_failed"), 0);
}

/// Two hundred phones wait on one connection when it is reset.
async fn a_reset_under_200_phones(recovers: bool) -> Stage {
    let stage = Setup::tcp().served_by(trusting(&["a", "b"])).with(&ONE_BY_ONE).start().await;
    registered(stage.phone("first").register().await);
    stage.servers[0].behave("silent").await;
    let phones: Vec<Phone> = (0..200).map(|number| stage.phone(&format!("{}", 1000 + number))).collect();
    let mut calls = tokio::task::JoinSet::new();
    for phone in phones {
        calls.spawn(async move { phone.register().await });
    }
    stage.servers[0].wait_for("REGISTER", 201).await;
    assert_eq!(stage.servers[0].report().await.connections, 1, "all on one connection");
    if recovers {
        stage.servers[0].behave("normal").await;
        stage.servers[0].reset_connections().await;
    } else {
        stage.servers[0].behave("reset-on-accept").await;
    }
    while let Some(outcome) = calls.join_next().await {
        assert_eq!(outcome.unwrap().is_registered(), recovers);
    }
    stage
}

#[tokio::test]
async fn failover_a_reset_under_200_phones_is_one_strike_at_most() {
    let stage = a_reset_under_200_phones(false).await;
    let resets = format!("register_failures_total{{reason=\"reset\",target=\"{}\"}}", stage.labels[0]);
    assert_eq!(stage.holdline.metrics().await.get(&resets), 200, "each is seen");
    assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 1, 0), "one counts");
}

#[tokio::test]
async fn failover_a_reset_of_a_reused_connection_is_sent_once_more_within_the_attempt() {
    let stage = a_reset_under_200_phones(true).await;
    assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 0, 0));
    assert_eq!(stage.servers[0].report().await.registered.len(), 201);
    let failed = format!("register_attempts_total{{outcome=\"failed\",target=\"{}\"}}", stage.labels[0]);
    assert_eq!(stage.holdline.metrics().await.get(&failed), 0);
}

/// It asks for no password here: its late answer is a 2xx. (A late 401 is neutral, as every 401.)
#[tokio::test]
async fn failover_a_primary_that_answers_after_9_s_is_never_left() {
    let stage = Setup::new().served_by(trusting(&["a", "b"])).start().await;
    stage.servers[0].behave("late 9000").await;
    let phones = [stage.phone("100"), stage.phone("101")];
    let (first, second) = tokio::join!(phones[0].register(), phones[1].register());
    registered(first);
    registered(second);
    for phone in &phones {
        let answers: Vec<u16> = phone.record().finals.iter().map(|answer| answer.status).collect();
        assert_eq!(answers, [200]);
    }
    assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 0, 0));
    assert_eq!(stage.servers[1].report().await.registers(), 0);
}

#[tokio::test]
async fn failover_nothing_but_register_counts() {
    let stage = Setup::new().with(&ONE_BY_ONE).start().await;
    let phone = stage.phone("100");
    for behaviour in ["answer 503", "refuse"] {
        stage.servers[0].behave(behaviour).await;
        for method in ["OPTIONS", "MESSAGE", "SUBSCRIBE", "PUBLISH"] {
            let exchange = phone.request(method, "sip:200@pbx.example", &[], b"").await;
            assert!(exchange.status() >= 500, "{method} at {behaviour}: {exchange:?}");
        }
    }
    assert_eq!((stage.active().await, stage.count(0).await, stage.failovers().await), (0, 0, 0));
}

#[tokio::test]
async fn failover_min_handsets_holds_a_fleet_where_one_phone_is_refused() {
    let stage = Setup::new().with(&ONE_BY_ONE).with(&["--min-handsets=2"]).start().await;
    // Both are served: two names at one address are two witnesses only then.
    let (poison, other) = (stage.phone("poison"), stage.phone("other"));
    registered(poison.register().await);
    registered(other.register().await);
    stage.servers[0].behave("answer 500").await;
    for _ in 0..5 {
        assert!(!poison.register().await.is_registered());
    }
    assert_eq!((stage.active().await, stage.count(0).await), (0, 5));
    assert!(!other.register().await.is_registered());
    assert_eq!(stage.active().await, 1);
    let line = stage.holdline.logged("rolled over").await;
    assert_eq!((&line["failures"], &line["handsets"]), (&6.into(), &2.into()), "{line}");
}
