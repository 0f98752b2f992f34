//! Names, certificates and headers come from untrusted peers: nothing of them may command a terminal.

use holdline::agents::dns::Srv;
use holdline::agents::registrar::{Behaviour, Options, Registrar};
use holdline::agents::tls;
use holdline::flow::Transport::{Tls, Udp};
use rcgen::DnType;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::stage::{Stage, behaving, port, run};
use crate::transport::certificates::Authority;

/// Sets a window title, clears the screen, reverses the reading direction, in the C0 and the C1 way.
const EVIL: &str = "evil\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\r\u{8}";

/// Characters a terminal could obey, line ends left out.
fn commands(text: &str) -> Vec<char> {
    text.chars()
        .filter(|c| *c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{202e}' | '\u{200b}')))
        .collect()
}

struct Evil {
    stage: Stage,
    _server: Registrar,
    /// Its files go with it.
    _authority: Authority,
    ca: String,
    names: Vec<String>,
}

async fn evil() -> Evil {
    let authority = Authority::new("authority\u{1b}[31m\u{9b}31m\u{202e}");
    let files = authority.sign_with("evil", &["a.pbx.example"], |params| {
        params.distinguished_name.push(DnType::OrganizationName, EVIL);
        let uri = "sip:x\u{1b}]0;owned\u{7}@pbx.example".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
    });
    let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
    let tls = tls::server(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap(), &[]).unwrap();
    let name = "evil\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
    let server = Registrar::start(Options { tls: Some(tls), ..Options::named(name) }).unwrap();
    let stage = Stage::open().await;
    stage.publish("_sip._tls", &[Srv::new(1, 0, port(&server, Tls), "a.pbx.example")]);
    stage.publish("_sip._udp", &[Srv::new(1, 0, port(&server, Udp), "a.pbx.example")]);
    let label = b"evil\x1b]0;owned\x07\x9b31m\xe2\x80\xae\r\n\"";
    stage.dns.set_srv_to_labels("_sip._tcp.pbx.example", 60, 5060, &[label, b"pbx", b"example"]);
    stage.dns.set_naptr("pbx.example", 60, &[(1, 1, "s", EVIL, "x.pbx.example")]);
    let names = ["_sip._tls.pbx.example", "_sip._udp.pbx.example", "_sip._tcp.pbx.example", "pbx.example", EVIL];
    let ca = format!("--upstream-ca-only={}", authority.file.display());
    Evil { stage, _server: server, _authority: authority, ca, names: names.map(str::to_owned).into() }
}

#[tokio::test]
async fn nothing_an_untrusted_peer_says_reaches_the_output_raw() {
    let Evil { stage, _server, _authority, ca, names } = evil().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = |flags: &[&str]| {
        [flags, &[ca.as_str()], &names[..]].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for flags in [&[][..], &["--json"], &["--diff"], &["--json", "--diff"], &["--recent"], &["--recent", "--json"]] {
        let arguments =
            if flags.contains(&"--recent") { flags.iter().map(ToString::to_string).collect() } else { all(flags) };
        let seen = stage.srv(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!((commands(&seen.stdout), commands(&seen.stderr)), (vec![], vec![]), "{flags:?}: {}", seen.stdout);
        if flags.is_empty() {
            // It is all there, as text: what was looked at is what was shown.
            seen.says(&[
                "Server: evil\\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{202e}",
                "evil\\033\\]0\\;owned",
                "CN=authority?[31m?31m\\u{202e}",
            ]);
        }
        if flags.contains(&"--json") {
            seen.json();
        }
    }
    for name in names {
        let seen = stage.srv(&["--emit-config", &ca, name]).await;
        assert!(commands(&seen.stdout).is_empty(), "{}", seen.stdout);
        seen.stdout.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}: {}", seen.stdout));
    }
}

/// On a terminal Holdline's own colours and its progress line are there, and nothing else.
#[tokio::test]
async fn on_a_terminal_only_our_own_escapes_are_seen() {
    if !crate::support::installed::installed("srv::hostile::on_a_terminal_only_our_own_escapes_are_seen", &["script"]) {
        return;
    }
    let Evil { stage, _server, _authority, ca, names } = evil().await;
    let quoted: Vec<String> = [ca].iter().chain(&names).map(|text| format!("'{text}'")).collect();
    // A target that is silent for a while gives the progress line time to show.
    let silent = behaving("silent", Behaviour::Silent).await;
    stage.dns.set_srv("_sip._udp.silent.example", 60, &[Srv::new(1, 0, port(&silent, Udp), "a.pbx.example")]);
    let line = format!(
        "{} srv --timeout=1s --nameserver={} {} _sip._udp.silent.example",
        env!("CARGO_BIN_EXE_holdline"),
        stage.dns.addr(),
        quoted.join(" ")
    );
    for (colours, variable) in [(true, ("X", "")), (false, ("NO_COLOR", "1"))] {
        let mut command = tokio::process::Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").env("SHELL", "/bin/sh");
        command.env("XDG_STATE_HOME", stage.state()).env(variable.0, variable.1);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let seen = run(command).await;
        assert_eq!(seen.status, 2, "{}", seen.stdout);
        assert_eq!(seen.stdout.contains("\u{1b}[31m"), colours, "{}", seen.stdout);
        assert!(seen.stdout.contains("questions and probes done\r\u{1b}[K"), "progress: {}", seen.stdout);
        let mut left = seen.stdout.replace("\r\n", "\n").replace("\r\u{1b}[K", "");
        for code in ["0", "1", "2", "31", "32", "33"] {
            left = left.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert!(commands(&left).is_empty(), "{left:?}");
    }
}
