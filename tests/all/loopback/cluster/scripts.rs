//! The two scripts, in a real Redis: who comes first wins, and what no Holdline has written changes nothing.

use std::sync::Arc;
use std::time::Duration;

use holdline::cluster::{Address, Cluster, Settings, start};
use holdline::fleet::{Command, Installed, Record, Stored, Word};
use holdline::metrics::Metrics;
use holdline::upstream::TargetId;

use super::now;
use crate::support::installed::installed;
use crate::support::redis::Redis;
use crate::support::wait::in_time;

const KEY: &str = "holdline:{office}:fleet";

fn link(redis: &Redis, instance: &str, metrics: &Arc<Metrics>) -> Cluster {
    let settings = Settings {
        address: Address::parse(&redis.url()).unwrap(),
        password: None,
        name: "office".to_owned(),
        instance: instance.to_owned(),
    };
    start(settings, &format!("id-{instance}"), metrics.clone()).unwrap()
}

fn record(epoch: u64, target: &str, by: &str) -> Record {
    Record {
        epoch,
        target: TargetId::from(target),
        from: "a:5060".into(),
        by: by.into(),
        id: format!("id-{by}").into(),
        reason: "register_failures".into(),
        strikes: "timeout 8.000 s ago, 503 now, \"quoted\" \\ é".into(),
        at: 0,
    }
}

fn install(record: Record, since: Option<Duration>) -> Command {
    Command::Install { record, unless_served_since: since.map(|age| now().checked_sub(age).unwrap()) }
}

/// The next answer; messages about moves are left out.
async fn answer(link: &mut Cluster) -> Word {
    loop {
        match in_time("a word of the shared memory", link.word()).await {
            Word::Published(_) | Word::Linked => {}
            word => return word,
        }
    }
}

/// Those of two instances.
async fn two_links(redis: &Redis) -> (Cluster, Cluster) {
    let metrics = Metrics::new();
    let (mut one, mut two) = (link(redis, "one", &metrics), link(redis, "two", &metrics));
    linked(&mut one).await;
    linked(&mut two).await;
    (one, two)
}

async fn linked(link: &mut Cluster) {
    assert_eq!(in_time("a link", link.word()).await, Word::Linked);
}

#[tokio::test]
async fn cluster_of_two_that_decide_at_once_has_one_move_two_hundred_times() {
    let test = "loopback::cluster::scripts::cluster_of_two_that_decide_at_once_has_one_move_two_hundred_times";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let (mut one, mut two) = two_links(&redis).await;
    let mut wins = [0, 0];
    for epoch in 1..=200 {
        // Neither has heard of the other's: both ask at once, each for another target.
        one.ask(install(record(epoch, "b:5060", "one"), None));
        two.ask(install(record(epoch, "c:5060", "two"), None));
        let said = [answer(&mut one).await, answer(&mut two).await];
        let (winner, lost) = match &said {
            [Word::Installed(Installed::Won(won)), Word::Installed(Installed::Lost(Stored::Record(lost)))] => {
                wins[0] += 1;
                (won, lost)
            }
            [Word::Installed(Installed::Lost(Stored::Record(lost))), Word::Installed(Installed::Won(won))] => {
                wins[1] += 1;
                (won, lost)
            }
            other => panic!("{epoch}: {other:?}"),
        };
        assert_eq!(winner, lost, "who loses has the winner's");
        assert_eq!((winner.epoch, winner.at > 1_700_000_000_000), (epoch, true));
        assert!(winner.strikes.contains("\"quoted\" \\ é"));
    }
    eprintln!("won: {wins:?}");
    one.ask(Command::Beat { served: None });
    let Word::Read(Stored::Record(last), names) = answer(&mut one).await else { panic!("a record") };
    assert_eq!((last.epoch, names), (200, vec!["one".into()]));
}

