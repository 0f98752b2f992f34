//! Handset against registrar, without a proxy between them: each behaviour over each transport.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::digest::Algorithm;
use super::phone::{self, Answer, Phone, Refresh, RegisterOutcome};
use super::registrar::{self, Behaviour, Outgoing, Reach, Reaction, Registrar};
use super::tls;
use super::wire::{End, Timers};
use crate::flow::Transport;

const WITHIN: Duration = Duration::from_secs(5);

/// Timers of a handset that gives up soon, so that a test of silence is short.
fn hasty() -> Timers {
    Timers { t1: Duration::from_millis(20), t2: Duration::from_millis(80), f: Duration::from_millis(300) }
}

fn certificates() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root: CertificateDer<'static> = authority.self_signed(&authority_key).unwrap().into();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["pbx.example".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (tls::server(vec![leaf.into()], key, &[]).unwrap(), tls::client(&[root]).unwrap())
}

struct Pair {
    registrar: Registrar,
    phone: Phone,
    transport: Transport,
}

impl Pair {
    fn over(transport: Transport) -> Pair {
        Pair::with(transport, |_| {}, |_| {})
    }

    fn with(
        transport: Transport,
        registrar_is: impl FnOnce(&mut registrar::Options),
        phone_is: impl FnOnce(&mut phone::Options),
    ) -> Pair {
        let mut options = registrar::Options::named("a");
        let mut roots = None;
        if transport == Transport::Tls {
            let (server, client) = certificates();
            options.tls = Some(server);
            roots = Some((client, "pbx.example".try_into().unwrap()));
        }
        registrar_is(&mut options);
        let registrar = Registrar::start(options).unwrap();
        let mut options = phone::Options::new("alice", registrar.addr(transport)).over(transport);
        options.tls = roots;
        phone_is(&mut options);
        Pair { phone: Phone::start(options).unwrap(), registrar, transport }
    }

    /// With a handset that gives up soon.
    fn hasty(transport: Transport) -> Pair {
        Pair::with(transport, |_| {}, |phone| phone.timers = hasty())
    }

    fn registers(&self) -> usize {
        self.registrar.read(|record| record.count("REGISTER"))
    }
}

#[tokio::test]
async fn a_phone_registers_refreshes_and_leaves_over_every_transport() {
    for transport in Transport::ALL {
        let pair = Pair::over(transport);
        assert_eq!(pair.phone.register().await, RegisterOutcome::Registered(3600), "over {transport}");
        let bindings = pair.registrar.bindings("alice@pbx.example");
        let record = pair.phone.record();
        assert_eq!(bindings.len(), 1);
        assert_eq!(bindings[0].contact, record.contact_sent);
        assert_eq!(record.contacts_back, std::slice::from_ref(&record.contact_sent));
        assert_eq!(record.finals.iter().map(|f| f.status).collect::<Vec<_>>(), [401, 200]);
        assert_eq!(record.server.as_deref(), Some("a"));
        // The nonce is used again: no second challenge, no second binding.
        assert_eq!(pair.phone.register().await, RegisterOutcome::Registered(3600));
        assert_eq!((pair.registers(), pair.registrar.bindings("alice@pbx.example").len()), (3, 1));
        assert_eq!(pair.phone.unregister().await, RegisterOutcome::Registered(0));
        assert!(pair.registrar.registered().is_empty());
        assert!(!pair.phone.read(|record| record.registered));
        assert_eq!(pair.phone.read(phone::Record::errors), Vec::<String>::new());
        assert!(pair.registrar.read(|record| record.received.iter().all(|r| r.message.refused.is_none())));
    }
}

#[tokio::test]
async fn both_hashes_are_spoken_and_a_wrong_password_is_not_believed() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let pair = Pair::with(Transport::Udp, |r| r.algorithms = vec![algorithm], |_| {});
        assert!(pair.phone.register().await.is_registered());
        let pair = Pair::with(Transport::Udp, |r| r.algorithms = vec![algorithm], |p| p.password = "x".into());
        assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(401));
        assert!(pair.registrar.registered().is_empty());
    }
}

