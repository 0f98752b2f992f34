//! DNS over real sockets: the resolver against a server of our own that writes down every question.

#![allow(clippy::disallowed_methods, reason = "real sockets take real time")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdline::agents::dns::{Edns, Mode, Over, Server, Srv};
use holdline::dns::{Asked, QUESTION, Resolver};
use holdline::flow::Transport;
use holdline::upstream::{LookupFailure, RecordSet, Settings, Source, Upstream, UpstreamAction};

const SRV: &str = "_sip._udp.pbx.example.com";

fn srv(name: &str) -> Source {
    Source::Srv { name: name.to_owned() }
}

fn host(name: &str) -> Source {
    Source::Static { host: name.to_owned(), port: None }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two targets with an address each.
async fn pbx() -> Server {
    let server = Server::start().await.unwrap();
    server.set_srv(SRV, 60, &[Srv::new(10, 0, 5060, "a.example.com"), Srv::new(20, 0, 5070, "b.example.com")]);
    server.set_addresses("a.example.com", 300, &[ip("192.0.2.1"), ip("2001:db8::1")]);
    server.set_addresses("b.example.com", 300, &[ip("192.0.2.2")]);
    server
}

fn asking(server: &Server) -> Resolver {
    Resolver::new(&[server.addr()])
}

/// Every different question the server was asked (a datagram may be repeated on a slow machine), the case of its letters aside.
fn asked(server: &Server) -> BTreeSet<(String, String)> {
    server.questions().into_iter().map(|q| (q.record, q.name.to_ascii_lowercase())).collect()
}

fn questions(expected: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    expected.iter().map(|(record, name)| ((*record).to_owned(), (*name).to_owned())).collect()
}

/// `host:port` and addresses of each record, sorted.
fn seen(set: &RecordSet) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<_> = set
        .records
        .iter()
        .map(|r| (format!("{}:{}", r.host, r.port), r.addresses.iter().map(ToString::to_string).collect()))
        .collect();
    all.sort();
    all
}

fn entry(label: &str, addresses: &[&str]) -> (String, Vec<String>) {
    (label.to_owned(), addresses.iter().map(|a| (*a).to_owned()).collect())
}

#[tokio::test]
async fn the_question_is_the_configured_name_verbatim_and_absolute_and_nothing_else_is_asked() {
    let server = pbx().await;
    let set = asking(&server).lookup(&srv("_SIP._udp.PBX.example.com")).await.unwrap();
    assert_eq!(
        seen(&set),
        [entry("a.example.com:5060", &["192.0.2.1", "2001:db8::1"]), entry("b.example.com:5070", &["192.0.2.2"])]
    );
    let expected = questions(&[
        ("SRV", "_sip._udp.pbx.example.com"),
        ("A", "a.example.com"),
        ("AAAA", "a.example.com"),
        ("A", "b.example.com"),
        ("AAAA", "b.example.com"),
    ]);
    assert_eq!(asked(&server), expected);
}

#[tokio::test]
async fn no_search_domain_question_leaves_the_machine_even_with_ndots_5() {
    let server = pbx().await;
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    let text =
        "search default.svc.cluster.local svc.cluster.local example.org\nnameserver 127.0.0.1\noptions ndots:5\n";
    std::fs::write(&conf, text).unwrap();
    let resolver = Resolver::from_resolv_conf(&conf, server.addr().port());
    resolver.lookup(&srv(SRV)).await.unwrap();
    let wrong = resolver.lookup(&srv("_sip._udp.nowhere")).await;
    assert_eq!(wrong, Err(LookupFailure::NxDomain));
    assert_eq!(resolver.lookup(&host("pbx")).await, Err(LookupFailure::NxDomain));
    let expected = questions(&[
        ("SRV", SRV),
        ("A", "a.example.com"),
        ("AAAA", "a.example.com"),
        ("A", "b.example.com"),
        ("AAAA", "b.example.com"),
        ("SRV", "_sip._udp.nowhere"),
        ("A", "pbx"),
        ("AAAA", "pbx"),
    ]);
    assert_eq!(asked(&server), expected);
}

