//! The non-INVITE client transaction, RFC 3261 §17.1.2, figure 6.

use std::time::Instant;

use super::action::{Actions, ClientAction as Action};
use super::timers::{Letter, Resend, Timers, earlier};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// 100–199.
    Provisional,
    /// 200–699.
    Final,
    /// The transport cannot deliver.
    TransportError,
}

impl Event {
    pub(super) fn of_status(status: u16) -> Event {
        if status < 200 { Event::Provisional } else { Event::Final }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Trying { e: Option<Resend>, f: Instant },
    Proceeding { e: Option<Resend>, f: Instant },
    Completed { k: Instant },
    Terminated,
}

#[derive(Debug)]
pub(super) struct NonInviteClient {
    state: State,
    reliable: bool,
    actions: Actions<Action>,
}

impl NonInviteClient {
    pub(super) fn new(reliable: bool, timers: &Timers, now: Instant) -> Self {
        let e = Resend::first(timers, Letter::E, reliable, now);
        let f = now + timers.after(Letter::F, reliable);
        let mut actions = Actions::new();
        actions.push(Action::Send);
        NonInviteClient { state: State::Trying { e, f }, reliable, actions }
    }

    pub(super) fn handle(&mut self, event: Event, timers: &Timers, now: Instant) {
        use Event::{Final, Provisional, TransportError};
        use State::{Completed, Proceeding, Terminated, Trying};
        self.state = match (self.state, event) {
            (Trying { e, f } | Proceeding { e, f }, Provisional) => {
                self.actions.push(Action::Deliver);
                Proceeding { e, f }
            }
            (Trying { .. } | Proceeding { .. }, Final) => {
                self.actions.push(Action::Deliver);
                self.complete(timers, now)
            }
            (Trying { .. } | Proceeding { .. }, TransportError) => {
                self.actions.push(Action::TransportError);
                self.end()
            }
            (Completed { .. } | Terminated, Provisional | Final | TransportError) => self.state,
        };
    }

    /// Timer E off; an answer is still welcome until Timer F.
    pub(super) fn stop_retransmitting(&mut self) {
        if let State::Trying { e, .. } | State::Proceeding { e, .. } = &mut self.state {
            *e = None;
        }
    }

    pub(super) fn handle_timeout(&mut self, timers: &Timers, now: Instant) {
        use State::{Completed, Proceeding, Terminated, Trying};
        self.state = match self.state {
            Trying { f, .. } | Proceeding { f, .. } if f <= now => {
                self.actions.push(Action::Timeout);
                self.end()
            }
            Trying { e: Some(e), f } if e.at <= now => {
                self.actions.push(Action::Resend);
                Trying { e: Some(e.doubled_to(timers.t2, now)), f }
            }
            Proceeding { e: Some(e), f } if e.at <= now => {
                self.actions.push(Action::Resend);
                Proceeding { e: Some(Resend::every(timers.t2, now)), f }
            }
            Completed { k } if k <= now => self.end(),
            Trying { .. } | Proceeding { .. } | Completed { .. } | Terminated => self.state,
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Trying { e, f } | State::Proceeding { e, f } => Some(earlier(e, f)),
            State::Completed { k } => Some(k),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// A final answer is still to come.
    pub(super) fn is_live(&self) -> bool {
        match self.state {
            State::Trying { .. } | State::Proceeding { .. } => true,
            State::Completed { .. } | State::Terminated => false,
        }
    }

    fn complete(&mut self, timers: &Timers, now: Instant) -> State {
        if self.reliable {
            return self.end();
        }
        self.actions.push(Action::Completed);
        State::Completed { k: now + timers.after(Letter::K, self.reliable) }
    }

    fn end(&mut self) -> State {
        self.actions.push(Action::Ended);
        State::Terminated
    }
}

#[cfg(test)]
#[path = "tests/non_invite_client.rs"]
mod tests;
