//! The reference of all settings and the example file, made from the table.
//!
//! [`page`] is `docs/configuration.md`, [`example_file`] is `holdline.example.toml`; a test keeps both equal to what is made
//! here. What a setting is for in more than a sentence, and an example of it, stand here; the rest is in [`keys`](super::keys).

use std::fmt::Write as _;

use super::keys::{KEYS, Key};

/// What the table has no room for.
struct About {
    name: &'static str,
    /// A value that makes sense where the default would not show it.
    example: &'static str,
    /// Markdown, more than one sentence where it takes more.
    text: &'static str,
}

const fn about(name: &'static str, example: &'static str, text: &'static str) -> About {
    About { name, example, text }
}

/// In the order of [`KEYS`].
#[rustfmt::skip]
const ABOUT: &[About] = &[
    about("srv", "_sip._tls.pbx.example.com",
        "Looked up as it is written, as an absolute name. The transport comes from its labels: `_sip._udp` UDP, `_sip._tcp` TCP, \
         `_sip._tls`, `_sips._tls`, `_sip2._tls` and `_sips._tcp` TLS. `_sips._udp` would be DTLS, which Holdline does not speak. \
         Quotes, spaces and a trailing dot are taken off; a URI is refused with a hint. Given and not found is an error, not a blank: \
         the outbound proxy gets no packet then."),
    about("outbound_proxy", "pbx.example.com:5060",
        "A name or an address; without a port 5060, or 5061 with TLS. There is nothing to fail over to. Where `srv` is given as well, \
         `srv` wins, and the log says so."),
    about("transport", "tls", "With `srv` only where its labels do not say, or say wrong: `_sips._udp` with `transport = \"tls\"`, for instance."),
    about("domain", "pbx.example.com",
        "Where a handset registers at `sip:HOLDLINE`, this takes the place of `HOLDLINE` in the Request-URI. Without it: the SRV name \
         without its two labels. With an outbound proxy there is no such default."),
    about("domain_in_aor", "true", "For registrars that insist on their own domain in From and To. Needs `domain`, or `srv`."),
    about("alias", "sip.office.example.com", "Needed only where handsets send `Route: <sip:NAME;lr>` or register at a name that neither a listener nor its `advertise` has."),
    about("listen", "udp:0.0.0.0:5060",
        "One for each transport and address. `advertise` is what stands in Via and Record-Route towards handsets; without it, the address \
         that the packet arrived on. A wildcard address is never told to anybody. `tls` needs `tls_cert` and `tls_key`. Port 0 takes any \
         port, which the log says. The default is `[::]` where the machine has IPv6 addresses and, but for loopback, no IPv4 address."),
    about("tls_cert", "/etc/holdline/tls.crt", "The server's own certificate first, then its chain. Read together with `tls_key`: a pair that does not fit is not taken."),
    about("tls_key", "/etc/holdline/tls.key", "Without a passphrase; RSA, ECDSA or Ed25519."),
    about("upstream_bind", "0.0.0.0:5080",
        "One port for all targets. `0.0.0.0` means IPv6, too, where the machine has it. `advertise` is what stands in Via and Contact \
         towards the PBX, for instance a public address."),
    about("upstream_ca", "/etc/holdline/pbx-ca.crt", "A certificate of the PBX itself may be given, too: that very one is trusted then. Excludes `upstream_ca_only`."),
    about("upstream_ca_only", "/etc/holdline/pbx-ca.crt", "Excludes `upstream_ca`."),
    about("upstream_cert", "/etc/holdline/client.crt", "For a PBX that asks for one."),
    about("upstream_key", "/etc/holdline/client.key", ""),
    about("upstream_verify", "domain",
        "`domain` is also the name asked for (SNI), as with `either`; `target` asks for and verifies the SRV target's name. An SRV record is \
         not signed: with `target` and `either`, whoever can forge DNS answers can name a target whose certificate passes. The log says \
         which setting would have accepted a certificate that was refused. A static outbound proxy is verified by its own name."),
    about("upstream_allow", "198.51.100.0/24", "For PBXs whose calls come from other addresses than their SRV targets have. Targets of earlier answers stay admitted, the last 64 of them."),
    about("allow", "192.168.0.0/16", "Loopback, RFC 1918, CGNAT, ULA and link-local by default. A connection of somebody who is taken out is closed."),
    about("proxy_protocol", "10.0.0.0/8",
        "On the TCP and TLS listeners. A connection from there must begin with a header, and `allow`, the log and `holdline phones` go by the \
         handset that it names; without one it is closed. From anywhere else a header closes the connection, and the log says so. LOCAL \
         and UNKNOWN (health checks) stand for the load balancer itself."),
    about("contact", "rewrite",
        "`rewrite` works with every registrar. `path` leaves the handset's Contact alone and adds a Path header, if the handset says \
         `Supported: path`; else it is as `rewrite`. A change makes every handset look like a new one to the PBX until the old registrations expire."),
    about("contact_key", "/etc/holdline/contact.key", "Give the same file to instances that replace each other, and to all of a fleet (`cluster`), so that handsets keep their Contacts. `openssl rand -hex 32` makes one."),
    about("sips", "refuse", "Over a TLS upstream `sips:` stays `sips:`. Over UDP and TCP the PBX could not reach such a Contact: it becomes `sip:`, with a warning that what it promises ends at Holdline. `refuse`: 416 to a REGISTER with a `sips:` Contact, and to a request outside a dialog that asks for a `sips:` address."),
    about("register_interval", "300", "How soon a fleet is reachable again after a rollover. Load is handsets ÷ interval."),
    about("selection", "highest-weight", "Priorities always come first. Ties are broken by name and port, so that a refresh reorders nothing."),
    about("failures", "3", "No timer is involved: three in three milliseconds and in three hours are the same. A change is compared at the next failure and moves nobody by itself."),
    about("failure_codes", "408,500,502,503,504", "From 300 to 699. 401 and 407 cannot be among them: a challenge is how every registration begins. Silence and broken connections always count."),
    about("min_handsets", "2", "With 1 a single handset that the PBX refuses to serve can move a fleet. With 2, and one handset only, nothing ever rolls over."),
    about("retry", "true", "`false`: each of a handset's REGISTERs is one attempt, answered as it comes. So it is, whatever this says, for a handset \
         that this PBX never served while others are served (docs/adr/0017-evidence.md)."),
    about("attempt_timeout", "4s", "On UDP 4 s are sends at 0, 0.5, 1.5 and 3.5 s. From 100 ms to 32 s, and not longer than `retry_deadline`."),
    about("retry_deadline", "15s", "From 100 ms to 32 s. Room for three attempts, and below what the handsets wait: see [phones.md](phones.md)."),
    about("connect_timeout", "3s", "From 100 ms to 32 s; the TLS handshake included. `attempt_timeout` ends a connect, too."),
    about("upstream_keepalive", "25s", "From 5 s to 1 h. A double CRLF on every open way to a target (RFC 5626 section 4.4.1): what lies between forgets a silent one."),
    about("exhausted", "silent", "`silent` makes a handset try again on its short timer, where an error code would send many to their long one."),
    about("invite_alternate", "true", "An INVITE that meets a transport error, or 4 s without any answer. Neither the active target nor the count changes."),
    about("nameserver", "192.0.2.53", "Port 53 without a port. Asked with EDNS(0) and the letters of the name in mixed case; a server or firewall that cannot bear that is asked without, and over TCP where nothing else passes: no setting is needed, and what worked is remembered for an hour. DNS over TLS is not spoken; a resolver on the same machine can."),
    about("state_dir", "/var/lib/holdline", "One directory for one Holdline. Damaged, full or read-only it is a warning, and handsets are served all the same. Without it a restart goes back to the first target."),
    about("control", "/run/holdline/control.sock", ""),
    about("drain_timeout", "25s", "Up to 1 h. Keep it below the time that the process is given to end (`terminationGracePeriodSeconds`, `TimeoutStopSec`)."),
    about("admin", "127.0.0.1:9460", "Nothing there changes anything, and nothing shows who the handsets are. On an address that others reach, a firewall or `admin_token_file` says who may look: see [security.md](security.md#admin-address)."),
    about("admin_host", "proxy1.example.com", "A request by any other name gets 421: a web site whose name is made to point here cannot read it through a browser. A Prometheus that scrapes by name needs that name here."),
    about("admin_token_file", "/etc/holdline/admin.token", "Sent as `Authorization: Bearer TOKEN`, in the clear: on a network that others listen to, put a TLS proxy before it. `openssl rand -hex 32` makes one. Surrounding white space does not count. `holdline status` takes the same setting; Prometheus has `authorization.credentials_file`."),
    about("instance", "branch-berlin", "Any text of at most 64 characters that fits on a line: for whoever looks at several status pages, and for the other instances of a fleet, which name it as the one that decided."),
    about("cluster", "redis+sentinel://sentinel1,sentinel2,sentinel3/mymaster",
        "`redis://[USER@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS, `redis+sentinel://HOST[:PORT],HOST[:PORT]/NAME` for Sentinels that \
         know the server by that name, `rediss+sentinel://` with TLS to both. Redis 6.2 or later, or Valkey. The system's certificate \
         authorities are trusted. What waits for it, and for how long, is in [scaling.md](scaling.md#several-that-act-as-one)."),
    about("cluster_name", "office", "The same for all instances that share handsets and a PBX. Letters, digits, `-`, `_`, `.` and `:`."),
    about("cluster_password_file", "/etc/holdline/redis.password", "For the user in `cluster`, or for the server's `requirepass`. Surrounding white space does not count. Sentinels are asked without it first, then with it."),
    about("on_rollover", "https://hooks.example.com/holdline",
        "Commas part nothing here: a program's arguments are a list in the file (`[\"/usr/local/bin/page\", \"--team\", \"voice\"]`), or the flag \
         repeated. It is run without a shell, gets the JSON on standard input, and is killed after 30 s. A web hook is tried again for five \
         minutes unless it answers 2xx, or 4xx other than 408, 425 and 429; the system's certificate authorities are trusted. Nothing \
         waits for either. The fields: [runbook.md](runbook.md#rolled-over). An address with a secret in its path belongs into the file: \
         arguments are seen by every user of the machine."),
    about("hep", "udp://homer.example.com:9060",
        "What each side received and sent, in clear also where it goes over TLS, with the Call-ID as correlation ID, so that both legs of a call \
         are one there. Digest answers, passwords in URIs and keys of media are masked. Over `udp` and `tcp` the copies can be read on their way; \
         `tls` verifies the receiver by the system's certificate authorities. Nothing waits for the receiver: what it does not take is \
         dropped and counted (`holdline_hep_packets_total`)."),
    about("hep_capture_id", "2001", ""),
    about("hep_methods", "INVITE,ACK,BYE,CANCEL", "Answers go with their method. REGISTER is most of the traffic of a quiet site."),
    about("hep_share", "10", ""),
    about("log_format", "json", "Its fields: [logs.md](logs.md)."),
    about("log_level", "info", "For Holdline's own lines; libraries stay at `warn`. The environment variable `RUST_LOG`, where it is set, replaces it and cannot be changed while Holdline runs."),
    about("limit_transactions", "65536", "From 16 to 10000000."),
    about("limit_bindings", "65536", "From 1 to 10000000."),
    about("limit_memory", "256", "From 8 to 65536. What there is: the container's memory limit, or else the machine's memory. A quarter of it, at most 64 MiB, is for connections: beyond, the one that holds most is closed. The rest is for requests under way: beyond, a new one gets 503, that of a source which holds an eighth of it first."),
    about("limit_failing", "20", "A scanner that guesses names through Holdline must not get Holdline banned by the PBX. What fails: any final answer but 2xx, 3xx, 423, 486, 487, 600 and 603, or none. A request that succeeds pays for ten. Beyond, a datagram is dropped, and on TCP and TLS the answer is 503. Handsets that this PBX has served are never throttled, and nobody is while none is known."),
    about("limit_datagram", "16384", "From 1024 to 65535. A longer one gets 513."),
    about("io_threads", "1", "From 1 to 64. SIP itself is one thread's work; with TLS on neither side there are no others."),
    about("limit_connections", "16384", "From 1 to 1000000. Each is a file descriptor: the system's limit must allow them."),
];