#[tokio::test]
async fn nonces_go_stale_and_another_servers_nonce_is_not_taken() {
    let pair = Pair::over(Transport::Udp);
    assert!(pair.phone.register().await.is_registered());
    pair.registrar.expire_nonces();
    assert!(pair.phone.register().await.is_registered());
    let challenge = pair.phone.read(|r| r.finals[2].message.header("WWW-Authenticate").unwrap().to_owned());
    assert!(challenge.contains("stale=true"), "{challenge}");

    let other = Registrar::start(registrar::Options { realm: "a.realm".into(), ..registrar::Options::named("b") });
    let other = other.unwrap();
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let phone = Phone::start(phone::Options::new("alice", other.addr(Transport::Udp))).unwrap();
    let asked = super::digest::Challenge::read(&challenge).unwrap();
    assert_eq!(asked.nonce, nonce);
    let answer = super::digest::Credentials::answer(&asked, ("alice", "secret"), ("REGISTER", "sip:x"), ("c", 1));
    let to = ("Contact", "<sip:alice@127.0.0.1:9>".to_owned());
    let foreign = phone.request("REGISTER", "sip:x", &[("Authorization", answer.to_string()), to], b"").await;
    assert_eq!(foreign.status(), 401);
    assert!(!foreign.response().unwrap().header("WWW-Authenticate").unwrap().contains("stale"));
}

#[tokio::test]
async fn silence_runs_into_timer_f_and_recovers() {
    for transport in Transport::ALL {
        let pair = Pair::hasty(transport);
        assert!(pair.phone.register().await.is_registered());
        pair.registrar.behave(Behaviour::Silent).await.unwrap();
        assert_eq!(pair.phone.register().await, RegisterOutcome::TimedOut, "over {transport}");
        let sent = pair.registrar.read(|r| r.received.len()) - 2;
        // At 0, 20, 60, 140, 220 and perhaps at 300 ms.
        assert!(if transport.is_reliable() { sent == 1 } else { (4..=6).contains(&sent) }, "{sent} over {transport}");
        pair.registrar.behave(Behaviour::Normal).await.unwrap();
        assert!(pair.phone.register().await.is_registered());
        assert_eq!(pair.phone.read(|r| (r.timer_f, r.errors().len())), (1, 1));
    }
}

#[tokio::test]
async fn an_unreachable_registrar_answers_no_syn() {
    let pair = Pair::hasty(Transport::Tcp);
    pair.registrar.behave(Behaviour::Unreachable).await.unwrap();
    let connect = tokio::net::TcpStream::connect(pair.registrar.addr(Transport::Tcp));
    assert!(tokio::time::timeout(Duration::from_millis(300), connect).await.is_err());
    assert_eq!(pair.phone.register().await, RegisterOutcome::Broken);
    pair.registrar.behave(Behaviour::Normal).await.unwrap();
    assert!(pair.phone.register().await.is_registered());
}

#[tokio::test]
async fn a_tls_handshake_waits_while_the_registrar_is_silent() {
    let pair = Pair::hasty(Transport::Tls);
    pair.registrar.behave(Behaviour::Silent).await.unwrap();
    assert_eq!(pair.phone.register().await, RegisterOutcome::Broken);
    pair.registrar.behave(Behaviour::Normal).await.unwrap();
    assert!(pair.phone.register().await.is_registered());
}

#[tokio::test]
async fn any_status_can_be_the_answer_to_everything() {
    for status in [403, 404, 408, 423, 500, 503] {
        let pair = Pair::over(Transport::Udp);
        pair.registrar.behave(Behaviour::Answer(status)).await.unwrap();
        assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(status));
        assert_eq!(pair.phone.request("OPTIONS", "sip:pbx.example", &[], b"").await.status(), status);
        assert_eq!(pair.registrar.read(|r| r.answered.get(&status).copied()), Some(1));
    }
}

#[tokio::test]
async fn a_challenge_and_then_a_failure() {
    let pair = Pair::over(Transport::Tcp);
    pair.registrar.behave(Behaviour::ChallengeThen(503)).await.unwrap();
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(503));
    assert_eq!(pair.phone.read(|r| r.finals.iter().map(|f| f.status).collect::<Vec<_>>()), [401, 503]);
}

