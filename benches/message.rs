//! What a message costs on the wire path. `make bench` quotes `forward`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use holdline::flow::Transport;
use holdline::message::{Edit, Framer, MAX_MESSAGE, Message, Reply};

const REGISTER: &[u8] = include_bytes!("../tests/data/phones/yealink-register.sip");
const INVITE: &[u8] = include_bytes!("../tests/data/phones/snom-invite.sip");
const LONG: &[u8] = include_bytes!("../tests/data/torture/rfc4475/longreq.dat");
const VIA: &[u8] = b"SIP/2.0/TLS 203.0.113.7:5080;branch=z9hG4bKq7w3e5r1t9y2u4i6o8p0;rport";

fn scan(bytes: &Bytes) -> Message {
    Message::scan(bytes.clone()).expect("a message")
}

/// As the proxy does: scan, push a Via, decrement Max-Forwards, serialise.
fn forward(bytes: &Bytes) -> Bytes {
    let message = scan(bytes);
    let mut edit = Edit::new(&message);
    edit.push_via(VIA);
    edit.set_max_forwards(message.max_forwards().unwrap_or(70) - 1);
    edit.finish()
}

fn message(c: &mut Criterion) {
    // A second handle, so that a clone costs what it costs where a transport keeps its buffer.
    let register = Bytes::copy_from_slice(REGISTER);
    let _shared = register.clone();
    assert_eq!(register.len(), 667);
    c.bench_function("message/forward a 667-byte REGISTER", |b| b.iter(|| forward(black_box(&register))));
    c.bench_function("message/scan a 667-byte REGISTER", |b| b.iter(|| scan(black_box(&register))));
    for (name, bytes) in [("a 1107-byte INVITE", INVITE), ("longreq (3515 bytes, 34 Vias)", LONG)] {
        let bytes = Bytes::from_static(bytes);
        c.bench_function(&format!("message/scan {name}"), |b| b.iter(|| scan(black_box(&bytes))));
    }
    let scanned = scan(&register);
    c.bench_function("message/check", |b| b.iter(|| black_box(&scanned).check(Transport::Udp)));
    c.bench_function("message/reply", |b| {
        b.iter(|| Reply::to(black_box(&scanned), 200, "OK").tag(b"1a2b3c4d").finish());
    });
    let forwarded = scan(&forward(&register));
    c.bench_function("message/pop via", |b| {
        b.iter(|| {
            let mut edit = Edit::new(black_box(&forwarded));
            edit.pop_via();
            edit.finish()
        });
    });
    let stream: Vec<u8> = REGISTER.repeat(10);
    c.bench_function("message/frame ten REGISTERs", |b| {
        b.iter(|| {
            let mut framer = Framer::new(MAX_MESSAGE);
            framer.buffer().extend_from_slice(black_box(&stream));
            let mut frames = 0;
            while let Ok(Some(frame)) = framer.next() {
                black_box(frame);
                frames += 1;
            }
            assert_eq!(frames, 10);
        });
    });
}

criterion_group!(benches, message);
criterion_main!(benches);