fn about_of(key: &Key) -> &'static About {
    ABOUT.iter().find(|about| about.name == key.name).expect("every key is written about")
}

/// `docs/configuration.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| setting | default | live | |\n|---|---|---|---|\n");
    for key in KEYS {
        let default =
            if key.default.is_empty() { String::new() } else { format!("`{}`", key.default.replace(',', "`, `")) };
        let live = if key.live { "yes" } else { "restart" };
        let help = key.help.replace('|', "\\|");
        line(&mut page, &format!("| [`{0}`](#{0}) | {default} | {live} | {help} |", key.name));
    }
    for key in KEYS {
        section(&mut page, key);
    }
    page
}

const HEAD: &str = "\
# Configuration

<!-- made from src/config/keys.rs and src/config/reference.rs: HOLDLINE_BLESS=1 cargo test reference -->

Every setting of `holdline run`. Flags win over variables, variables over the file, the file over defaults. The file is TOML, named
by `--config FILE` or `HOLDLINE_CONFIG`; [holdline.example.toml](../holdline.example.toml) has every setting in it with its default.
Where several values may be given, the flag is repeated, the file has a list, and commas do in all three. Durations are written `4s`,
`500ms`, `1m`, or as seconds. An empty variable says nothing, but for `HOLDLINE_SRV` and `HOLDLINE_OUTBOUND_PROXY`, whose blank is
an answer: there is none.

