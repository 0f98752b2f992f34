//! The closed sets of label values. Each value exists from the start, so each series starts at 0.

use crate::proxy::label;

/// `messages_dropped_total{reason}`. A reason that is not in this list counts as `other` (the last).
pub(super) const DROP_REASONS: &[&str] = &[
    "empty",   // a datagram without content that is no keep-alive anybody expects
    "stun",    // STUN on the SIP port
    "not_sip", // no start line
    "bad_status_line",
    "bad_header",
    "malformed", // breaks a rule where no answer may be given
    "malformed_response",
    "too_large", // a datagram beyond any message
    "header_too_large",
    "message_too_large",
    "bad_content_length",
    "no_content_length",
    "not_allowed",    // phone side: source address outside `allow`
    "not_upstream",   // upstream side: source is no target, past or present, and not in `upstream_allow`
    "stray_response", // a response that matches no transaction
    "no_via",         // a response without our Via
    "ack_unmatched",  // an ACK that belongs to no dialog of ours
    "forged_mark",    // a user part in our form whose MAC is wrong
    "loop",
    "no_flow",    // the connection it would leave by is gone
    "overload",   // a limit is reached and no answer is possible
    "queue_full", // a peer reads too slowly
    "send_failed",
    "icmp_unmatched", // an ICMP error that quotes nothing of ours
    "throttled",      // a request of a source whose requests fail all the time
    "draining",
    "other",
];

/// `connection_errors_total{reason}`: [`Cause`](crate::flow::Cause)'s labels, then what only a listener or a framer meets, then `other`.
pub(super) const CONNECTION_ERRORS: &[&str] = &[
    "timeout",
    "refused",
    "reset",
    "tls",
    "unreachable",
    "unresolved",
    "local",          // this machine lacks descriptors, memory or ports
    "limit",          // refused: the connection limit is reached
    "source_limit",   // refused: its source has its share of the handshakes under way
    "framing",        // the stream could not be cut into messages
    "queue_full",     // the peer reads too slowly
    "idle",           // half a message, then nothing
    "silent",         // accepted, then no message
    "memory",         // it held most when all together held too much
    "proxy_protocol", // a PROXY header that is missing, wrong or not expected
    "other",
];

/// Position of a value in its table; the last entry (`other`) where it is not listed.
pub(super) fn position(table: &[&str], value: &str) -> usize {
    table.iter().position(|v| *v == value).unwrap_or(table.len() - 1)
}

label! {
    /// `dns_lookups_total{record}`: what was asked for.
    Record {
        /// The SRV record set.
        Srv => "srv",
        /// IPv4 addresses.
        A => "a",
        /// IPv6 addresses.
        Aaaa => "aaaa",
    }
}

label! {
    /// `dns_lookups_total{outcome}`: what came back.
    LookupOutcome {
        /// At least one record.
        Ok => "ok",
        /// The name does not exist.
        NxDomain => "nxdomain",
        /// The name exists, this record does not; or an SRV record said "no service".
        NoData => "nodata",
        /// The name server failed.
        ServFail => "servfail",
        /// No answer in time.
        Timeout => "timeout",
        /// Anything else.
        Error => "error",
    }
}

label! {
    /// `tls_handshakes_total{outcome}`.
    Handshake {
        /// Established.
        Ok => "ok",
        /// One end did not accept the other's certificate.
        Certificate => "certificate",
        /// Not finished in time.
        Timeout => "timeout",
        /// Not TLS, no common version or cipher, or cut off.
        Error => "error",
    }
}

label! {
    /// `tls_certificate_not_after_timestamp_seconds{role}`: which certificate.
    CertificateRole {
        /// Shown to handsets by the TLS listeners.
        Listener => "listener",
        /// Shown to the upstream (mutual TLS).
        Client => "client",
        /// Shown by a target.
        Upstream => "upstream",
    }
}

label! {
    /// `limit{resource}`: what saturation is measured against.
    Resource {
        /// Server and client transactions together.
        Transactions => "transactions",
        /// Bindings known.
        Bindings => "bindings",
        /// Accepted TCP and TLS connections, on each side.
        Connections => "connections",
        /// Bytes of messages kept by requests under way, and those of connections.
        Memory => "memory",
    }
}
