//! Configuration through the real binary: every mistake is one line that names key, value and remedy, with the right
//! exit code; every source is heard in its order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::binary;
use crate::support::installed::{installed, not_run};

const SRV: &str = "--srv=_sip._udp.pbx.example.com";

/// Files that mistakes are made with.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        for name in ["a", "b"] {
            let key = rcgen::generate_simple_self_signed(vec!["holdline.example".to_owned()]).unwrap();
            files.write(&format!("{name}.crt"), &key.cert.pem());
            files.write(&format!("{name}.key"), &key.signing_key.serialize_pem());
        }
        files.write("empty.pem", "");
        files.write("short.secret", "0123456789\n");
        files.write("long.secret", "0123456789abcdef\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

fn holdline(arguments: &[&str], variables: &[(&str, &str)], dir: &Path) -> Output {
    binary::holdline(arguments).envs(variables.iter().copied()).current_dir(dir).output().unwrap()
}

/// `holdline run --check` must refuse with this code and one line with all these parts.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str], what: &str) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {line}");
    assert_eq!(line.lines().count(), 1, "{what}: one line, not\n{line}");
    for part in parts {
        assert!(line.contains(part), "{what}: no {part:?} in {line}");
    }
    assert!(output.stdout.is_empty(), "{what}");
}

