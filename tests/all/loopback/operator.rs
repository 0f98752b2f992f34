//! The operator's commands, through the binary, against a running Holdline: `status`, `phones`, `roll`, `healthcheck`, and the
//! control socket they use.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use holdline::agents::dns;
use holdline::agents::phone::{self, RegisterOutcome};
use holdline::flow::Transport;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::mocked::{Mocked, mocked};
use super::process::{Holdline, command};
use super::stage::{Setup, Stage, registered, trusting};
use crate::support::binary;
use crate::support::wait::PATIENCE;

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs a subcommand of the binary to its end, without the caller's environment.
async fn run(arguments: &[&str]) -> Said {
    let mut command = Command::from(binary::holdline(arguments));
    command.kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A stage whose Holdline has a state directory, and with it a control socket.
struct Operated {
    stage: Stage,
    folder: tempfile::TempDir,
}

impl Operated {
    async fn start(setup: Setup) -> Operated {
        let folder = tempfile::tempdir().unwrap();
        let stage = setup.with(&[&format!("--state-dir={}", folder.path().display())]).start().await;
        stage.holdline.logged("control socket").await;
        Operated { stage, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// A command that talks to the control socket.
    async fn ask(&self, arguments: &[&str]) -> Said {
        let folder = self.folder.path().display().to_string();
        let mut all = vec![arguments[0], "--state-dir", &folder];
        all.extend(&arguments[1..]);
        run(&all).await
    }

    /// A command that talks to the admin address.
    async fn look(&self, arguments: &[&str]) -> Said {
        let admin = format!("http://{}", self.stage.holdline.admin());
        let mut all = vec![arguments[0], "--admin", &admin];
        all.extend(&arguments[1..]);
        run(&all).await
    }
}

#[tokio::test]
async fn operator_asks_whether_an_extension_is_registered() {
    let operated = Operated::start(Setup::new()).await;
    let Operated { stage, .. } = &operated;
    let said = operated.ask(&["phones"]).await;
    assert_eq!((said.code, said.out.contains("no phone")), (1, true), "{said:?}");

    let phone =
        stage.phone_like("204", |options| phone::Options { user_agent: "Yealink SIP-T46S".to_owned(), ..options });
    registered(phone.register().await);
    registered(stage.phone_like("1204", |options| options.over(Transport::Tcp)).register().await);
    let said = operated.ask(&["phones", "204"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("AOR") && lines.len() == 3, "{said:?}");
    let address = phone.local().await.unwrap().to_string();
    for part in ["204@pbx.example", &address, "udp", "registered 200", &stage.labels[0], "Yealink SIP-T46S", " min "] {
        assert!(lines[1].contains(part), "{part}: {said:?}");
    }
    assert_eq!(lines[2], "1 of 1 registered (2 phones known)");

    let said = operated.ask(&["phones", "20"]).await;
    assert_eq!((said.code, said.out.contains("similar: 1204@pbx.example, 204@pbx.example")), (1, true), "{said:?}");
    let said = operated.ask(&["phones", "yealink", "--json"]).await;
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (said.code, &answer["matching"], &answer["phones"][0]["aor"]),
        (0, &1.into(), &"204@pbx.example".into())
    );
    assert!(answer["phones"][0]["expires_seconds"].as_u64().is_some_and(|seconds| seconds > 200), "{answer:#}");
    let said = operated.ask(&["phones", "--limit", "1"]).await;
    assert!(said.code == 0 && said.out.contains("1204@") && said.out.contains("\n1 more;"), "{said:?}");
    let said = operated.ask(&["phones", "tcp"]).await;
    assert_eq!(said.code, 1, "a transport is not searched for: {said:?}");
}

#[tokio::test]
async fn operator_sees_who_is_rejected_and_who_fails_and_why() {
    let operated = Operated::start(Setup::new().with(&["--retry=false", "--exhausted=503"])).await;
    let Operated { stage, .. } = &operated;
    let wrong = stage.phone_like("301", |options| phone::Options { password: "wrong".to_owned(), ..options });
    assert!(!wrong.register().await.is_registered());
    assert!(!wrong.register().await.is_registered());
    stage.servers[0].next(&[403]).await;
    assert_eq!(stage.phone("302").register().await, RegisterOutcome::Rejected(403));
    let renewing = stage.phone("303");
    registered(renewing.register().await);
    stage.servers[0].behave("answer 503").await;
    assert!(!renewing.register().await.is_registered());
    stage.servers[0].behave("refuse").await;
    assert!(!stage.phone("304").register().await.is_registered());

    for (user, registered, outcome, code, cause) in [
        ("301", false, "challenged", Value::from(401), Value::Null),
        ("302", false, "rejected", 403.into(), Value::Null),
        ("303", true, "failed", 503.into(), "response".into()),
        ("304", false, "failed", Value::Null, "refused".into()),
    ] {
        let said = operated.ask(&["phones", user, "--json"]).await;
        assert_eq!(said.code, i32::from(!registered), "{said:?}");
        let phone = &serde_json::from_str::<Value>(&said.out).unwrap()["phones"][0];
        assert_eq!((&phone["registered"], &phone["outcome"]), (&registered.into(), &outcome.into()), "{phone:#}");
        assert_eq!((&phone["code"], &phone["cause"]), (&code, &cause), "{phone:#}");
    }
    let said = operated.ask(&["phones"]).await;
    let line = |user: &str| said.out.lines().find(|line| line.starts_with(user)).unwrap().to_owned();
    assert!(line("301@").contains("challenged 401") && line("301@").contains(" times)"), "{said:?}");
    assert!(line("302@").contains("rejected 403 \"Forbidden\""), "{said:?}");
    assert!(line("303@").contains("failed 503") && !line("303@").contains("not registered"), "{said:?}");
    assert!(line("304@").contains("failed: refused") && line("304@").contains("not registered"), "{said:?}");
    assert!(said.out.contains("1 of 4 registered"), "{said:?}");

    stage.servers[0].behave("normal").await;
    registered(renewing.register().await);
    let said = operated.ask(&["phones", "303"]).await;
    assert!(said.out.contains("registered 200") && !said.out.contains("503"), "a success ends it: {said:?}");
}

#[tokio::test]
async fn operator_rolls_the_phones_over() {
    let operated = Operated::start(Setup::new()).await;
    let Operated { stage, .. } = &operated;
    let phone = stage.phone("100");
    registered(phone.register().await);
    let said = operated.ask(&["roll", "c.pbx.example"]).await;
    assert_eq!(said.code, 64, "{said:?}");
    assert!(stage.labels.iter().all(|label| said.err.contains(label)), "it lists the targets: {said:?}");
    assert_eq!((stage.active().await, stage.holdline.said("rolled over").len()), (0, 0));

    let said = operated.ask(&["roll"]).await;
    assert_eq!((said.code, said.out.contains(&stage.labels[1])), (0, true), "{said:?}");
    let line = stage.holdline.logged("rolled over").await;
    assert_eq!((&line["reason"], &line["to"]), (&"manual".into(), &stage.labels[1].clone().into()), "{line}");
    assert!(stage.holdline.logged("roll asked for").await["uid"].is_number());
    assert_eq!((stage.active().await, stage.failovers().await), (1, 0));
    assert_eq!(stage.holdline.metrics().await.get("failovers_total{reason=\"manual\"}"), 1);
    let status = stage.holdline.status().await;
    let event = status["upstream"]["events"].as_array().unwrap().last().unwrap();
    assert_eq!((&event["event"], &event["reason"]), (&"rollover".into(), &"manual".into()), "{event:#}");
    registered(phone.register().await);
    assert_eq!(stage.servers[1].report().await.registered.len(), 1);

    let said = operated.ask(&["roll", "b.pbx.example"]).await;
    assert!(said.code == 1 && said.err.contains("already active"), "{said:?}");
    let said = operated.ask(&["roll", "A.PBX.example.", "--json"]).await;
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &answer["to"]), (0, &stage.labels[0].clone().into()), "{said:?}");
    assert_eq!(stage.active().await, 0);
}

#[tokio::test]
async fn operator_reads_the_status_over_either_way() {
    let operated = Operated::start(Setup::new().with(&["--retry=false", "--exhausted=503"])).await;
    let Operated { stage, .. } = &operated;
    registered(stage.phone("100").register().await);
    stage.servers[0].behave("answer 503").await;
    let phone = stage.phone("101");
    for _ in 0..2 {
        assert!(!phone.register().await.is_registered());
    }
    let said = operated.look(&["status"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let [a, b] = [&stage.labels[0], &stage.labels[1]];
    for part in [
        "_sip._udp.pbx.example over udp",
        "[##.] 2 of 3",
        "standby",
        "1 registered",
        "2 failed",
        "ms on average",
        "response 503",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let active = |out: &str| out.lines().find(|line| line.starts_with("->")).unwrap_or_default().to_owned();
    assert!(active(&said.out).contains(a.as_str()), "{}", said.out);

    assert!(!phone.register().await.is_registered());
    registered(phone.register().await);
    let socket = operated.socket().display().to_string();
    let said = run(&["status", "--control", &socket]).await;
    assert!(said.code == 0 && active(&said.out).contains(b.as_str()), "{said:?}");
    assert!(
        said.out.contains(&format!("rolled over: {a} -> {b}, register failures, 3 counted, 1 phone failed\n")),
        "{}",
        said.out
    );
    assert!(said.out.contains("response 503 \"Service Unavailable\", 3 times\n"), "{}", said.out);
    assert!(said.out.contains("ROLLED OVER  phones are at"), "{}", said.out);

    let (admin, control) =
        (operated.look(&["status", "--json"]).await, run(&["status", "--json", "--control", &socket]).await);
    for said in [admin, control] {
        let status: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((said.code, &status["upstream"]["active"]), (0, &b.clone().into()));
        assert_eq!(status["registrations"]["last_hour"]["failed"], 3, "{status:#}");
        assert!(status["holdline"]["version"].is_string());
    }
}

/// It goes on until it is ended, and shows what changed.
#[tokio::test]
async fn operator_watches_the_status() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let operated = Operated::start(Setup::new()).await;
    let admin = operated.stage.holdline.admin().to_string();
    let mut command = Command::from(binary::holdline(["status", "--json", "--watch", "1", "--admin", &admin]));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it looks again").unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["upstream"]["active"].as_str().unwrap().to_owned()
    };
    assert_eq!(next().await, operated.stage.labels[0]);
    assert_eq!(operated.ask(&["roll"]).await.code, 0);
    while next().await != operated.stage.labels[1] {}
}

#[tokio::test]
async fn operator_probes_a_container() {
    let operated = Operated::start(Setup::new()).await;
    for arguments in [&["healthcheck"][..], &["healthcheck", "--ready"]] {
        let said = operated.look(arguments).await;
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{arguments:?}");
    }
    let said = run(&["healthcheck", "--admin", "127.0.0.1:9"]).await;
    assert!(said.code == 1 && said.err.contains("127.0.0.1:9"), "{said:?}");

    let dns = dns::Server::start().await.unwrap();
    let arguments = ["--srv=_sip._udp.nobody.example".to_owned(), format!("--nameserver={}", dns.addr())];
    let waiting = Holdline::start(&arguments).await;
    let admin = waiting.admin().to_string();
    let said = run(&["healthcheck", "--ready", "--admin", &admin]).await;
    assert!(said.code == 1 && said.err.contains("DNS"), "{said:?}");
    assert_eq!(run(&["healthcheck", "--admin", &admin]).await.code, 0, "it works, and waits");
}

#[tokio::test]
async fn operator_without_a_holdline_is_told_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().display().to_string();
    let said = run(&["phones", "--state-dir", &missing]).await;
    assert!(said.code == 69 && said.err.contains("control.sock") && said.err.contains("--control"), "{said:?}");
    let said = run(&["status", "--admin", "127.0.0.1:9"]).await;
    assert!(said.code == 69 && said.err.contains("127.0.0.1:9/status"), "{said:?}");
    let said = run(&["status", "--admin", "https://127.0.0.1:9460"]).await;
    assert_eq!(said.code, 64, "{said:?}");
}

#[tokio::test]
async fn operator_socket_is_private_replaced_when_left_over_and_removed_at_the_end() {
    let mut operated = Operated::start(Setup::new()).await;
    let socket = operated.socket();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);

    let arguments = |theirs: &[String]| {
        let mut all = theirs.to_vec();
        all.push(format!("--control={}", socket.display()));
        all
    };
    let theirs = ["--outbound-proxy=127.0.0.1:5060".to_owned()];
    let mut second = command(&arguments(&theirs));
    let output = timeout(PATIENCE, second.stderr(Stdio::piped()).output()).await.unwrap().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), error.contains("another Holdline listens there")), (Some(69), true), "{error}");
    assert_eq!(operated.ask(&["phones"]).await.code, 1, "and the first one still answers");

    operated.stage.holdline.signal("KILL").await;
    operated.stage.holdline.ended().await;
    assert!(socket.exists(), "kill -9 leaves it");
    let mut third = Holdline::start(&arguments(&theirs)).await;
    third.logged("control socket").await;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(run(&["status", "--control", &socket.display().to_string()]).await.code, 0);
    third.signal("TERM").await;
    assert!(third.ended().await.success());
    assert!(!socket.exists());
}

