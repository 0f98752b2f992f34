//! SIGTERM: what is in flight is finished.

use std::time::Duration;

use tokio::time::Instant;

use super::stage::{Setup, registered, trusting};

#[tokio::test]
async fn drain_finishes_a_register_in_flight() {
    // Long enough for everything that is asked meanwhile, on a busy machine too; one attempt is enough.
    let patient = ["--attempt-timeout=25s", "--retry-deadline=30s", "--drain-timeout=60s"];
    let mut stage = Setup::new().served_by(trusting(&["a"])).with(&patient).start().await;
    stage.servers[0].behave("late 8000").await;
    let (early, late) = (stage.phone("100"), stage.phone("101"));
    let calls = tokio::spawn({
        let early = early.clone();
        async move { early.register().await }
    });
    stage.servers[0].wait_for("REGISTER", 1).await;
    stage.holdline.signal("TERM").await;
    let line = stage.holdline.logged("draining").await;
    assert_eq!(line["in_flight"], 1, "{line}");
    // REGISTERs still pass: a phone that comes now is served, too.
    let (outcome, ()) = tokio::join!(late.register(), async {
        assert_eq!(stage.holdline.get("/readyz").await, (503, "draining\n".to_owned()));
        assert_eq!(stage.holdline.get("/livez").await.0, 200);
        assert_eq!(stage.holdline.metrics().await.get("draining"), 1);
    });
    registered(outcome);
    registered(calls.await.unwrap());
    assert_eq!(stage.holdline.ended().await.code(), Some(0));
    let line = stage.holdline.logged("stopped").await;
    assert_eq!(line["cut_off"], 0, "{line}");
    assert_eq!(stage.servers[0].report().await.registered.len(), 2);
}

#[tokio::test]
async fn drain_ends_at_its_timeout_whatever_is_in_flight() {
    let mut stage = Setup::new().with(&["--drain-timeout=1s"]).start().await;
    stage.servers[0].behave("silent").await;
    let phone = stage.phone("100");
    tokio::spawn(async move { phone.register().await });
    stage.servers[0].wait_for("REGISTER", 1).await;
    stage.holdline.signal("TERM").await;
    assert_eq!(stage.holdline.ended().await.code(), Some(0));
    let line = stage.holdline.logged("stopped").await;
    assert_eq!(line["cut_off"], 1, "{line}");
}

#[tokio::test]
async fn drain_ends_at_once_at_the_second_signal() {
    let mut stage = Setup::new().start().await;
    stage.servers[0].behave("silent").await;
    let phone = stage.phone("100");
    tokio::spawn(async move { phone.register().await });
    stage.servers[0].wait_for("REGISTER", 1).await;
    stage.holdline.signal("TERM").await;
    stage.holdline.logged("draining").await;
    let second = Instant::now();
    stage.holdline.signal("INT").await;
    assert_eq!(stage.holdline.ended().await.code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(5), "{:?}", second.elapsed());
    stage.holdline.logged("second signal").await;
}