/// What `--check` prints of a configuration it accepts.
#[track_caller]
fn accepted(output: &Output, what: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what}: {stderr}");
    assert_eq!(stderr, "", "{what}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_bad_flag_is_one_line_with_key_value_and_remedy() {
    let files = Files::new();
    let table: &[(&[&str], &[&str])] = &[
        // Neither source of targets, in the spellings of blank.
        (&[], &["srv: blank, and so is outbound_proxy", "--srv _sip._udp", "--outbound-proxy"]),
        (&["--srv", ""], &["srv", "--srv", "outbound_proxy"]),
        (&["--srv", "   ", "--outbound-proxy", ""], &["srv", "outbound_proxy"]),
        (&["--srv", "\"\""], &["srv", "outbound_proxy"]),
        // SRV names.
        (&["--srv", "_sips._udp.example.com"], &["srv", "_sips._udp.example.com", "--srv", "DTLS", "--transport"]),
        (
            &["--srv", "sip:alice@pbx.example.com"],
            &["srv", "sip:alice@pbx.example.com", "URI", "_sip._udp.pbx.example.com"],
        ),
        (&["--srv", "pbx.example.com"], &["srv", "pbx.example.com", "--transport"]),
        (&["--srv", "_sip._sctp.example.com"], &["srv", "_sctp", "_udp, _tcp and _tls"]),
        (&["--srv", "_sip._udp"], &["srv", "domain"]),
        (&["--srv", "_sip._udp.exa mple.com"], &["srv", "space"]),
        (&["--srv", "_sip._udp.example.com:5060"], &["srv", "port", "_sip._udp.example.com"]),
        (&["--srv", "192.0.2.1"], &["srv", "192.0.2.1", "outbound_proxy"]),
        (&["--srv", "_sip._udp.a\nb"], &["srv", "a\\nb"]),
        // Outbound proxy.
        (&["--outbound-proxy", "sip:pbx.example.com;lr"], &["outbound_proxy", "enter only the host: pbx.example.com"]),
        (&["--outbound-proxy", "_sip._udp.example.com"], &["outbound_proxy", "give it as srv"]),
        (&["--outbound-proxy", "pbx.example.com:0"], &["outbound_proxy", "pbx.example.com:0", "1 to 65535"]),
        (&["--outbound-proxy", "pbx.example.com:99999"], &["outbound_proxy", "1 to 65535"]),
        (&["--outbound-proxy", "pbx..example.com"], &["outbound_proxy", "not a host name"]),
        (&[SRV, "--outbound-proxy", "pbx.example.com:0"], &["outbound_proxy", "1 to 65535"]),
        (&[SRV, "--transport", "sctp"], &["transport", "sctp", "udp, tcp or tls"]),
        (&[SRV, "--transport", "dtls"], &["transport", "dtls", "DTLS is not supported"]),
        (&[SRV, "--domain", "sip:example.com"], &["domain", "enter only the host: example.com"]),
        (&["--outbound-proxy", "pbx.example.com", "--domain-in-aor", "true"], &["domain_in_aor", "needs domain"]),
        (&[SRV, "--domain-in-aor", "yes"], &["domain_in_aor", "yes", "true or false"]),
        (&[SRV, "--alias", "not a name"], &["alias", "not a name", "not a host name"]),
        // Listeners.
        (&[SRV, "--listen", "0.0.0.0:5060"], &["listen", "0.0.0.0:5060", "udp:0.0.0.0:5060"]),
        (&[SRV, "--listen", "udp:5060"], &["listen", "udp:5060", "udp:0.0.0.0:5060"]),
        (&[SRV, "--listen", "sctp:0.0.0.0:5060"], &["listen", "sctp", "udp, tcp or tls"]),
        (&[SRV, "--listen", "udp:0.0.0.0:65536"], &["listen", "65536", "1 to 65535"]),
        (&[SRV, "--listen", "udp:0.0.0.0:5060,advertise=0.0.0.0"], &["listen", "advertise", "wildcard"]),
        (&[SRV, "--listen", "udp:0.0.0.0:5060,advertise=h:0"], &["listen", "1 to 65535"]),
        (&[SRV, "--listen", "udp:0.0.0.0:5060;advertise=h"], &["listen", "write udp:0.0.0.0:5060"]),
        (&[SRV, "--listen", "udp:127.0.0.1:5060,udp:0.0.0.0:5060"], &["listen", "already taken by listen", "own port"]),
        (&[SRV, "--listen", "udp:0.0.0.0:5080"], &["upstream_bind", "5080", "already taken by listen"]),
        (&[SRV, "--admin", "0.0.0.0:5060"], &["admin", "0.0.0.0:5060", "already taken by listen"]),
        (&[SRV, "--listen", ","], &["listen", "udp:0.0.0.0:5060"]),
        (&[SRV, "--upstream-bind", "eth0"], &["upstream_bind", "eth0", "not an address"]),
        (&[SRV, "--upstream-bind", "0.0.0.0:70000"], &["upstream_bind", "1 to 65535"]),
        (&[SRV, "--upstream-bind", "0.0.0.0,advertise=[::]"], &["upstream_bind", "wildcard"]),
        (&[SRV, "--upstream-bind", "0.0.0.0,public=1.2.3.4"], &["upstream_bind", "advertise=HOST"]),
        (&[SRV, "--admin", "9460"], &["admin", "9460", "127.0.0.1:9460"]),
        // Certificates.
        (&[SRV, "--listen", "tls:0.0.0.0:5061"], &["tls_cert", "tls_key", "tls entry"]),
        (&[SRV, "--tls-cert", "a.crt"], &["tls_cert", "a.crt", "needs tls_key"]),
        (&[SRV, "--tls-key", "a.key"], &["tls_key", "a.key", "needs tls_cert"]),
        (&[SRV, "--tls-cert", "none.crt", "--tls-key", "a.key"], &["tls_cert", "none.crt", "cannot be read"]),
        (&[SRV, "--tls-cert", "a.crt", "--tls-key", "b.key"], &["tls_key", "b.key", "does not belong", "a.crt"]),
        (&[SRV, "--tls-cert", "a.key", "--tls-key", "a.key"], &["tls_cert", "no PEM certificate"]),
        (&[SRV, "--tls-cert", "a.crt", "--tls-key", "a.crt"], &["tls_key", "no PEM private key"]),
        (&[SRV, "--tls-cert", "a.crt", "--tls-key", "."], &["tls_key", "cannot be read"]),
        (&[SRV, "--upstream-cert", "a.crt", "--upstream-key", "b.key"], &["upstream_key", "does not belong"]),
        (&[SRV, "--upstream-ca", "empty.pem"], &["upstream_ca", "empty.pem", "no PEM certificate"]),
        (&[SRV, "--upstream-ca-only", "none.pem"], &["upstream_ca_only", "cannot be read"]),
        (
            &[SRV, "--upstream-ca", "a.crt", "--upstream-ca-only", "a.crt"],
            &["upstream_ca", "contradicts upstream_ca_only"],
        ),
        (&[SRV, "--upstream-verify", "none"], &["upstream_verify", "none", "domain or target or either"]),
        // Networks.
        (&[SRV, "--allow", "10.0.0.0/33"], &["allow", "10.0.0.0/33", "192.168.0.0/16"]),
        (&[SRV, "--allow", "office"], &["allow", "office", "not a network"]),
        (&[SRV, "--allow", ","], &["allow", "admits nobody"]),
        (&[SRV, "--proxy-protocol", "balancer"], &["proxy_protocol", "balancer", "not a network"]),
        (&[SRV, "--cluster", "redis.example.com"], &["cluster", "write redis://HOST[:PORT]"]),
        (&[SRV, "--cluster", "redis://u:s3cret@h"], &["cluster", "cluster_password_file"]),
        (&[SRV, "--cluster", "redis://u@h"], &["cluster", "names a user", "cluster_password_file"]),
        (&[SRV, "--cluster", "redis+sentinel://h"], &["cluster", "the Sentinels know the server by"]),
        (&[SRV, "--cluster", "redis://h", "--cluster-name", "{x}"], &["cluster_name", "{x}", "letters, digits"]),
        (&[SRV, "--cluster", "redis://h", "--cluster-password-file", "absent"], &["cluster_password_file", "absent"]),
        (&[SRV, "--hep", "homer.example.com"], &["hep", "homer.example.com", "write udp://HOST:9060"]),
        (&[SRV, "--hep", "udp://homer.example.com"], &["hep", "write udp://HOST:9060"]),
        (&[SRV, "--hep", "http://homer.example.com:9060"], &["hep", "write udp://HOST:9060"]),
        (&[SRV, "--hep-methods", "invite"], &["hep_methods", "invite", "write INVITE,BYE"]),
        (&[SRV, "--hep-share", "0"], &["hep_share", "0"]),
        (&[SRV, "--on-rollover", "page.sh"], &["on_rollover", "absolute path of a program"]),
        (&[SRV, "--on-rollover", "ftp://h/"], &["on_rollover", "only http:// and https://"]),
        (&[SRV, "--on-rollover", "https://h/", "--on-rollover", "x"], &["on_rollover", "one address, or a program"]),
        (&[SRV, "--on-rollover", " "], &["on_rollover", "must not be blank"]),
        (&[SRV, "--upstream-allow", "10.0.0/8"], &["upstream_allow", "10.0.0/8", "not a network"]),
        (
            &[SRV, "--nameserver", "dns.example.com"],
            &["nameserver", "dns.example.com", "not an address; write 192.0.2.1:53 "],
        ),
        (&[SRV, "--nameserver", "192.0.2.1:dns"], &["nameserver", "1 to 65535"]),
        // Words and numbers.
        (&[SRV, "--contact", "gruu"], &["contact", "gruu", "rewrite or path"]),
        (&[SRV, "--contact-key", "short.secret"], &["contact_key", "10 bytes", "openssl rand"]),
        (&[SRV, "--contact-key", "none"], &["contact_key", "cannot be read"]),
        (&[SRV, "--register-interval", "59"], &["register_interval", "59", "60 or more"]),
        (&[SRV, "--register-interval", "often"], &["register_interval", "often", "not a duration"]),
        (&[SRV, "--selection", "random"], &["selection", "random", "highest-weight or weighted"]),
        (&[SRV, "--failures", "0"], &["failures", "0", "from 1"]),
        (&[SRV, "--failures", "three"], &["failures", "three", "whole number"]),
        (&[SRV, "--failure-codes", "500,200"], &["failure_codes", "200", "300 to 699"]),
        (&[SRV, "--failure-codes", "401"], &["failure_codes", "401", "challenge"]),
        (&[SRV, "--min-handsets", "0"], &["min_handsets", "0", "from 1"]),
        (&[SRV, "--retry", "1"], &["retry", "true or false"]),
        (&[SRV, "--attempt-timeout", "4 parsecs"], &["attempt_timeout", "4 parsecs", "4s, 500ms"]),
        (&[SRV, "--attempt-timeout", "0"], &["attempt_timeout", "100ms"]),
        (&[SRV, "--attempt-timeout", "16s"], &["attempt_timeout", "16s", "retry_deadline"]),
        (&[SRV, "--retry-deadline", "33s"], &["retry_deadline", "33s", "32s"]),
        (&[SRV, "--connect-timeout", "-1"], &["connect_timeout", "-1", "not a duration"]),
        (&[SRV, "--exhausted", "500"], &["exhausted", "500", "silent or 503"]),
        (&[SRV, "--sips", "ignore"], &["sips", "ignore", "downgrade or refuse"]),
        (&[SRV, "--invite-alternate", "no"], &["invite_alternate", "no", "true or false"]),
        (&[SRV, "--drain-timeout", "1d"], &["drain_timeout", "1d", "not a duration"]),
        (&[SRV, "--state-dir", "a.crt"], &["state_dir", "a.crt", "not a directory"]),
        (&[SRV, "--instance", "a\nb"], &["instance", "one line"]),
        (&[SRV, "--log-format", "xml"], &["log_format", "xml", "text or json"]),
        (&[SRV, "--log-level", "loud"], &["log_level", "loud", "info"]),
        (&[SRV, "--limit-transactions", "0"], &["limit_transactions", "0", "whole number"]),
        (&[SRV, "--limit-bindings", "many"], &["limit_bindings", "many", "whole number"]),
        (&[SRV, "--limit-memory", "7"], &["limit_memory", "7", "whole number"]),
        (&[SRV, "--limit-failing", "-1"], &["limit_failing", "-1", "whole number"]),
        (&[SRV, "--limit-datagram", "65536"], &["limit_datagram", "65536", "whole number"]),
        (&[SRV, "--limit-connections", "0"], &["limit_connections", "0", "whole number"]),
        (&[SRV, "--domain", ""], &["domain", "must not be blank"]),
        (&["--config", "none.toml"], &["config", "none.toml", "--config", "cannot be read"]),
    ];
    for (arguments, parts) in table {
        // `--flag=value`, so that a value that looks like a flag is still a value.
        let mut joined = vec!["run".to_owned(), "--check".to_owned()];
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            joined.push(if flag.contains('=') {
                (*flag).to_owned()
            } else {
                format!("{flag}={}", rest.next().unwrap())
            });
        }
        let all: Vec<&str> = joined.iter().map(String::as_str).collect();
        let output = holdline(&all, &[], files.dir.path());
        refused(&output, 78, &["bad configuration: "], &format!("{arguments:?}"));
        refused(&output, 78, parts, &format!("{arguments:?}"));
    }
}

