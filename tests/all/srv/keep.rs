//! What is kept, compared and listed; and the configuration that is printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdline::agents::dns::Srv;
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport::{Tls, Udp};

use super::stage::{Stage, port, registrar, run};
use crate::support::binary;
use crate::transport::certificates::Authority;

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn diff_shows_what_changed_since_the_last_look() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    let two = [Srv::new(10, 5, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "b.pbx.example")];
    let name = stage.publish("_sip._udp", &two);
    stage.srv(&["--diff", &name]).await.says(&["the first look at this name, nothing to compare"]);
    stage.srv(&["--diff", &name]).await.says(&["nothing changed since 20"]);

    stage.publish(
        "_sip._udp",
        &[Srv::new(10, 9, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "c.pbx.example")],
    );
    a.behave(Behaviour::Refuse).await.unwrap();
    let (label_a, label_b, label_c) = (
        format!("a.pbx.example:{}", port(&a, Udp)),
        format!("b.pbx.example:{}", port(&b, Udp)),
        format!("c.pbx.example:{}", port(&b, Udp)),
    );
    let seen = stage.srv(&["--diff", &name]).await;
    assert_eq!(seen.status, 1);
    seen.says(&[
        "changed since 20",
        &format!("{label_a}: priority 10, weight 5 -> priority 10, weight 9"),
        &format!("{label_a}: OPTIONS 200 OK -> refused: nothing listens there"),
        &format!("- {label_b} (priority 20, weight 0)"),
        &format!("+ {label_c} (priority 20, weight 0)"),
        "new warning (first_target_fails)",
    ]);
    let seen = stage.srv(&["--diff", "--json", &name]).await.json();
    assert_eq!(seen["names"][0]["changes"], serde_json::json!([]), "{seen:#}");
    // Another name has a memory of its own.
    stage.srv(&["--diff", "--no-probe", "other.example"]).await.says(&["the first look"]);
}

#[tokio::test]
async fn a_look_that_measured_nothing_is_compared_by_what_it_knows() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    a.behave(Behaviour::Refuse).await.unwrap();
    let name = stage.publish("_sip._udp", &[Srv::new(10, 5, port(&a, Udp), "a.pbx.example")]);
    assert_eq!(stage.srv(&[&name]).await.status, 2);
    let seen = stage.srv(&["--no-probe", "--diff", &name]).await;
    assert_eq!(seen.status, 1);
    seen.says(&["nothing changed since"]);
    stage.publish("_sip._udp", &[Srv::new(10, 6, port(&a, Udp), "a.pbx.example")]);
    stage.srv(&["--diff", &name]).await.says(&["weight 5 -> priority 10, weight 6"]);
}

#[tokio::test]
async fn recent_lists_looks_and_looks_at_nothing() {
    let stage = Stage::open().await;
    assert_eq!(stage.srv(&["--recent"]).await.stdout, "no earlier look is kept\n");
    let name = stage.publish("_sip._udp", &[Srv::new(1, 0, 5060, "a.pbx.example")]);
    stage.srv(&["--no-probe", &name]).await;
    stage.srv(&["--no-probe", "nowhere.example"]).await;
    let asked = stage.dns.asked();
    let seen = stage.srv(&["--recent"]).await;
    assert_eq!((seen.status, seen.stdout.lines().count()), (0, 2), "{}", seen.stdout);
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert!(
        lines[0].contains("does not work") && lines[0].ends_with("nowhere.example"),
        "the latest first: {}",
        seen.stdout
    );
    assert!(lines[1].contains("works, with warnings") && lines[1].ends_with(&name), "{}", seen.stdout);
    assert_eq!(stage.srv(&["--recent", &name]).await.stdout.lines().count(), 1);
    let json = stage.srv(&["--recent", "--json"]).await.json();
    assert_eq!(json["names"][1]["record"]["targets"][0]["host"], "a.pbx.example");
    assert_eq!(stage.dns.asked(), asked);
}

#[tokio::test]
async fn what_is_kept_is_private_and_bounded_and_files_of_others_stay() {
    let stage = Stage::open().await;
    let kept = stage.kept();
    fs::create_dir_all(&kept).unwrap();
    for n in 0..230 {
        fs::write(kept.join(format!("{:012}-0000-old-00000000.json", 1000 + n)), "{ damaged").unwrap();
    }
    fs::write(kept.join("notes.json"), "mine").unwrap();
    let seen = stage.srv(&["--no-probe", "pbx.example"]).await;
    assert_eq!((seen.status, seen.stderr.as_str()), (2, ""));
    let names = files(&kept);
    assert_eq!(names.len(), 201, "200 looks and a stranger");
    assert!(
        names.contains(&"notes.json".to_owned()) && !names.contains(&"000000001030-0000-old-00000000.json".to_owned())
    );
    let look = names.iter().find(|name| name.contains("pbx.example")).unwrap();
    assert_eq!(fs::metadata(kept.join(look)).unwrap().permissions().mode() & 0o777, 0o600);
    // Damaged ones are told, and the rest is listed.
    let seen = stage.srv(&["--recent"]).await;
    assert_eq!(seen.stdout.lines().count(), 1, "{}", seen.stdout);
    assert!(seen.stderr.contains("199 earlier looks cannot be read"), "{}", seen.stderr);
}

