//! Untrusted peers on both sides of the core, in virtual time: the script of the flood test, from bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/wire/bench.rs"]
#[allow(dead_code)]
mod bench;
#[path = "../../tests/all/wire/flood.rs"]
mod flood;
#[path = "../../tests/all/support/simulated.rs"]
#[allow(dead_code)]
mod simulated;

/// Where the tests have it.
mod support {
    pub(crate) use crate::simulated;
}

use flood::Step;

fuzz_target!(|data: &[u8]| {
    // First how the core is set up, then step after step.
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut steps = Vec::new();
    while let Some(step) = next(&mut rest) {
        steps.push(step);
        if steps.len() == 200 {
            break;
        }
    }
    flood::play(&steps, *choice);
});

fn next(rest: &mut &[u8]) -> Option<Step> {
    let [kind, one, two] = [byte(rest)?, byte(rest)?, byte(rest)?];
    let number = u16::from_be_bytes([one, two]);
    Some(match kind % 18 {
        0 | 1 => Step::Phone(one, message(rest, two)),
        2 => Step::Upstream(one, message(rest, two)),
        3 => Step::Untrusted(message(rest, two)),
        4 | 5 => Step::Answer(one, status(two)),
        6 => Step::PhoneAnswers(one, status(two)),
        7 => Step::Call(one, two),
        8 => Step::Follow(one, two % 2 == 0),
        9 => Step::Opens(one),
        10 => Step::Resolve(one, two % 2 == 0),
        11 => Step::Reset(one),
        12 => Step::PhoneGone(one),
        13 => Step::SendFailed(one),
        14 => Step::Unframed(one, message(rest, two)),
        15 => match one % 8 {
            0 => Step::Roll,
            1 if two == 0 => Step::Drain,
            _ => Step::Dns(two),
        },
        16 => Step::Sleep(number),
        _ => Step::Wait(number),
    })
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn status(number: u8) -> u16 {
    const USUAL: [u16; 12] = [100, 180, 200, 200, 400, 401, 408, 482, 486, 500, 503, 603];
    USUAL.get(usize::from(number % 16)).copied().unwrap_or(100 + u16::from(number))
}

/// Up to the next NUL. An odd `kind` puts it behind headers that make it a request worth forwarding.
fn message(rest: &mut &[u8], kind: u8) -> Vec<u8> {
    let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let bytes = &rest[..length];
    *rest = &rest[(length + 1).min(rest.len())..];
    if kind % 2 == 0 {
        return bytes.to_vec();
    }
    let (call, cseq) = (kind >> 6, (kind >> 4) & 3);
    let method = ["REGISTER", "INVITE", "SUBSCRIBE", "OPTIONS"][usize::from(kind >> 1) % 4];
    let head = format!(
        "{method} sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.{call};branch=z9hG4bK{call}{cseq}\r\n\
         From: <sip:{call}@pbx.example.com>;tag=1\r\nTo: <sip:{call}@pbx.example.com>\r\nCall-ID: {call}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:{call}@10.1.0.{call}>\r\n"
    );
    [head.as_bytes(), bytes, b"\r\n\r\n"].concat()
}
