//! What is wrong, in words, with a code that stays.

use std::net::IpAddr;

use holdline::agents::dns::{self, Mode, Srv};
use serde_json::Value;

use super::stage::{Stage, codes, finding};

const NAME: &str = "_sip._udp.pbx.example";

/// Two targets with an address each, so that nothing is odd about them.
fn good(stage: &Stage) {
    stage.dns.set_srv(NAME, 300, &[Srv::new(10, 0, 5060, "a.pbx.example"), Srv::new(20, 0, 5060, "b.pbx.example")]);
    for (host, address) in [("a.pbx.example", [192, 0, 2, 1]), ("b.pbx.example", [192, 0, 2, 2])] {
        stage.dns.set_addresses(host, 60, &[IpAddr::from(address)]);
    }
}

async fn looked(stage: &Stage) -> (i32, Value) {
    stage.json(&["--no-probe", NAME]).await
}

#[tokio::test]
async fn a_good_record_is_told_so_with_its_order_and_both_selections_explained() {
    let stage = Stage::open().await;
    good(&stage);
    stage.dns.set_srv(
        NAME,
        300,
        &[
            Srv::new(20, 7, 5060, "b.pbx.example"),
            Srv::new(10, 25, 5070, "a.pbx.example"),
            Srv::new(10, 75, 5060, "a.pbx.example"),
        ],
    );
    let (status, look) = looked(&stage).await;
    assert_eq!((status, codes(&look, "warning"), codes(&look, "error")), (0, vec![], vec![]), "{look:#}");
    let rows = look["record"]["targets"].as_array().unwrap().iter().map(|t| {
        (
            t["order"].as_u64().unwrap(),
            t["selected"].as_bool().unwrap(),
            t["port"].as_u64().unwrap(),
            t["share_percent"].as_f64().unwrap(),
        )
    });
    assert_eq!(rows.collect::<Vec<_>>(), [(1, true, 5060, 75.0), (2, false, 5070, 25.0), (3, false, 5060, 100.0)]);
    let page = stage.srv(&["--no-probe", NAME]).await;
    page.says(&[
        "# prio weight share via port target addresses ttl state",
        "> 1 10 75 75 % udp 5060 a.pbx.example 192.0.2.1 300 not measured",
        "3 20 7 100 % udp 5060 b.pbx.example 192.0.2.2 300 not measured",
        "Holdline would select a.pbx.example:5060: of the lowest priority (10) it has the highest weight (75)",
        "selection = \"highest-weight\", the default",
        "selection = \"weighted\") is drawn by weight: over many instances, priority 10 is shared a.pbx.example:5060 75 %, a.pbx.example:5070 25 %",
        "result works (by DNS alone: nothing was measured)",
        "enter holdline run --srv _sip._udp.pbx.example",
    ]);
    assert_eq!(stage.dns.count("a.pbx.example", "A"), 2, "once for each look: {:?}", stage.dns.questions());
}

#[tokio::test]
async fn four_ways_of_getting_nothing_are_told_apart() {
    for (mode, code, word) in [
        (Mode::NxDomain, "nxdomain", "does not exist (NXDOMAIN)"),
        (Mode::NoData, "nodata", "has no record of this type (NODATA)"),
        (Mode::ServFail, "servfail", "SERVFAIL"),
        (Mode::Silent, "timeout", "no name server answered in time"),
    ] {
        let stage = Stage::open().await;
        good(&stage);
        stage.dns.set_mode_for(NAME, Some(mode));
        let (status, look) = looked(&stage).await;
        assert_eq!((status, &look["enter"]), (2, &Value::Null), "{look:#}");
        let text = finding(&look, code)["text"].as_str().unwrap().to_owned();
        assert!(text.contains(word), "{mode:?}: {text}");
    }
}

#[tokio::test]
async fn records_that_cannot_be_used_are_listed_and_explained() {
    let stage = Stage::open().await;
    good(&stage);
    let two = [Srv::new(10, 0, 5060, "a.pbx.example"), Srv::new(20, 0, 5060, "b.pbx.example")];
    let table: [(&str, &[Srv], i32); 5] = [
        ("no_service", &[Srv::new(0, 0, 0, ".")], 2),
        ("dot_beside_others", &[&two[..], &[Srv::new(0, 0, 0, ".")]].concat(), 1),
        ("port_zero", &[&two[..], &[Srv::new(0, 0, 0, "a.pbx.example")]].concat(), 1),
        ("duplicate", &[&two[..], &[Srv::new(5, 9, 5060, "b.pbx.example")]].concat(), 1),
        ("single_target", &two[..1], 1),
    ];
    for (code, records, status) in table {
        stage.dns.set_srv(NAME, 300, records);
        let (found, look) = looked(&stage).await;
        assert_eq!(found, status, "{code}: {look:#}");
        let severity = if status == 2 { "error" } else { "warning" };
        assert_eq!(codes(&look, severity), [code], "{look:#}");
        assert_eq!(
            look["record"]["targets"].as_array().unwrap().len(),
            records.len(),
            "every record is shown: {look:#}"
        );
    }
    // All of them with port 0: nothing is left.
    stage.dns.set_srv(NAME, 300, &[Srv::new(0, 0, 0, "a.pbx.example")]);
    assert_eq!(looked(&stage).await.0, 2);
    // The better of two duplicates counts.
    stage.dns.set_srv(NAME, 300, &[&two[..], &[Srv::new(5, 9, 5060, "b.pbx.example")]].concat());
    let (_, look) = looked(&stage).await;
    let first = &look["record"]["targets"][0];
    assert_eq!((&first["host"], &first["priority"]), (&"b.pbx.example".into(), &5.into()), "{look:#}");
}

