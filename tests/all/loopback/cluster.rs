//! Several Holdlines that share a Redis: one active target, whatever Redis does.

mod away;
mod calls;
mod scripts;

use std::time::{Duration, Instant};

use holdline::agents::dns::{self, Srv};
use holdline::agents::phone::Phone;
use holdline::control::{Answer, Command, ask};
use redis::Value as Reply;
use serde_json::Value;
use tokio::task::JoinSet;

use super::process::Holdline;
use super::stage::{Setup, Theatre, cast, phone as phone_of, registered};
use crate::support::installed::installed;
use crate::support::redis::Redis;
use crate::support::wait::{PATIENCE, until, within};

/// Holdlines of one fleet in front of the same targets, each with its own state and control socket.
struct Fleet {
    theatre: Theatre,
    holdlines: Vec<Holdline>,
    folders: Vec<tempfile::TempDir>,
}

impl Fleet {
    /// As many as there are names, all with these arguments.
    async fn start(setup: Setup, names: &[&str]) -> Fleet {
        let theatre = Theatre::open(&setup).await;
        let mut fleet = Fleet { theatre, holdlines: Vec::new(), folders: Vec::new() };
        for name in names {
            fleet.join(&setup, name).await;
        }
        fleet
    }

    async fn join(&mut self, setup: &Setup, name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = self.theatre.arguments(setup);
        arguments.extend([format!("--instance={name}"), format!("--state-dir={}", folder.path().display())]);
        let holdline = Holdline::start(&arguments).await;
        holdline.until_page("/readyz", 200).await;
        self.holdlines.push(holdline);
        self.folders.push(folder);
    }

    async fn all_usable(&self) {
        for holdline in &self.holdlines {
            let usable = within(PATIENCE, "a fleet", async || {
                let metrics = holdline.metrics().await;
                let [away, epoch] = ["cluster_away", "cluster_epoch"].map(|series| metrics.get(series));
                if away == 0 && epoch > 0 { Ok(()) } else { Err(format!("away {away}, epoch {epoch}")) }
            });
            if let Err(late) = usable.await {
                panic!("{late}; the log:\n{}", holdline.text());
            }
        }
    }

    /// So many handsets of each, not registered yet.
    fn phones(&self, many: usize) -> Vec<Phone> {
        let of = |(n, holdline): (usize, &Holdline)| {
            (0..many)
                .map(|phone| phone_of(holdline, &format!("{}", 100 * (n + 1) + phone), |options| options))
                .collect::<Vec<_>>()
        };
        self.holdlines.iter().enumerate().flat_map(of).collect()
    }

    async fn cluster(&self, n: usize) -> Value {
        self.holdlines[n].status().await["cluster"].clone()
    }

