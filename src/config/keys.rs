//! Every setting: its name as flag, as variable and in the file, its default and its help text, once.
//!
//! The command line, the file reader, "did you mean" and the tables in docs/configuration.md are all made from this list.

/// One setting of `holdline run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As in the TOML file.
    pub name: &'static str,
    /// As on the command line, without the dashes.
    pub flag: &'static str,
    /// As in the environment.
    pub variable: &'static str,
    /// The form of a value.
    pub value: &'static str,
    /// The default as one would write it; empty where there is none.
    pub default: &'static str,
    /// Whether several values may be given (flag repeated; list in the file; commas).
    pub many: bool,
    /// Whether a running Holdline takes a new value from the file; else a restart is needed.
    pub live: bool,
    /// One sentence.
    pub help: &'static str,
}

const fn key(
    name: &'static str,
    flag: &'static str,
    variable: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, flag, variable, value, default, many: false, live: false, help }
}

const fn many(key: Key) -> Key {
    Key { many: true, ..key }
}

const fn live(key: Key) -> Key {
    Key { live: true, ..key }
}

/// All settings, in the order in which they are best read.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("srv", "srv", "HOLDLINE_SRV", "NAME", "",
        "SRV record of the PBX, e.g. _sip._tls.pbx.example.com; blank: the outbound proxy is the only target"),
    key("outbound_proxy", "outbound-proxy", "HOLDLINE_OUTBOUND_PROXY", "HOST[:PORT]", "",
        "Static target, used only where srv is blank"),
    key("transport", "transport", "HOLDLINE_TRANSPORT", "udp|tcp|tls", "",
        "Transport to the PBX where the SRV name does not say, or says wrong; outbound proxy: udp"),
    key("domain", "domain", "HOLDLINE_DOMAIN", "NAME", "",
        "The PBX's SIP domain, for handsets whose registrar is Holdline; else the SRV name without its two labels"),
    key("domain_in_aor", "domain-in-aor", "HOLDLINE_DOMAIN_IN_AOR", "true|false", "false",
        "Map From and To to the domain as well, and back"),
    live(many(key("alias", "alias", "HOLDLINE_ALIAS", "NAME", "",
        "Further names or addresses by which handsets know this Holdline"))),
    many(key("listen", "listen", "HOLDLINE_LISTEN", "udp|tcp|tls:ADDR:PORT[,advertise=HOST[:PORT]]",
        "udp:0.0.0.0:5060,tcp:0.0.0.0:5060", "Where handsets connect")),
    live(key("tls_cert", "tls-cert", "HOLDLINE_TLS_CERT", "FILE", "",
        "Certificate chain (PEM) of the tls listeners")),
    live(key("tls_key", "tls-key", "HOLDLINE_TLS_KEY", "FILE", "",
        "Private key (PEM) of the tls listeners")),
    key("upstream_bind", "upstream-bind", "HOLDLINE_UPSTREAM_BIND", "IP[:PORT][,advertise=HOST[:PORT]]", "0.0.0.0:5080",
        "Where requests to the PBX leave from and its calls arrive"),
    live(key("upstream_ca", "upstream-ca", "HOLDLINE_UPSTREAM_CA", "FILE", "",
        "Certificate authorities (PEM) to trust beside the system's")),
    live(key("upstream_ca_only", "upstream-ca-only", "HOLDLINE_UPSTREAM_CA_ONLY", "FILE", "",
        "Certificate authorities (PEM) to trust instead of the system's")),
    live(key("upstream_cert", "upstream-cert", "HOLDLINE_UPSTREAM_CERT", "FILE", "",
        "Certificate chain (PEM) shown to the PBX (mutual TLS)")),
    live(key("upstream_key", "upstream-key", "HOLDLINE_UPSTREAM_KEY", "FILE", "",
        "Private key (PEM) of upstream_cert")),
    live(key("upstream_verify", "upstream-verify", "HOLDLINE_UPSTREAM_VERIFY", "domain|target|either", "domain",
        "Which name the PBX's certificate must carry: the SRV name's domain (RFC 5922), the SRV target, or either")),
    live(many(key("upstream_allow", "upstream-allow", "HOLDLINE_UPSTREAM_ALLOW", "CIDR", "",
        "Who may send to the upstream side, beside the targets"))),
    live(many(key("allow", "allow", "HOLDLINE_ALLOW", "CIDR",
        "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,fc00::/7,fe80::/10",
        "Who may send to the phone side; behind an address-translating load balancer the default admits everybody"))),
    many(key("proxy_protocol", "proxy-protocol", "HOLDLINE_PROXY_PROTOCOL", "CIDR", "",
        "Load balancers that say with a PROXY header (version 1 or 2) whose connection it is")),
    key("contact", "contact", "HOLDLINE_CONTACT", "rewrite|path", "rewrite",
        "How the PBX reaches a handset: by Holdline's own Contact, or by Path (RFC 3327) where the handset supports it"),
    key("contact_key", "contact-key", "HOLDLINE_CONTACT_KEY", "FILE", "",
        "Secret behind the user parts Holdline hands out (16 bytes or more); else kept in state_dir, else drawn at start"),
    live(key("sips", "sips", "HOLDLINE_SIPS", "downgrade|refuse", "downgrade",
        "A handset that registers or calls sips: where the upstream is not TLS: its Contact becomes sip:, or it gets 416")),
    live(key("register_interval", "register-interval", "HOLDLINE_REGISTER_INTERVAL", "SECONDS", "300",
        "Longest registration granted to a handset, 60 or more; 0: exactly what the PBX grants")),
    key("selection", "selection", "HOLDLINE_SELECTION", "highest-weight|weighted", "highest-weight",
        "Order within an SRV priority: by weight, or drawn at random by weight once per record set (RFC 2782)"),
    live(key("failures", "failures", "HOLDLINE_FAILURES", "N", "3",
        "Failed REGISTER attempts in a row that make the next target active")),
    live(many(key("failure_codes", "failure-codes", "HOLDLINE_FAILURE_CODES", "CODE", "408,500,502,503,504",
        "Answers that count as a failed attempt"))),
    live(key("min_handsets", "min-handsets", "HOLDLINE_MIN_HANDSETS", "N", "1",
        "Different handsets that the failures must come from")),
    live(key("retry", "retry", "HOLDLINE_RETRY", "true|false", "true",
        "Try a failed REGISTER again within the handset's own transaction")),
    live(key("attempt_timeout", "attempt-timeout", "HOLDLINE_ATTEMPT_TIMEOUT", "DURATION", "4s",
        "An attempt without any answer has failed after this long")),
    live(key("retry_deadline", "retry-deadline", "HOLDLINE_RETRY_DEADLINE", "DURATION", "15s",
        "No further try later than this after the handset's REGISTER came in")),
    live(key("connect_timeout", "connect-timeout", "HOLDLINE_CONNECT_TIMEOUT", "DURATION", "3s",
        "A TCP or TLS connection not established after this long has failed")),
    live(key("upstream_keepalive", "upstream-keepalive", "HOLDLINE_UPSTREAM_KEEPALIVE", "DURATION", "25s",
        "A keep-alive goes to the PBX after so long without traffic, 5s or more; 0: none. It says nothing about failover")),
    live(key("exhausted", "exhausted", "HOLDLINE_EXHAUSTED", "silent|503", "silent",
        "What the handset sees after the deadline: nothing, as from a dead PBX (RFC 4320), or a 503")),
    live(key("invite_alternate", "invite-alternate", "HOLDLINE_INVITE_ALTERNATE", "true|false", "true",
        "Try an unanswered INVITE once on the next target (RFC 3263 section 4.3)")),
    live(many(key("nameserver", "nameserver", "HOLDLINE_NAMESERVER", "IP[:PORT]", "",
        "Name servers to ask instead of the system's"))),
    key("state_dir", "state-dir", "HOLDLINE_STATE_DIR", "DIR", "",
        "Directory for the active target, the last good record set and the bindings; without it a restart forgets them"),
    key("control", "control", "HOLDLINE_CONTROL", "SOCKET-PATH", "",
        "Unix socket (mode 0600) for holdline phones, roll and trace; else control.sock in state_dir, if there is one"),
    live(key("drain_timeout", "drain-timeout", "HOLDLINE_DRAIN_TIMEOUT", "DURATION", "25s",
        "After SIGTERM, leave at the latest after this long")),
    key("admin", "admin", "HOLDLINE_ADMIN", "ADDR:PORT", "127.0.0.1:9460",
        "Where the status page, /metrics, /livez, /readyz and /status are served"),
    live(many(key("admin_host", "admin-host", "HOLDLINE_ADMIN_HOST", "NAME", "",
        "Host names by which the admin address may be asked for, beside addresses and localhost"))),
    live(key("admin_token_file", "admin-token-file", "HOLDLINE_ADMIN_TOKEN_FILE", "FILE", "",
        "Bearer token (16 characters or more) that every page but /livez and /readyz asks for")),
    key("instance", "instance", "HOLDLINE_INSTANCE", "NAME", "",
        "Name of this instance in the log's first line, on the status page, in /status, in metrics and in its fleet; else the machine's"),
    key("cluster", "cluster", "HOLDLINE_CLUSTER", "URL", "",
        "Redis or Valkey that several instances share to have one active target; blank: this instance is alone"),
    key("cluster_name", "cluster-name", "HOLDLINE_CLUSTER_NAME", "NAME", "",
        "Name of the fleet in the shared memory; else the SRV name, or the outbound proxy"),
    key("cluster_password_file", "cluster-password-file", "HOLDLINE_CLUSTER_PASSWORD_FILE", "FILE", "",
        "File with the password of the shared memory"),
    many(key("on_rollover", "on-rollover", "HOLDLINE_ON_ROLLOVER", "URL|PROGRAM", "",
        "Who is told of a rollover: a web hook (https://...) that gets a JSON POST, or a program with its arguments")),
    key("hep", "hep", "HOLDLINE_HEP", "udp|tcp|tls://HOST:PORT", "",
        "Receiver of copies of all messages in HEP3, a Homer for instance; secrets in them are masked"),
    key("hep_capture_id", "hep-capture-id", "HOLDLINE_HEP_CAPTURE_ID", "N", "2001",
        "Number by which the HEP receiver knows this Holdline"),
    many(key("hep_methods", "hep-methods", "HOLDLINE_HEP_METHODS", "METHOD", "",
        "Only messages of these methods go to the HEP receiver; else all")),
    key("hep_share", "hep-share", "HOLDLINE_HEP_SHARE", "PERCENT", "100",
        "Share of calls (by Call-ID, 1 to 100) that goes to the HEP receiver, each as a whole or not at all"),
    key("log_format", "log-format", "HOLDLINE_LOG_FORMAT", "text|json", "text",
        "Form of the log on standard error"),
    live(key("log_level", "log-level", "HOLDLINE_LOG_LEVEL", "error|warn|info|debug|trace", "info",
        "Log this and what is more serious; RUST_LOG wins")),
    live(key("limit_transactions", "limit-transactions", "HOLDLINE_LIMIT_TRANSACTIONS", "N", "65536",
        "Transactions at once; beyond them new requests get 503")),
    live(key("limit_bindings", "limit-bindings", "HOLDLINE_LIMIT_BINDINGS", "N", "65536",
        "Handsets' bindings at once; beyond them a further handset's REGISTER gets 503")),
    key("limit_memory", "limit-memory", "HOLDLINE_LIMIT_MEMORY", "MIB", "",
        "Mebibytes of messages kept at once, half-read ones included; else a quarter of what there is, at most 512"),
    live(key("limit_failing", "limit-failing", "HOLDLINE_LIMIT_FAILING", "N", "20",
        "Requests in ten seconds that one source may let fail, of handsets never served; three times as many at once; 0: any number")),
    live(key("limit_datagram", "limit-datagram", "HOLDLINE_LIMIT_DATAGRAM", "BYTES", "16384",
        "Longest datagram with a request of a handset that is neither INVITE nor MESSAGE")),
    key("io_threads", "io-threads", "HOLDLINE_IO_THREADS", "N", "",
        "Threads for TLS handshakes and records; else one for each core but one"),
    live(key("limit_connections", "limit-connections", "HOLDLINE_LIMIT_CONNECTIONS", "N", "16384",
        "TCP and TLS connections accepted at once, on each side; beyond them new ones are closed")),
];

/// The setting of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known name closest to an unknown one, where they are close enough that it was probably meant.
#[must_use]
pub fn closest(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_lowercase().replace('-', "_");
    KEYS.iter()
        .map(|key| (distance(&unknown, key.name), key.name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .map(|(_, name)| name)
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_of_a_key_agree() {
        for key in KEYS {
            assert_eq!(key.flag, key.name.replace('_', "-"));
            assert_eq!(key.variable, format!("HOLDLINE_{}", key.name.to_uppercase()));
            assert!(!key.help.ends_with('.') && !key.help.is_empty(), "{}", key.name);
        }
    }

    #[test]
    fn a_typo_finds_its_key() {
        for (typo, meant) in [
            ("srvv", Some("srv")),
            ("outbound-proxy", Some("outbound_proxy")),
            ("Attempt_Timout", Some("attempt_timeout")),
            ("retry_dedline", Some("retry_deadline")),
            ("colour", None),
            ("service_host", None),
        ] {
            assert_eq!(closest(typo), meant, "{typo}");
        }
    }
}