#[tokio::test]
async fn targets_with_odd_addresses_are_explained() {
    let stage = Stage::open().await;
    good(&stage);
    stage.dns.set_cname("b.pbx.example", 60, "real.pbx.example");
    stage.dns.set_addresses("real.pbx.example", 60, &[IpAddr::from([192, 0, 2, 9])]);
    let (status, look) = looked(&stage).await;
    assert_eq!((status, codes(&look, "warning")), (1, vec!["target_alias".to_owned()]), "{look:#}");
    assert_eq!(look["record"]["targets"][1]["alias"], "real.pbx.example");
    assert_eq!(look["record"]["targets"][1]["addresses"][0]["address"], "192.0.2.9");

    // Nowhere, empty, broken: three words for one thing.
    stage.dns.remove("b.pbx.example");
    for (mode, code, word) in [
        (Mode::NxDomain, "target_no_address", "NXDOMAIN"),
        (Mode::NoData, "target_no_address", "without A or AAAA"),
        (Mode::ServFail, "target_unresolved", "SERVFAIL"),
    ] {
        good(&stage);
        stage.dns.set_mode_for("b.pbx.example", Some(mode));
        let (status, look) = looked(&stage).await;
        assert_eq!(status, 1, "{look:#}");
        let found = finding(&look, code);
        assert_eq!(found["about"][0], "b.pbx.example:5060");
        assert!(found["text"].as_str().unwrap().contains(word), "{found}");
        assert_eq!(
            (&look["record"]["targets"][1]["state"], &look["record"]["targets"][1]["summary"]),
            (&"fails".into(), &"no address".into())
        );
    }
    stage.dns.set_mode_for("a.pbx.example", Some(Mode::NxDomain));
    assert_eq!(looked(&stage).await.0, 2, "no target has an address");
    for host in ["a.pbx.example", "b.pbx.example"] {
        stage.dns.set_mode_for(host, None);
        stage.dns.set_addresses(host, 60, &[IpAddr::from([192, 0, 2, 1])]);
    }
    let (_, look) = looked(&stage).await;
    assert_eq!(
        finding(&look, "same_address")["about"],
        serde_json::json!(["a.pbx.example:5060", "b.pbx.example:5060"])
    );
}

#[tokio::test]
async fn a_lifetime_is_judged() {
    let stage = Stage::open().await;
    good(&stage);
    for (ttl, code) in
        [(3, Some("ttl_short")), (29, Some("ttl_short")), (30, None), (86_400, None), (604_800, Some("ttl_long"))]
    {
        stage.dns.set_srv(NAME, ttl, &[Srv::new(10, 0, 5060, "a.pbx.example"), Srv::new(20, 0, 5060, "b.pbx.example")]);
        let (status, look) = looked(&stage).await;
        assert_eq!(
            (status, codes(&look, "warning")),
            (i32::from(code.is_some()), Vec::from_iter(code.map(str::to_owned))),
            "{ttl}"
        );
        assert_eq!(look["record"]["ttl"], ttl);
    }
}

#[tokio::test]
async fn name_servers_that_disagree_are_compared() {
    let stage = Stage::open().await;
    good(&stage);
    let other = dns::Server::start().await.unwrap();
    let servers = [format!("--nameserver={}", stage.dns.addr()), format!("--nameserver={}", other.addr())];
    let look = async || stage.json(&["--no-probe", &servers[0], &servers[1], NAME]).await;
    let records = [Srv::new(10, 0, 5060, "a.pbx.example"), Srv::new(20, 0, 5060, "b.pbx.example")];
    let addresses = |last: u8| {
        other.set_addresses("a.pbx.example", 60, &[IpAddr::from([192, 0, 2, 1])]);
        other.set_addresses("b.pbx.example", 60, &[IpAddr::from([192, 0, 2, last])]);
    };

    let (status, seen) = look().await;
    assert_eq!(status, 1, "{seen:#}");
    let text = finding(&seen, "resolvers_disagree")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("says that it is there") && text.contains("says NXDOMAIN"), "{text}");
    assert_eq!(seen["nameservers"][1]["outcome"], "nxdomain");

    other.set_srv(NAME, 300, &records[..1]);
    addresses(2);
    let (_, seen) = look().await;
    let text = finding(&seen, "resolvers_disagree")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[20 0 5060 b.pbx.example]") && text.contains(&stage.dns.addr().to_string()), "{text}");

    other.set_srv(NAME, 300, &records);
    addresses(77);
    let (_, seen) = look().await;
    let text = finding(&seen, "resolvers_disagree")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("192.0.2.2") && text.contains("192.0.2.77"), "{text}");

    addresses(2);
    let (status, seen) = look().await;
    assert_eq!((status, codes(&seen, "warning")), (0, vec![]), "{seen:#}");
    assert_eq!(seen["nameservers"].as_array().unwrap().len(), 2);
}
