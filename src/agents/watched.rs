//! A value that changes, and waiting for it to be as one wants it.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

/// An agent's record: read it, change it, or wait until it fulfils a condition. Clones share the value.
#[derive(Debug, Clone)]
pub struct Watched<T> {
    value: watch::Sender<T>,
}

impl<T> Watched<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Self {
        Watched { value: watch::Sender::new(value) }
    }

    /// Changes the value and wakes every waiter.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut result = None;
        self.value.send_modify(|value| result = Some(change(value)));
        result.expect("send_modify calls its closure exactly once")
    }

    /// Looks at the value. The lock is held meanwhile: be short, and do not call [`Watched::update`] in it.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.borrow())
    }

    /// Waits until the condition holds, at most `within`. It is looked at once before waiting. `what` names the
    /// condition for the error.
    pub async fn wait(&self, what: &str, within: Duration, condition: impl FnMut(&T) -> bool) -> Result<(), TimedOut> {
        let mut receiver = self.value.subscribe();
        match tokio::time::timeout(within, receiver.wait_for(condition)).await {
            Ok(Ok(_)) => Ok(()),
            // `self` keeps the channel open, so the other arm is a time-out.
            Ok(Err(_)) | Err(_) => Err(TimedOut { what: what.to_owned(), within }),
        }
    }
}

/// A condition did not come true in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedOut {
    /// The condition that was waited for.
    pub what: String,
    /// The bound of the wait.
    pub within: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waited {:?} in vain for {}", self.within, self.what)
    }
}

impl std::error::Error for TimedOut {}
