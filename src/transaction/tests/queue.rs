use super::super::tests::clock::ms;
use super::*;
use proptest::prelude::*;

fn lanes() -> Vec<Duration> {
    [500, 1000, 32_000].map(Duration::from_millis).to_vec()
}

proptest! {
    /// Whatever is pushed, on a lane or beside it, comes out in the order of its deadlines.
    #[test]
    fn pops_in_order(pushes in prop::collection::vec((0..50_u64, prop::sample::select(vec![500, 1000, 32_000, 777, 5])), 0..200)) {
        let mut queue = Queue::new(&lanes());
        let mut clock = 0;
        let mut expected = vec![];
        for (n, (step, after)) in pushes.into_iter().enumerate() {
            clock += step;
            queue.push(n, ms(clock + after), ms(clock));
            expected.push(ms(clock + after));
        }
        expected.sort();
        prop_assert_eq!(queue.len(), expected.len());
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop_if(|_| true).map(|wake| wake.at)).collect();
        prop_assert_eq!(popped, expected);
        prop_assert_eq!((queue.len(), queue.next()), (0, None));
    }
}

#[test]
fn a_clock_that_goes_backwards_breaks_no_order() {
    let mut queue = Queue::new(&lanes());
    queue.push('b', ms(10_500), ms(10_000));
    queue.push('a', ms(9500), ms(9000));
    assert_eq!(queue.next(), Some(ms(9500)));
    assert_eq!(queue.pop_if(|wake| wake.at <= ms(9499)), None);
    let order: String = std::iter::from_fn(|| queue.pop_if(|_| true).map(|wake| wake.owner)).collect();
    assert_eq!(order, "ab");
}

#[test]
fn swept_entries_are_gone() {
    let mut queue = Queue::new(&lanes());
    for n in 0..100_u64 {
        queue.push(n, ms(n + if n % 3 == 0 { 500 } else { 7 }), ms(n));
    }
    queue.retain(|wake| wake.owner % 10 == 0);
    assert_eq!(queue.len(), 10);
    let mut left: Vec<u64> = std::iter::from_fn(|| queue.pop_if(|_| true)).map(|wake| wake.owner).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
}
