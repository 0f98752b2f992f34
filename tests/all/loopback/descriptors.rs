//! Descriptors: all that the system gives are taken, some are left for what matters, and their end is nobody else's fault.

use std::io::ErrorKind;
use std::time::Duration;

use holdline::flow::Transport;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::process::{Holdline, command};
use super::stage::{Setup, Theatre, registered};
use crate::support::wait::PATIENCE;

/// Started by a shell with these preparations.
async fn started_with(prepare: &str, setup: &Setup) -> super::stage::Stage {
    let theatre = Theatre::open(setup).await;
    let ready = command(&theatre.arguments(setup));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{prepare} exec \"$0\" \"$@\"")]).arg(ready.as_std().get_program());
    shell.args(ready.as_std().get_args()).kill_on_drop(true);
    let stage = theatre.with(Holdline::start_with(shell).await);
    stage.holdline.until_page("/readyz", 200).await;
    stage
}

/// Whether the peer has closed it by now.
async fn is_closed(stream: &mut TcpStream) -> bool {
    match timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await {
        Ok(Ok(read)) => read == 0,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionReset,
        Err(_) => false,
    }
}

#[tokio::test]
async fn descriptors_are_raised_to_the_hard_limit_and_connections_leave_enough_of_them() {
    let stage = started_with("ulimit -Sn 300; ulimit -Hn 700;", &Setup::tcp()).await;
    let line = stage.holdline.logged("the limit on descriptors allows only").await;
    assert_eq!((&line["limit_connections"], &line["descriptors"]), (&16384.into(), &700.into()), "{line}");
    let room: usize = line["message"].as_str().unwrap().split(' ').nth(6).unwrap().parse().unwrap();
    assert!((200..300).contains(&room), "{line}");
    assert_eq!(stage.holdline.metrics().await.get("limit{resource=\"connections\"}"), room as u64);

    let addr = stage.holdline.socket("phone", Transport::Tcp);
    let mut open = Vec::new();
    for _ in 0..500 {
        open.push(TcpStream::connect(addr).await.unwrap());
    }
    let begun = Instant::now();
    let mut left = usize::MAX;
    while left != room && begun.elapsed() < PATIENCE / 4 {
        left = 0;
        for stream in &mut open {
            left += usize::from(!is_closed(stream).await);
        }
    }
    assert_eq!(left, room);
    // The way to the PBX is opened only now, and pages are shown.
    registered(stage.phone("100").register().await);
    assert_eq!(stage.holdline.get("/status").await.0, 200);
}

#[tokio::test]
async fn descriptors_that_have_run_out_are_no_strike_and_no_loop_spins() {
    let stage = Setup::tcp().with(&["--retry=false", "--exhausted=503", "--failures=1"]).start().await;
    let pid = stage.holdline.pid().to_string();
    let limit = async |soft: &str| {
        let said = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:")]).status().await;
        assert!(said.expect("prlimit is part of util-linux").success());
    };
    let processor = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    };
    limit("3").await;
    let phone = stage.impatient("100", Duration::from_secs(2));
    for _ in 0..3 {
        assert!(!phone.register().await.is_registered());
    }
    let addr = stage.holdline.socket("phone", Transport::Tcp);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(TcpStream::connect(addr).await.unwrap());
    }
    stage.holdline.logged("connections cannot be accepted").await;
    let before = processor();
    sleep(Duration::from_secs(2)).await;
    let ticks = processor() - before;
    assert!(ticks < 40, "{ticks} of 200 hundredths of a second were spent on nothing");
    assert!(stage.holdline.said("connections cannot be accepted").len() <= 2, "one line stands for many");

    limit("20000").await;
    registered(stage.phone("101").register().await);
    assert_eq!((stage.active().await, stage.failovers().await, stage.count(0).await), (0, 0, 0));
    let metrics = stage.holdline.metrics().await;
    for side in ["phone", "upstream"] {
        let series = format!("connection_errors_total{{reason=\"local\",side=\"{side}\",transport=\"tcp\"}}");
        assert!(metrics.get(&series) > 0, "{series}: {metrics:?}");
    }
}