    async fn active(&self, n: usize) -> String {
        self.holdlines[n].status().await["upstream"]["active"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all are at this target, no longer than that.
    async fn agree(&self, target: &str, patience: Duration) -> Duration {
        let began = now();
        let what = format!("all at {target}");
        let agreed = within(patience, &what, async || {
            let mut all = Vec::new();
            for n in 0..self.holdlines.len() {
                all.push(self.active(n).await);
            }
            if all.iter().all(|active| active == target) { Ok(()) } else { Err(format!("{all:?}")) }
        });
        if let Err(late) = agreed.await {
            let logs: Vec<String> = self.holdlines.iter().map(Holdline::text).collect();
            panic!("{late}; the logs:\n{}", logs.join("\n---\n"));
        }
        began.elapsed()
    }

    fn command(&self, n: usize, command: &Command) -> Answer {
        ask(&self.folders[n].path().join("control.sock"), command).unwrap()
    }

    fn roll(&self, n: usize, target: Option<&str>) {
        let answer = self.command(n, &Command::Roll { target: target.map(str::to_owned) });
        assert!(matches!(answer, Answer::Ok(_)), "{answer:?}");
    }

    async fn failovers(&self, reason: &str) -> Vec<u64> {
        let mut all = Vec::new();
        for holdline in &self.holdlines {
            all.push(holdline.metrics().await.get(&format!("failovers_total{{reason=\"{reason}\"}}")));
        }
        all
    }
}

#[allow(clippy::disallowed_methods, reason = "what is waited for lives in real time")]
fn now() -> Instant {
    Instant::now()
}

/// All register at once, and all must succeed. How long the slowest took.
async fn all_register(phones: &[Phone]) -> Duration {
    let mut tasks = JoinSet::new();
    for phone in phones {
        let phone = phone.clone();
        tasks.spawn(async move {
            let began = now();
            registered(phone.register().await);
            began.elapsed()
        });
    }
    tasks.join_all().await.into_iter().max().unwrap_or_default()
}

#[tokio::test]
async fn cluster_of_two_moves_once_and_no_handset_sees_an_error() {
    let test = "loopback::cluster::cluster_of_two_moves_once_and_no_handset_sees_an_error";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let setup = Setup::new().served_by(cast(&["a", "b", "c"])).with(&[&format!("--cluster={}", redis.url())]);
    let fleet = Fleet::start(setup, &["berlin", "hamburg"]).await;
    fleet.all_usable().await;
    let phones = fleet.phones(50);
    all_register(&phones).await;

    fleet.theatre.servers[0].behave("silent").await;
    let before = fleet.theatre.servers[0].report().await.registers();
    let moved = async {
        let decided = within(PATIENCE, "the first to move", async || {
            let both = [&fleet.holdlines[0], &fleet.holdlines[1]].map(|holdline| holdline.said("rolled over").len());
            if both.iter().sum::<usize>() > 0 { Ok(now()) } else { Err(format!("{both:?}")) }
        });
        let decided = decided.await.unwrap();
        for holdline in &fleet.holdlines {
            holdline.logged("rolled over").await;
        }
        decided.elapsed()
    };
    let (_, both_after) = tokio::join!(all_register(&phones), moved);
    eprintln!("both at b {both_after:?} after the first");
    assert!(both_after < Duration::from_secs(2), "{both_after:?}");
    fleet.agree(&fleet.theatre.labels[1], Duration::from_secs(2)).await;

    // One move of the fleet: one decided, the other followed, and says whom.
    let epochs = [fleet.cluster(0).await["epoch"].clone(), fleet.cluster(1).await["epoch"].clone()];
    assert_eq!(epochs, [Value::from(2), Value::from(2)]);
    let (decided, followed) = (fleet.failovers("register_failures").await, fleet.failovers("cluster").await);
    assert_eq!((decided.iter().sum::<u64>(), followed.iter().sum::<u64>()), (1, 1), "{decided:?} {followed:?}");
    let follower = usize::from(followed[1] == 1);
    let line = fleet.holdlines[follower].said("rolled over").remove(0);
    let decider = ["hamburg", "berlin"][follower];
    assert_eq!((&line["reason"], &line["decided_by"]), (&"cluster".into(), &decider.into()), "{line}");
    assert!(line["strikes"].as_str().is_some_and(|strikes| strikes.contains("timeout")), "{line}");
    let events = fleet.holdlines[follower].status().await["upstream"]["events"].clone();
    assert!(events.as_array().unwrap().iter().any(|event| event["decided_by"] == decider), "{events:#}");

    for phone in &phones {
        let record = phone.record();
        assert_eq!((record.timer_f, record.registered), (0, true), "{:?}", phone.options().user);
        assert!(record.answered.keys().all(|status| matches!(status, 200 | 401)), "{:?}", record.answered);
    }
    let reports = [&fleet.theatre.servers[1], &fleet.theatre.servers[2]];
    let (b, c) = (reports[0].report().await, reports[1].report().await);
    assert_eq!((b.registered.len(), c.registered.len()), (100, 0), "nobody is at two servers that live");
    let a = fleet.theatre.servers[0].report().await;
    assert!(a.registers() > before, "it was silent, not spared");

    // All come back to b, and nothing goes to a any more.
    all_register(&phones).await;
    assert_eq!(fleet.theatre.servers[0].report().await.registers(), a.registers());
}

#[tokio::test]
async fn cluster_roll_moves_the_fleet_and_a_newcomer_begins_there() {
    let test = "loopback::cluster::cluster_roll_moves_the_fleet_and_a_newcomer_begins_there";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let setup = Setup::new().with(&[&format!("--cluster={}", redis.url()), "--cluster-name=office"]);
    let mut fleet = Fleet::start(setup.clone(), &["berlin", "hamburg"]).await;
    fleet.all_usable().await;
    let phones = fleet.phones(1);
    all_register(&phones).await;
    fleet.roll(0, None);
    let b = fleet.theatre.labels[1].clone();
    fleet.agree(&b, Duration::from_secs(2)).await;
    assert_eq!(fleet.failovers("manual").await, [1, 0]);
    assert_eq!(fleet.failovers("cluster").await, [0, 1]);
    let stored: String = redis.ask(&["GET", "holdline:{office}:fleet"]).await.unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!((&stored["v"], &stored["epoch"], &stored["target"]), (&1.into(), &2.into(), &b.clone().into()));

    fleet.join(&setup, "newcomer").await;
    fleet.holdlines[2].until("cluster_epoch", 2).await;
    assert_eq!(fleet.active(2).await, b);
    assert_eq!(fleet.failovers("cluster").await, [0, 1, 0], "beginning there is no rollover");
    until("all three are listed", async || {
        let listed = fleet.cluster(0).await["instances"].clone();
        (listed == serde_json::json!(["berlin", "hamburg", "newcomer"])).then_some(())
    })
    .await;
    let answer = fleet.command(0, &Command::Rejoin {});
    assert!(matches!(&answer, Answer::Error { message, .. } if message.contains("is with the fleet")), "{answer:?}");
    let named: Reply = redis.ask(&["KEYS", "*"]).await.unwrap();
    assert!(matches!(named, Reply::Array(_)), "{named:?}");
}

/// An instance whose own way to the target is broken goes alone.
#[tokio::test]
async fn cluster_leaves_an_instance_alone_that_alone_fails() {
    let test = "loopback::cluster::cluster_leaves_an_instance_alone_that_alone_fails";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let arguments = [&*format!("--cluster={}", redis.url()), "--attempt-timeout=1s"];
    let setup = Setup::new().with(&arguments);
    let mut fleet = Fleet::start(setup.clone(), &["well"]).await;
    // The other one is told another address of the first target, where nobody is.
    let elsewhere = dns::Server::start().await.unwrap();
    let port = |n: usize| fleet.theatre.servers[n].port;
    let records = [("a.pbx.example", port(0)), ("b.pbx.example", port(1))].map(|(host, port)| (host, port));
    let records: Vec<Srv> = (1..).zip(records).map(|(n, (host, port))| Srv::new(10 * n, 0, port, host)).collect();
    elsewhere.set_srv(setup.name, setup.ttl, &records);
    elsewhere.set_addresses("a.pbx.example", setup.ttl, &[[127, 0, 0, 7].into()]);
    elsewhere.set_loopback("b.pbx.example", setup.ttl);
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-dir={}", folder.path().display());
    let mut arguments = vec![format!("--srv={}", setup.name), format!("--nameserver={}", elsewhere.addr())];
    arguments.extend(setup.arguments.iter().cloned());
    arguments.extend(["--instance=sick".to_owned(), state]);
    fleet.holdlines.push(Holdline::start(&arguments).await);
    fleet.folders.push(folder);
    fleet.all_usable().await;
    let phones = fleet.phones(1);
    let well = phones[0].clone();
    let keeps = tokio::spawn(async move {
        loop {
            registered(well.register().await);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    until("the other is served", async || {
        let served: Vec<String> =
            redis.ask(&["ZRANGE", "holdline:{_sip._udp.pbx.example}:served:1", "0", "-1"]).await.ok()?;
        (!served.is_empty()).then_some(())
    })
    .await;
    registered(phones[1].register().await);
    fleet.holdlines[1].logged("diverged").await;
    fleet.holdlines[1].until("cluster_diverged", 1).await;
    assert_eq!(fleet.active(1).await, fleet.theatre.labels[1]);
    assert_eq!(fleet.active(0).await, fleet.theatre.labels[0], "the fleet stays");
    assert_eq!(fleet.cluster(0).await["epoch"], 1);
    assert_eq!(fleet.cluster(1).await["served_meanwhile"], "well");
    keeps.abort();

    let answer = fleet.command(1, &Command::Rejoin {});
    assert!(matches!(&answer, Answer::Ok(moved) if moved["to"] == fleet.theatre.labels[0]), "{answer:?}");
    fleet.holdlines[1].until("cluster_diverged", 0).await;
}