A mistake is reported in one line that names the setting, the value, where it came from and what would be right. `holdline run --check`
validates, certificates included, and leaves: it refuses what `run` would refuse on this machine, and warns of what `run` would warn
of; a port or a state directory that is in use is not its business. Exit codes: 0 clean stop, 64 wrong command line, 78 bad configuration, 69 something
is unavailable (a port in use), 1 anything else. SIGTERM drains: new dialogs are refused with 503, what is under way is finished.

`holdline completions bash` prints completions for a shell, `holdline man` and `holdline man run` manual pages.

The file, and every file it names, is read again within four seconds after it has changed, and at once on SIGHUP. *Live* settings take
effect then; the others at the next start, which the log says. A mistake in them changes nothing: the old settings stay, the log
says why, and `holdline_config_last_reload_successful` is 0 until it is repaired. Flags and variables win over the file then, too.

";

fn section(page: &mut String, key: &Key) {
    let about = about_of(key);
    line(page, &format!("\n## {}\n", key.name));
    line(page, &format!("{}.", key.help));
    if !about.text.is_empty() {
        line(page, &format!("\n{}", about.text));
    }
    let several = if key.many { ", several" } else { "" };
    let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
    let live = if key.live { "yes" } else { "no, needs a restart" };
    line(page, "\n| | |\n|---|---|");
    line(page, &format!("| flag | `--{} {}`{several} |", key.flag, key.value.replace('|', "\\|")));
    line(page, &format!("| variable | `{}` |", key.variable));
    line(page, &format!("| file | `{} = {}` |", key.name, toml(key, about.example)));
    line(page, &format!("| default | {default} |"));
    line(page, &format!("| changes live | {live} |"));
}