/// A file where the socket should be: a path that was asked for is a reason not to start; a default is not.
#[tokio::test]
async fn operator_socket_that_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.sock");
    std::fs::write(&file, "precious").unwrap();
    let proxy = "--outbound-proxy=127.0.0.1:5060".to_owned();
    let mut asked = command(&[proxy.clone(), format!("--control={}", file.display())]);
    let output = timeout(PATIENCE, asked.stderr(Stdio::piped()).output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let holdline = Holdline::start(&[proxy, format!("--state-dir={}", folder.path().display())]).await;
    let warned = holdline.logged("no control socket").await;
    assert!(warned["error"].as_str().unwrap().contains("not a socket"), "{warned}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

/// C1 controls in UTF-8 and a turned direction of writing pass as SIP; what a terminal makes of them is another matter.
#[tokio::test]
async fn operator_gets_nothing_raw_that_an_untrusted_peer_wrote() {
    let hostile = "\u{9b}31mred\u{202e}der";
    let Mocked { holdline, folder, .. } = &mocked(&[], 403, "No\u{9b}2J\u{202e}way", &[]).await;
    let proxy = holdline.socket("phone", Transport::Udp);
    let options =
        phone::Options { user_agent: format!("Yea\u{1b}]0;link {hostile}"), ..phone::Options::new(hostile, proxy) };
    let phone = phone::Phone::start(options).unwrap();
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(403));
    let folder = folder.path().display().to_string();
    let admin = holdline.admin().to_string();
    for arguments in [
        &["phones", "--state-dir", &folder][..],
        &["phones", "--json", "--state-dir", &folder],
        &["phones", "\u{9b}31m", "--state-dir", &folder],
        &["phones", "\u{9b}nobody", "--state-dir", &folder],
        &["roll", "\u{9b}nobody", "--state-dir", &folder],
        &["status", "--admin", &admin],
    ] {
        let said = run(arguments).await;
        let raw = said.out.chars().chain(said.err.chars()).find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(raw, None, "{arguments:?}: {said:?}");
    }
    let said = run(&["phones", "--state-dir", &folder]).await;
    assert!(said.out.contains("\\u{9b}31mred\\u{202e}der@pbx.example") && said.out.contains("No"), "{said:?}");
    let said = run(&["phones", "--json", "--state-dir", &folder]).await;
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["phones"][0]["aor"], format!("{hostile}@pbx.example"), "--json is exact");
}

