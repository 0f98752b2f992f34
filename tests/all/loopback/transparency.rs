//! Transparency: what the handsets see of an outage, by their own records.

use std::time::Duration;

use holdline::agents::phone::{self, Phone, RegisterOutcome};
use holdline::agents::wire::Timers;
use holdline::flow::Transport;
use tokio::task::JoinSet;

use super::stage::{Setup, Stage};

/// How long a phone waits for its REGISTER: the RFC's Timer F, and that of the shorter half of the desk phones.
const PATIENT: [Duration; 2] = [Duration::from_secs(32), Duration::from_secs(16)];
/// Polycom and Yealink at three retries.
const SHORT: Duration = Duration::from_millis(7500);

/// Phones over UDP, every fifth over TCP; of each kind one half waits 32 s, the other 16 s.
fn fleet(stage: &Stage, size: usize) -> Vec<Phone> {
    let phone = |number: usize| {
        let transport = if number.is_multiple_of(5) { Transport::Tcp } else { Transport::Udp };
        let timers = Timers::giving_up_after(PATIENT[number % 2]);
        stage.phone_like(&format!("{}", 100 + number), |options| phone::Options { transport, timers, ..options })
    };
    (0..size).map(phone).collect()
}

/// All at once.
async fn register(phones: &[Phone]) -> Vec<RegisterOutcome> {
    let mut calls = JoinSet::new();
    for phone in phones {
        let phone = phone.clone();
        calls.spawn(async move { phone.register().await });
    }
    calls.join_all().await
}

/// Nobody saw anything but challenges and successes.
#[track_caller]
fn saw_nothing(phones: &[Phone]) {
    for phone in phones {
        let (user, record) = (&phone.options().user, phone.record());
        assert_eq!(record.errors(), Vec::<String>::new(), "phone {user}");
        assert!(record.answered.keys().all(|status| [200, 401].contains(status)), "{user}: {:?}", record.answered);
        assert_eq!((record.timer_f, record.broken.len()), (0, 0), "phone {user}");
        assert!(record.registered && record.unexpected.is_empty() && record.garbage == 0, "phone {user}: {record:?}");
    }
}

/// The longest wait for an answer after the first so many answers.
fn slowest(phones: &[Phone], known: usize) -> Duration {
    phones
        .iter()
        .flat_map(|phone| phone.record().finals.into_iter().skip(known))
        .map(|answer| answer.took)
        .max()
        .unwrap()
}

#[tokio::test]
async fn transparency_50_phones_see_nothing_of_a_black_hole_at_the_default_times() {
    let stage = Setup::new().start().await;
    let phones = fleet(&stage, 50);
    let short = stage.impatient("short", SHORT);
    assert!(register(&phones).await.iter().all(|outcome| outcome.is_registered()));
    assert!(short.register().await.is_registered());
    assert_eq!(stage.servers[0].report().await.registered.len(), 51);

    stage.servers[0].signal("STOP").await;
    let (refreshed, shorts) = tokio::join!(register(&phones), short.register());
    assert!(refreshed.iter().all(|outcome| outcome.is_registered()), "{refreshed:?}");
    saw_nothing(&phones);
    assert!(slowest(&phones, 2) < Duration::from_secs(15), "{:?}", slowest(&phones, 2));
    assert_eq!((stage.active().await, stage.failovers().await), (1, 1));
    assert_eq!(stage.servers[1].report().await.registered.len(), 50);

    // A phone that waits 7.5 s gives up once, as it would on a slow network, and never sees an error.
    assert_eq!(shorts, RegisterOutcome::TimedOut);
    assert!(short.register().await.is_registered());
    let record = short.record();
    assert_eq!(record.timer_f, 1);
    assert!(record.answered.keys().all(|status| [200, 401].contains(status)), "{:?}", record.answered);

    // An outage under a fleet is a few lines, not a storm.
    assert!(stage.holdline.lines().len() < 40, "{}", stage.holdline.text());

    // It wakes up, and answers what had waited: late, to nobody. Nobody goes back.
    stage.servers[0].signal("CONT").await;
    stage.servers[0].wait_for("REGISTER", 103).await;
    assert!(register(&phones).await.iter().all(|outcome| outcome.is_registered()));
    saw_nothing(&phones);
    assert_eq!((stage.active().await, stage.count(1).await, stage.failovers().await), (1, 0, 1));
}

/// A fleet, and a phone all alone, whose own three tries are all there is.
async fn less_than_5_s(setup: Setup, mut strike: impl AsyncFnMut(&mut Stage)) {
    for size in [50, 1] {
        let mut stage = setup.clone().start().await;
        let phones = fleet(&stage, size);
        assert!(register(&phones).await.iter().all(|outcome| outcome.is_registered()));
        strike(&mut stage).await;
        let refreshed = register(&phones).await;
        assert!(refreshed.iter().all(|outcome| outcome.is_registered()), "{refreshed:?}");
        saw_nothing(&phones);
        let added = slowest(&phones, 2);
        assert!(added < Duration::from_secs(5), "{size} phones waited {added:?}");
        assert_eq!((stage.active().await, stage.failovers().await), (1, 1));
        assert_eq!(stage.servers[1].report().await.registered.len(), size);
    }
}

#[tokio::test]
async fn transparency_a_primary_that_refuses_costs_less_than_5_s() {
    let udp = less_than_5_s(Setup::new(), async |stage| stage.servers[0].kill().await);
    let tcp = less_than_5_s(Setup::tcp(), async |stage| stage.servers[0].kill().await);
    // Also where its last word is a reset under everybody.
    let reset = less_than_5_s(Setup::tcp(), async |stage| stage.servers[0].behave("reset-on-accept").await);
    tokio::join!(udp, tcp, reset);
}

#[tokio::test]
async fn transparency_a_primary_that_answers_503_to_everything_costs_less_than_5_s() {
    less_than_5_s(Setup::new(), async |stage| stage.servers[0].behave("answer 503").await).await;
}
