//! The INVITE server transaction, RFC 3261 §17.2.1, with the Accepted state of RFC 6026 §7.1.
//!
//! The 100 that §17.2.1 asks for within 200 ms is the caller's: a proxy sends it at once.

use std::time::Instant;

use super::action::{Actions, ServerAction as Action};
use super::timers::{Letter, Resend, Timers, earlier};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The INVITE came again.
    Invite,
    /// An ACK that matches this transaction.
    Ack,
    /// The caller answers 100–199.
    Provisional,
    /// The caller answers 200–299.
    Success,
    /// The caller answers 300–699.
    Failure,
    /// The caller will not answer.
    Abandon,
}

impl Event {
    pub(super) fn of_status(status: u16) -> Event {
        match status {
            0..=199 => Event::Provisional,
            200..=299 => Event::Success,
            300.. => Event::Failure,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Proceeding,
    Accepted {
        l: Instant,
    },
    Completed {
        g: Option<Resend>,
        h: Instant,
    },
    Confirmed {
        i: Instant,
    },
    /// Silence; retransmissions are absorbed until the client has given up.
    Abandoned {
        end: Instant,
    },
    Terminated,
}

#[derive(Debug)]
pub(super) struct InviteServer {
    state: State,
    reliable: bool,
    actions: Actions<Action>,
}

impl InviteServer {
    pub(super) fn new(reliable: bool) -> Self {
        InviteServer { state: State::Proceeding, reliable, actions: Actions::new() }
    }

    pub(super) fn handle(&mut self, event: Event, timers: &Timers, now: Instant) {
        use Event::{Abandon, Ack, Failure, Invite, Provisional, Success};
        use State::{Abandoned, Accepted, Completed, Confirmed, Proceeding, Terminated};
        self.state = match (self.state, event) {
            (Proceeding, Invite) => {
                self.actions.push(Action::Replay);
                Proceeding
            }
            (Proceeding, Provisional) => {
                self.actions.push(Action::Send);
                Proceeding
            }
            (Proceeding, Success) => {
                self.actions.push(Action::Pass);
                self.actions.push(Action::Answered);
                Accepted { l: now + timers.after(Letter::L, self.reliable) }
            }
            (Proceeding, Failure) => {
                self.actions.push(Action::Send);
                self.actions.push(Action::Answered);
                let g = Resend::first(timers, Letter::G, self.reliable, now);
                Completed { g, h: now + timers.after(Letter::H, self.reliable) }
            }
            (Proceeding, Abandon) => {
                self.actions.push(Action::Completed);
                Abandoned { end: now + timers.after(Letter::Expiry, self.reliable) }
            }
            // Retransmissions of the 2xx, and the 2xx of other branches of a fork. RFC 6026 §7.1.
            (Accepted { l }, Success) => {
                self.actions.push(Action::Pass);
                Accepted { l }
            }
            (Accepted { l }, Ack) => {
                self.actions.push(Action::PassAck);
                Accepted { l }
            }
            (Completed { g, h }, Invite) => {
                self.actions.push(Action::Replay);
                Completed { g, h }
            }
            (Completed { .. }, Ack) => self.confirm(timers, now),
            (Proceeding, Ack)
            | (Accepted { .. }, Invite | Provisional | Failure | Abandon)
            | (Completed { .. }, Provisional | Success | Failure | Abandon)
            | (
                Confirmed { .. } | Abandoned { .. } | Terminated,
                Invite | Ack | Provisional | Success | Failure | Abandon,
            ) => self.state,
        };
    }

    pub(super) fn handle_timeout(&mut self, timers: &Timers, now: Instant) {
        use State::{Abandoned, Accepted, Completed, Confirmed, Proceeding, Terminated};
        self.state = match self.state {
            Accepted { l: end } | Completed { h: end, .. } | Confirmed { i: end } | Abandoned { end } if end <= now => {
                self.end()
            }
            Completed { g: Some(g), h } if g.at <= now => {
                self.actions.push(Action::Replay);
                Completed { g: Some(g.doubled_to(timers.t2, now)), h }
            }
            Proceeding | Accepted { .. } | Completed { .. } | Confirmed { .. } | Abandoned { .. } | Terminated => {
                self.state
            }
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Proceeding | State::Terminated => None,
            State::Accepted { l } => Some(l),
            State::Completed { g, h } => Some(earlier(g, h)),
            State::Confirmed { i } => Some(i),
            State::Abandoned { end } => Some(end),
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn confirm(&mut self, timers: &Timers, now: Instant) -> State {
        if self.reliable {
            return self.end();
        }
        self.actions.push(Action::Completed);
        State::Confirmed { i: now + timers.after(Letter::I, self.reliable) }
    }

    fn end(&mut self) -> State {
        self.actions.push(Action::Ended);
        State::Terminated
    }
}

#[cfg(test)]
#[path = "tests/invite_server.rs"]
mod tests;