/// A control client may ask for more than is given at once.
#[tokio::test]
async fn operator_lists_are_bounded() {
    let operated = Operated::start(Setup::new().served_by(trusting(&["a"]))).await;
    let phones: Vec<_> = (0..12).map(|n| operated.stage.phone(&format!("{}", 100 + n))).collect();
    for phone in &phones {
        registered(phone.register().await);
    }
    let said = operated.ask(&["phones", "--limit", "5"]).await;
    assert_eq!((said.out.lines().count(), said.out.contains("7 more;")), (8, true), "{said:?}");
    let said = operated.ask(&["phones", "--limit", "99999999", "--json"]).await;
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((answer["phones"].as_array().unwrap().len(), &answer["more"]), (12, &0.into()));
}

/// Impatient: nobody waits here.
#[tokio::test]
async fn operator_sees_a_silent_target_as_a_time_out() {
    let operated = Operated::start(Setup::new().with(&["--retry=false", "--attempt-timeout=300ms"])).await;
    operated.stage.servers[0].behave("silent").await;
    let phone = operated.stage.impatient("100", Duration::from_secs(2));
    assert!(!phone.register().await.is_registered());
    let said = operated.ask(&["phones", "100"]).await;
    assert!(said.code == 1 && said.out.contains("failed: timeout"), "{said:?}");
}

