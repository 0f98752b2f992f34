//! Selection: which upstream is used, and what is asked of DNS to find it.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use holdline::agents::dns::{Mode, Srv};
use holdline::agents::phone::RegisterOutcome;
use holdline::flow::Transport;
use tokio::net::{TcpListener, UdpSocket};

use super::process::{Holdline, command};
use super::server::{Cast, Server};
use super::stage::{Setup, Theatre, cast, phone, registered};
use crate::transport::certificates::Authority;

/// A proxy that must get nothing: it hears every datagram and every connection.
struct Trap {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Trap {
    async fn set() -> Trap {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                return Trap { udp, tcp };
            }
        }
    }

    fn flag(&self) -> String {
        format!("--outbound-proxy={}", self.udp.local_addr().unwrap())
    }

    /// Loopback delivers while the sender sends: what was sent so far is here.
    #[track_caller]
    fn assert_untouched(self) {
        let (udp, tcp) = (self.udp.into_std().unwrap(), self.tcp.into_std().unwrap());
        let datagram = udp.recv_from(&mut [0; 2048]).map(|(length, _)| length);
        assert_eq!(datagram.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(tcp.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn selection_srv_beats_the_outbound_proxy_and_a_log_line_says_so() {
    let trap = Trap::set().await;
    let stage = Setup::new().with(&[&trap.flag()]).start().await;
    registered(stage.phone("100").register().await);
    assert_eq!(stage.servers[0].report().await.registered, ["100@pbx.example"]);
    let line = stage.holdline.logged("srv and outbound_proxy are both given").await;
    let said = line["message"].as_str().unwrap();
    assert!(said.contains("the SRV record _sip._udp.pbx.example wins"), "{said}");
    trap.assert_untouched();
}

#[tokio::test]
async fn selection_a_blank_srv_in_all_four_spellings_uses_the_proxy() {
    let server = Server::start("a").await;
    let proxy = format!("--outbound-proxy=127.0.0.1:{}", server.port);
    let spellings: [(&str, &[&str], Option<&str>); 6] = [
        ("absent", &[], None),
        ("an empty flag", &["--srv="], None),
        ("an empty word", &["--srv", ""], None),
        ("only spaces", &["--srv=   "], None),
        ("an empty variable", &[], Some("")),
        ("a variable of spaces", &[], Some("  ")),
    ];
    for (number, (spelling, flags, variable)) in spellings.into_iter().enumerate() {
        let mut arguments = vec![proxy.clone()];
        arguments.extend(flags.iter().map(ToString::to_string));
        let mut command = command(&arguments);
        if let Some(value) = variable {
            command.env("HOLDLINE_SRV", value);
        }
        let holdline = Holdline::start_with(command).await;
        let user = format!("10{number}");
        let outcome = phone(&holdline, &user, |options| options).register().await;
        assert!(outcome.is_registered(), "{spelling}: {outcome:?}");
        let registered = server.report().await.registered;
        assert!(registered.contains(&format!("{user}@pbx.example")), "{spelling}: {registered:?}");
    }
}

/// One way of failing: nobody gets a packet, readiness says no, the REGISTER waits; and all is well once DNS is.
async fn a_failed_lookup_is_not_a_blank_name(mode: Mode, outcome: &str) {
    let trap = Trap::set().await;
    let setup = Setup::new().with(&[&trap.flag()]);
    let theatre = Theatre::open(&setup).await;
    theatre.dns.set_mode(mode);
    let stage = {
        let holdline = Holdline::start(&theatre.arguments(&setup)).await;
        theatre.with(holdline)
    };
    let early = stage.impatient("100", Duration::from_secs(3));
    let late = stage.phone("101");
    let (early_end, ()) = tokio::join!(early.register(), async {
        let line = stage.holdline.logged("DNS lookup failed").await;
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(stage.holdline.get("/readyz").await.0, 503);
    });
    assert_eq!(early_end, RegisterOutcome::TimedOut, "held, not refused");
    let metrics = stage.holdline.metrics().await;
    assert!(metrics.get(&format!("dns_lookups_total{{outcome=\"{outcome}\",record=\"srv\"}}")) >= 1);
    assert_eq!(stage.failovers().await, 0);
    let (late_end, ()) = tokio::join!(late.register(), async { stage.dns.set_mode(Mode::Answer) });
    registered(late_end);
    assert!(stage.servers[0].report().await.registered.contains(&"101@pbx.example".to_owned()));
    trap.assert_untouched();
}

#[tokio::test]
async fn selection_a_failed_srv_lookup_sends_the_proxy_nothing() {
    tokio::join!(
        a_failed_lookup_is_not_a_blank_name(Mode::NxDomain, "nxdomain"),
        a_failed_lookup_is_not_a_blank_name(Mode::ServFail, "servfail"),
        a_failed_lookup_is_not_a_blank_name(Mode::Silent, "timeout"),
        a_failed_lookup_is_not_a_blank_name(Mode::NoData, "nodata"),
    );
}

/// Registers phones at targets of these priorities and weights; how many each target served.
async fn served(records: &[(u16, u16)], phones: usize) -> Vec<usize> {
    let names = ["a", "b", "c"];
    let setup = Setup::new().served_by(cast(&names[..records.len()]));
    let theatre = Theatre::open(&setup).await;
    let srv = theatre.servers.iter().zip(names).zip(records);
    let srv: Vec<Srv> = srv
        .map(|((server, name), (priority, weight))| {
            Srv::new(*priority, *weight, server.port, &format!("{name}.pbx.example"))
        })
        .collect();
    theatre.dns.set_srv(setup.name, setup.ttl, &srv);
    let holdline = Holdline::start(&theatre.arguments(&setup)).await;
    let stage = theatre.with(holdline);
    for number in 0..phones {
        registered(stage.phone(&format!("{}", 100 + number)).register().await);
    }
    let mut served = Vec::new();
    for server in &stage.servers {
        served.push(server.report().await.registered.len());
    }
    served
}

#[tokio::test]
async fn selection_priority_beats_weight() {
    assert_eq!(served(&[(20, 1000), (10, 1), (30, 65535)], 5).await, [0, 5, 0]);
}

#[tokio::test]
async fn selection_weights_50_and_100_give_all_to_100() {
    assert_eq!(served(&[(10, 50), (10, 100)], 20).await, [0, 20]);
}

#[tokio::test]
async fn selection_every_spelling_of_the_name_says_its_transport() {
    let authority = Authority::new("selection");
    let files = authority.sign("pbx", &["pbx.example"]);
    let ca = format!("--upstream-ca-only={}", authority.file.display());
    for (name, transport) in [
        ("_sip._udp.pbx.example", Transport::Udp),
        ("_sip._tcp.pbx.example", Transport::Tcp),
        ("_sip._tls.pbx.example", Transport::Tls),
        ("_sips._tls.pbx.example", Transport::Tls),
        ("_sip2._tls.pbx.example", Transport::Tls),
        ("_sips._tcp.pbx.example", Transport::Tls),
    ] {
        let tls = Some((files.cert.clone(), files.key.clone()));
        let servers = vec![Cast { name: "a".to_owned(), tls, ..Cast::default() }];
        let setup = Setup { name, transport, servers, ..Setup::new() };
        let setup = if transport == Transport::Tls { setup.with(&[&ca]) } else { setup };
        let stage = setup.start().await;
        registered(stage.phone("100").register().await);
        let report = stage.servers[0].report().await;
        assert_eq!(report.transports, BTreeSet::from([transport.to_string()]), "{name}");
    }
}

#[tokio::test]
async fn selection_dtls_is_a_configuration_error_that_names_transport() {
    let run = async |more: &str| {
        let arguments = ["--srv=_sips._udp.pbx.example", "--check", more].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
        let output = command(&arguments).stderr(Stdio::piped()).output().await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("").await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("srv") && said.contains("_sips._udp.pbx.example") && said.contains("--transport"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (code, said) = run("--transport=tls").await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn selection_the_question_is_the_configured_name_verbatim_and_nothing_else_is_asked() {
    // In a case of its own, so that a name put together anew would show.
    let setup = Setup { name: "_SIP._udp.Pbx.Example", ..Setup::new() };
    let stage = setup.start().await;
    registered(stage.phone("100").register().await);
    let questions = stage.dns.questions();
    // The case of the letters is mixed anew for each question.
    let asked: BTreeSet<(&str, String)> =
        questions.iter().map(|q| (q.record.as_str(), q.name.to_ascii_lowercase())).collect();
    let expected = [
        ("A", "a.pbx.example"),
        ("A", "b.pbx.example"),
        ("AAAA", "a.pbx.example"),
        ("AAAA", "b.pbx.example"),
        ("SRV", "_sip._udp.pbx.example"),
    ];
    assert_eq!(asked, expected.into_iter().map(|(record, name)| (record, name.to_owned())).collect());
    assert_eq!(stage.dns.count("_sip._udp.pbx.example", "SRV"), 1);
}
