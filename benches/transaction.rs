//! One non-INVITE transaction, as a proxy has it: a request comes in and is sent on, its answer comes in and is sent on.
//! Messages are scanned beforehand: their cost has a benchmark of its own.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use holdline::flow::{Flow, SocketId};
use holdline::message::{Message, Method};
use holdline::transaction::{Inbound, Outgoing, Received, Timers, Transactions};

/// So many different requests, and a table that forgets each before it comes again: what is measured includes the cache
/// misses of a proxy under load.
const MESSAGES: u32 = 1 << 16;
const LIMIT: usize = 100_000;

fn message(start: &str, branch: &str, n: u32) -> Message {
    let text = format!(
        "{start}\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch={branch}{n:08x}\r\n\
         From: \"Alice\" <sip:alice@pbx.example.com>;tag=9fxced76sl\r\n\
         To: \"Alice\" <sip:alice@pbx.example.com>\r\n\
         Call-ID: 3848276298220188511-{n}@192.0.2.10\r\n\
         CSeq: {n} REGISTER\r\n\
         Max-Forwards: 70\r\n\
         Contact: <sip:alice@192.0.2.10:5060;transport=udp>;expires=3600\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Message::scan(Bytes::from(text)).expect("a message")
}

fn udp(socket: u16, remote: &str) -> Flow {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Flow::Udp { socket: SocketId(socket), local: address("198.51.100.1:5060"), remote: address(remote) }
}

/// Twenty thousand transactions a second in virtual time. On datagrams the tables are full of completed ones.
fn register(c: &mut Criterion) {
    let requests: Vec<_> =
        (0..MESSAGES).map(|n| message("REGISTER sip:pbx.example.com SIP/2.0", "z9hG4bK-phone-", n)).collect();
    let responses: Vec<_> = (0..MESSAGES).map(|n| message("SIP/2.0 200 OK", "z9hG4bK-ours-", n)).collect();
    let branches: Vec<_> = (0..MESSAGES).map(|n| format!("z9hG4bK-ours-{n:08x}")).collect();
    let (phone, target) = (udp(0, "192.0.2.10:5060"), udp(1, "203.0.113.1:5060"));

    let mut run = |name: &str, reliable: bool| {
        let mut tx = Transactions::with_seed(Timers::default(), LIMIT, [0; 16]);
        #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
        let mut now = Instant::now();
        let mut n = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                now += Duration::from_micros(50);
                n = (n + 1) % MESSAGES as usize;
                let (request, response) = (&requests[n], &responses[n]);
                let inbound = tx.receive_request(request, phone, phone, reliable, now);
                let branch = branches[n].as_bytes();
                let bytes = request.bytes().clone();
                let outgoing = Outgoing {
                    method: Method::Register,
                    method_name: b"REGISTER",
                    branch,
                    flow: target,
                    bytes,
                    reliable,
                };
                let sent = tx.send_request(outgoing, now);
                let answer = tx.receive_response_if(response, now, |sent, _| sent == target);
                let (Inbound::New(server), Received::New(answer)) = (inbound, answer) else {
                    panic!("{inbound:?}, {answer:?}")
                };
                tx.respond(server, answer.status, response.bytes().clone(), now);
                if tx.poll_timeout().is_some_and(|at| at <= now) {
                    tx.handle_timeout(now);
                }
                let mut actions = 0;
                while let Some(action) = tx.poll_action() {
                    black_box(&action);
                    actions += 1;
                }
                black_box((sent.is_ok(), actions))
            });
        });
    };
    run("transaction/non-invite, datagrams", false);
    run("transaction/non-invite, streams", true);
}

criterion_group!(benches, register);
criterion_main!(benches);
