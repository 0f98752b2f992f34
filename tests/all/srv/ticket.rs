//! Several names, other forms than the page, and an earlier look opened again.

use std::process::Stdio;

use holdline::agents::dns::Srv;
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport::{Tcp, Tls};
use tokio::io::AsyncWriteExt;

use super::stage::{Stage, behaving, finding, port, registrar, run};
use crate::transport::certificates::Authority;

#[tokio::test]
async fn several_names_begin_with_one_table_and_each_record_is_measured_once() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    let records = [Srv::new(1, 0, port(&a, Tcp), "a.pbx.example"), Srv::new(2, 0, port(&b, Tcp), "b.pbx.example")];
    let name = stage.publish("_sip._tcp", &records);
    let seen = stage.srv(&[&name, "pbx.example", "sip:pbx.example;transport=tcp", "nowhere.example", &name]).await;
    assert_eq!(seen.status, 2, "{seen:?}");
    let table: Vec<&str> = seen.stdout.lines().take(5).collect();
    assert!(table[0].starts_with("name ") && table[0].contains("result") && table[0].ends_with("enter"), "{table:#?}");
    assert!(
        table[1].starts_with(&name) && table[1].contains("works") && table[1].contains("2 of 2 targets"),
        "{table:#?}"
    );
    assert!(table[1].contains(&format!("--srv {name} --nameserver {}", stage.dns.addr())), "{table:#?}");
    assert!(table[4].starts_with("nowhere.example") && table[4].contains("does not work"), "{table:#?}");
    for registrar in [&a, &b] {
        assert_eq!(registrar.read(|record| record.count("OPTIONS")), 1, "three NAMEs lead there");
    }
    assert!(seen.stdout.contains(&format!("Name server  {}", stage.dns.addr())), "{}", seen.stdout);
}

#[tokio::test]
async fn names_are_read_from_standard_input() {
    let stage = Stage::open().await;
    let name =
        stage.publish("_sip._udp", &[Srv::new(1, 0, 5060, "a.pbx.example"), Srv::new(1, 0, 5061, "a.pbx.example")]);
    let mut command = stage.command(&["--no-probe", "--csv", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("# customers\n\n{name}\n  nowhere.example\n").as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "a head, two targets, and one that is not there: {said}");
    assert!(lines[0].starts_with("name,at,result,record,transport,ttl,order,"), "{said}");
    assert!(lines[1].starts_with(&format!("{name},")) && lines[1].contains(",a.pbx.example,5060,127.0.0.1,"), "{said}");
    assert!(lines[3].starts_with("nowhere.example,") && lines[3].contains("does not work"), "{said}");
    let columns = |line: &str| line.split(',').count();
    assert!(lines[1..3].iter().all(|line| columns(line) == columns(lines[0])), "{said}");

    let empty = run({
        let mut command = stage.command(&["--no-probe", "-"]);
        command.stdin(Stdio::null());
        command
    });
    let seen = empty.await;
    assert_eq!(seen.status, 64, "{seen:?}");
    assert!(seen.stderr.contains("no NAME"), "{seen:?}");
}

#[tokio::test]
async fn markdown_goes_into_a_ticket() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    let name = stage.publish("_sip._tcp", &[Srv::new(1, 0, port(&a, Tcp), "a.pbx.example")]);
    let seen = stage.srv(&["--markdown", &name]).await;
    let text = &seen.stdout;
    assert!(text.starts_with(&format!("### `{name}`: works, with warnings\n")), "{text}");
    assert!(text.contains("| # | prio | weight | share | target | addresses | state |\n|---|"), "{text}");
    assert!(
        text.contains(&format!("| 1 | 1 | 0 | 100 % | `a.pbx.example:{}` | `127.0.0.1` | ok, 200 in", port(&a, Tcp))),
        "{text}"
    );
    assert!(text.contains(&format!("asked of `{}`", stage.dns.addr())), "{text}");
    assert!(text.contains("- **warning** ") && text.contains(&format!("Enter: `holdline run --srv {name} ")), "{text}");
}

#[tokio::test]
async fn an_earlier_look_is_opened_by_its_number() {
    let stage = Stage::open().await;
    let name = stage.publish("_sip._udp", &[Srv::new(1, 0, 5060, "a.pbx.example")]);
    stage.srv(&["--no-probe", &name]).await;
    stage.srv(&["--no-probe", "nowhere.example"]).await;
    let asked = stage.dns.asked();
    let list = stage.srv(&["--recent"]).await.stdout;
    assert!(list.lines().nth(1).unwrap().trim_start().starts_with("2  "), "{list}");
    stage.srv(&["--recent", "2"]).await.says(&["a.pbx.example", "enter holdline run --srv _sip._udp.pbx.example"]);
    assert!(stage.srv(&["--recent", "2", "--markdown"]).await.stdout.starts_with(&format!("### `{name}`")));
    assert_eq!(stage.srv(&["--recent", "1", "--json"]).await.json()["names"][0]["input"], "nowhere.example");
    let seen = stage.srv(&["--recent", "3"]).await;
    assert_eq!(seen.status, 64, "{seen:?}");
    assert!(seen.stderr.contains("there are 2 looks"), "{seen:?}");
    assert_eq!(stage.dns.asked(), asked, "nothing is looked at");
}

#[tokio::test]
async fn a_silent_target_beside_one_in_trouble_is_not_told_to_work() {
    let stage = Stage::open().await;
    let (dark, busy) = (behaving("dark", Behaviour::Unreachable).await, behaving("busy", Behaviour::Answer(503)).await);
    let name = stage.publish(
        "_sip._tcp",
        &[Srv::new(1, 0, port(&dark, Tcp), "a.pbx.example"), Srv::new(2, 0, port(&busy, Tcp), "b.pbx.example")],
    );
    let (status, look) = stage.json(&["--timeout=500ms", &name]).await;
    assert_eq!((status, &look["verdict"]), (2, &"fails".into()), "{look:#}");
    let text = finding(&look, "all_targets_fail")["text"].as_str().unwrap();
    assert!(!text.contains("firewall"), "{text}");
}

#[tokio::test]
async fn self_signed_certificates_are_explained_and_are_no_firewall() {
    let stage = Stage::open().await;
    let authority = Authority::new("nobody's");
    let files = authority.self_signed("pbx", &["pbx.example"], false);
    let (a, b) = (registrar("a", Some(&files)), registrar("b", Some(&files)));
    let name = stage.publish(
        "_sip._tls",
        &[Srv::new(1, 0, port(&a, Tls), "a.pbx.example"), Srv::new(2, 0, port(&b, Tls), "b.pbx.example")],
    );
    let (status, look) = stage.json(&[&name]).await;
    assert_eq!(status, 2, "{look:#}");
    let all = finding(&look, "all_targets_fail")["text"].as_str().unwrap();
    assert!(all.contains("certificate") && !all.contains("firewall"), "{all}");
    let why = finding(&look, "certificate_self_signed")["text"].as_str().unwrap();
    assert!(why.contains("self-signed") && why.contains("fingerprint") && why.contains("--upstream-ca"), "{why}");
    // As it says: with that file it works, and what to enter names the file.
    let ca = format!("--upstream-ca={}", files.cert.display());
    let seen = stage.srv(&[&ca, &name]).await;
    assert_eq!(seen.status, 0, "{seen:?}");
    seen.says(&[&format!("--upstream-ca {}", files.cert.display())]);
}
