//! Log lines about what repeats: each kind has at most one line in a while, which says how many were held back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{AttemptEnded, Classed, Journal};
use crate::flow::{Cause, Flow, Hop, Side};
use crate::message::{Message, Packet};
use crate::proxy::flows::table::Conn;
use crate::upstream::{Class, Outcome, TargetId};

/// Untrusted peers are logged once in this time: whoever scans the Internet must not fill the log.
const OUTSIDERS: Duration = Duration::from_secs(300);
/// What a configuration brings about with every REGISTER is logged once in this time.
const LASTING: Duration = Duration::from_secs(300);

impl Journal {
    /// A handset was given another proxy, too: its Route is dropped.
    pub(crate) fn log_foreign_route(&mut self, request: &Message, source: SocketAddr, now: Instant) {
        if let Some(held) = self.summaries.due("foreign route", now) {
            tracing::warn!(
                call_id = %request.call_id_shown(),
                handset = %source,
                more_like_it = held,
                "dropped a Route that names somebody else: if that is a name of this Holdline, give it as `alias`, else set this \
                 Holdline as the handset's only outbound proxy"
            );
        }
    }

    /// A handset registered a `sips:` Contact, and the upstream is not TLS.
    pub(crate) fn log_plain_sips(&mut self, request: &Message, source: SocketAddr, now: Instant) {
        if let Some(held) = self.summaries.due_in("plain sips", LASTING, now) {
            tracing::warn!(
                call_id = %request.call_id_shown(),
                handset = %source,
                more_like_it = held,
                "registered a sips: Contact over an upstream without TLS: its calls are not secure beyond this Holdline; \
                 `sips = \"refuse\"` answers 416 instead"
            );
        }
    }

    /// A response came from another address of the upstream than its request went to.
    pub(crate) fn log_answer_from_elsewhere(
        &mut self,
        response: &Message,
        asked: &Hop,
        (remote, target): (SocketAddr, Option<&str>),
        now: Instant,
    ) {
        if let Some(held) = self.summaries.due_in("answer from elsewhere", LASTING, now) {
            tracing::warn!(
                call_id = %response.call_id_shown(),
                target_host = %asked.target,
                address = %asked.addr,
                %remote,
                target,
                more_like_it = held,
                "the upstream answers from another address than it was asked at: a farm, or an address translation that \
                 confuses its targets"
            );
        }
    }

    /// A peer that may not talk to a side was not answered. A handset or an SBC that nobody thought of would else be met with
    /// silence on both ends.
    pub(crate) fn log_outsider(&mut self, side: Side, source: SocketAddr, now: Instant) {
        let (key, says) = match side {
            Side::Phone => {
                ("stranger: phones", "not answered, it is not in `allow`; if it is a handset, add its network there")
            }
            Side::Upstream => (
                "stranger: upstream",
                "not answered, it is no target's address; if the PBX sends from there, add it to `upstream_allow`",
            ),
        };
        if let Some(held) = self.summaries.due_in(key, OUTSIDERS, now) {
            tracing::warn!(side = side.as_str(), source = %source.ip(), more_like_it = held, "{says}");
        }
    }

    /// Nothing that a source sends succeeds: a scanner, or handsets with wrong passwords.
    pub(crate) fn log_throttled(&mut self, request: &Message, source: SocketAddr, now: Instant) {
        if let Some(held) = self.summaries.due("throttled", now) {
            tracing::warn!(
                call_id = %request.call_id_shown(),
                source = %source.ip(),
                more_like_it = held,
                "requests of handsets never served fail all the time: their source is throttled (`limit_failing`)"
            );
        }
    }

    /// A connection to a target failed.
    pub(crate) fn log_connection_failure(&mut self, conn: &Conn, cause: Cause, detail: &str, now: Instant) {
        tracing::debug!(remote = %conn.remote, transport = %conn.transport, %cause, detail, "upstream connection failed");
        let Some(hop) = &conn.hop else { return };
        if let Some(held) = self.summaries.due(&hop.target, now) {
            tracing::warn!(
                target_host = %hop.target,
                address = %hop.addr,
                transport = %hop.transport,
                cause = %cause,
                detail,
                more_like_it = held,
                "cannot connect to upstream"
            );
        }
    }

    pub(super) fn log_attempt(&mut self, request: &Message, ended: &AttemptEnded, classed: Classed, now: Instant) {
        tracing::debug!(
            call_id = %request.call_id_shown(),
            target = &*ended.target,
            outcome = %ended.outcome,
            class = ended.class.as_str(),
            strike = classed.strike,
            rolled_over = classed.rolled_over,
            "REGISTER attempt ended"
        );
        if ended.class == Class::Failure {
            self.log_failed_attempt(&ended.target, ended.outcome, classed.strikes, now);
        }
    }

    /// Where connections fail, that line says more, and stands for both.
    fn log_failed_attempt(&mut self, target: &TargetId, outcome: Outcome, strikes: u32, now: Instant) {
        let host = target.rsplit_once(':').map_or(&**target, |(host, _)| host.trim_matches(['[', ']']));
        if let Some(held) = self.summaries.due(host, now) {
            tracing::warn!(target = &**target, outcome = %outcome, strikes, more_like_it = held, "REGISTER attempts fail");
        }
    }

    /// Says once that there are bindings the PBX does not reach.
    pub(crate) fn log_orphans(&mut self, orphaned: usize, bindings: usize) {
        if orphaned == 0 {
            self.orphans_logged = false;
        } else if !self.orphans_logged {
            self.orphans_logged = true;
            tracing::warn!(orphaned, bindings, "the PBX reaches these phones only after their next REGISTER");
        }
    }

    /// After a rollover it is news again.
    pub(crate) fn log_orphans_anew(&mut self, orphaned: usize, bindings: usize) {
        self.orphans_logged = false;
        self.log_orphans(orphaned, bindings);
    }

    /// At trace: what leaves, keep-alives left out.
    pub(crate) fn log_packet(flow: Flow, bytes: &bytes::Bytes) {
        if tracing::enabled!(tracing::Level::TRACE)
            && let Ok(message) = Message::scan(bytes.clone())
        {
            tracing::trace!(call_id = %message.call_id_shown(), ?flow, packet = %Packet(bytes), "sent");
        }
    }
}
