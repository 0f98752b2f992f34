//! `holdline demo --once`: the real binary, the whole story, and that it can tell when the story does not hold.

#![allow(clippy::disallowed_methods, reason = "the demo promises to take less than a minute of real time")]

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary;
use crate::support::wait::until_blocking;

/// The promise is under a minute; nothing of it is measured here but that it ends.
const LIMIT: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> (Output, String) {
    let start = Instant::now();
    let mut command = binary::holdline([&["demo"], arguments].concat());
    // Settings of whoever runs the tests are not the demo's.
    command.env("HOLDLINE_FAILURES", "7").env("HOLDLINE_SRV", "_sip._udp.elsewhere.example");
    let output = command.output().expect("the demo starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(start.elapsed() < LIMIT, "it took {:?}:\n{told}", start.elapsed());
    (output, told)
}

#[test]
fn the_story_holds() {
    let (output, told) = demo(&["--once"]);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for promise in ["registered at A", "registered at B", "nobody moved", "back at A", "no phone saw an error"] {
        assert!(told.contains(promise), "{promise:?} is missing:\n{told}");
    }
    for place in ["/metrics", "/   (open it", "srv = _sip._udp.pbx.demo.example"] {
        assert!(told.contains(place), "{place:?} is missing:\n{told}");
    }
    assert!(!told.contains("failures ="), "failures is as shipped:\n{told}");
    assert!(!told.contains('\x1b'), "colours although it is no terminal:\n{told}");
    // A word that is longer (a list of addresses) stands on a line of its own.
    let wide = told.lines().find(|line| line.chars().count() > 80 && line.trim().contains(' '));
    assert_eq!(wide, None, "wider than a terminal:\n{told}");
}

#[test]
fn without_a_rollover_the_story_does_not_hold() {
    let (output, told) = demo(&["--once", "--failures", "1000"]);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("failures = 1000   (default: 3)"), "{told}");
    assert!(told.contains("registered at A") && !told.contains("registered at B"), "{told}");
}

#[test]
fn with_a_registrar_that_rejects_the_story_does_not_hold() {
    let (output, told) = demo(&["--once", "--registrar-rejects"]);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("403 to REGISTER"), "{told}");
}

#[test]
fn a_signal_ends_it_with_a_sentence() {
    use std::io::Read;
    let mut child = binary::holdline(["demo"]).stdout(Stdio::piped()).spawn().expect("the demo starts");
    let mut out = child.stdout.take().expect("its story");
    let mut told = String::new();
    let mut buffer = [0; 1024];
    while !told.contains("switched on") {
        let read = out.read(&mut buffer).expect("its story");
        assert_ne!(read, 0, "it ended early:\n{told}");
        told.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    binary::signal(child.id(), "INT");
    out.read_to_string(&mut told).expect("its story");
    assert!(child.wait().expect("its end").success(), "{told}");
    assert!(told.trim_end().ends_with("nothing is left behind."), "{told}");
}

#[test]
fn it_ends_when_nobody_listens_any_more() {
    use std::io::Read;
    let mut command = binary::holdline(["demo"]);
    command.stdout(Stdio::piped());
    let mut running = binary::Running::start(command);
    running.ignore_log();
    let mut out = running.child.stdout.take().expect("its story");
    out.read_exact(&mut [0; 16]).expect("the first words");
    drop(out);
    let mut ended = None;
    until_blocking("the end of a story that is told to nobody", || {
        ended = running.child.try_wait().expect("its end");
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
