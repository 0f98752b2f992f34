//! The non-INVITE server transaction, RFC 3261 §17.2.2, figure 8, with the rules of RFC 4320 built in:
//! no provisional answer but 100, no 100 before the client's Timer E has reached T2 (datagrams), no 408 of our own, and no
//! answer at all once the client has given up.

use std::time::Instant;

use super::action::{Actions, ServerAction as Action};
use super::timers::{Letter, Timers};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The request came again.
    Request,
    /// The caller answers 100.
    Hundred,
    /// The caller answers 101–199: never sent, RFC 4320 §4.1.
    Provisional,
    /// The caller answers 408 by itself: never sent, RFC 4320 §4.2. The transaction is abandoned instead.
    Timeout,
    /// The caller answers 200–699; 408 only if the next hop said so.
    Final,
    /// The caller will not answer.
    Abandon,
}

impl Event {
    pub(super) fn of_status(status: u16) -> Event {
        match status {
            0..=100 => Event::Hundred,
            101..=199 => Event::Provisional,
            408 => Event::Timeout,
            200.. => Event::Final,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// `hundred`: the earliest time for a 100. `end`: the client has given up.
    Trying {
        hundred: Instant,
        end: Instant,
    },
    Proceeding {
        end: Instant,
    },
    Completed {
        j: Instant,
    },
    /// Silence; retransmissions are absorbed until the transaction would have ended.
    Abandoned {
        end: Instant,
    },
    Terminated,
}

#[derive(Debug)]
pub(super) struct NonInviteServer {
    state: State,
    reliable: bool,
    actions: Actions<Action>,
}

impl NonInviteServer {
    pub(super) fn new(reliable: bool, timers: &Timers, now: Instant) -> Self {
        let hundred = now + timers.after(Letter::Hundred, reliable);
        let end = now + timers.after(Letter::Expiry, reliable);
        NonInviteServer { state: State::Trying { hundred, end }, reliable, actions: Actions::new() }
    }

    pub(super) fn handle(&mut self, event: Event, timers: &Timers, now: Instant) {
        use Event::{Abandon, Final, Hundred, Provisional, Request, Timeout};
        use State::{Abandoned, Completed, Proceeding, Terminated, Trying};
        self.state = match (self.state, event) {
            (Trying { hundred, end }, Hundred) if hundred <= now => {
                self.actions.push(Action::Send);
                Proceeding { end }
            }
            (Proceeding { end }, Hundred) => {
                self.actions.push(Action::Send);
                Proceeding { end }
            }
            (Proceeding { end }, Request) => {
                self.actions.push(Action::Replay);
                Proceeding { end }
            }
            (Trying { .. } | Proceeding { .. }, Final) => {
                self.actions.push(Action::Send);
                self.complete(timers, now)
            }
            (Trying { end, .. } | Proceeding { end }, Timeout | Abandon) => self.abandon(end, timers),
            (Completed { j }, Request) => {
                self.actions.push(Action::Replay);
                Completed { j }
            }
            (Trying { .. }, Request | Hundred | Provisional)
            | (Proceeding { .. }, Provisional)
            | (Completed { .. }, Hundred | Provisional | Timeout | Final | Abandon)
            | (Abandoned { .. } | Terminated, Request | Hundred | Provisional | Timeout | Final | Abandon) => {
                self.state
            }
        };
    }

    pub(super) fn handle_timeout(&mut self, timers: &Timers, now: Instant) {
        use State::{Abandoned, Completed, Proceeding, Terminated, Trying};
        self.state = match self.state {
            Trying { end, .. } | Proceeding { end } if end <= now => self.abandon(end, timers),
            Completed { j: end } | Abandoned { end } if end <= now => self.end(),
            Trying { .. } | Proceeding { .. } | Completed { .. } | Abandoned { .. } | Terminated => self.state,
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Trying { end, .. } | State::Proceeding { end } | State::Abandoned { end } => Some(end),
            State::Completed { j } => Some(j),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn complete(&mut self, timers: &Timers, now: Instant) -> State {
        if self.reliable {
            return self.end();
        }
        self.actions.push(Action::Completed);
        State::Completed { j: now + timers.after(Letter::J, self.reliable) }
    }

    /// `end`: when the client gives up.
    fn abandon(&mut self, end: Instant, timers: &Timers) -> State {
        self.actions.push(Action::Completed);
        State::Abandoned { end: end + timers.after(Letter::Stragglers, self.reliable) }
    }

    fn end(&mut self) -> State {
        self.actions.push(Action::Ended);
        State::Terminated
    }
}

#[cfg(test)]
#[path = "tests/non_invite_server.rs"]
mod tests;
