use std::time::Duration;

use super::*;

const FREE: Load = Load { transactions: (0, 1600), bytes: (0, 1600) };
const SECOND: Duration = Duration::from_secs(1);

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
fn start() -> Instant {
    Instant::now()
}

fn load(transactions: usize, bytes: usize) -> Load {
    Load { transactions: (transactions, 1600), bytes: (bytes, 1600) }
}

#[test]
fn the_last_quarter_is_for_registers_of_served_handsets_and_for_dialogs() {
    use Rank::{Alike, Reserved, Served, Unserved};
    use Verdict::{Admitted, Full};
    let (mut admission, now) = (Admission::new(20), start());
    for (used, expected) in [
        (0, [Admitted; 4]),
        (1200, [Admitted; 4]),
        (1201, [Admitted, Full, Full, Full]),
        (1600, [Admitted, Full, Full, Full]),
        (1601, [Full; 4]),
    ] {
        let mut by = |load: Load| {
            [Reserved, Served, Alike, Unserved].map(|rank| admission.admits(ip(1), || false, load, now, || rank))
        };
        assert_eq!(by(load(used, 0)), expected, "{used} transactions");
        assert_eq!(by(load(0, used)), expected, "{used} bytes");
    }
}

#[test]
fn beyond_half_no_source_has_more_than_an_eighth_but_what_is_served_there() {
    let (mut admission, now) = (Admission::new(0), start());
    let asks = |admission: &mut Admission, n, load, rank| admission.admits(ip(n), || false, load, now, || rank);
    let mut seats: Vec<Seat> = (0..99).map(|_| admission.seat(ip(1), 1)).collect();
    assert_eq!(asks(&mut admission, 1, load(801, 0), Rank::Unserved), Verdict::Admitted, "198 of 1600");
    seats.push(admission.seat(ip(1), 1));
    for rank in [Rank::Alike, Rank::Unserved] {
        assert_eq!(asks(&mut admission, 1, load(800, 0), rank), Verdict::Admitted);
        assert_eq!(asks(&mut admission, 1, load(801, 0), rank), Verdict::Full);
        assert_eq!(asks(&mut admission, 2, load(801, 0), rank), Verdict::Admitted);
    }
    for rank in [Rank::Served, Rank::Reserved] {
        assert_eq!(asks(&mut admission, 1, load(801, 0), rank), Verdict::Admitted, "one NAT address is one source");
    }
    admission.left(seats.pop().expect("a hundred"));
    assert_eq!(asks(&mut admission, 1, load(801, 0), Rank::Unserved), Verdict::Admitted);

    let large = admission.seat(ip(3), 200);
    assert_eq!(asks(&mut admission, 3, load(801, 0), Rank::Unserved), Verdict::Full, "an eighth of the bytes");
    let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
    let prefix: Vec<Seat> = (0..100).map(|n| admission.seat(v6(n), 0)).collect();
    assert_eq!(
        admission.admits(v6(999), || false, load(801, 0), now, || Rank::Unserved),
        Verdict::Full,
        "a /64 is one source"
    );

    for seat in seats.into_iter().chain(prefix).chain([large]) {
        admission.left(seat);
    }
    assert_eq!((admission.sizes(), admission.bytes()), ([0, 0], 0));
}

#[test]
fn sixty_failures_at_once_are_borne_then_two_a_second() {
    let (mut admission, now) = (Admission::new(20), start());
    let seat = admission.seat(ip(1), 0);
    let asks = |admission: &mut Admission, n, now, rank| admission.admits(ip(n), || false, FREE, now, || rank);
    for _ in 0..60 {
        assert_eq!(asks(&mut admission, 1, now, Rank::Unserved), Verdict::Admitted);
        admission.ended(&seat, End::Failed, now, || Rank::Unserved);
    }
    assert_eq!(asks(&mut admission, 1, now, Rank::Unserved), Verdict::Admitted, "half a minute is owed, and not more");
    admission.ended(&seat, End::Failed, now, || Rank::Unserved);
    assert_eq!(asks(&mut admission, 1, now, Rank::Unserved), Verdict::Throttled);
    for (n, rank) in [(1, Rank::Served), (1, Rank::Reserved), (1, Rank::Alike), (2, Rank::Unserved)] {
        assert_eq!(asks(&mut admission, n, now, rank), Verdict::Admitted, "{rank:?} at {n}");
    }
    assert_eq!(asks(&mut admission, 1, now + SECOND, Rank::Unserved), Verdict::Admitted);

    for _ in 0..10_000 {
        admission.ended(&seat, End::Failed, now, || Rank::Unserved);
    }
    assert_eq!(asks(&mut admission, 1, now + 29 * SECOND, Rank::Unserved), Verdict::Throttled);
    assert_eq!(asks(&mut admission, 1, now + 30 * SECOND, Rank::Unserved), Verdict::Admitted, "a debt has an end");
    admission.left(seat);
}

