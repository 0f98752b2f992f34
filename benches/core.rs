//! One REGISTER through the pure core, both ways: handset → Holdline → registrar, and its 200 back.

mod bed;

use std::time::{Duration, Instant};

use bed::{Bed, CREDENTIALS, answer, request};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use holdline::flow::{Flow, NetEvent};
use holdline::proxy::Event;

struct Bench {
    bed: Bed,
    serial: u64,
}

impl Bench {
    fn request(&mut self) -> Bytes {
        self.serial += 1;
        request("REGISTER", self.serial, 2, CREDENTIALS).into()
    }

    /// Hands a request in; what came out and on which flow.
    fn up(&mut self, bytes: Bytes) -> (Flow, Bytes) {
        let bed = &mut self.bed;
        bed.core.handle(Event::Net(NetEvent::Received { flow: bed.handset, bytes }), bed.now);
        bed.perform().expect("forwarded upstream")
    }

    fn down(&mut self, flow: Flow, bytes: Bytes) {
        let bed = &mut self.bed;
        bed.core.handle(Event::Net(NetEvent::Received { flow, bytes }), bed.now);
        let (back, down) = bed.perform().expect("relayed to the handset");
        assert_eq!(back, bed.handset);
        assert!(down.starts_with(b"SIP/2.0 200"));
        bed.now += Duration::from_micros(100);
        if bed.core.poll_timeout() <= bed.now {
            bed.core.handle_timeout(bed.now);
            bed.perform();
        }
    }
}

fn register(c: &mut Criterion) {
    let mut bench = Bench { bed: Bed::new(), serial: 0 };
    c.bench_function("core/register_up_and_back", |b| {
        // Only the core is timed, not the handset and the registrar that the bed plays.
        b.iter_custom(|n| {
            let mut spent = Duration::ZERO;
            for _ in 0..n {
                let request = bench.request();
                let mut out = None;
                spent += timed(|| out = Some(bench.up(request)));
                let Some((flow, up)) = out else { continue };
                let answer = answer(&up, "200 OK", "");
                spent += timed(|| bench.down(flow, answer));
            }
            spent
        });
    });
}

#[allow(clippy::disallowed_methods)]
fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

criterion_group!(benches, register);
criterion_main!(benches);