/// `holdline.example.toml`: every setting with its default, as a comment where it has none.
#[must_use]
pub fn example_file() -> String {
    let mut file = String::from(EXAMPLE_HEAD);
    for key in KEYS {
        let about = about_of(key);
        line(&mut file, &format!("\n# {}.", key.help));
        let value = if key.default.is_empty() { "" } else { key.default };
        match (key.name, value) {
            // Something has to be forwarded to.
            ("srv", _) => line(&mut file, &format!("{} = {}", key.name, toml(key, about.example))),
            (_, "") => line(&mut file, &format!("# {} = {}", key.name, toml(key, about.example))),
            (_, default) => line(&mut file, &format!("{} = {}", key.name, toml(key, default))),
        }
    }
    file
}

const EXAMPLE_HEAD: &str = "\
# Every setting of `holdline run` with its default; those without one are commented out. Only `srv` has to be changed.
# Flags (--attempt-timeout) and variables (HOLDLINE_ATTEMPT_TIMEOUT) win over this file. docs/configuration.md says more.
#
# Check it:  holdline run --config holdline.example.toml --check
# Made from src/config/keys.rs: HOLDLINE_BLESS=1 cargo test reference
";

/// A value as one would write it in the file.
fn toml(key: &Key, value: &str) -> String {
    let bare = |item: &str| {
        item == "true" || item == "false" || (!item.is_empty() && item.bytes().all(|b| b.is_ascii_digit()))
    };
    let one = |item: &str| if bare(item) { item.to_owned() } else { format!("\"{item}\"") };
    if key.many {
        let items: Vec<String> = value.split(',').map(one).collect();
        return format!("[{}]", items.join(", "));
    }
    one(value)
}

fn line(text: &mut String, line: &str) {
    // Into a String, that is.
    let _ = writeln!(text, "{line}");
}