/// Several Holdlines on one machine: each file is one, and what cannot be said of it is said.
#[tokio::test]
async fn operator_sees_every_holdline_of_the_machine_at_once() {
    let (north, south) = (Setup::new().start().await, Setup::new().with(&["--retry=false"]).start().await);
    registered(north.phone("204").register().await);
    south.servers[0].behave("answer 503").await;
    assert!(!south.phone("205").register().await.is_registered());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let admin = |stage: &Stage| format!("srv = \"_sip._udp.pbx.example\"\nadmin = \"{}\"\n", stage.holdline.admin());
    write("north.toml", &admin(&north));
    write("south.toml", &admin(&south));
    write("notes.txt", "no instance");
    let ask = |json: bool| {
        let folder = folder.path().display().to_string();
        async move {
            let mut arguments = vec!["status", "--all", "--config-dir", &folder];
            arguments.extend(json.then_some("--json"));
            run(&arguments).await
        }
    };
    let said = ask(false).await;
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    assert!(lines[0].starts_with("INSTANCE  UPSTREAM"), "{said:?}");
    assert!(
        lines[1].starts_with("north ") && lines[1].contains(&north.labels[0]) && lines[1].ends_with(" 1       ok"),
        "{said:?}"
    );
    assert!(lines[2].starts_with("south ") && lines[2].ends_with("1 of 3 failures"), "{said:?}");

    // One that cannot be up, one that is not, and one that nobody can read.
    write("twin.toml", &admin(&north));
    write("west.toml", "srv = \"_sip._udp.pbx.example\"\nadmin = \"127.0.0.1:9\"\n");
    write("zero.toml", "admn = 1\n");
    let said = ask(false).await;
    assert_eq!(said.code, 1, "{said:?}");
    let state = |name: &str| said.out.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(state("twin").contains("the admin address of north"), "{said:?}");
    assert!(state("west").contains("no answer from http://127.0.0.1:9/status"), "{said:?}");
    assert!(state("zero").contains("admn"), "{said:?}");
    let said = ask(true).await;
    let objects: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(objects["north"]["bindings"]["count"], 1, "{objects:#}");
    assert!(objects["west"]["error"].is_string() && said.code == 1, "{objects:#}");
    assert_eq!(run(&["status", "--all", "--admin", "127.0.0.1:1"]).await.code, 64);
    let empty = tempfile::tempdir().unwrap();
    let said = run(&["status", "--all", "--config-dir", empty.path().to_str().unwrap()]).await;
    assert!(said.code == 69 && said.err.contains("no .toml file"), "{said:?}");
}

