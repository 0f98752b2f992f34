//! The class of an attempt's outcome, which decides what happens to the count. No other place decides it.

use serde::Serialize;

use crate::flow::Cause;

/// The outcome of an attempt (one REGISTER client transaction, its connect included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A final response came, with this status code.
    Response(u16),
    /// No final response came, for this reason.
    Failed(Cause),
}

impl Outcome {
    /// The metric label of `register_failures_total{reason}`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Outcome::Response(_) => "response",
            Outcome::Failed(cause) => cause.as_str(),
        }
    }

    /// The status code, if a response came.
    #[must_use]
    pub fn code(self) -> Option<u16> {
        match self {
            Outcome::Response(code) => Some(code),
            Outcome::Failed(_) => None,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Response(code) => write!(f, "{code}"),
            Outcome::Failed(cause) => write!(f, "{cause}"),
        }
    }
}

/// The effect of an outcome on the count of consecutive failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The count goes to zero.
    Success,
    /// The count goes up by one.
    Failure,
    /// The count stays as it is.
    Neutral,
}

impl Class {
    /// The word of the log: `success`, `failure`, `neutral`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Success => "success",
            Class::Failure => "failure",
            Class::Neutral => "neutral",
        }
    }
}

/// The status codes that are failures unless configured otherwise.
pub const FAILURE_CODES: [u16; 5] = [408, 500, 502, 503, 504];

/// The class table. `failure_codes` are the configured status codes of failure; a challenge and a success are never
/// failures, whatever is configured.
///
/// 401 and 407 are neutral, not successes: a registrar that challenges and then answers 503 to the authenticated
/// REGISTER must still be left after three.
#[must_use]
#[allow(clippy::match_same_arms, reason = "a table: each line says one thing")]
pub fn classify(outcome: Outcome, failure_codes: &[u16]) -> Class {
    match outcome {
        Outcome::Failed(
            Cause::Timeout | Cause::Refused | Cause::Reset | Cause::Tls | Cause::Unreachable | Cause::Unresolved,
        ) => Class::Failure,
        // Our own want: another target would meet it, too.
        Outcome::Failed(Cause::Local) => Class::Neutral,
        Outcome::Response(200..=299) => Class::Success,
        Outcome::Response(401 | 407) => Class::Neutral,
        Outcome::Response(code @ (300..=400 | 402..=406 | 408..=699)) => {
            if failure_codes.contains(&code) {
                Class::Failure
            } else {
                Class::Neutral
            }
        }
        // A status that is not final should never come here, and it says nothing about the target's health.
        Outcome::Response(0..=199 | 700..=u16::MAX) => Class::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: u16) -> Class {
        classify(Outcome::Response(code), &FAILURE_CODES)
    }

    #[test]
    fn the_class_table() {
        assert_eq!(classify(Outcome::Failed(Cause::Local), &FAILURE_CODES), Class::Neutral, "no fault of the target's");
        for cause in Cause::ALL.into_iter().filter(|cause| *cause != Cause::Local) {
            assert_eq!(classify(Outcome::Failed(cause), &FAILURE_CODES), Class::Failure, "{cause}");
            assert_eq!(classify(Outcome::Failed(cause), &[]), Class::Failure, "{cause}: no configuration excuses it");
        }
        for code in [200, 202, 204] {
            assert_eq!(class(code), Class::Success, "{code}");
        }
        for code in FAILURE_CODES {
            assert_eq!(class(code), Class::Failure, "{code}");
        }
        for code in [301, 302, 305, 400, 401, 403, 404, 407, 423, 480, 482, 486, 491, 501, 505, 513, 600, 603, 604, 606]
        {
            assert_eq!(class(code), Class::Neutral, "{code}");
        }
        for code in [0, 100, 183, 700, 65535] {
            assert_eq!(class(code), Class::Neutral, "{code}");
        }
    }

    #[test]
    fn failure_codes_are_configurable_but_challenges_and_successes_are_not() {
        assert_eq!(classify(Outcome::Response(403), &[403]), Class::Failure);
        assert_eq!(classify(Outcome::Response(503), &[403]), Class::Neutral);
        assert_eq!(classify(Outcome::Response(401), &[401, 407, 200]), Class::Neutral);
        assert_eq!(classify(Outcome::Response(407), &[401, 407, 200]), Class::Neutral);
        assert_eq!(classify(Outcome::Response(200), &[401, 407, 200]), Class::Success);
    }

    #[test]
    fn reasons_are_metric_labels() {
        assert_eq!(Outcome::Failed(Cause::Tls).reason(), "tls");
        assert_eq!(Outcome::Response(503).reason(), "response");
    }
}
