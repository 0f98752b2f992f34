//! Restart: killed, and started again on the same state directory and ports.

use std::path::Path;

use holdline::agents::phone;
use holdline::flow::Transport;
use holdline::store::{FILE_NAME, RestoredState, Store};
use tokio::process::Command;

use super::process::{Holdline, command};
use super::stage::{Setup, Stage, cast, registered};
use crate::support::wait::until;

const ONE_BY_ONE: [&str; 3] = ["--retry=false", "--exhausted=503", "--register-interval=0"];

fn state_in(folder: &Path) -> String {
    format!("--state-dir={}", folder.display())
}

/// What a start would find now. The living file is copied: it belongs to a process.
fn stored(folder: &Path) -> Option<RestoredState> {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join(FILE_NAME), copy.path().join(FILE_NAME)).ok()?;
    Store::open(copy.path()).ok().map(|(_, restored)| restored)
}

/// Waits until the state on disk fulfils a condition, looking often: only the file itself can tell.
async fn until_stored(folder: &Path, what: &str, condition: impl Fn(&RestoredState) -> bool) {
    until(what, async || stored(folder).filter(&condition).map(drop)).await;
}

/// The same ports as before, so that the phones and the PBX find it again.
async fn start_again(stage: Stage, setup: &Setup) -> Stage {
    let at = |side, transport| stage.holdline.socket(side, transport);
    let mut arguments = vec![
        format!("--srv={}", setup.name),
        format!("--nameserver={}", stage.dns.addr()),
        format!("--listen=udp:{},tcp:{}", at("phone", Transport::Udp), at("phone", Transport::Tcp)),
        format!("--upstream-bind={}", at("upstream", Transport::Udp)),
    ];
    arguments.extend(setup.arguments.iter().cloned());
    let Stage { dns, servers, labels, holdline } = stage;
    holdline.kill().await;
    let holdline = Holdline::start(&arguments).await;
    holdline.until_page("/readyz", 200).await;
    Stage { dns, servers, labels, holdline }
}

#[tokio::test]
async fn restart_after_kill_9_stays_on_the_secondary_and_calls_find_the_udp_phone() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new().with(&ONE_BY_ONE).with(&[&state_in(folder.path())]);
    let stage = setup.clone().start().await;
    let udp = stage.phone("100");
    let tcp = stage.phone_like("101", |options| options.over(Transport::Tcp));
    registered(udp.register().await);
    stage.servers[0].behave("answer 503").await;
    for _ in 0..3 {
        assert!(!udp.register().await.is_registered());
    }
    registered(udp.register().await);
    registered(tcp.register().await);
    let [a, b] = [&stage.servers[0], &stage.servers[1]];
    a.behave("normal").await;
    assert_eq!((stage.active().await, b.report().await.registered.len()), (1, 2));
    assert_eq!(b.send("OPTIONS", "100@pbx.example").await, 200);
    assert_eq!(b.send("OPTIONS", "101@pbx.example").await, 200);

    let moved = stage.labels[1].clone();
    until_stored(folder.path(), "the rollover and two bindings", |restored| {
        restored.upstream.as_ref().is_some_and(|upstream| upstream.active == moved) && restored.bindings.len() == 2
    })
    .await;
    let stage = start_again(stage, &setup).await;
    let [a, b] = [&stage.servers[0], &stage.servers[1]];
    assert_eq!((stage.active().await, stage.failovers().await), (1, 0), "no silent failback");
    assert_eq!(stage.holdline.logged("restored the active target").await["active"], stage.labels[1]);

    // From both PBXs that have handed the Contact out, before the phone has said a word.
    let before = udp.record().requests.len();
    assert_eq!(b.send("OPTIONS", "100@pbx.example").await, 200);
    assert_eq!(b.send("MESSAGE", "100@pbx.example").await, 200);
    assert_eq!(a.send("MESSAGE", "100@pbx.example").await, 200);
    let seen: Vec<String> =
        udp.record().requests[before..].iter().map(|seen| seen.message.method().to_owned()).collect();
    assert_eq!(seen, ["OPTIONS", "MESSAGE", "MESSAGE"]);
    assert_eq!(b.send("OPTIONS", "101@pbx.example").await, 480, "a connection does not survive");

    registered(udp.register().await);
    registered(tcp.register().await);
    assert_eq!(b.contacts("100@pbx.example").await.len(), 1, "the same phone is the same binding");
    assert_eq!(b.contacts("101@pbx.example").await.len(), 1, "the same phone is the same binding");
    assert_eq!(b.send("OPTIONS", "101@pbx.example").await, 200);
    assert_eq!(stage.active().await, 1);
}

#[tokio::test]
async fn restart_with_the_state_of_another_srv_name_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_in(folder.path());
    let mut stage = Setup::new().with(&[&state]).start().await;
    registered(stage.phone("100").register().await);
    stage.holdline.signal("TERM").await;
    assert_eq!(stage.holdline.ended().await.code(), Some(0));

    let setup = Setup { name: "_sip._udp.other.example", ..Setup::new() }.served_by(cast(&["c"])).with(&[&state]);
    let other = setup.start().await;
    registered(other.phone("100").register().await);
    let line = other.holdline.logged("the stored state is of another upstream").await;
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(
        (&line["stored"], &line["configured"]),
        (&"srv:_sip._udp.pbx.example".into(), &"srv:_sip._udp.other.example".into())
    );
}

#[tokio::test]
async fn restart_with_garbage_in_the_store_is_a_warning() {
    for garbage in [&b"no store at all"[..], &[0xa5; 8192]] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), garbage).unwrap();
        let stage = Setup::new().with(&[&state_in(folder.path())]).start().await;
        registered(stage.phone("100").register().await);
        let line = stage.holdline.logged("the store is damaged").await;
        assert_eq!(line["level"], "WARN", "{line}");
        let moved = stage.labels[0].clone();
        until_stored(folder.path(), "a new beginning", |restored| {
            restored.upstream.as_ref().is_some_and(|upstream| upstream.active == moved)
        })
        .await;
    }
}

/// A limit on the size of files stands for the full disk: a write beyond it fails in the same way.
#[tokio::test]
async fn restart_on_a_full_disk_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new().with(&[&state_in(folder.path())]);
    let theatre = super::stage::Theatre::open(&setup).await;
    let ready = command(&theatre.arguments(&setup));
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(ready.as_std().get_program());
    shell.args(ready.as_std().get_args()).kill_on_drop(true);
    let holdline = Holdline::start_with(shell).await;
    let stage = theatre.with(holdline);
    stage.holdline.until_page("/readyz", 200).await;
    registered(stage.phone_like("100", |options| phone::Options { expires: 120, ..options }).register().await);
    let line = stage.holdline.logged("cannot write the store").await;
    assert_eq!(line["level"], "WARN", "{line}");
}