#[tokio::test]
async fn operator_shows_the_admin_token_and_it_changes_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (token, other) = (folder.path().join("token"), folder.path().join("other"));
    std::fs::write(&token, "the-first-token-of-this-test\n").unwrap();
    std::fs::write(&other, "no-token-of-this-test-at-all\n").unwrap();
    let flag = format!("--admin-token-file={}", token.display());
    let stage = Setup::new().with(&[&flag, "--log-level=trace"]).start().await;
    let admin = stage.holdline.admin().to_string();
    let wrong = format!("--admin-token-file={}", other.display());

    assert_eq!(stage.holdline.get("/metrics").await.0, 401);
    let said = run(&["status", "--admin", &admin]).await;
    assert!(said.code == 69 && said.err.contains("--admin-token-file"), "{said:?}");
    let said = run(&["status", "--admin", &admin, &wrong]).await;
    assert!(said.code == 69 && said.err.contains("another token"), "{said:?}");
    assert_eq!(run(&["status", "--admin", &admin, &flag]).await.code, 0);
    assert_eq!(run(&["healthcheck", "--ready", "--admin", &admin]).await.code, 0, "a probe has no token");

    let before = stage.holdline.said("configuration read again").len();
    std::fs::copy(&token, &other).unwrap();
    std::fs::write(&token, "the-second-token-of-this-test\n").unwrap();
    let line = stage.holdline.logged_times("configuration read again", before + 1).await;
    assert_eq!(line["changed"], "admin_token_file");
    assert_eq!(run(&["status", "--admin", &admin, &wrong]).await.code, 69, "the old one is none any more");
    assert_eq!(run(&["status", "--admin", &admin, &flag]).await.code, 0);

    std::fs::write(&token, "short\n").unwrap();
    stage.holdline.logged("configuration cannot be used").await;
    std::fs::write(&token, "the-second-token-of-this-test\n").unwrap();
    assert_eq!(run(&["status", "--admin", &admin, &flag]).await.code, 0, "a bad file changes nothing");
    assert!(!stage.holdline.text().contains("-of-this-test"), "a token is in the log:\n{}", stage.holdline.text());
}