#[tokio::test]
async fn cluster_spares_a_target_that_served_another_after_the_first_strike() {
    let test = "loopback::cluster::scripts::cluster_spares_a_target_that_served_another_after_the_first_strike";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let (mut one, mut two) = two_links(&redis).await;
    one.ask(install(record(1, "a:5060", "one"), None));
    assert!(matches!(answer(&mut one).await, Word::Installed(Installed::Won(_))));
    // Its own success is no other's.
    one.ask(Command::Beat { served: Some((1, now())) });
    answer(&mut one).await;
    one.ask(install(record(2, "b:5060", "one"), Some(Duration::from_secs(8))));
    assert!(matches!(answer(&mut one).await, Word::Installed(Installed::Won(_))));
    two.ask(Command::Beat { served: Some((2, now().checked_sub(Duration::from_secs(5)).unwrap())) });
    answer(&mut two).await;
    one.ask(install(record(3, "c:5060", "one"), Some(Duration::from_secs(8))));
    assert_eq!(answer(&mut one).await, Word::Installed(Installed::Spared("two".into())));
    // It was served before the first strike: that says nothing.
    one.ask(install(record(3, "c:5060", "one"), Some(Duration::from_secs(2))));
    assert!(matches!(answer(&mut one).await, Word::Installed(Installed::Won(_))));
}

#[tokio::test]
async fn cluster_ignores_what_no_holdline_has_written_and_writes_over_it() {
    let test = "loopback::cluster::scripts::cluster_ignores_what_no_holdline_has_written_and_writes_over_it";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let metrics = Metrics::new();
    let mut link = link(&redis, "one", &metrics);
    linked(&mut link).await;
    let long = "x".repeat(1 << 20);
    let foreign: [&[&str]; 9] = [
        &["SET", KEY, "garbage"],
        &["SET", KEY, &long],
        &["SET", KEY, "{\"v\":1,\"epoch\":999999999,\"target\":\"\"}"],
        &["SET", KEY, "{\"v\":1,\"epoch\":9e99,\"target\":\"a\"}"],
        &["SET", KEY, "{\"v\":1,\"epoch\":{},\"target\":\"a\"}"],
        &["SET", KEY, "{\"v\":\"1\"}"],
        &["RPUSH", KEY, "a", "list"],
        &["SET", "holdline:{office}:instances", "not a set"],
        &["SET", "holdline:{office}:served:7", "not a set"],
    ];
    for words in foreign {
        let _: redis::Value = redis.ask(&["FLUSHALL"]).await.unwrap();
        let _: redis::Value = redis.ask(words).await.unwrap();
        link.ask(Command::Beat { served: Some((7, now())) });
        let read = answer(&mut link).await;
        assert!(matches!(read, Word::Read(Stored::Foreign(_) | Stored::Absent, _)), "{:?}: {read:?}", &words[..2]);
        link.ask(install(record(8, "b:5060", "one"), Some(Duration::from_secs(1))));
        let installed = answer(&mut link).await;
        assert!(matches!(installed, Word::Installed(Installed::Won(_))), "{:?}: {installed:?}", &words[..2]);
    }
    assert!(metrics.cluster_ignored.get() >= 7, "{}", metrics.cluster_ignored.get());

    // A later version's is left alone.
    let _: redis::Value = redis.ask(&["SET", KEY, "{\"v\":2,\"epoch\":1}"]).await.unwrap();
    link.ask(install(record(9, "b:5060", "one"), None));
    assert_eq!(answer(&mut link).await, Word::Installed(Installed::Lost(Stored::Newer(2))));

    // Messages of others are no moves.
    for message in ["", "garbage", "{\"v\":1,\"epoch\":0}", &long] {
        let _: redis::Value = redis.ask(&["PUBLISH", "holdline:{office}:moves", message]).await.unwrap();
    }
    let _: redis::Value = redis.ask(&["FLUSHALL"]).await.unwrap();
    link.ask(install(record(10, "b:5060", "one"), None));
    assert!(matches!(answer(&mut link).await, Word::Installed(Installed::Won(_))));
}
