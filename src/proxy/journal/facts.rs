//! What is counted, as plain integers. Whoever shows them (the metrics) gathers them a moment later.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::flow::{Cause, Side, Transport};
use crate::message::Method;
use crate::upstream::{Class, Outcome, Reason, TargetId};

const SIDES: usize = Side::ALL.len();
const TRANSPORTS: usize = Transport::ALL.len();
const METHODS: usize = Method::ALL.len();
/// Response classes, 1xx to 6xx.
const CLASSES: usize = 6;

/// Upper ends of the classes that durations of attempts are sorted into, in seconds, to the longest a handset waits: Timer F,
/// RFC 3261 §17.1.2.2. One class more is for what takes longer.
pub const DURATIONS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Declares an enum whose variants are label values, with `ALL` and `as_str`.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of registration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The label's text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}
pub(crate) use label;

label! {
    /// `responses_total{origin}`: whose answer it is.
    Origin {
        /// Holdline's own.
        Local => "local",
        /// The other side's, passed on.
        Relayed => "relayed",
    }
}

label! {
    /// `udp_large_datagrams_total{direction}`.
    Direction {
        /// Received.
        In => "in",
        /// Sent.
        Out => "out",
    }
}

label! {
    /// `register_attempts_total{outcome}`: how one attempt ended.
    AttemptOutcome {
        /// A 2xx.
        Success => "success",
        /// A 401 or 407.
        Challenged => "challenged",
        /// Any other final answer that is no failure.
        Rejected => "rejected",
        /// A failure as the three-strike rule counts it.
        Failed => "failed",
    }
}

impl AttemptOutcome {
    /// What an outcome of this class counts as.
    #[must_use]
    pub fn of(class: Class, outcome: Outcome) -> Self {
        match (class, outcome) {
            (Class::Success, _) => Self::Success,
            (Class::Failure, _) => Self::Failed,
            (Class::Neutral, Outcome::Response(401 | 407)) => Self::Challenged,
            (Class::Neutral, Outcome::Response(_) | Outcome::Failed(_)) => Self::Rejected,
        }
    }
}

label! {
    /// `register_failures_total{reason}`: what a failed attempt met.
    FailureReason {
        /// No final answer in time.
        Timeout => "timeout",
        /// Connection refused, or ICMP port unreachable.
        Refused => "refused",
        /// Reset or closed by the target.
        Reset => "reset",
        /// TLS handshake or verification failed.
        Tls => "tls",
        /// No route.
        Unreachable => "unreachable",
        /// The target has no address.
        Unresolved => "unresolved",
        /// This machine lacks something; never a strike.
        Local => "local",
        /// A final answer listed in `failure_codes`.
        Response => "response",
    }
}

impl From<Cause> for FailureReason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Timeout => Self::Timeout,
            Cause::Refused => Self::Refused,
            Cause::Reset => Self::Reset,
            Cause::Tls => Self::Tls,
            Cause::Unreachable => Self::Unreachable,
            Cause::Unresolved => Self::Unresolved,
            Cause::Local => Self::Local,
        }
    }
}

impl From<Outcome> for FailureReason {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Response(_) => Self::Response,
            Outcome::Failed(cause) => cause.into(),
        }
    }
}

/// REGISTER attempts at one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetFacts {
    /// By [`AttemptOutcome`].
    pub attempts: [u64; AttemptOutcome::ALL.len()],
    /// Of those that failed, by [`FailureReason`].
    pub failures: [u64; FailureReason::ALL.len()],
    /// How many took how long, by the classes of [`DURATIONS`]; not cumulative.
    pub durations: [u64; DURATIONS.len() + 1],
    /// All their seconds together.
    pub seconds: f64,
}

impl TargetFacts {
    fn note(&mut self, class: Class, outcome: Outcome, took: Duration) {
        self.attempts[AttemptOutcome::of(class, outcome) as usize] += 1;
        // A want of this machine's own is no failure of the target, and seen all the same.
        if class == Class::Failure || outcome == Outcome::Failed(Cause::Local) {
            self.failures[FailureReason::from(outcome) as usize] += 1;
        }
        let seconds = took.as_secs_f64();
        self.durations[DURATIONS.iter().position(|end| seconds <= *end).unwrap_or(DURATIONS.len())] += 1;
        self.seconds += seconds;
    }
}