#[tokio::test]
async fn every_way_to_fail_is_told_apart() {
    let server = pbx().await;
    server.set_addresses("nodata.example.com", 60, &[ip("192.0.2.9")]);
    server.set_mode_for("servfail.example.com", Some(Mode::ServFail));
    server.set_mode_for("silent.example.com", Some(Mode::Silent));
    let resolver = asking(&server);
    for (name, expected) in [
        ("nxdomain.example.com", LookupFailure::NxDomain),
        ("nodata.example.com", LookupFailure::NoData),
        ("servfail.example.com", LookupFailure::ServFail),
        ("silent.example.com", LookupFailure::Timeout),
    ] {
        assert_eq!(resolver.lookup(&srv(name)).await, Err(expected), "{name}");
    }
    server.set_srv("nodata-a.example.com", 60, &[]);
    for (name, expected) in [
        ("nxdomain.example.com", LookupFailure::NxDomain),
        ("nodata-a.example.com", LookupFailure::NoData),
        ("servfail.example.com", LookupFailure::ServFail),
        ("silent.example.com", LookupFailure::Timeout),
    ] {
        assert_eq!(resolver.lookup(&host(name)).await, Err(expected), "static {name}");
    }
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_a_failure_and_no_more() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = Resolver::new(&[port]).lookup(&srv(SRV)).await.unwrap_err();
    assert!(matches!(outcome, LookupFailure::Timeout | LookupFailure::Error(_)), "{outcome}");
    let dir = tempfile::tempdir().unwrap();
    let missing = Resolver::from_resolv_conf(&dir.path().join("resolv.conf"), 53).lookup(&srv(SRV)).await.unwrap_err();
    assert!(missing.to_string().contains("--nameserver"), "{missing}");
}

#[tokio::test]
async fn the_second_name_server_answers_where_the_first_fails_or_is_silent() {
    for mode in [Mode::ServFail, Mode::Silent] {
        let (broken, good) = (pbx().await, pbx().await);
        broken.set_mode(mode);
        let set = Resolver::new(&[broken.addr(), good.addr()]).lookup(&srv(SRV)).await.unwrap();
        assert_eq!(set.records.len(), 2, "{mode:?}");
        let a = entry("a.example.com:5060", &["192.0.2.1", "2001:db8::1"]);
        assert_eq!(seen(&set), [a, entry("b.example.com:5070", &["192.0.2.2"])], "{mode:?}");
        assert!(set.unresolved.is_empty(), "{mode:?}");
        assert!(!broken.questions().is_empty(), "{mode:?}: the first was asked first");
    }
}