#[test]
fn every_bad_file_is_one_line_with_file_and_line() {
    let files = Files::new();
    let table: &[(&str, &[&str])] = &[
        ("srvv = \"_sip._udp.example.com\"\n", &["srvv", "bad.toml:1", "did you mean srv?"]),
        ("srv = \"_sip._udp.example.com\"\n\nretry_dedline = 4\n", &["bad.toml:3", "did you mean retry_deadline?"]),
        ("colour = \"blue\"\n", &["colour", "bad.toml:1", "unknown key", "--help"]),
        ("[failover]\nfailures = 3\n", &["failover", "bad.toml:1", "unknown key"]),
        ("srv = \"_sip._udp.example.com\"\nfailures = 0\n", &["failures = \"0\"", "bad.toml:2", "from 1"]),
        ("srv = \"_sip._udp.example.com\"\nfailures = [3]\n", &["failures", "bad.toml:2", "not a list"]),
        ("srv = \"_sip._udp.example.com\"\nretry = { a = 1 }\n", &["retry", "bad.toml:2", "table"]),
        (
            "srv = \"_sip._udp.example.com\"\nallow = [\n  \"10.0.0.0/8\",\n  \"x\",\n]\n",
            &["allow = \"x\"", "bad.toml:4"],
        ),
        ("srv = \"_sip._udp.example.com\"\nallow = []\n", &["allow", "admits nobody"]),
        ("srv = \"_sip._udp.example.com\nfailures = 3\n", &["bad.toml:1", "not valid TOML"]),
        ("srv = \"a\"\nsrv = \"b\"\n", &["bad.toml:2", "not valid TOML", "duplicate"]),
        ("srv = 2026-01-01\n", &["srv", "bad.toml:1", "datetime"]),
        ("srv = \"\"\noutbound_proxy = \"\"\n", &["srv", "outbound_proxy", "bad.toml:1"]),
    ];
    for (text, parts) in table {
        files.write("bad.toml", text);
        let output = holdline(&["run", "--check", "-c", "bad.toml"], &[], files.dir.path());
        refused(&output, 78, parts, text);
    }
}

