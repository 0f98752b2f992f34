use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;

/// The admin listener, and a thread that answers as the driver would (`None`: it hangs).
fn start(status: Option<Value>) -> (SocketAddr, Arc<Pulse>) {
    let (requests, mut questions) = mpsc::channel(4);
    let pulse = Arc::new(Pulse::default());
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = admin.addr();
    let metrics = Metrics::new();
    admin.serve(Shared { metrics: metrics.clone(), pulse: pulse.clone(), requests }).unwrap();
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
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: holdline\r\n\r\n"))
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
    let (status, _) = ask(addr, "POST /status HTTP/1.1\r\nHost: holdline\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status, 405);
}

#[test]
fn the_page_is_one_file_under_a_policy_that_lets_nothing_else_run() {
    let (addr, _) = start(Some(json!({})));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: holdline\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, page::PAGE);
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// Asks for `/events` and reads the first report, if there is one.
fn watch_events(addr: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: holdline\r\n\r\n").unwrap();
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
    let mut watching: Vec<_> = (0..live::SUBSCRIBERS).map(|_| watch_events(addr)).collect();
    for (_, told) in &watching {
        assert!(told.contains("text/event-stream") && told.contains("\"epoch\":7"), "{told}");
    }
    let (status, why) = get(addr, "/events");
    assert!(status == 503 && why.contains("16 pages"), "{why}");
    assert_eq!(get(addr, "/metrics").0, 200, "and scrapers are answered all the same");
    watching.pop();
    // Its place is free when the next report cannot be written to it.
    let begun = Instant::now();
    while !watch_events(addr).1.contains("\"epoch\":7") {
        assert!(begun.elapsed() < Duration::from_secs(60), "a place that was left never becomes free");
    }
}

/// Reports that never fit into what the kernel takes for somebody who does not read.
#[test]
fn a_reader_who_takes_nothing_is_dropped() {
    let (requests, mut questions) = mpsc::channel(4);
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = admin.addr();
    admin.serve(Shared { metrics: Metrics::new(), pulse: Arc::new(Pulse::default()), requests }).unwrap();
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
        .map(|_| {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: holdline\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    while get(addr, "/events").0 != 503 {
        assert!(begun.elapsed() < Duration::from_secs(30), "all places are taken in the end");
    }
    loop {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: holdline\r\n\r\n").unwrap();
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