#[tokio::test]
async fn refusing_means_refused_on_the_same_port_until_it_is_open_again() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let pair = Pair::hasty(transport);
        assert!(pair.phone.register().await.is_registered());
        pair.registrar.behave(Behaviour::Refuse).await.unwrap();
        pair.phone.wait("the end of its connection", WITHIN, |r| r.closed.len() == 1).await.unwrap();
        let addr = pair.registrar.addr(transport);
        let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let taken = tokio::net::TcpSocket::new_v4().unwrap().bind(addr);
        assert!(taken.is_err(), "the port is kept");
        assert_eq!(pair.phone.register().await, RegisterOutcome::Broken);
        pair.registrar.behave(Behaviour::Normal).await.unwrap();
        assert!(pair.phone.register().await.is_registered(), "over {transport}");
    }
}

#[tokio::test]
async fn refused_datagrams_are_reported_by_icmp() {
    let pair = Pair::hasty(Transport::Udp);
    let addr = pair.registrar.addr(Transport::Udp);
    for _ in 0..2 {
        pair.registrar.behave(Behaviour::Refuse).await.unwrap();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(addr).await.unwrap();
        socket.send(b"anybody?").await.unwrap();
        let report = tokio::time::timeout(WITHIN, socket.recv(&mut [0; 9])).await.unwrap().unwrap_err();
        assert_eq!(report.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(std::net::UdpSocket::bind(addr).is_err(), "the port is kept");
        pair.registrar.behave(Behaviour::Normal).await.unwrap();
        assert!(pair.phone.register().await.is_registered());
    }
}

#[tokio::test]
async fn connections_are_reset_closed_or_fail_in_the_handshake() {
    for transport in [Transport::Tcp, Transport::Tls] {
        for behaviour in [Behaviour::ResetOnAccept, Behaviour::ResetOnRequest, Behaviour::CloseOnRequest] {
            let pair = Pair::hasty(transport);
            assert!(pair.phone.register().await.is_registered());
            pair.registrar.behave(behaviour.clone()).await.unwrap();
            assert_eq!(pair.phone.register().await, RegisterOutcome::Broken, "{behaviour:?} over {transport}");
            pair.registrar.behave(Behaviour::Normal).await.unwrap();
            assert!(pair.phone.register().await.is_registered(), "{behaviour:?} over {transport}");
            let ends = pair.phone.read(|r| r.closed.iter().map(|(_, why)| why.clone()).collect::<Vec<_>>());
            let reset = ends.iter().any(|why| why.contains("reset"));
            assert_eq!(reset, !matches!(behaviour, Behaviour::CloseOnRequest), "{behaviour:?}: {ends:?}");
        }
    }
    let pair = Pair::hasty(Transport::Tls);
    pair.registrar.behave(Behaviour::BreakTls).await.unwrap();
    assert_eq!(pair.phone.register().await, RegisterOutcome::Broken);
    assert!(pair.phone.read(|r| r.broken[0].1.contains("HandshakeFailure")), "{:?}", pair.phone.record().broken);
}

#[tokio::test]
async fn a_late_answer_and_a_provisional_one() {
    let pair = Pair::hasty(Transport::Udp);
    pair.registrar.behave(Behaviour::Late(Duration::from_millis(100))).await.unwrap();
    assert!(pair.phone.register().await.is_registered());
    assert!(pair.phone.read(|r| r.slowest) >= Duration::from_millis(100));

    pair.registrar.behave(Behaviour::TryingOnly).await.unwrap();
    assert_eq!(pair.phone.register().await, RegisterOutcome::TimedOut);

    // Later than Timer F: the handset has given up and says so.
    pair.registrar.behave(Behaviour::Normal).await.unwrap();
    pair.registrar.next([Reaction::After(Duration::from_millis(500), Box::new(Reaction::Normal))]);
    assert_eq!(pair.phone.register().await, RegisterOutcome::TimedOut);
    pair.phone.wait("the late answer", WITHIN, |r| r.late.len() == 1).await.unwrap();
    assert!(pair.phone.read(|r| r.unexpected.is_empty()));
}

#[tokio::test]
async fn the_next_requests_can_be_scripted_one_by_one() {
    let pair = Pair::hasty(Transport::Udp);
    assert!(pair.phone.register().await.is_registered());
    let retry_after = vec![("Retry-After".to_owned(), "7".to_owned())];
    pair.registrar.next([Reaction::Answer(500), Reaction::Nothing, Reaction::AnswerWith(503, retry_after)]);
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(500));
    assert_eq!(pair.phone.register().await, RegisterOutcome::TimedOut);
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(503));
    assert_eq!(pair.phone.read(|r| r.finals.last().unwrap().message.header("Retry-After").unwrap().to_owned()), "7");
    assert!(pair.phone.register().await.is_registered());
    // Repetitions met what the first one met, and are not counted.
    assert_eq!(pair.registers(), 6);
    let custom = |message: &super::sip::Message| {
        if message.header("Authorization").is_some() { Reaction::Answer(404) } else { Reaction::Normal }
    };
    pair.registrar.behave(Behaviour::Custom(Arc::new(custom))).await.unwrap();
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(404));
}

