//! The INVITE client transaction, RFC 3261 §17.1.1, with the Accepted state of RFC 6026 §7.2, the proxy's Timer C
//! (§16.6 step 11, §16.8) and the wait after a CANCEL (§9.1).

use std::time::Instant;

use super::action::{Actions, ClientAction as Action};
use super::timers::{Letter, Resend, Timers, earlier};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// 100, which does not restart Timer C.
    Trying,
    /// 101–199, each of which does.
    Provisional,
    /// 200–299.
    Success,
    /// 300–699.
    Failure,
    /// The caller wants the INVITE cancelled; waits for a provisional answer, RFC 3261 §9.1.
    Cancel,
    /// The transport cannot deliver.
    TransportError,
}

impl Event {
    pub(super) fn of_status(status: u16) -> Event {
        match status {
            0..=100 => Event::Trying,
            101..=199 => Event::Provisional,
            200..=299 => Event::Success,
            300.. => Event::Failure,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// `cancel`: a CANCEL leaves with the first provisional answer.
    Calling {
        a: Option<Resend>,
        b: Instant,
        c: Instant,
        cancel: bool,
    },
    Proceeding {
        c: Instant,
    },
    /// The CANCEL is out (`sent`), or Timer C asked for one. `end`: 64·T1 later the transaction times out.
    Cancelling {
        end: Instant,
        sent: bool,
    },
    Accepted {
        m: Instant,
    },
    Completed {
        d: Instant,
    },
    Terminated,
}

#[derive(Debug)]
pub(super) struct InviteClient {
    state: State,
    reliable: bool,
    actions: Actions<Action>,
}

impl InviteClient {
    pub(super) fn new(reliable: bool, timers: &Timers, now: Instant) -> Self {
        let state = State::Calling {
            a: Resend::first(timers, Letter::A, reliable, now),
            b: now + timers.after(Letter::B, reliable),
            c: now + timers.after(Letter::C, reliable),
            cancel: false,
        };
        let mut actions = Actions::new();
        actions.push(Action::Send);
        InviteClient { state, reliable, actions }
    }

    pub(super) fn handle(&mut self, event: Event, timers: &Timers, now: Instant) {
        use Event::{Cancel, Failure, Provisional, Success, TransportError, Trying};
        use State::{Accepted, Calling, Cancelling, Completed, Proceeding, Terminated};
        let fresh_c = now + timers.after(Letter::C, self.reliable);
        self.state = match (self.state, event) {
            (Calling { cancel: true, .. }, Trying | Provisional) => {
                self.actions.push(Action::Deliver);
                self.cancel(timers, now)
            }
            (Calling { c, cancel: false, .. } | Proceeding { c }, Trying) => {
                self.actions.push(Action::Deliver);
                Proceeding { c }
            }
            (Calling { cancel: false, .. } | Proceeding { .. }, Provisional) => {
                self.actions.push(Action::Deliver);
                Proceeding { c: fresh_c }
            }
            (Cancelling { end, sent }, Trying | Provisional) => {
                self.actions.push(Action::Deliver);
                Cancelling { end, sent }
            }
            (Calling { .. } | Proceeding { .. } | Cancelling { .. }, Success) => {
                self.actions.push(Action::Deliver);
                self.actions.push(Action::Answered);
                Accepted { m: now + timers.after(Letter::M, self.reliable) }
            }
            (Calling { .. } | Proceeding { .. } | Cancelling { .. }, Failure) => {
                self.actions.push(Action::Ack);
                self.actions.push(Action::Deliver);
                self.complete(timers, now)
            }
            (Calling { a, b, c, .. }, Cancel) => Calling { a, b, c, cancel: true },
            (Proceeding { .. } | Cancelling { sent: false, .. }, Cancel) => self.cancel(timers, now),
            (Calling { .. } | Proceeding { .. } | Cancelling { .. }, TransportError) => {
                self.actions.push(Action::TransportError);
                self.end()
            }
            // Every 2xx, of this branch of the fork or of another, is the caller's. RFC 6026 §7.2.
            (Accepted { m }, Success) => {
                self.actions.push(Action::Deliver);
                Accepted { m }
            }
            (Completed { d }, Failure) => {
                self.actions.push(Action::Ack);
                Completed { d }
            }
            (Cancelling { sent: true, .. }, Cancel)
            | (Accepted { .. }, Trying | Provisional | Failure | Cancel | TransportError)
            | (Completed { .. }, Trying | Provisional | Success | Cancel | TransportError)
            | (Terminated, Trying | Provisional | Success | Failure | Cancel | TransportError) => self.state,
        };
    }

    /// Timer A off; an answer is still welcome until Timer B.
    pub(super) fn stop_retransmitting(&mut self) {
        if let State::Calling { a, .. } = &mut self.state {
            *a = None;
        }
    }

    pub(super) fn handle_timeout(&mut self, timers: &Timers, now: Instant) {
        use State::{Accepted, Calling, Cancelling, Completed, Proceeding, Terminated};
        self.state = match self.state {
            Calling { b: end, .. } | Cancelling { end, .. } if end <= now => {
                self.actions.push(Action::Timeout);
                self.end()
            }
            Calling { a: Some(a), b, c, cancel } if a.at <= now => {
                self.actions.push(Action::Resend);
                Calling { a: Some(a.doubled(now)), b, c, cancel }
            }
            // The end is set here already, so that a caller that never cancels loses no memory.
            Proceeding { c } if c <= now => {
                self.actions.push(Action::TimerC);
                Cancelling { end: now + timers.after(Letter::Cancelled, self.reliable), sent: false }
            }
            Accepted { m: end } | Completed { d: end } if end <= now => self.end(),
            Calling { .. }
            | Proceeding { .. }
            | Cancelling { .. }
            | Accepted { .. }
            | Completed { .. }
            | Terminated => self.state,
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Calling { a, b, .. } => Some(earlier(a, b)),
            State::Proceeding { c } => Some(c),
            State::Cancelling { end, .. } => Some(end),
            State::Accepted { m } => Some(m),
            State::Completed { d } => Some(d),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// A final answer is still to come.
    pub(super) fn is_live(&self) -> bool {
        match self.state {
            State::Calling { .. } | State::Proceeding { .. } | State::Cancelling { .. } => true,
            State::Accepted { .. } | State::Completed { .. } | State::Terminated => false,
        }
    }

    fn cancel(&mut self, timers: &Timers, now: Instant) -> State {
        self.actions.push(Action::Cancel);
        State::Cancelling { end: now + timers.after(Letter::Cancelled, self.reliable), sent: true }
    }

    fn complete(&mut self, timers: &Timers, now: Instant) -> State {
        if self.reliable {
            return self.end();
        }
        self.actions.push(Action::Completed);
        State::Completed { d: now + timers.after(Letter::D, self.reliable) }
    }

    fn end(&mut self) -> State {
        self.actions.push(Action::Ended);
        State::Terminated
    }
}

#[cfg(test)]
#[path = "tests/invite_client.rs"]
mod tests;
