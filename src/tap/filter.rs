//! Which messages a trace wants.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Look;
use crate::flow::Side;
use crate::proxy::Failed;
use crate::proxy::phones::Query;

/// Calls that a trace follows once one of their messages matched. The oldest is forgotten first.
pub const FOLLOWED: usize = 1024;

/// What the operator asked for: everything, a handset, a call, or only what fails.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// As it was typed; blank for everything.
    text: String,
    query: Query,
    failures_only: bool,
    /// Hashes of the Call-IDs of which something matched. Both legs of a call have the same one.
    followed: VecDeque<u64>,
}

impl Filter {
    /// `text`: an extension, a part of an address of record or of an address, a Call-ID, or nothing.
    #[must_use]
    pub fn new(text: &str, failures_only: bool) -> Filter {
        let text = text.trim().to_owned();
        Filter { query: Query::new(&text), text, failures_only, followed: VecDeque::new() }
    }

    /// Whether messages are wanted only of what failed.
    #[must_use]
    pub fn failures_only(&self) -> bool {
        self.failures_only
    }

    /// Whether this message is wanted as it passes.
    pub(super) fn wants(&mut self, look: &Look) -> bool {
        if self.failures_only {
            return false;
        }
        if self.text.is_empty() {
            return true;
        }
        let call = hash(&look.call_id);
        if !look.call_id.is_empty() && self.followed.contains(&call) {
            return true;
        }
        let names = [look.handset.as_deref(), look.called.as_deref()];
        let matches = *look.call_id == *self.text.as_bytes()
            || names.into_iter().flatten().any(|aor| self.query.matches_aor(aor))
            || (look.leg.side == Side::Phone && self.query.matches_address(look.leg.remote));
        if matches && !look.call_id.is_empty() {
            if self.followed.len() == FOLLOWED {
                self.followed.pop_front();
            }
            self.followed.push_back(call);
        }
        matches
    }

    /// Whether this failure is wanted.
    pub(super) fn wants_failure(&self, failed: &Failed) -> bool {
        if self.text.is_empty() {
            return true;
        }
        failed.handset.as_deref().is_some_and(|aor| self.query.matches_aor(aor))
            || failed.passed.iter().any(|passed| {
                (passed.leg.side == Side::Phone && self.query.matches_address(passed.leg.remote))
                    || super::recent::call_id(&passed.bytes) == *self.text.as_bytes()
            })
    }
}

fn hash(call_id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    call_id.hash(&mut hasher);
    hasher.finish()
}
