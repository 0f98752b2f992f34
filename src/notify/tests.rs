use super::command::run_within;
use super::*;
use crate::flow::Cause;
use crate::upstream::{HandsetId, Outcome, Strike, TargetId};

fn rollover(reason: Reason) -> Rollover {
    let strike = |age, outcome| Strike {
        age: Duration::from_secs(age),
        outcome,
        handset: HandsetId(7),
        detail: Some(Arc::from("a peer's own words")),
    };
    Rollover {
        from: TargetId::from("a.pbx.example:5061"),
        to: TargetId::from("b.pbx.example:5061"),
        epoch: 4,
        reason,
        count: 2,
        strikes: vec![strike(4, Outcome::Failed(Cause::Timeout)), strike(0, Outcome::Response(503))],
        handsets: 1,
        failed: 48,
        decided: None,
    }
}

fn about() -> About {
    About { instance: "berlin".to_owned(), page: "http://192.0.2.1:9460/".to_owned() }
}

#[test]
fn a_notice_says_what_happened_and_nothing_that_a_peer_said() {
    let notice = notice(&rollover(Reason::RegisterFailures), &about(), Duration::from_secs(1_764_421_234));
    assert_eq!(
        notice,
        json!({
            "event": "rollover",
            "at_unix_seconds": 1_764_421_234,
            "instance": "berlin",
            "page": "http://192.0.2.1:9460/",
            "from": "a.pbx.example:5061",
            "to": "b.pbx.example:5061",
            "epoch": 4,
            "reason": "register_failures",
            "decided_by": null,
            "cause": "timeout 4.000 s ago, 503 now",
            "failures": 2,
            "strikes": [
                { "age_seconds": 4.0, "cause": "timeout", "code": null },
                { "age_seconds": 0.0, "cause": "response", "code": 503 },
            ],
            "handsets": 1,
            "handsets_failed": 48,
        })
    );
}

#[test]
fn an_address_shows_no_path_and_what_is_wrong_repeats_nothing() {
    let url = Url::parse("https://hooks.example.com/T0/B0/s3cret?token=s3cret").unwrap();
    assert_eq!((url.to_string(), format!("{url:?}").contains("s3cret")), ("https://hooks.example.com/…".into(), false));
    for wrong in
        ["https://", "ftp://h/s3cret", "https://s3cret:pw@h/", "https://h/s3 cret", "h/s3cret", "https:///s3cret"]
    {
        let error = Url::parse(wrong).unwrap_err();
        assert!(!error.contains("cret"), "{wrong}: {error}");
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_waits_for_nothing() {
    let (metrics, (waiting, notices)) = (Metrics::new(), mpsc::channel(QUEUE));
    let sender = Notices { about: about(), waiting, metrics: metrics.clone() };
    for _ in 0..QUEUE + 3 {
        sender.rolled_over(&rollover(Reason::Manual), Duration::ZERO);
    }
    assert_eq!((notices.len(), metrics.notifications(Notification::Dropped).get()), (QUEUE, 3));
}

#[tokio::test]
async fn pauses_grow_and_the_tries_end() {
    let sums = pauses().scan(0, |sum, pause| {
        *sum += pause.as_secs();
        Some(*sum)
    });
    let at: Vec<u64> = sums.take_while(|at| *at < LIFETIME.as_secs()).collect();
    assert_eq!(at, [1, 3, 7, 15, 31, 63, 123, 183, 243]);

    let short = || [Duration::from_millis(1); 4].into_iter();
    let failing = |again| async move || Err(Undelivered { what: "503".to_owned(), again });
    assert_eq!(insist(LIFETIME, short(), failing(true)).await.unwrap_err().1, 5, "as often as there are pauses");
    assert_eq!(insist(LIFETIME, short(), failing(false)).await.unwrap_err().1, 1, "what cannot succeed is tried once");
    assert_eq!(insist(Duration::ZERO, short(), failing(true)).await.unwrap_err().1, 1, "the time is over");

    let mut tries = 0;
    let delivered = insist(LIFETIME, short(), async || {
        tries += 1;
        if tries < 3 { Err(Undelivered { what: "reset".to_owned(), again: true }) } else { Ok(()) }
    });
    assert!(delivered.await.is_ok());

    let hangs = insist(Duration::from_millis(20), short(), async || std::future::pending().await);
    assert!(hangs.await.unwrap_err().0.to_string().contains("not within 20ms"), "nothing takes longer than the whole");
}

#[tokio::test]
async fn a_commands_words_are_arguments_and_its_input_the_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let script = "printf '%s\\n' \"$1\" \"$2\" >\"$0\"; cat >>\"$0\"";
    let words = ["/bin/sh", "-c", script, &file.display().to_string(), "a b; $(false)", "*"].map(str::to_owned);
    command::run(&words, "{\"event\":1}").await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a b; $(false)\n*\n{\"event\":1}");
    let failed = command::run(&["/bin/sh", "-c", "exit 3"].map(str::to_owned), "").await.unwrap_err();
    assert_eq!(failed.to_string(), "/bin/sh: exit status: 3");
    let missing = command::run(&["/nonexistent".to_owned()], "").await.unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent: No such file"), "{missing}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("children");
    let script = format!("sleep 600 & echo $! >'{}'; wait", file.display());
    let words = ["/bin/sh", "-c", &script].map(str::to_owned);
    let input = "x".repeat(1 << 20);
    let killed = run_within(Duration::from_millis(500), &words, &input).await.unwrap_err();
    assert!(killed.to_string().contains("killed, because it took more than 500ms"), "{killed}");
    let child = std::fs::read_to_string(&file).unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let gone = async {
        // A process that nobody has waited for yet is a zombie.
        while !(stat().is_empty() || stat().contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("its child is gone, too");
}