/// Root may write everywhere: a file in the directory's place stops it, too.
#[tokio::test]
async fn a_memory_that_cannot_be_used_is_a_warning_only() {
    let stage = Stage::open().await;
    let name =
        stage.publish("_sip._udp", &[Srv::new(1, 0, 5060, "a.pbx.example"), Srv::new(1, 0, 5061, "b.pbx.example")]);
    fs::write(stage.state().join("holdline"), "a file").unwrap();
    for arguments in [&["--no-probe", &name][..], &["--no-probe", "--diff", &name], &["--recent"]] {
        let seen = stage.srv(arguments).await;
        assert_eq!(seen.status, 0, "{seen:?}");
        assert!(seen.stderr.lines().all(|line| line.starts_with("holdline: warning: ")), "{}", seen.stderr);
        assert!(!seen.stderr.is_empty(), "{arguments:?}");
    }
    // Nowhere at all.
    let mut command = stage.command(&["--no-probe", &name]);
    command.env_remove("XDG_STATE_HOME");
    let seen = run(command).await;
    assert_eq!(seen.status, 0);
    assert!(seen.stderr.contains("neither XDG_STATE_HOME nor HOME"), "{}", seen.stderr);
    // HOME is what stands in.
    let home = tempfile::tempdir().unwrap();
    let mut command = stage.command(&["--no-probe", &name]);
    command.env_remove("XDG_STATE_HOME").env("HOME", home.path());
    assert_eq!(run(command).await.stderr, "");
    assert_eq!(files(&home.path().join(".local/state/holdline/srv")).len(), 1);
}

async fn checked(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdline.toml");
    fs::write(&file, config).unwrap();
    let mut command = binary::holdline(["run", "--check", "--config"]);
    command.arg(&file);
    let seen = run(command.into()).await;
    assert_eq!(seen.status, 0, "{}\n{config}", seen.stderr);
    seen.stdout
}

#[tokio::test]
async fn the_configuration_that_is_printed_is_accepted() {
    let authority = Authority::new("pbx authority");
    let files = authority.sign("pbx", &["a.pbx.example", "b.pbx.example"]);
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", Some(&files)), registrar("b", Some(&files)));
    let name = stage.publish(
        "_sip._tls",
        &[Srv::new(1, 0, port(&a, Tls), "a.pbx.example"), Srv::new(2, 0, port(&b, Tls), "b.pbx.example")],
    );
    let ca = format!("--upstream-ca-only={}", authority.file.display());
    let seen = stage.srv(&["--emit-config", &ca, &name]).await;
    assert_eq!(seen.status, 1, "{seen:?}");
    seen.says(&[
        "srv = \"_sip._tls.pbx.example\"",
        "upstream_verify = \"target\"",
        &format!("upstream_ca_only = \"{}\"", authority.file.display()),
        &format!("nameserver = [\"{}\"]", stage.dns.addr()),
        &format!("# out tcp 127.0.0.1 {} a.pbx.example (SIP over TLS)", port(&a, Tls)),
        &format!("# out tcp 127.0.0.1 {} b.pbx.example", port(&b, Tls)),
        "# out udp 127.0.0.1",
        "Media (RTP, udp) does not pass through Holdline",
    ]);
    let summary = checked(&seen.stdout).await;
    assert!(summary.contains("SRV record _sip._tls.pbx.example over tls") && !summary.contains("WARN"), "{summary}");

    // Over UDP answers and calls come in from outside.
    stage.publish("_sip._udp", &[Srv::new(1, 0, port(&a, Udp), "a.pbx.example")]);
    let seen = stage.srv(&["--emit-config", "_sip._udp.pbx.example"]).await;
    seen.says(&[&format!("# out udp 127.0.0.1 {} a.pbx.example (SIP)", port(&a, Udp)), "# in udp 127.0.0.1 5080"]);
    checked(&seen.stdout).await;

    // A host without a record is an outbound proxy.
    stage.dns.set_loopback("core.example", 60);
    let host = format!("core.example:{}", port(&a, Udp));
    let seen = stage.srv(&["--emit-config", &host]).await;
    seen.says(&[&format!("outbound_proxy = \"{host}\"")]);
    assert!(checked(&seen.stdout).await.contains("outbound proxy core.example"));

    // Nothing there: only comments.
    let seen = stage.srv(&["--emit-config", "nowhere.example"]).await;
    assert_eq!(seen.status, 2);
    assert!(seen.stdout.lines().all(|line| line.starts_with('#')), "{}", seen.stdout);
}
