//! Whatever comes in, what leaves on a stream is split by readers without folds exactly as it was meant: the property of
//! `tests/all/wire`, from bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/wire/bench.rs"]
#[allow(dead_code)]
mod bench;
#[path = "../../tests/all/wire/naive.rs"]
#[allow(dead_code)]
mod naive;
#[path = "../../tests/all/support/simulated.rs"]
#[allow(dead_code)]
mod simulated;

/// Where the tests have it.
mod support {
    pub(crate) use crate::simulated;
}

fuzz_target!(|data: &[u8]| {
    // How phone and upstream are connected, what stands around the bytes; then the request, and behind a NUL lines of the answer.
    let Some((choice, rest)) = data.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (request, answer) = (&rest[..end], &rest[(end + 1).min(rest.len())..]);
    let request = match choice >> 2 & 3 {
        0 => request.to_vec(),
        1 => between(request, "\r\n\r\n"),
        2 => between(request, "\r\nContent-Length: 30\r\n\r\nOPTIONS sip:h SIP/2.0\r\nl: 0\r\n\r\n"),
        _ => between(request, "\r\n").into_iter().filter(|byte| *byte != b'\r').collect(),
    };
    if let Err(why) = naive::play(&request, answer, *choice) {
        panic!("{why}");
    }
});

/// Behind headers that make it a request worth forwarding.
fn between(bytes: &[u8], end: &str) -> Vec<u8> {
    let head = "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.2.3;branch=z9hG4bK1\r\n\
                From: <sip:1@pbx.example.com>;tag=1\r\nTo: <sip:1@pbx.example.com>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\
                Contact: <sip:1@10.1.2.3>\r\nX: ";
    [head.as_bytes(), bytes, end.as_bytes()].concat()
}