#[tokio::test]
async fn the_registrar_reaches_the_phone_it_registered() {
    for transport in Transport::ALL {
        let pair = Pair::over(transport);
        assert!(pair.phone.register().await.is_registered());
        for reach in [Reach::Usual, Reach::Flow] {
            for (method, status) in [("OPTIONS", 200), ("NOTIFY", 200), ("MESSAGE", 405)] {
                pair.phone.set_answer(method, Answer::Status(status));
                let outgoing = Outgoing { reach, body: "hello".into(), ..Outgoing::new(method) };
                let exchange = pair.registrar.send("alice@pbx.example", &outgoing).await.unwrap();
                assert_eq!(exchange.status(), status, "{method} over {transport}: {exchange:?}");
            }
        }
        let first = pair.phone.read(|r| r.requests[0].message.clone());
        assert_eq!((first.method(), first.uri()), ("OPTIONS", &*pair.phone.record().contact_sent));
        assert_eq!(&first.body[..], b"hello");
        pair.phone.set_answer("OPTIONS", Answer::Silence);
        let outgoing = Outgoing { timers: hasty(), ..Outgoing::new("OPTIONS") };
        let exchange = pair.registrar.send("alice@pbx.example", &outgoing).await.unwrap();
        assert!(matches!(exchange.end, End::TimerF));
    }
}

#[tokio::test]
async fn a_phone_that_listens_elsewhere_than_it_sends_is_answered_and_called_there() {
    let pair = Pair::with(Transport::Udp, |_| {}, |p| (p.rport, p.split_ports) = (false, true));
    assert!(pair.phone.register().await.is_registered());
    let listening = pair.phone.local().await.unwrap();
    let source = pair.registrar.read(|r| r.received[0].source);
    assert_ne!(listening.port(), source.port());
    assert!(pair.phone.record().contact_sent.ends_with(&listening.to_string()));
    let exchange = pair.registrar.send("alice@pbx.example", &Outgoing::new("OPTIONS")).await.unwrap();
    assert_eq!(exchange.status(), 200);
}

#[tokio::test]
async fn a_phone_reconnects_and_keeps_itself_registered() {
    let every = Refresh::Every(Duration::from_millis(30));
    let eager = |p: &mut phone::Options| (p.refresh, p.retry) = (every, Duration::from_millis(30));
    let pair = Pair::with(Transport::Tcp, |_| {}, eager);
    pair.phone.wait("three refreshes", WITHIN, |r| r.successes() >= 3).await.unwrap();
    pair.phone.disconnect(true).await;
    let before = pair.phone.record().successes();
    let again = |r: &phone::Record| r.connections == 2 && r.successes() > before + 1;
    pair.phone.wait("registration after reconnecting", WITHIN, again).await.unwrap();
    pair.phone.set_refresh(Refresh::OnDemand);
    assert!(pair.phone.register().await.is_registered());
    assert_eq!(pair.transport, Transport::Tcp);
}

