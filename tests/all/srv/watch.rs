//! `--watch`: one report, then what changes, until a signal.

use holdline::agents::dns::Srv;
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport::Udp;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::timeout;

use super::stage::{Stage, port, registrar};
use crate::loopback::process::signal;
use crate::support::wait::PATIENCE;

/// Lines up to the first with this part.
async fn until(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap_or_else(|_| panic!("no {part:?} after {seen:#?}"));
        let line = line.unwrap().unwrap_or_else(|| panic!("ended before {part:?}: {seen:#?}"));
        seen.push(line);
        if seen.last().unwrap().contains(part) {
            return seen;
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_they_come_and_ctrl_c_ends_it() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    stage.dns.set_addresses("b.pbx.example", 60, &["127.0.0.1".parse().unwrap()]);
    let name = stage.publish(
        "_sip._udp",
        &[Srv::new(10, 0, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "b.pbx.example")],
    );
    let mut child = stage.command(&["--watch=1", "--timeout=500ms", &name]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    until(&mut lines, "watching every 1 s").await;
    a.behave(Behaviour::Refuse).await.unwrap();
    let told = until(&mut lines, "OPTIONS 200 OK -> refused").await;
    assert!(told.last().unwrap().starts_with("20"), "with the time: {told:?}");
    until(&mut lines, "first_target_fails").await;
    a.behave(Behaviour::Normal).await.unwrap();
    until(&mut lines, "-> OPTIONS 200 OK").await;
    stage.dns.set_srv(&name, 300, &[Srv::new(20, 0, port(&b, Udp), "b.pbx.example")]);
    until(&mut lines, "- a.pbx.example").await;
    signal(&child, "INT").await;
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(1), "the last look's: one target only");
}

#[tokio::test]
async fn watched_json_is_one_line_a_look() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    stage.dns.set_addresses("b.pbx.example", 60, &["127.0.0.1".parse().unwrap()]);
    let name = stage.publish(
        "_sip._udp",
        &[Srv::new(10, 0, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "b.pbx.example")],
    );
    let mut child = stage.command(&["--watch=1", "--json", &name]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = until(&mut lines, "").await.remove(0);
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&report["verdict"], &report["names"][0]["input"]),
            (&"works".into(), &name.clone().into()),
            "{report:#}"
        );
    }
    signal(&child, "TERM").await;
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
    // A night of watching keeps one look, not thousands.
    assert_eq!(std::fs::read_dir(stage.kept()).unwrap().count(), 1);
}
