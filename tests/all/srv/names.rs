//! What may be typed or pasted, and which name is recommended.

use holdline::agents::dns::{Mode, Srv};
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport::{Tcp, Tls, Udp};
use serde_json::Value;

use super::stage::{Stage, behaving, codes, finding, port, registrar};

fn preferred(look: &Value) -> Option<&str> {
    let all = look["variations"].as_array().unwrap();
    all.iter().find(|variation| variation["preferred"] == true).and_then(|variation| variation["name"].as_str())
}

#[tokio::test]
async fn a_bare_domain_is_tried_under_every_name_and_naptr_only_informs() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    let targets = [Srv::new(10, 0, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "b.pbx.example")];
    stage.publish("_sip._udp", &targets);
    stage.publish("_sips._udp", &targets);
    stage.dns.set_srv("_sips._tcp.pbx.example", 60, &[]);
    // It leads to a name that is not there: only the record that is published counts.
    stage.dns.set_naptr("pbx.example", 60, &[(10, 50, "s", "SIPS+D2T", "_sips._tcp.elsewhere.example")]);
    let (status, look) = stage.json(&["pbx.example"]).await;
    assert_eq!(status, 0, "{look:#}");
    let tried: Vec<_> = look["variations"].as_array().unwrap().iter().map(|v| (&v["name"], &v["outcome"])).collect();
    let expected = [
        ("_sip._tls.pbx.example", "nxdomain"),
        ("_sip._tcp.pbx.example", "nxdomain"),
        ("_sip2._tls.pbx.example", "nxdomain"),
        ("_sips._tcp.pbx.example", "nodata"),
        ("_sips._tls.pbx.example", "nxdomain"),
        ("_sip._udp.pbx.example", "ok"),
        ("_sips._udp.pbx.example", "ok"),
    ]
    .map(|(name, outcome)| (Value::from(name), Value::from(outcome)));
    assert_eq!(tried, expected.iter().map(|(name, outcome)| (name, outcome)).collect::<Vec<_>>());
    assert_eq!(preferred(&look), Some("_sip._udp.pbx.example"));
    assert_eq!(look["enter"]["srv"], "_sip._udp.pbx.example");
    assert_eq!(look["naptr"][0]["services"], "SIPS+D2T");
    assert_eq!(finding(&look, "dtls")["severity"], "note");

    let page = stage.srv(&["pbx.example"]).await;
    page.says(&[
        "> _sip._udp.pbx.example 2 targets",
        "_sips._udp.pbx.example 2 targets, TTL 300 s; DTLS: Holdline cannot use this",
        "SIPS+D2T -> _sips._tcp.elsewhere.example (only informs)",
        "enter holdline run --srv _sip._udp.pbx.example",
    ]);
}

#[tokio::test]
async fn the_order_of_preference_holds() {
    let table: [(&[&str], Option<&str>); 8] = [
        (&["_sip._tls", "_sip._tcp", "_sip2._tls", "_sips._tcp", "_sip._udp"], Some("_sip._tls")),
        (&["_sip._tcp", "_sip2._tls", "_sips._tcp", "_sips._tls", "_sip._udp"], Some("_sip._tcp")),
        (&["_sip2._tls", "_sips._tcp", "_sip._udp"], Some("_sip2._tls")),
        (&["_sips._tls", "_sips._tcp", "_sip._udp"], Some("_sips._tcp")),
        (&["_sips._tls", "_sip._udp"], Some("_sips._tls")),
        (&["_sip._udp", "_sips._udp"], Some("_sip._udp")),
        (&["_sips._udp"], None),
        (&[], None),
    ];
    for (published, expected) in table {
        let stage = Stage::open().await;
        for labels in published {
            stage.publish(labels, &[Srv::new(1, 0, 5060, "a.pbx.example"), Srv::new(2, 0, 5060, "b.pbx.example")]);
        }
        let (status, look) = stage.json(&["--no-probe", "pbx.example"]).await;
        let expected = expected.map(|labels| format!("{labels}.pbx.example"));
        assert_eq!(preferred(&look), expected.as_deref(), "{published:?}: {look:#}");
        assert_eq!(look["enter"]["srv"].as_str(), expected.as_deref(), "{published:?}: {look:#}");
        assert_eq!(status, if expected.is_some() { 1 } else { 2 }, "one address for two targets: {look:#}");
    }
}