#[tokio::test]
async fn operator_sees_state_that_is_not_kept_a_refused_reload_and_whose_status_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdline.toml");
    std::fs::write(&file, "instance = \"branch-berlin\"\n").unwrap();
    // Not even root can make a directory there.
    let arguments = [format!("--config={}", file.display()), "--state-dir=/proc/holdline".to_owned()];
    let stage = Setup::new().with(&[&arguments[0], &arguments[1]]).start().await;
    let metrics = stage.holdline.until("store_writable", 0).await;
    assert_eq!(metrics.get("instance_info{name=\"branch-berlin\"}"), 1);

    std::fs::write(&file, "instance = \"branch-berlin\"\nfailures = 0\n").unwrap();
    stage.holdline.until("config_last_reload_successful", 0).await;
    let status = stage.holdline.status().await;
    assert_eq!((&status["instance"], &status["store"]["writable"]), (&"branch-berlin".into(), &false.into()));
    assert!(status["config"]["refused"].as_str().unwrap().contains("failures = \"0\""), "{status:#}");
    let admin = stage.holdline.admin().to_string();
    let said = run(&["status", "--admin", &admin]).await;
    for part in ["holdline branch-berlin: ", "NOT KEPT", "REFUSED, the old ones stay: failures", "#reload-failed"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }

    std::fs::write(&file, "instance = \"branch-berlin\"\nfailures = 4\n").unwrap();
    stage.holdline.until("config_last_reload_successful", 1).await;
    assert_eq!(stage.holdline.status().await["config"]["refused"], Value::Null);
}
