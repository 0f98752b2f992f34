//! Work grows with the message and no faster, whatever its shape: a message of twice the length costs twice the instructions
//! and twice the memory.
//!
//! Instructions are counted by callgrind, on this very binary: each pass is one call of [`counted_pass`], after which callgrind
//! writes down what it cost. Times are not looked at.

mod shapes;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use holdline::flow::Transport;
use holdline::message::{BOUNDED_LISTS, Edit, Framer, MAX_MESSAGE, Message, Name, Packet, Reply};

use crate::support::installed::installed;
use shapes::{SHAPES, Shape};

/// The last one is as long as a message may be, but for what makes it whole.
const SIZES: [usize; 3] = [16_000, 32_000, 64_000];

/// What callgrind counts: one pass.
#[inline(never)]
fn counted_pass(received: &Bytes) {
    pass(received);
}

/// Everything that is done to a message on its way, and more at once than any one message meets.
#[inline(never)]
fn pass(received: &Bytes) {
    frame(received);
    let Ok(message) = Message::scan(received.clone()) else { return };
    let source: SocketAddr = SocketAddr::from(([192, 0, 2, 9], 5063));
    for transport in Transport::ALL {
        let _ = message.check(transport);
    }
    let mut edit = Edit::new(&message);
    edit.push_via(b"SIP/2.0/TLS 203.0.113.7:5080;branch=z9hG4bKq7w3e5r1t9y2u4i6o8p0;rport");
    edit.stamp_via(source, true);
    edit.set_max_forwards(69);
    edit.add_on_top(Name::RecordRoute, b"<sip:h;lr>");
    for name in BOUNDED_LISTS {
        for element in message.list(name).step_by(2) {
            edit.cut(&element);
        }
    }
    edit.remove_option(Name::Supported, b"outbound");
    edit.say_length();
    let sent = edit.finish();
    let mut edit = Edit::new(&message);
    edit.pop_via();
    edit.restore_vias_from(&message, source);
    let back = edit.finish();
    let answer = Reply::to(&message, 400, "Bad Request").tag(b"t").stamp(source).finish();
    let shown = Packet(message.bytes()).to_string();
    std::hint::black_box((sent, back, answer, shown));
}

/// As a stream would bring it.
fn frame(received: &[u8]) {
    let mut framer = Framer::new(MAX_MESSAGE);
    for segment in received.chunks(1400) {
        framer.buffer().extend_from_slice(segment);
        while let Ok(Some(frame)) = framer.next() {
            std::hint::black_box(frame);
        }
    }
}

fn passes() -> impl Iterator<Item = (&'static Shape, usize)> {
    SHAPES.iter().flat_map(|shape| SIZES.iter().map(move |size| (shape, *size)))
}

/// Run by itself under callgrind, too, which counts on the order of its passes.
#[test]
fn memory_grows_with_the_message_whatever_its_shape() {
    let mut allocated = Vec::new();
    for (shape, size) in passes() {
        let message = Bytes::from(shape.of_size(size));
        // The first clone alone makes what all clones share.
        let _shared = message.clone();
        let counted = allocation_counter::measure(|| counted_pass(&message));
        assert!(counted.count_total < 2000, "{} at {size}: {counted:?}", shape.name);
        assert_eq!(counted.bytes_current, 0, "{} at {size}: {counted:?}", shape.name);
        allocated.push(counted.bytes_total);
    }
    doubles(&allocated, "bytes allocated");
}

#[test]
fn instructions_grow_with_the_message_whatever_its_shape() {
    if !installed("work::instructions_grow_with_the_message_whatever_its_shape", &["valgrind"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("callgrind.out");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_pass"])
        .args(["--dump-after=*counted_pass"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "work::memory_grows_with_the_message_whatever_its_shape", "--test-threads=1"])
        .output()
        .expect("valgrind runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let counts: Vec<u64> = (1..=SHAPES.len() * SIZES.len()).map(|n| instructions(&out, n)).collect();
    doubles(&counts, "instructions");
    let plain = counts[SIZES.len() - 1];
    for (index, shape) in SHAPES.iter().enumerate() {
        let longest = counts[(index + 1) * SIZES.len() - 1];
        assert!(longest <= MOST * plain, "{}: {longest} instructions, {plain} for {}", shape.name, SHAPES[0].name);
    }
}

/// How many times the plainest shape of the same length a shape may cost.
const MOST: u64 = 20;

/// What the dump of one pass says it cost.
fn instructions(out: &Path, number: usize) -> u64 {
    let path = format!("{}.{number}", out.display());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{path}: no total"))
}

/// Each shape's numbers at the three sizes: the next is about twice the one before, and never much more.
fn doubles(numbers: &[u64], of: &str) {
    let mut wrong = String::new();
    for (shape, numbers) in SHAPES.iter().zip(numbers.chunks(SIZES.len())) {
        println!("{:45} {numbers:?} {of}", shape.name);
        let grows = numbers.windows(2).any(|two| two[1] > two[0] * 23 / 10 + 2000);
        if grows {
            let _ = writeln!(wrong, "{}: {numbers:?}", shape.name);
        }
    }
    assert!(wrong.is_empty(), "{of} grow faster than the message:\n{wrong}");
}