#[tokio::test]
async fn refreshes_follow_the_expiry_that_was_granted() {
    let fraction = Refresh::Fraction(0.05);
    let pair = Pair::with(Transport::Udp, |r| r.grant = 1, |p| p.refresh = fraction);
    pair.phone.wait("three refreshes", WITHIN, |r| r.successes() >= 3).await.unwrap();
    assert_eq!(pair.phone.read(|r| r.granted), Some(1));
    let times = pair.phone.read(|r| r.finals.iter().filter(|f| f.status == 200).map(|f| f.at).collect::<Vec<_>>());
    assert!(times[1] - times[0] >= Duration::from_millis(50));
}

#[tokio::test]
async fn the_registrar_refuses_what_a_real_one_would() {
    let path = ("Path".to_owned(), "<sip:edge@127.0.0.1;lr>".to_owned());
    let with_path = |p: &mut phone::Options| p.headers = vec![path.clone()];
    let pair = Pair::with(Transport::Udp, |_| {}, with_path);
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(420));
    let pair = Pair::with(
        Transport::Udp,
        |_| {},
        |p| {
            with_path(p);
            p.supported = Some("path".into());
        },
    );
    assert!(pair.phone.register().await.is_registered());
    assert_eq!(pair.registrar.bindings("alice@pbx.example")[0].path, std::slice::from_ref(&path.1));
    assert_eq!(pair.phone.read(|r| r.finals[1].message.header("Path").map(str::to_owned)), Some(path.1.clone()));

    let pair = Pair::with(Transport::Udp, |r| r.min_expires = 60, |p| p.expires = 30);
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(423));
    assert_eq!(pair.phone.read(|r| r.finals[1].message.header("Min-Expires").map(str::to_owned)), Some("60".into()));

    let pair = Pair::with(Transport::Udp, |r| r.max_contacts = 1, |_| {});
    assert!(pair.phone.register().await.is_registered());
    let second = phone::Options::new("alice", pair.registrar.addr(Transport::Udp));
    assert_eq!(Phone::start(second).unwrap().register().await, RegisterOutcome::Rejected(403));

    let reg_id = |p: &mut phone::Options| p.contact_params = ";reg-id=1".into();
    let pair = Pair::with(Transport::Udp, |r| r.outbound = true, reg_id);
    assert_eq!(pair.phone.register().await, RegisterOutcome::Rejected(439));
}

#[tokio::test]
async fn the_same_request_on_a_second_branch_is_a_merged_one() {
    let pair = Pair::with(Transport::Udp, |r| r.merged = Some(482), |_| {});
    pair.registrar.next([Reaction::Nothing]);
    let register = |branch: &str| {
        bytes::Bytes::from(format!(
            "REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch={branch};rport\r\n\
             From: <sip:alice@pbx.example>;tag=1\r\nTo: <sip:alice@pbx.example>\r\nCall-ID: 1\r\n\
             CSeq: 1 REGISTER\r\nContact: <sip:alice@127.0.0.1:9>\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    pair.phone.send_raw(register("z9hG4bK1")).await.unwrap();
    pair.registrar.wait_for("REGISTER", 1, WITHIN).await.unwrap();
    assert_eq!(pair.phone.exchange_raw(register("z9hG4bK2"), "z9hG4bK2").await.status(), 482);
}

#[tokio::test]
async fn what_is_no_sip_is_written_down_and_answered_by_nobody() {
    let pair = Pair::over(Transport::Udp);
    pair.phone.send_raw("hello\r\n\r\n".into()).await.unwrap();
    pair.phone.send_raw("\r\n\r\n".into()).await.unwrap();
    pair.registrar.wait("both", WITHIN, |r| r.garbage.len() == 1 && r.keep_alives == 1).await.unwrap();
    let odd = "FROB sip:pbx.example SIP/2.0\r\nv: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK7;rport\r\nf: <sip:a@b>;tag=1\r\n\
               t: <sip:a@b>\r\ni: 7\r\nCSeq: 1 FROB\r\nl: 0\r\n\r\n";
    let exchange = pair.phone.exchange_raw(odd.into(), "z9hG4bK7").await;
    assert_eq!(exchange.status(), 200);
    assert!(pair.registrar.read(|r| r.received[0].message.refused.is_some()));
}