#[tokio::test]
async fn a_server_that_knows_that_there_is_nothing_is_believed() {
    let (first, second) = (Server::start().await.unwrap(), pbx().await);
    let outcome = Resolver::new(&[first.addr(), second.addr()]).lookup(&srv(SRV)).await;
    assert_eq!(outcome, Err(LookupFailure::NxDomain));
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn silence_of_all_servers_ends_in_time() {
    let servers = [pbx().await, pbx().await, pbx().await];
    for server in &servers {
        server.set_mode(Mode::Silent);
    }
    let addresses: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    let started = Instant::now();
    assert_eq!(Resolver::new(&addresses).lookup(&srv(SRV)).await, Err(LookupFailure::Timeout));
    assert!(started.elapsed() < QUESTION + Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(servers.iter().all(|s| s.asked() > 0), "each was asked");
    assert!(servers[0].asked() > 1, "and more than once");
}

#[tokio::test]
async fn aliases_are_followed_at_the_owner_and_at_the_target() {
    let server = Server::start().await.unwrap();
    server.set_cname("_sip._tls.customer.example", 50, "_sip._tls.pbx.example.com");
    server.set_srv("_sip._tls.pbx.example.com", 60, &[Srv::new(0, 0, 5061, "edge.example.com")]);
    server.set_cname("edge.example.com", 40, "edge.cloud.example");
    server.set_cname("edge.cloud.example", 30, "host.cloud.example");
    server.set_addresses("host.cloud.example", 300, &[ip("192.0.2.1"), ip("2001:db8::1")]);
    let set = asking(&server).lookup(&srv("_sip._tls.customer.example")).await.unwrap();
    assert_eq!(seen(&set), [entry("edge.example.com:5061", &["192.0.2.1", "2001:db8::1"])]);
    assert_eq!(set.ttl, Duration::from_secs(30), "the shortest on the way");
    let srv_questions: Vec<_> = server.questions().into_iter().filter(|q| q.record == "SRV").map(|q| q.name).collect();
    let same = |name: &String| name.eq_ignore_ascii_case("_sip._tls.customer.example");
    assert!(!srv_questions.is_empty());
    assert!(srv_questions.iter().all(same), "{srv_questions:?}");
}

#[tokio::test]
async fn an_alias_to_nowhere_and_an_alias_to_itself_are_failures() {
    let server = Server::start().await.unwrap();
    server.set_cname("_sip._udp.a.example", 60, "_sip._udp.gone.example");
    server.set_cname("_sip._udp.round.example", 60, "_sip._udp.round.example");
    let resolver = asking(&server);
    assert_eq!(resolver.lookup(&srv("_sip._udp.a.example")).await, Err(LookupFailure::NxDomain));
    assert!(resolver.lookup(&srv("_sip._udp.round.example")).await.is_err());
}

#[tokio::test]
async fn the_target_dot_means_no_service_and_is_not_asked_for() {
    let server = Server::start().await.unwrap();
    server.set_srv(SRV, 60, &[Srv::new(0, 0, 0, ".")]);
    assert_eq!(asking(&server).lookup(&srv(SRV)).await, Err(LookupFailure::NoService));
    assert_eq!(asked(&server), questions(&[("SRV", SRV)]));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = pbx().await;
    server.set_mode(Mode::Truncate);
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(set.records.len(), 2);
    let over: Vec<Over> = server.questions().into_iter().filter(|q| q.record == "SRV").map(|q| q.over).collect();
    assert!(over.contains(&Over::Udp) && over.last() == Some(&Over::Tcp), "{over:?}");
    // And the connection is used again or opened anew, whatever happened to it in between.
    assert_eq!(asking(&server).lookup(&srv(SRV)).await.unwrap(), set);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_arrives_whole() {
    let server = Server::start().await.unwrap();
    let hosts: Vec<String> =
        (0..60).map(|n| format!("a-rather-long-host-name-{n}.of-some-hosted-pbx.example.com")).collect();
    let records: Vec<Srv> = hosts.iter().map(|host| Srv::new(0, 0, 5060, host)).collect();
    server.set_srv(SRV, 60, &records);
    server.set_mode_for(SRV, Some(Mode::Truncate));
    for host in &hosts {
        server.set_loopback(host, 60);
    }
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(set.records.len(), 60);
    assert!(set.records.iter().all(|r| r.addresses == [ip("127.0.0.1")]), "{:?}", set.unresolved);
}

#[tokio::test]
async fn a_target_without_address_is_a_target_all_the_same() {
    let server = pbx().await;
    server.remove("a.example.com");
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(seen(&set), [entry("a.example.com:5060", &[]), entry("b.example.com:5070", &["192.0.2.2"])]);
    assert!(set.unresolved.is_empty(), "DNS knows that there is none");
    assert!(set.ttl <= Duration::from_secs(30), "asked again soon");
}

#[tokio::test]
async fn a_target_whose_address_nobody_tells_is_marked() {
    let server = pbx().await;
    server.set_mode_for("a.example.com", Some(Mode::ServFail));
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(seen(&set), [entry("a.example.com:5060", &[]), entry("b.example.com:5070", &["192.0.2.2"])]);
    assert_eq!(set.unresolved, ["a.example.com"]);
    server.set_additional(true);
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(seen(&set)[0], entry("a.example.com:5060", &["192.0.2.1", "2001:db8::1"]), "better than nothing");
}

#[tokio::test]
async fn one_host_with_two_ports_is_resolved_once() {
    let server = Server::start().await.unwrap();
    server.set_srv(SRV, 60, &[Srv::new(0, 0, 5060, "a.example.com"), Srv::new(0, 0, 5070, "a.example.com")]);
    server.set_addresses("a.example.com", 60, &[ip("192.0.2.1")]);
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(seen(&set), [entry("a.example.com:5060", &["192.0.2.1"]), entry("a.example.com:5070", &["192.0.2.1"])]);
}

#[tokio::test]
async fn no_cache_stands_between_a_refresh_and_the_truth() {
    let server = pbx().await;
    let resolver = asking(&server);
    resolver.lookup(&srv(SRV)).await.unwrap();
    server.set_srv(SRV, 60, &[Srv::new(0, 0, 5080, "c.example.com")]);
    server.set_addresses("c.example.com", 0, &[ip("192.0.2.3")]);
    let set = resolver.lookup(&srv(SRV)).await.unwrap();
    assert_eq!(seen(&set), [entry("c.example.com:5080", &["192.0.2.3"])]);
    assert_eq!(set.ttl, Duration::ZERO, "as DNS said it");
    server.remove(SRV);
    assert_eq!(resolver.lookup(&srv(SRV)).await, Err(LookupFailure::NxDomain));
}

#[tokio::test]
async fn a_static_host_is_asked_for_its_addresses_only_and_a_literal_not_at_all() {
    let server = Server::start().await.unwrap();
    server.set_addresses("proxy.example.com", 90, &[ip("192.0.2.1")]);
    let resolver = asking(&server);
    let set = resolver.lookup(&host("Proxy.example.com")).await.unwrap();
    assert_eq!((seen(&set), set.ttl), (vec![entry("proxy.example.com:0", &["192.0.2.1"])], Duration::from_secs(90)));
    let expected = questions(&[("A", "proxy.example.com"), ("AAAA", "proxy.example.com")]);
    assert_eq!(asked(&server), expected);
    let before = server.asked();
    for literal in ["192.0.2.7", "2001:db8::7"] {
        let set = resolver.lookup(&host(literal)).await.unwrap();
        assert_eq!((set.records[0].addresses.clone(), set.ttl), (vec![ip(literal)], Duration::from_secs(3600)));
    }
    assert_eq!(server.asked(), before);
}

#[tokio::test]
async fn a_host_with_srv_records_gives_a_hint() {
    let server = Server::start().await.unwrap();
    server.set_loopback("proxy.example.com", 60);
    let resolver = asking(&server);
    assert_eq!(resolver.srv_hint("proxy.example.com").await, None);
    server.set_srv("_sip._udp.proxy.example.com", 60, &[Srv::new(0, 0, 0, ".")]);
    server.set_srv("_sip._tls.proxy.example.com", 60, &[Srv::new(0, 0, 5061, "a.example.com")]);
    assert_eq!(resolver.srv_hint("proxy.example.com").await.as_deref(), Some("_sip._tls.proxy.example.com"));
    server.set_srv("_sip._tcp.proxy.example.com", 60, &[Srv::new(0, 0, 5060, "a.example.com")]);
    assert_eq!(resolver.srv_hint("proxy.example.com").await.as_deref(), Some("_sip._tcp.proxy.example.com"));
    assert_eq!(resolver.srv_hint("192.0.2.1").await, None);
}

#[tokio::test]
async fn every_question_is_reported_with_its_outcome() {
    let server = pbx().await;
    let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let resolver = Resolver::observed(&[server.addr()], move |asked| noted.lock().unwrap().push(asked));
    resolver.lookup(&srv(SRV)).await.unwrap();
    let mut told: Vec<_> = seen.lock().unwrap().iter().map(|a| (a.record, a.outcome)).collect();
    told.sort_unstable();
    let expected = [("a", "ok"), ("a", "ok"), ("aaaa", "nodata"), ("aaaa", "ok"), ("srv", "ok")];
    assert_eq!(told, expected);
}

/// The machine and the resolver together, in real time.
#[tokio::test]
async fn dns_down_at_boot_ready_within_five_seconds_of_its_return() {
    let server = pbx().await;
    server.set_mode(Mode::Silent);
    let resolver = asking(&server);
    let source = srv(SRV);
    let mut upstream = Upstream::new(Settings::new(source.clone(), Transport::Udp), None, 0, Instant::now());
    let (mut lookups, mut back) = (0, None);
    while !upstream.ready() {
        if std::iter::from_fn(|| upstream.poll_action()).any(|action| action == UpstreamAction::Lookup) {
            upstream.handle_lookup(resolver.lookup(&source).await, Instant::now());
            lookups += 1;
            if lookups == 2 {
                // The worst moment to come back: a lookup has just ended, and the pause begins.
                server.set_mode(Mode::Answer);
                back = Some(Instant::now());
            }
        } else if let Some(due) = upstream.poll_timeout() {
            tokio::time::sleep_until(due.into()).await;
            upstream.handle_timeout(Instant::now());
        }
    }
    let waited = back.expect("not ready before DNS was back").elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(upstream.targets().len(), 2);
}

/// RFC 6891 §6.2.2 and §7.
#[tokio::test]
async fn a_name_server_that_cannot_bear_edns_is_asked_without_and_that_is_remembered() {
    for edns in [Edns::FormErr, Edns::NotImp, Edns::BareFormErr, Edns::Dropped] {
        let server = pbx().await;
        server.set_edns(edns);
        let resolver = asking(&server);
        let started = Instant::now();
        let set = resolver.lookup(&srv(SRV)).await.unwrap_or_else(|failure| panic!("{edns:?}: {failure}"));
        assert_eq!(set.records.len(), 2, "{edns:?}");
        assert!(set.unresolved.is_empty(), "{edns:?}: {set:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{edns:?}: {:?}", started.elapsed());

        let before = server.questions().len();
        let started = Instant::now();
        resolver.lookup(&srv(SRV)).await.unwrap();
        let again = &server.questions()[before..];
        assert!(again.iter().all(|question| !question.edns), "{edns:?}: {again:?}");
        assert!(started.elapsed() < Duration::from_millis(500), "{edns:?}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_name_server_that_bears_edns_is_asked_with_it_and_with_nothing_else() {
    let server = pbx().await;
    let resolver = asking(&server);
    for _ in 0..3 {
        resolver.lookup(&srv(SRV)).await.unwrap();
    }
    assert!(server.questions().iter().all(|question| question.edns), "{:?}", server.questions());
}

#[tokio::test]
async fn names_are_asked_for_in_mixed_case_against_forged_answers() {
    let server = pbx().await;
    let resolver = asking(&server);
    // That 25 letters are all small three times in a row happens once in 2^75.
    for _ in 0..3 {
        resolver.lookup(&srv(SRV)).await.unwrap();
    }
    let names: Vec<String> = server.questions().into_iter().filter(|q| q.record == "SRV").map(|q| q.name).collect();
    assert!(names.iter().any(|name| name != SRV), "{names:?}");
    assert!(names.iter().all(|name| name.eq_ignore_ascii_case(SRV)), "{names:?}");
}

#[tokio::test]
async fn an_answer_in_another_case_is_not_believed_over_udp_but_over_tcp() {
    let server = pbx().await;
    server.set_folds_case(true);
    let set = asking(&server).lookup(&srv(SRV)).await.unwrap();
    assert_eq!(set.records.len(), 2);
    assert!(server.questions().iter().any(|q| q.over == Over::Tcp), "{:?}", server.questions());
}

/// RFC 7766 §5: every server speaks TCP.
#[tokio::test]
async fn a_firewall_that_lets_only_tcp_pass_keeps_nobody_from_the_answer() {
    let server = pbx().await;
    server.set_tcp_only(true);
    let resolver = asking(&server);
    let started = Instant::now();
    let set = resolver.lookup(&srv(SRV)).await.unwrap();
    assert_eq!((set.records.len(), set.unresolved.len()), (2, 0));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let before = server.questions().len();
    resolver.lookup(&srv(SRV)).await.unwrap();
    let again = &server.questions()[before..];
    assert!(again.iter().all(|question| question.over == Over::Tcp), "{again:?}");
}