/// Everything that was counted since the start.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    requests: [[[u64; TRANSPORTS]; METHODS]; SIDES],
    responses: [[[[u64; Origin::ALL.len()]; CLASSES]; METHODS]; SIDES],
    dropped: BTreeMap<(Side, &'static str), u64>,
    retransmissions: [u64; SIDES],
    large_datagrams: [[u64; Direction::ALL.len()]; SIDES],
    rollovers: [u64; Reason::ALL.len()],
    targets: BTreeMap<TargetId, TargetFacts>,
    /// Second and later branches of one REGISTER.
    pub register_retries: u64,
    /// Handsets' REGISTER transactions for which every try failed.
    pub register_exhausted: u64,
}

impl Facts {
    /// Requests received, without retransmissions.
    #[must_use]
    pub fn requests(&self, side: Side, method: Method, transport: Transport) -> u64 {
        self.requests[side as usize][method as usize][transport as usize]
    }

    /// Responses sent with a status of this class (1 to 6), by the side they left on.
    #[must_use]
    pub fn responses(&self, side: Side, method: Method, class: u16, origin: Origin) -> u64 {
        self.responses[side as usize][method as usize][class_index(class)][origin as usize]
    }

    /// What was received and could not even be answered, with its reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Side, &'static str, u64)> {
        self.dropped.iter().map(|((side, reason), count)| (*side, *reason, *count))
    }

    /// What was sent again on a side.
    #[must_use]
    pub fn retransmissions(&self, side: Side) -> u64 {
        self.retransmissions[side as usize]
    }

    /// Datagrams beyond 1300 bytes.
    #[must_use]
    pub fn large_datagrams(&self, side: Side, direction: Direction) -> u64 {
        self.large_datagrams[side as usize][direction as usize]
    }

    /// Changes of the active target for one reason.
    #[must_use]
    pub fn rollovers(&self, reason: Reason) -> u64 {
        self.rollovers[reason as usize]
    }

    /// Changes of the active target.
    #[must_use]
    pub fn all_rollovers(&self) -> u64 {
        self.rollovers.iter().sum()
    }

    /// The targets of the current set at which something was counted.
    pub fn targets(&self) -> impl Iterator<Item = (&str, &TargetFacts)> {
        self.targets.iter().map(|(label, facts)| (&**label, facts))
    }

    pub(in crate::proxy) fn note_request(&mut self, side: Side, method: Method, transport: Transport) {
        self.requests[side as usize][method as usize][transport as usize] += 1;
    }

    pub(in crate::proxy) fn note_response(&mut self, side: Side, method: Method, status: u16, origin: Origin) {
        self.responses[side as usize][method as usize][class_index(status / 100)][origin as usize] += 1;
    }

    pub(in crate::proxy) fn note_dropped(&mut self, side: Side, reason: &'static str) {
        *self.dropped.entry((side, reason)).or_default() += 1;
    }

    pub(in crate::proxy) fn note_retransmission(&mut self, side: Side) {
        self.retransmissions[side as usize] += 1;
    }

    pub(in crate::proxy) fn note_large(&mut self, side: Side, direction: Direction) {
        self.large_datagrams[side as usize][direction as usize] += 1;
    }

    pub(in crate::proxy) fn note_rollover(&mut self, reason: Reason) {
        self.rollovers[reason as usize] += 1;
    }

    pub(in crate::proxy) fn note_attempt(&mut self, target: &TargetId, class: Class, outcome: Outcome, took: Duration) {
        match self.targets.get_mut(target) {
            Some(facts) => facts.note(class, outcome, took),
            None => self.targets.entry(target.clone()).or_default().note(class, outcome, took),
        }
    }

    /// Forgets the targets that are gone: there are as many as there are in the set.
    pub(in crate::proxy) fn keep_only(&mut self, keep: impl Fn(&str) -> bool) {
        self.targets.retain(|label, _| keep(label));
    }
}

/// A class outside of 1–6 counts with its nearest.
fn class_index(class: u16) -> usize {
    usize::from(class).clamp(1, CLASSES) - 1
}
