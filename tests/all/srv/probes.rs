//! What is measured: who answers, who is silent, who refuses, and how long that takes.

use std::time::Duration;

use holdline::agents::dns::Srv;
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport;

use super::stage::{Stage, behaving, codes, finding, port, registrar};

#[tokio::test]
async fn eight_targets_two_of_them_dead_are_told_in_under_five_seconds() {
    let stage = Stage::open().await;
    let mut registrars = Vec::new();
    for n in 0..8 {
        let behaviour = match n {
            2 => Behaviour::Silent,
            5 => Behaviour::Refuse,
            _ => Behaviour::Normal,
        };
        registrars.push(behaving(&format!("server {n}"), behaviour).await);
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let records: Vec<Srv> = registrars
            .iter()
            .enumerate()
            .map(|(n, registrar)| Srv::new(10 * n as u16, 0, port(registrar, transport), &format!("t{n}.pbx.example")))
            .collect();
        let name = stage.publish(&format!("_sip._{transport}"), &records);
        let seen = stage.srv(&["--json", &name]).await;
        assert!(seen.took < Duration::from_secs(5), "{:?} over {transport}", seen.took);
        assert_eq!(seen.status, 1, "{}", seen.stdout);
        let look = &seen.json()["names"][0];
        let states: Vec<_> =
            look["record"]["targets"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
        // A connection that stands, and an OPTIONS nobody answers, is not certainly dead.
        let silent = if transport == Transport::Udp { "fails" } else { "warning" };
        assert_eq!(states, ["ok", "ok", silent, "ok", "ok", "fails", "ok", "ok"], "{transport}");
        for (n, target) in look["record"]["targets"].as_array().unwrap().iter().enumerate() {
            let options = &target["addresses"][0]["options"];
            if target["state"] == "ok" {
                assert_eq!(
                    (&options["status"], &options["server"]),
                    (&200.into(), &format!("server {n}").into()),
                    "{target:#}"
                );
                assert!(options["round_trip_ms"].as_f64().unwrap() > 0.0, "{target:#}");
                assert_eq!(target["addresses"][0]["connect_ms"].is_null(), transport == Transport::Udp, "{target:#}");
            } else {
                let reason = if n == 2 { "timeout" } else { "refused" };
                assert_eq!(target["addresses"][0]["failure"]["reason"], reason, "{target:#}");
            }
        }
        assert_eq!(seen.stderr, "", "no progress where there is no terminal");
    }
}

#[tokio::test]
async fn a_record_nobody_answers_for_does_not_work() {
    let stage = Stage::open().await;
    let (dark, refusing) =
        (behaving("dark", Behaviour::Unreachable).await, behaving("refusing", Behaviour::Refuse).await);
    let name = stage.publish(
        "_sip._tcp",
        &[
            Srv::new(1, 0, port(&dark, Transport::Tcp), "a.pbx.example"),
            Srv::new(2, 0, port(&refusing, Transport::Tcp), "b.pbx.example"),
        ],
    );
    let seen = stage.srv(&["--timeout=500ms", &name]).await;
    assert_eq!(seen.status, 2, "{seen:?}");
    seen.says(&[
        "FAILS, silent",
        "FAILS, refused",
        "no TCP connection within 0.5 s",
        "no target answers from here",
        "result does not work",
    ]);
    let (_, look) = stage.json(&["--timeout=500ms", &name]).await;
    assert_eq!(codes(&look, "error"), ["target_fails", "target_fails", "all_targets_fail"], "{look:#}");
    assert_eq!(look["enter"]["srv"], name, "the name is right, the servers are not");
}

#[tokio::test]
async fn what_answers_badly_is_told_from_what_is_dead() {
    let stage = Stage::open().await;
    let (busy, strict) =
        (behaving("busy", Behaviour::Answer(503)).await, behaving("strict", Behaviour::Answer(403)).await);
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = http.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            // Whoever asked may be gone.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let closing = behaving("closing", Behaviour::CloseOnRequest).await;
    let tcp = |registrar| port(registrar, Transport::Tcp);
    let name = stage.publish(
        "_sip._tcp",
        &[
            Srv::new(1, 0, tcp(&strict), "strict.pbx.example"),
            Srv::new(2, 0, tcp(&busy), "busy.pbx.example"),
            Srv::new(3, 0, web, "web.pbx.example"),
            Srv::new(4, 0, tcp(&closing), "closing.pbx.example"),
        ],
    );
    let (status, look) = stage.json(&[&name]).await;
    assert_eq!(status, 1);
    let states: Vec<_> = look["record"]["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["state"].as_str().unwrap(), t["summary"].as_str().unwrap()))
        .collect();
    assert_eq!(states[0].0, "ok", "any answer that is no failure is SIP");
    assert_eq!((states[1].0, states[2], states[3]), ("warning", ("fails", "not SIP"), ("fails", "closed")), "{look:#}");
    assert!(finding(&look, "options_trouble")["text"].as_str().unwrap().contains("503"), "{look:#}");
}

#[tokio::test]
async fn the_first_target_dead_is_what_phones_would_feel() {
    let stage = Stage::open().await;
    let (dead, alive) = (behaving("dead", Behaviour::Refuse).await, registrar("alive", None));
    let name = stage.publish(
        "_sip._udp",
        &[
            Srv::new(1, 0, port(&dead, Transport::Udp), "a.pbx.example"),
            Srv::new(2, 0, port(&alive, Transport::Udp), "b.pbx.example"),
        ],
    );
    let (status, look) = stage.json(&[&name]).await;
    assert_eq!(
        (status, &look["record"]["targets"][0]["selected"]),
        (1, &true.into()),
        "the order is DNS's, not the probe's"
    );
    assert_eq!(
        finding(&look, "first_target_fails")["about"][0],
        format!("a.pbx.example:{}", port(&dead, Transport::Udp))
    );
}

#[tokio::test]
async fn no_probe_sends_nothing() {
    let stage = Stage::open().await;
    let a = registrar("a", None);
    let name = stage.publish("_sip._udp", &[Srv::new(1, 0, port(&a, Transport::Udp), "a.pbx.example")]);
    let (_, look) = stage.json(&["--no-probe", &name]).await;
    assert_eq!(look["record"]["targets"][0]["state"], "not_measured");
    assert_eq!(a.read(|record| record.received.len()), 0);
    let (_, look) = stage.json(&[&name]).await;
    assert_eq!(look["record"]["targets"][0]["state"], "ok");
    assert_eq!(a.read(|record| record.count("OPTIONS")), 1);
}

/// A running Holdline for the same record sees nothing of it: no attempt, no strike, no rollover.
#[tokio::test]
async fn probes_do_not_reach_a_running_holdlines_failover() {
    let theatre = crate::loopback::stage::Setup::new().start().await;
    for server in &theatre.servers {
        server.behave("answer 503").await;
    }
    let before = theatre.holdline.metrics().await;
    let stage = Stage::open().await;
    let nameserver = format!("--nameserver={}", theatre.dns.addr());
    for _ in 0..3 {
        let (status, look) = stage.json(&[&nameserver, "_sip._udp.pbx.example"]).await;
        assert_eq!((status, codes(&look, "error")), (2, vec!["all_targets_fail".to_owned()]), "{look:#}");
        assert_eq!(codes(&look, "warning")[0], "options_trouble", "{look:#}");
    }
    assert_eq!(theatre.servers[0].report().await.requests["OPTIONS"], 3, "the probes came");
    let after = theatre.holdline.metrics().await;
    assert_eq!((theatre.active().await, theatre.count(0).await, theatre.failovers().await), (0, 0, 0));
    let of_sip = |metrics: &crate::loopback::process::Metrics| {
        let mut all: Vec<_> = metrics
            .0
            .iter()
            .filter(|(name, _)| name.contains("requests_total") || name.contains("register_"))
            .collect();
        all.sort_by_key(|(name, _)| (*name).clone());
        format!("{all:?}")
    };
    assert_eq!(of_sip(&before), of_sip(&after));
}

#[tokio::test]
async fn kamailio_answers_over_udp_tcp_and_tls() {
    if !crate::support::installed::installed("srv::probes::kamailio_answers_over_udp_tcp_and_tls", &["kamailio"]) {
        return;
    }
    let authority = crate::peers::tls::Authority::new();
    let kamailio = crate::peers::kamailio::Kamailio::start(&authority, 3600).await;
    let stage = Stage::open().await;
    let domain = crate::peers::DOMAIN;
    stage.dns.set_loopback("core.example", 300);
    for (labels, port) in
        [("_sip._udp", kamailio.sip.port()), ("_sip._tcp", kamailio.sip.port()), ("_sip._tls", kamailio.sips.port())]
    {
        let name = format!("{labels}.{domain}");
        stage.dns.set_srv(&name, 300, &[Srv::new(1, 0, port, "core.example")]);
        let (status, look) = stage.json(&[&format!("--upstream-ca={}", authority.file().display()), &name]).await;
        assert_eq!((status, codes(&look, "warning")), (1, vec!["single_target".to_owned()]), "{look:#}");
        let address = &look["record"]["targets"][0]["addresses"][0];
        assert_eq!((&address["state"], &address["options"]["status"]), (&"ok".into(), &200.into()), "{look:#}");
        assert_eq!(address["options"]["server"], "Kamailio");
        if labels == "_sip._tls" {
            assert_eq!(address["tls"]["names"], serde_json::json!([domain]));
            assert_eq!(address["tls"]["satisfies"], serde_json::json!(["domain", "either"]));
        }
    }
}
