//! A whole flow as text: every message that crossed the network, in order, each with its time in seconds.

use super::world::World;

/// The network must have carried exactly these messages at exactly these times since the world began. A line is a rung
/// (`0.010 phone 0→holdline REGISTER`); indentation and empty lines count for nothing.
#[track_caller]
pub(super) fn assert_ladder(world: &World, expected: &str) {
    assert_rungs(&world.ladder, expected);
}

/// The same for a part of a ladder.
#[track_caller]
pub(super) fn assert_rungs(rungs: &[String], expected: &str) {
    let found: Vec<&str> = rungs.iter().map(|rung| rung.trim()).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let same = found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
    assert!(
        found == expected,
        "rung {} is {:?}, not {:?}; the whole ladder:\n{}",
        same + 1,
        found.get(same),
        expected.get(same),
        found.join("\n")
    );
}
