//! Waiting for a condition, always with a bound.
#![allow(clippy::disallowed_methods, reason = "what is waited for lives in real time")]

use std::future::Future;
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes on a busy machine; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that cannot say by itself that it has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something, at most [`PATIENCE`].
///
/// # Panics
/// When the time is over, with `what` was waited for.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = within(PATIENCE, what, async || condition().await.ok_or_else(String::new)).await;
    waited.unwrap_or_else(|late| panic!("{late}"))
}

/// Waits until `condition` gives something, at most `patience`. The error says what was waited for and what the condition
/// last saw.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        let last = match condition().await {
            Ok(value) => return Ok(value),
            Err(last) => last,
        };
        if Instant::now() >= deadline {
            return Err(format!("waited {patience:?} in vain: {what}; at last {last}"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until a condition holds, at most [`PATIENCE`], without a runtime.
#[track_caller]
pub(crate) fn until_blocking(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What a future gives, if it does within [`PATIENCE`].
///
/// # Panics
/// When the time is over, with `what` was waited for.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

#[tokio::test]
async fn a_wait_that_is_in_vain_says_for_what_and_what_it_saw() {
    let mut looks = 0;
    let late = within(LOOK_AGAIN * 3, "the moon", async || {
        looks += 1;
        Err::<(), _>(format!("look {looks}"))
    });
    let late = late.await.unwrap_err();
    assert!(late.starts_with("waited 60ms in vain: the moon; at last look "), "{late}");
    assert!(looks > 1);
    assert_eq!(within(Duration::ZERO, "nothing", async || Ok(7)).await, Ok(7), "it is looked at once in any case");
}