#[test]
fn a_success_pays_for_ten_failures_and_only_unserved_handsets_owe() {
    let (mut admission, now) = (Admission::new(20), start());
    let seat = admission.seat(ip(1), 0);
    for rank in [Rank::Served, Rank::Reserved, Rank::Alike] {
        for _ in 0..100 {
            admission.ended(&seat, End::Failed, now, || rank);
        }
    }
    assert_eq!(admission.sizes()[1], 0);
    for n in 0..1000 {
        let end = if n % 10 == 0 { End::Succeeded } else { End::Failed };
        admission.ended(&seat, end, now, || Rank::Unserved);
        admission.ended(&seat, End::Neutral, now, || Rank::Unserved);
        assert_eq!(admission.admits(ip(1), || false, FREE, now, || Rank::Unserved), Verdict::Admitted, "{n}");
    }
    admission.left(seat);
}

#[test]
fn a_pbx_that_drops_in_silence_gets_no_more_than_240_at_once() {
    let (mut admission, now) = (Admission::new(20), start());
    let mut seats: Vec<Seat> = (0..240).map(|_| admission.seat(ip(1), 0)).collect();
    let asks = |admission: &mut Admission| admission.admits(ip(1), || false, FREE, now, || Rank::Unserved);
    assert_eq!(asks(&mut admission), Verdict::Throttled);
    admission.answered(&mut seats[0]);
    admission.answered(&mut seats[0]);
    assert_eq!(asks(&mut admission), Verdict::Admitted, "it rings somewhere");
    seats.push(admission.seat(ip(1), 0));
    assert_eq!(asks(&mut admission), Verdict::Throttled);
    for seat in seats {
        admission.left(seat);
    }
    assert_eq!((asks(&mut admission), admission.sizes()), (Verdict::Admitted, [0, 0]));
}

#[test]
fn switched_off_nobody_owes_and_who_owes_least_is_forgotten_first() {
    let (mut admission, now) = (Admission::new(20), start());
    let owe = |admission: &mut Admission, n: u32, times| {
        let seat = admission.seat(IpAddr::from(n.to_be_bytes()), 0);
        for _ in 0..times {
            admission.ended(&seat, End::Failed, now, || Rank::Unserved);
        }
        admission.left(seat);
    };
    owe(&mut admission, 7, 100);
    for n in 100..10_000 {
        owe(&mut admission, n, 1);
    }
    assert_eq!(admission.sizes(), [0, 4096]);
    let worst = IpAddr::from(7_u32.to_be_bytes());
    assert_eq!(admission.admits(worst, || false, FREE, now, || Rank::Unserved), Verdict::Throttled);
    admission.set_rate(0);
    owe(&mut admission, 7, 100);
    assert_eq!(admission.admits(worst, || false, FREE, now, || Rank::Unserved), Verdict::Admitted);
    assert_eq!(admission.sizes(), [0, 0]);
}

#[test]
fn what_came_of_a_request_by_its_answer() {
    for (status, end) in [
        (Some(200), End::Succeeded),
        (Some(202), End::Succeeded),
        (Some(302), End::Neutral),
        (Some(423), End::Neutral),
        (Some(486), End::Neutral),
        (Some(487), End::Neutral),
        (Some(603), End::Neutral),
        (Some(401), End::Challenged),
        (Some(407), End::Challenged),
        (Some(403), End::Failed),
        (Some(404), End::Failed),
        (Some(503), End::Failed),
        (None, End::Failed),
    ] {
        assert_eq!(End::of(status), end, "{status:?}");
    }
}

#[test]
fn who_is_challenged_may_answer_once_whatever_is_owed() {
    let (mut admission, now) = (Admission::new(20), start());
    let seat = admission.seat(ip(1), 0);
    for _ in 0..300 {
        admission.ended(&seat, End::Challenged, now, || Rank::Unserved);
    }
    let asks = |admission: &mut Admission, answers| admission.admits(ip(1), || answers, FREE, now, || Rank::Unserved);
    assert_eq!(asks(&mut admission, false), Verdict::Throttled);
    for n in 0..300 {
        assert_eq!(asks(&mut admission, true), Verdict::Admitted, "{n}");
    }
    assert_eq!(asks(&mut admission, true), Verdict::Throttled, "each challenge once");
    for _ in 0..10 {
        admission.ended(&seat, End::Succeeded, now, || Rank::Unserved);
    }
    assert_eq!(asks(&mut admission, false), Verdict::Admitted, "paid for");
    admission.left(seat);
}
