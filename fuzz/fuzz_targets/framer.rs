//! One stream, split in two ways.
#![no_main]

use holdline::flow::Transport;
use holdline::message::{Frame, Framer, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte says how the second reading is split.
    let Some((step, stream)) = data.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(whole, frames(stream, usize::from(*step).max(1)));
    for frame in whole.0 {
        if let Frame::Message(bytes) = frame {
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
            let body = bytes.slice(head..);
            if let Ok(message) = Message::scan(bytes)
                && message.check(Transport::Tcp).is_ok()
            {
                // Framer and scanner agree about where a message ends; its head may have lost its folds.
                assert_eq!(message.body(), body);
                assert!(!message.headers().iter().any(|header| message.value(header).contains(&b'\n')));
            }
        }
    }
});

/// Messages and pings; a pong may be the first half of a ping.
fn frames(stream: &[u8], step: usize) -> (Vec<Frame>, Option<&'static str>) {
    let (mut framer, mut out) = (Framer::new(4096), Vec::new());
    for read in stream.chunks(step) {
        framer.buffer().extend_from_slice(read);
        loop {
            match framer.next() {
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(error) => return (out, Some(error.reason())),
            }
        }
    }
    (out, None)
}