#[tokio::test]
async fn a_name_that_yields_nothing_does_not_work_and_the_one_to_enter_is_named() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    stage.publish("_sip._tcp", &[Srv::new(10, 0, port(&a, Tcp), "a.pbx.example")]);
    let (status, look) = stage.json(&["_sip._tls.pbx.example"]).await;
    assert_eq!(status, 2, "what was given does not work: {look:#}");
    assert_eq!(finding(&look, "nxdomain")["about"][0], "_sip._tls.pbx.example");
    assert_eq!(look["enter"]["srv"], "_sip._tcp.pbx.example");
    assert_eq!(look["record"]["targets"][0]["state"], "ok");
    assert_eq!(look["variations"].as_array().unwrap().len(), 6, "all but the one given");
    stage
        .srv(&["_sip._tls.pbx.example"])
        .await
        .says(&["does not exist (NXDOMAIN)", "holdline run --srv _sip._tcp.pbx.example"]);
}

#[tokio::test]
async fn a_preferred_record_that_is_dead_gives_way_to_one_that_works() {
    let stage = Stage::open().await;
    let (dead, a) = (behaving("dead", Behaviour::Refuse).await, registrar("a", None));
    stage.publish("_sip._tcp", &[Srv::new(10, 0, port(&dead, Tcp), "dead.pbx.example")]);
    stage.publish("_sip._udp", &[Srv::new(10, 0, port(&a, Udp), "a.pbx.example")]);
    let (status, look) = stage.json(&["pbx.example"]).await;
    assert_eq!((status, &look["enter"]["srv"]), (1, &"_sip._udp.pbx.example".into()), "{look:#}");
    assert_eq!(finding(&look, "preferred_fails")["about"][0], "_sip._tcp.pbx.example");
}

#[tokio::test]
async fn what_people_paste_is_understood() {
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", None), registrar("b", None));
    let name = stage.publish(
        "_sip._udp",
        &[Srv::new(10, 0, port(&a, Udp), "a.pbx.example"), Srv::new(20, 0, port(&b, Udp), "b.pbx.example")],
    );
    let texts = [
        " \"_sip._udp.pbx.example.\" ",
        "'_sip._udp.pbx.example'",
        "sip:pbx.example;lr",
        "<sip:100@pbx.example;lr>",
        "PBX.example.",
    ];
    let seen = stage.srv(&[&["--json", "--no-probe"], &texts[..]].concat()).await.json();
    for (place, text) in texts.iter().enumerate() {
        let look = &seen["names"][place];
        assert_eq!(look["input"], text.trim(), "in the order given");
        assert_eq!(look["enter"]["srv"], name, "{text}: {look:#}");
        assert_eq!(look["record"]["targets"][1]["host"], "b.pbx.example", "{text}");
    }
}

#[tokio::test]
async fn a_host_and_port_is_an_outbound_proxy_unless_there_is_a_record() {
    let stage = Stage::open().await;
    let authority = crate::transport::certificates::Authority::new("authority");
    let a = registrar("a", Some(&authority.sign("a", &["core1.example"])));
    stage.dns.set_loopback("core1.example", 60);
    let ca = format!("--upstream-ca-only={}", authority.file.display());
    let url = format!("tls://core1.example:{}", port(&a, Tls));
    let (status, look) = stage.json(&[&ca, &url]).await;
    assert_eq!(status, 1, "{look:#}");
    assert_eq!(codes(&look, "warning"), ["no_srv"]);
    assert_eq!(look["outbound_proxy"]["targets"][0]["addresses"][0]["tls"]["accepted"], true);
    assert_eq!(look["enter"]["outbound_proxy"], format!("core1.example:{}", port(&a, Tls)));
    assert_eq!(look["enter"]["transport"], "tls");
    let seen = stage.srv(&[&ca, &url]).await;
    seen.says(&[
        &format!("--outbound-proxy core1.example:{} --transport tls", port(&a, Tls)),
        "nothing to fail over to",
    ]);

    // Over UDP, by address.
    let (status, look) = stage.json(&[&format!("127.0.0.1:{}", port(&a, Udp))]).await;
    assert_eq!((status, &look["verdict"]), (0, &"works".into()), "{look:#}");
    assert_eq!(look["outbound_proxy"]["targets"][0]["addresses"][0]["options"]["status"], 200);

    // With a record, the record is what to enter, and what was pasted is looked at beside it.
    stage.dns.set_srv("_sip._udp.core1.example", 60, &[Srv::new(1, 0, port(&a, Udp), "core1.example")]);
    let (_, look) = stage.json(&[&format!("sip:core1.example:{};transport=udp", port(&a, Udp))]).await;
    assert_eq!(look["enter"]["srv"], "_sip._udp.core1.example", "{look:#}");
    assert_eq!(look["outbound_proxy"]["targets"][0]["state"], "ok");
    assert_eq!(finding(&look, "host_port")["severity"], "note");
}

