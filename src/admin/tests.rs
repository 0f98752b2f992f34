use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;

/// The admin listener, and a thread that answers as the driver would (`None`: it hangs).
fn start(status: Option<Value>) -> (SocketAddr, Arc<Pulse>) {
    start_for(status, &Access::default())
}

fn start_for(status: Option<Value>, access: &Access) -> (SocketAddr, Arc<Pulse>) {
    let (requests, mut questions) = mpsc::channel(4);
    let pulse = Arc::new(Pulse::default());
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = admin.addr();
    let metrics = Metrics::new();
    admin.serve(Shared { metrics: metrics.clone(), pulse: pulse.clone(), requests, access: access.clone() }).unwrap();
    thread::spawn(move || {
        let Some(status) = status else { return std::mem::forget(questions) };
        while let Some(question) = questions.blocking_recv() {
            match question {
                Request::Status(to) | Request::StatusWithHistory(to) => drop(to.send(status.clone())),
                Request::Gauges(to) => {
                    metrics.transactions.set(42);
                    let _gone = to.send(());
                }
                _ => {}
            }
        }
    });
    (addr, pulse)
}

fn ask(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // To the end: the connection is closed after one answer.
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[test]
fn readiness_follows_targets_and_drain_and_liveness_neither() {
    let (addr, pulse) = start(Some(json!({})));
    assert_eq!(get(addr, "/livez"), (200, "ok\n".to_owned()));
    let (status, why) = get(addr, "/readyz");
    assert!(status == 503 && why.contains("DNS"), "{why}");
    pulse.ready.store(true, Ordering::Relaxed);
    assert_eq!(get(addr, "/readyz"), (200, "ok\n".to_owned()));
    pulse.draining.store(true, Ordering::Relaxed);
    assert_eq!(get(addr, "/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(get(addr, "/livez").0, 200);
}

#[test]
fn metrics_are_brought_up_to_date_before_they_are_shown() {
    let (addr, _) = start(Some(json!({})));
    let (status, text) = get(addr, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("\nholdline_transactions 42\n"));
    assert!(text.contains("\nholdline_build_info{"));
}

#[test]
fn status_is_what_the_driver_says_and_what_is_running() {
    let (addr, _) = start(Some(json!({ "upstream": { "active": "a.example:5060" } })));
    let (status, text) = get(addr, "/status");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(value["upstream"]["active"], "a.example:5060");
    assert_eq!(value["holdline"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_driver_that_does_not_answer_hides_no_counters() {
    let (addr, _) = start(None);
    assert!(get(addr, "/metrics").1.contains("\nholdline_failovers_total{"));
    let (status, text) = get(addr, "/status");
    assert!(status == 503 && text.contains("does not answer"), "{text}");
}

#[test]
fn elsewhere_is_a_hint_and_nothing_can_be_posted() {
    let (addr, _) = start(Some(json!({})));
    let (status, text) = get(addr, "/metrics.html");
    assert!(status == 404 && text.contains("/status"), "{text}");
    let (status, _) = ask(addr, "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status, 405);
}

#[test]
fn the_page_is_one_file_under_a_policy_that_lets_nothing_else_run() {
    let (addr, _) = start(Some(json!({})));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, page::PAGE);
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// A connection from one of loopback's many addresses: 127.0.0.`source`.
fn connect_from(source: usize, addr: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let source = Ipv4Addr::new(127, 0, 0, u8::try_from(source).unwrap());
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.into()
}

/// Asks for `/events` and reads the first report, if there is one.
fn watch_events(source: usize, addr: SocketAddr) -> (TcpStream, String) {
    let mut stream = connect_from(source, addr);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut told = Vec::new();
    let mut byte = [0];
    while !told.ends_with(b"\n\n") && stream.read(&mut byte).unwrap() == 1 {
        told.push(byte[0]);
    }
    (stream, String::from_utf8(told).unwrap())
}

#[test]
fn events_bring_a_report_at_once_and_have_a_bounded_number_of_readers() {
    let (addr, _) = start(Some(json!({ "upstream": { "epoch": 7 } })));
    let sources = (0..live::SUBSCRIBERS).map(|n| 2 + n / live::OF_ONE_SOURCE);
    let mut watching: Vec<_> = sources.map(|source| watch_events(source, addr)).collect();
    for (_, told) in &watching {
        assert!(told.contains("text/event-stream") && told.contains("\"epoch\":7"), "{told}");
    }
    let (status, why) = get(addr, "/events");
    assert!(status == 503 && why.contains("16 pages"), "{why}");
    assert_eq!(get(addr, "/metrics").0, 200, "and scrapers are answered all the same");
    watching.pop();
    // Its place is free when the next report cannot be written to it.
    let begun = Instant::now();
    while !watch_events(9, addr).1.contains("\"epoch\":7") {
        assert!(begun.elapsed() < Duration::from_secs(60), "a place that was left never becomes free");
    }
}

/// Reports that never fit into what the kernel takes for somebody who does not read.
#[test]
fn a_reader_who_takes_nothing_is_dropped() {
    let (requests, mut questions) = mpsc::channel(4);
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = admin.addr();
    admin
        .serve(Shared {
            metrics: Metrics::new(),
            pulse: Arc::new(Pulse::default()),
            requests,
            access: Access::default(),
        })
        .unwrap();
    thread::spawn(move || {
        let mut number = 0;
        while let Some(question) = questions.blocking_recv() {
            if let Request::StatusWithHistory(to) = question {
                number += 1;
                drop(to.send(json!({ "number": number, "padding": "x".repeat(8 << 20) })));
            }
        }
    });
    let idle: Vec<TcpStream> = (0..live::SUBSCRIBERS)
        .map(|n| {
            let mut stream = connect_from(2 + n / live::OF_ONE_SOURCE, addr);
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    while get(addr, "/events").0 != 503 {
        assert!(begun.elapsed() < Duration::from_secs(30), "all places are taken in the end");
    }
    loop {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        if &start == b"HTTP/1.1 200 OK" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "they never lose their places");
        thread::sleep(Duration::from_millis(100));
    }
    drop(idle);
}

/// Asks with these header lines.
fn get_with(addr: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    ask(addr, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"))
}

#[test]
fn another_sites_name_is_answered_with_421_and_nothing_else() {
    let access = Access::default();
    let (addr, _) = start_for(Some(json!({ "secret": "of this network" })), &access);
    let by = |host: &str| get_with(addr, "/status", &format!("Host: {host}\r\n"));
    for host in [addr.to_string(), "localhost:1".to_owned(), "[::1]".to_owned()] {
        assert_eq!(by(&host).0, 200, "{host}");
    }
    let (status, text) = by("rebound.example");
    assert!(status == 421 && text.contains("admin_host") && !text.contains("secret"), "{status} {text}");
    // Both are what a parser in between might have read differently.
    assert_eq!(get_with(addr, "/status", "Host: localhost\r\nHost: rebound.example\r\n").0, 400);
    assert_eq!(get_with(addr, "/status", "").0, 400);
    assert_eq!(get_with(addr, "http://rebound.example/status", "Host: localhost\r\n").0, 421);
    assert_eq!(ask(addr, "GET /livez HTTP/1.0\r\n\r\n").0, 200);

    access.renew(Admitted { hosts: vec!["rebound.example".to_owned()], token: None });
    assert_eq!(by("rebound.example:9460").0, 200, "a name that is configured, from the next request on");
}

#[test]
fn a_token_opens_every_page_and_the_probes_need_none() {
    let token = |text: &str| Admitted { hosts: Vec::new(), token: Some(Token::new(text.as_bytes())) };
    let access = Access::new(token("correct-horse-battery"));
    let (addr, pulse) = start_for(Some(json!({ "upstream": {} })), &access);
    pulse.ready.store(true, Ordering::Relaxed);
    let with = |path: &str, authorization: &str| {
        get_with(addr, path, &format!("Host: localhost\r\nAuthorization: {authorization}\r\n")).0
    };
    for path in ["/", "/events", "/metrics", "/status", "/nowhere", "/livez/", "//livez"] {
        let (status, text) = get(addr, path);
        assert!(status == 401 && text.contains("admin_token_file"), "{path}: {status} {text}");
        assert_eq!(with(path, "Bearer wrong-horse-battery"), 401, "{path}");
        assert_eq!(with(path, "Basic correct-horse-battery"), 401, "{path}");
    }
    assert_eq!((get(addr, "/livez").0, get(addr, "/readyz").0), (200, 200));
    for path in ["/", "/metrics", "/status"] {
        assert_eq!(with(path, "Bearer correct-horse-battery"), 200, "{path}");
        assert_eq!(with(path, "bearer  correct-horse-battery"), 200, "{path}");
    }
    assert_eq!(with("/nowhere", "Bearer correct-horse-battery"), 404);
    access.renew(token("another-horse-battery"));
    assert_eq!(with("/status", "Bearer correct-horse-battery"), 401, "the old one, after a change");
    assert_eq!(with("/status", "Bearer another-horse-battery"), 200);
}

#[test]
fn liveness_is_answered_while_a_hundred_idle_connections_a_second_arrive() {
    let (addr, _) = start(Some(json!({})));
    let idle = thread::spawn(move || {
        let begun = Instant::now();
        let mut open = std::collections::VecDeque::new();
        for n in 0..400 {
            // From the prober's own address, and from enough others to fill every place.
            open.push_back(connect_from(1 + n % 20, addr));
            if open.len() > 300 {
                open.pop_front();
            }
            thread::sleep(
                (begun + Duration::from_millis(10) * (n as u32 + 1)).saturating_duration_since(Instant::now()),
            );
        }
    });
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while !idle.is_finished() {
        let begun = Instant::now();
        assert_eq!(get(addr, "/livez"), (200, "ok\n".to_owned()));
        slowest = slowest.max(begun.elapsed());
        asked += 1;
        thread::sleep(Duration::from_millis(20));
    }
    idle.join().unwrap();
    assert!(asked > 20, "{asked}");
    assert!(slowest < Duration::from_secs(1), "a probe gives up after a second; this took {slowest:?}");
}

#[test]
fn of_one_source_the_oldest_without_a_request_gives_way_and_one_that_asked_does_not() {
    let (addr, _) = start(Some(json!({ "upstream": { "epoch": 7 } })));
    let (watching, first) = watch_events(2, addr);
    assert!(first.contains("\"epoch\":7"));
    let idle: Vec<TcpStream> = (1..=listener::OF_ONE_SOURCE).map(|_| connect_from(2, addr)).collect();
    let elsewhere = connect_from(3, addr);
    let ended = |mut stream: &TcpStream, within: Duration| {
        stream.set_read_timeout(Some(within)).unwrap();
        stream
            .read(&mut [0; 64])
            .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |read| read == 0)
    };
    let begun = Instant::now();
    assert!(ended(&idle[0], Duration::from_secs(1)), "one too many: the oldest idle one goes");
    assert!(!ended(&idle[1], Duration::from_millis(200)), "no other does");
    assert!(!ended(&elsewhere, Duration::from_millis(1)), "nor one of another source");
    assert!(!ended(&watching, Duration::from_millis(1)), "nor one that has asked");
    assert!(ended(&idle[1], Duration::from_secs(5)), "a head has two seconds");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn one_source_watches_with_four_pages() {
    let (addr, _) = start(Some(json!({ "upstream": { "epoch": 7 } })));
    let _watching: Vec<_> = (0..live::OF_ONE_SOURCE).map(|_| watch_events(2, addr)).collect();
    let mut fifth = connect_from(2, addr);
    fifth.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    fifth.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("4 pages"), "{answer}");
    assert!(watch_events(3, addr).1.contains("\"epoch\":7"));
}