#[test]
fn a_bad_variable_is_named_as_a_variable() {
    let files = Files::new();
    let variables = [("HOLDLINE_SRV", "_sip._udp.example.com"), ("HOLDLINE_FAILURES", "many")];
    let output = holdline(&["run", "--check"], &variables, files.dir.path());
    refused(&output, 78, &["failures = \"many\" (HOLDLINE_FAILURES)", "whole number"], "variable");
    let variables = [("HOLDLINE_CONFIG", "none.toml")];
    let output = holdline(&["run", "--check"], &variables, files.dir.path());
    refused(&output, 78, &["config = \"none.toml\" (HOLDLINE_CONFIG)", "cannot be read"], "variable");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let files = Files::new();
    let table: &[(&[&str], &[&str])] = &[
        (&["runn"], &["runn", "run"]),
        (&["run", "--srvv", "x"], &["--srvv", "--srv", "see holdline run --help"]),
        (&["srv", "--wach"], &["--wach", "see holdline srv --help"]),
        (&["phones", "--limit=many"], &["many", "see holdline phones --help"]),
        (&["run", "--srv"], &["--srv", "value"]),
        (&["run", "--srv", "a", "--srv", "b"], &["--srv", "multiple"]),
        (&["run", "surplus"], &["surplus"]),
    ];
    for (arguments, parts) in table {
        refused(&holdline(arguments, &[], files.dir.path()), 64, parts, &format!("{arguments:?}"));
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let files = Files::new();
    files.write(
        "c.toml",
        "srv = \"_sip._udp.file.example\"\nlisten = [\"udp:127.0.0.1:5071\", \"tcp:127.0.0.1:5071\"]\n",
    );
    let variables = [("HOLDLINE_CONFIG", "c.toml"), ("HOLDLINE_SRV", "_sip._tcp.variable.example")];
    let dir = files.dir.path();

    let file = accepted(&holdline(&["run", "--check", "-c", "c.toml"], &[], dir), "file");
    assert!(file.contains("SRV record _sip._udp.file.example over udp"), "{file}");
    assert!(file.contains("phones    udp 127.0.0.1:5071") && file.contains("phones    tcp 127.0.0.1:5071"), "{file}");
    assert!(file.contains("admin     127.0.0.1:9460"), "{file}");

    let variable = accepted(&holdline(&["run", "--check"], &variables, dir), "variable");
    assert!(variable.contains("SRV record _sip._tcp.variable.example over tcp"), "{variable}");

    let flag = accepted(&holdline(&["run", "--check", "--srv=_sip._tls.flag.example"], &variables, dir), "flag");
    assert!(flag.contains("SRV record _sip._tls.flag.example over tls"), "{flag}");
}

#[test]
fn srv_beats_outbound_proxy_and_a_blank_srv_in_all_spellings_gives_way() {
    let files = Files::new();
    let dir = files.dir.path();
    let proxy = "--outbound-proxy=pbx.example.com:5070";

    let both = accepted(&holdline(&["run", "--check", SRV, proxy], &[], dir), "both");
    assert!(both.contains("SRV record _sip._udp.pbx.example.com over udp"), "{both}");
    assert!(both.contains("wins, pbx.example.com:5070 gets no packet"), "{both}");

    let by_proxy = "outbound proxy pbx.example.com:5070 over udp";
    for blank in ["", "   ", "\"\""] {
        let said = accepted(&holdline(&["run", "--check", proxy, &format!("--srv={blank}")], &[], dir), blank);
        assert!(said.contains(by_proxy), "{blank:?}: {said}");
        let said = accepted(&holdline(&["run", "--check", proxy], &[("HOLDLINE_SRV", blank)], dir), blank);
        assert!(said.contains(by_proxy), "{blank:?}: {said}");
    }
    let absent = accepted(&holdline(&["run", "--check", proxy], &[], dir), "absent");
    assert!(absent.contains(by_proxy), "{absent}");
    let tls = accepted(&holdline(&["run", "--check", proxy, "--transport=tls"], &[], dir), "tls");
    assert!(tls.contains("pbx.example.com:5070 over tls"), "{tls}");

    // Blank is an answer: it beats a name in a weaker source.
    files.write("c.toml", "srv = \"_sip._udp.file.example\"\n");
    let arguments = ["run", "--check", proxy, "-c", "c.toml"];
    let said = accepted(&holdline(&arguments, &[("HOLDLINE_SRV", "")], dir), "blank variable over file");
    assert!(said.contains(by_proxy), "{said}");
}

#[test]
fn an_empty_variable_says_nothing() {
    let files = Files::new();
    let variables =
        [("HOLDLINE_FAILURES", ""), ("HOLDLINE_STATE_DIR", " "), ("HOLDLINE_CONFIG", ""), ("HOLDLINE_ALLOW", "")];
    accepted(&holdline(&["run", "--check", SRV], &variables, files.dir.path()), "empty variables");
}

#[test]
fn lists_are_written_with_commas_repeated_flags_or_arrays() {
    let files = Files::new();
    let dir = files.dir.path();
    let listen = "udp:127.0.0.1:5071,advertise=phones.example.com:5060,tcp:127.0.0.1:5072";
    let variable = accepted(&holdline(&["run", "--check", SRV], &[("HOLDLINE_LISTEN", listen)], dir), "commas");
    let repeated = ["run", "--check", SRV, "--listen=udp:127.0.0.1:5071,advertise=h", "--listen=tcp:127.0.0.1:5072"];
    let repeated = accepted(&holdline(&repeated, &[], dir), "repeated");
    for said in [variable, repeated] {
        assert!(said.contains("udp 127.0.0.1:5071") && said.contains("tcp 127.0.0.1:5072"), "{said}");
    }
}

#[test]
fn every_key_is_accepted_in_a_file_at_once() {
    let files = Files::new();
    files.write(
        "all.toml",
        r#"
srv = "_sip._tls.pbx.example.com"
outbound_proxy = "192.0.2.1"
transport = "tls"
domain = "pbx.example.com"
domain_in_aor = true
alias = ["holdline.example", "192.0.2.9"]
listen = ["udp:0.0.0.0:5060", "tls:[::]:5061,advertise=phones.example.com"]
tls_cert = "a.crt"
tls_key = "a.key"
upstream_bind = "0.0.0.0:5080,advertise=203.0.113.1"
upstream_ca = "b.crt"
upstream_cert = "b.crt"
upstream_key = "b.key"
upstream_verify = "either"
upstream_allow = ["203.0.113.0/24", "2001:db8::1"]
allow = ["10.0.0.0/8"]
proxy_protocol = ["10.0.0.1"]
contact = "path"
sips = "refuse"
contact_key = "long.secret"
register_interval = 0
selection = "weighted"
failures = 5
failure_codes = [503, 504]
min_handsets = 2
retry = false
attempt_timeout = "2.5s"
retry_deadline = 7
connect_timeout = "1500ms"
upstream_keepalive = "30s"
exhausted = "503"
invite_alternate = false
nameserver = ["192.0.2.53", "[2001:db8::53]:5353"]
state_dir = "state"
control = "control.sock"
drain_timeout = "1m"
admin = "127.0.0.1:9461"
admin_host = ["proxy1.example.com"]
admin_token_file = "long.secret"
instance = "branch berlin"
cluster = "redis+sentinel://holdline@sentinel1,sentinel2:26380/mymaster"
cluster_name = "office"
cluster_password_file = "long.secret"
hep = "tls://homer.example.com:9061"
hep_capture_id = 7
hep_methods = ["INVITE", "BYE"]
hep_share = 50
on_rollover = ["/bin/sh", "-c", "true, false"]
log_format = "json"
log_level = "debug"
limit_transactions = 1000
limit_bindings = 1000
limit_memory = 64
limit_failing = 0
limit_datagram = 4096
limit_connections = 100
io_threads = 2
"#,
    );
    let said = accepted(&holdline(&["run", "--check", "-c", "all.toml"], &[], files.dir.path()), "all keys");
    assert!(said.contains("SRV record _sip._tls.pbx.example.com over tls"), "{said}");
    assert!(!files.path("state").exists(), "--check changes nothing");
    let text = fs::read_to_string(files.path("all.toml")).unwrap();
    for key in holdline::config::keys::KEYS.iter().filter(|key| key.name != "upstream_ca_only") {
        assert!(text.contains(&format!("\n{} = ", key.name)), "{} is not in this test", key.name);
    }
}

#[test]
fn help_and_version_end_well() {
    let files = Files::new();
    let help = accepted(&holdline(&["run", "--help"], &[], files.dir.path()), "help");
    for key in holdline::config::keys::KEYS {
        assert!(help.contains(&format!("--{}", key.flag)) && help.contains(key.variable), "{}", key.name);
    }
    let version = accepted(&holdline(&["--version"], &[], files.dir.path()), "version");
    assert!(version.starts_with("holdline 0."), "{version}");
}

#[test]
fn holdline_alone_prints_its_help() {
    let output = holdline(&[], &[], Path::new("/"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for subcommand in ["run", "srv", "status", "phones", "roll", "healthcheck", "demo"] {
        assert!(said.contains(&format!("\n  {subcommand} ")), "{subcommand} in {said}");
    }
}

#[test]
fn help_wraps_at_the_terminals_width() {
    for columns in ["60", "80"] {
        let output = holdline(&["--help"], &[("COLUMNS", columns)], Path::new("/"));
        let help = accepted(&output, columns);
        let longest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= columns.parse().unwrap(), "{longest} in {help}");
    }
}

/// `run` and `run --check` with the same arguments, and whether each refuses with this code.
#[track_caller]
fn both_refuse(files: &Files, more: &[&str], code: i32, parts: &[&str]) {
    const QUIET: [&str; 4] =
        ["--upstream-bind=127.0.0.1:0", "--listen=udp:127.0.0.1:0", "--admin=127.0.0.1:0", "--log-level=error"];
    let given = |quiet: &&str| !more.iter().any(|more| more.split('=').next() == quiet.split('=').next());
    for check in [&["--check"][..], &[]] {
        let mut arguments = vec!["run", "--outbound-proxy=127.0.0.1:9"];
        arguments.extend(QUIET.iter().filter(|quiet| given(quiet)));
        arguments.extend(more.iter().chain(check));
        refused(&holdline(&arguments, &[], files.dir.path()), code, parts, &format!("{arguments:?}"));
    }
}

#[test]
fn check_refuses_what_run_refuses() {
    let files = Files::new();
    files.write("junk.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    both_refuse(&files, &["--transport=tls", "--upstream-ca=junk.pem"], 69, &["upstream-ca", "junk.pem"]);
    files.write("taken", "");
    both_refuse(&files, &["--control=taken"], 69, &["taken", "not a socket"]);
    both_refuse(&files, &["--control=nowhere/control.sock"], 69, &["nowhere/control.sock", "directory"]);
    both_refuse(&files, &["--listen=udp:192.0.2.77:0"], 69, &["192.0.2.77", "no interface", "--listen"]);
    both_refuse(&files, &["--upstream-bind=192.0.2.78:0"], 69, &["192.0.2.78", "no interface", "--upstream-bind"]);
    both_refuse(&files, &["--admin=192.0.2.79:0"], 69, &["192.0.2.79", "no interface", "--admin"]);
}

#[test]
fn check_warns_of_what_run_only_warns_of() {
    let files = Files::new();
    let output = holdline(&["run", "--check", SRV, "--state-dir=/proc/holdline"], &[], files.dir.path());
    let said = accepted(&output, "state directory");
    assert!(said.contains("WARN      state_dir /proc/holdline") && said.contains("goes on without"), "{said}");
    let variables = [("HOLDLINE_ATTEMPT_TIMOUT", "4s")];
    let said = accepted(&holdline(&["run", "--check", SRV], &variables, files.dir.path()), "misspelt");
    assert!(said.contains("WARN      variable HOLDLINE_ATTEMPT_TIMOUT"), "{said}");
}

#[test]
fn a_mistake_in_the_file_keeps_no_command_from_the_running_holdline() {
    let files = Files::new();
    let nobody = "admin = \"127.0.0.1:9\"\nstate_dir = \"here\"\n";
    for mistake in ["failurez = 3\n", "failures = 0\n", "failures = [\n", "srv = \"_sip._udp.example\n", "[a]\nb = 1\n"]
    {
        files.write("bad.toml", &format!("{nobody}{mistake}"));
        for (arguments, looked_for) in [
            (&["status"][..], "127.0.0.1:9/status"),
            (&["healthcheck"], "127.0.0.1:9/livez"),
            (&["phones"], "here/control.sock"),
            (&["roll"], "here/control.sock"),
        ] {
            let code = if arguments == ["healthcheck"] { 1 } else { 69 };
            let mut all = arguments.to_vec();
            all.extend(["-c", "bad.toml"]);
            refused(&holdline(&all, &[], files.dir.path()), code, &[looked_for], &format!("{mistake:?} {all:?}"));
        }
    }
    // Nor does a bad admin address keep anybody from the control socket.
    files.write("bad.toml", "admin = \"nonsense\"\nstate_dir = \"here\"\n");
    let output = holdline(&["phones", "-c", "bad.toml"], &[], files.dir.path());
    refused(&output, 69, &["here/control.sock"], "bad admin address");
}

#[test]
fn a_healthcheck_ends_with_0_or_1_and_nothing_else() {
    let files = Files::new();
    files.write("bad.toml", "admin = \"nonsense\"\n");
    let table: &[&[&str]] = &[
        &["--admin=127.0.0.1:9"],
        &["--admin=nonsense"],
        &["--config=none.toml"],
        &["--config=bad.toml"],
        &["--redy"],
        &["surplus"],
    ];
    for more in table {
        let arguments: Vec<&str> = ["healthcheck"].iter().chain(*more).copied().collect();
        let output = holdline(&arguments, &[], files.dir.path());
        refused(&output, 1, &[], &format!("{arguments:?}"));
    }
}

#[test]
fn an_empty_variable_says_nothing_to_the_operators_commands_either() {
    let variables =
        [("HOLDLINE_CONFIG", ""), ("HOLDLINE_STATE_DIR", ""), ("HOLDLINE_CONTROL", ""), ("HOLDLINE_ADMIN", "")];
    let output = holdline(&["phones"], &variables, Path::new("/"));
    refused(&output, 69, &["/var/lib/holdline/control.sock"], "phones");
    let output = holdline(&["roll", "--state-dir=here"], &[("HOLDLINE_CONTROL", "")], Path::new("/"));
    refused(&output, 69, &["here/control.sock"], "roll");
}

/// In a network namespace that has loopback and one IPv6 address.
#[test]
fn a_host_without_ipv4_is_served_with_the_defaults() {
    const TEST: &str = "config::a_host_without_ipv4_is_served_with_the_defaults";
    const SCRIPT: &str = "ip link set lo up && ip address add 2001:db8::5/128 dev lo nodad || exit 99
        \"$0\" run --check --outbound-proxy=192.0.2.1 || exit 98
        \"$0\" run --outbound-proxy=192.0.2.1 2>/dev/null &
        for turn in $(seq 300); do \"$0\" healthcheck 2>/dev/null && break; sleep 0.1; done
        \"$0\" status; code=$?
        kill $!; wait $!; exit $code";
    if !installed(TEST, &["unshare", "ip"]) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_holdline")]);
    let output = command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if errors.contains("unshare: ") || output.status.code() == Some(99) {
        not_run(TEST, &["a network namespace"]);
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    assert!(said.contains("phones    udp [::]:5060") && said.contains("admin     127.0.0.1:9460"), "{said}");
    assert!(said.contains("OK           phones are at 192.0.2.1:5060"), "{said}");
}