#[tokio::test]
async fn what_is_no_name_is_told_and_the_others_are_looked_at() {
    let stage = Stage::open().await;
    stage.publish("_sip._udp", &[Srv::new(1, 0, 5060, "a.pbx.example")]);
    let seen = stage.srv(&["--json", "--no-probe", "pbx example", "_sip._udp.pbx.example"]).await;
    assert_eq!(seen.status, 2);
    let report = seen.json();
    assert_eq!(codes(&report["names"][0], "error"), ["not_a_name"]);
    assert_eq!(report["names"][1]["verdict"], "warning");
    assert_eq!(report["verdict"], "fails", "the worst of all");
    for (arguments, part) in [
        (&[][..], "NAME"),
        (&["--emit-config", "a.example", "b.example"][..], "one NAME"),
        (&["--watch=0", "a.example"][..], "must be from 1s to"),
        (&["--json", "--emit-config", "a.example"][..], "cannot be used with"),
    ] {
        let seen = stage.srv(arguments).await;
        assert_eq!(seen.status, 64, "{arguments:?}: {seen:?}");
        assert!(seen.stderr.contains(part) && seen.stderr.lines().count() == 1, "{arguments:?}: {}", seen.stderr);
    }
}

#[tokio::test]
async fn transport_given_by_hand_wins_over_the_labels() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    let name = stage.publish("_sips._udp", &[Srv::new(1, 0, port(&a, Tcp), "a.pbx.example")]);
    let (status, look) = stage.json(&[&name]).await;
    assert_eq!((status, &look["enter"]), (2, &Value::Null), "{look:#}");
    assert!(finding(&look, "dtls")["text"].as_str().unwrap().contains("--transport"), "{look:#}");
    let (status, look) = stage.json(&["--transport=tcp", &name]).await;
    assert_eq!((status, &look["enter"]["transport"]), (1, &"tcp".into()), "{look:#}");
    assert_eq!(look["record"]["targets"][0]["state"], "ok");
}

#[tokio::test]
async fn servers_that_do_not_know_are_told_from_a_domain_without_records() {
    let stage = Stage::open().await;
    stage.dns.set_mode(Mode::ServFail);
    let (status, look) = stage.json(&["pbx.example"]).await;
    assert_eq!(status, 2);
    assert!(codes(&look, "error").contains(&"servfail".to_owned()), "{look:#}");
}

#[tokio::test]
async fn a_transport_that_is_asked_for_is_kept_to() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    stage.publish("_sip._tcp", &[Srv::new(1, 0, port(&a, Tcp), "a.pbx.example")]);
    let udp = stage.publish("_sip._udp", &[Srv::new(1, 0, port(&a, Udp), "a.pbx.example")]);
    let (_, look) = stage.json(&["--transport=udp", "pbx.example"]).await;
    assert_eq!((&look["enter"]["srv"], &look["enter"]["transport"]), (&udp.into(), &Value::Null), "{look:#}");
    // A pasted URL that says TLS gets what is there, and a warning.
    let (status, look) = stage.json(&["sips:pbx.example"]).await;
    assert_eq!((status, &look["enter"]["srv"]), (1, &"_sip._tcp.pbx.example".into()), "{look:#}");
    assert!(codes(&look, "warning").contains(&"no_tls".to_owned()), "{look:#}");
}
