//! A registrar in a process of its own: this same test binary, started again for one test that plays it.
//!
//! Orders go in as lines, each is answered by one line. The process ends with its standard input, so also when the test that
//! started it is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use holdline::agents::registrar::{Behaviour, Options, Outgoing, Reaction, Registrar};
use holdline::agents::tls;
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::process::signal;
use crate::support::wait::PATIENCE;

/// Tells the test binary that it shall play, and what.
const ROLE: &str = "HOLDLINE_TEST_REGISTRAR";
/// Before an answer: the test harness writes lines of its own.
const ANSWER: &str = "@ ";

/// What a registrar is like.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cast {
    /// Its Server header.
    pub name: String,
    /// Registers whoever comes, without asking for a password.
    pub trusting: bool,
    /// Certificate and key (PEM files) of its TLS side.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where client certificates must come from.
    pub client_ca: Option<PathBuf>,
}

/// What a registrar has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Requests by method, repetitions left out.
    pub requests: BTreeMap<String, usize>,
    /// Different branches among the REGISTERs.
    pub branches: usize,
    /// All datagrams and messages that were REGISTERs.
    pub registers_with_repetitions: usize,
    /// Over what they came.
    pub transports: BTreeSet<String>,
    /// Different connections they came on.
    pub connections: usize,
    /// Connections accepted, in all.
    pub opened: usize,
    /// Addresses-of-record with a live binding.
    pub registered: Vec<String>,
    /// The digests that were sent.
    pub digests: Vec<String>,
}

impl Report {
    /// How many REGISTERs came, repetitions left out.
    pub(crate) fn registers(&self) -> usize {
        self.requests.get("REGISTER").copied().unwrap_or(0)
    }
}

/// A registrar's process, from the side that gives the orders.
pub(crate) struct Server {
    child: Child,
    pipe: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    pub port: u16,
    pub tls_port: u16,
}

impl Server {
    /// Starts one that asks for passwords and has no TLS.
    pub(crate) async fn start(name: &str) -> Server {
        Server::cast(&Cast { name: name.to_owned(), ..Cast::default() }).await
    }

    /// Starts one that is like this.
    pub(crate) async fn cast(cast: &Cast) -> Server {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "loopback::server::a_registrar_runs_in_a_process_of_its_own", "--nocapture"]);
        command.env(ROLE, serde_json::to_string(cast).unwrap());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let pipe = Mutex::new((child.stdin.take().unwrap(), stdout));
        let mut server = Server { child, pipe, port: 0, tls_port: 0 };
        let ports = server.order("ports").await;
        server.port = ports[0].as_u64().unwrap() as u16;
        server.tls_port = ports[1].as_u64().unwrap() as u16;
        server
    }

    /// The port for a transport.
    pub(crate) fn port_for(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Udp | Transport::Tcp => self.port,
            Transport::Tls => self.tls_port,
        }
    }

    async fn order(&self, order: &str) -> Value {
        let exchange = async {
            let (stdin, stdout) = &mut *self.pipe.lock().await;
            stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
            while let Some(line) = stdout.next_line().await.unwrap() {
                if let Some((_, answer)) = line.split_once(ANSWER) {
                    return serde_json::from_str(answer).unwrap();
                }
            }
            panic!("a registrar ended at {order:?}")
        };
        let answer: Value = timeout(PATIENCE * 2, exchange).await.unwrap_or_else(|_| panic!("no answer to {order:?}"));
        assert!(answer["error"].is_null(), "{order}: {answer}");
        answer
    }

    /// How it behaves from now on, in the words of `behaviour` below.
    pub(crate) async fn behave(&self, how: &str) {
        self.order(&format!("behave {how}")).await;
    }

    /// What the next new REGISTERs are answered, one each.
    pub(crate) async fn next(&self, codes: &[u16]) {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        self.order(&format!("next {}", codes.join(" "))).await;
    }

    /// Waits for the `times`-th request of a method, repetitions left out.
    pub(crate) async fn wait_for(&self, method: &str, times: usize) {
        self.order(&format!("await {method} {times}")).await;
    }

    /// What it has seen so far.
    pub(crate) async fn report(&self) -> Report {
        serde_json::from_value(self.order("report").await).unwrap()
    }

    /// The Contacts of `user@domain`.
    pub(crate) async fn contacts(&self, aor: &str) -> Vec<String> {
        serde_json::from_value(self.order(&format!("contacts {aor}")).await).unwrap()
    }

    /// Sends a request of its own to the Contact of `user@domain`; the final status, 0 without one.
    pub(crate) async fn send(&self, method: &str, aor: &str) -> u16 {
        let answer = self.order(&format!("send {method} {aor}")).await;
        if answer["status"] == 0 {
            eprintln!("{method} to {aor}: {answer}");
        }
        answer["status"].as_u64().unwrap() as u16
    }

    /// Resets every connection.
    pub(crate) async fn reset_connections(&self) {
        self.order("reset").await;
    }

    /// Sends its process a signal by its name.
    pub(crate) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// `kill -9`, and waits for the end.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A test of the stage itself, and the part that the processes play.
#[test]
fn a_registrar_runs_in_a_process_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match std::env::var(ROLE) {
            Ok(cast) => play(&serde_json::from_str(&cast).unwrap()).await,
            Err(_) => {
                let mut server = Server::start("a").await;
                assert_eq!(server.report().await.registers(), 0);
                let (stdin, mut stdout) = server.pipe.into_inner();
                drop(stdin);
                while let Ok(Some(_)) = stdout.next_line().await {}
                let ended = timeout(PATIENCE, server.child.wait()).await;
                assert!(ended.expect("it ends with its standard input").unwrap().success());
            }
        }
    });
}

async fn play(cast: &Cast) {
    let registrar = Registrar::start(options(cast)).unwrap();
    let (orders, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(order) = arrived.recv().await {
        let answer = obey(&registrar, cast, &order).await.unwrap_or_else(|error| json!({ "error": error }));
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{ANSWER}{answer}").and_then(|()| stdout.flush()).unwrap();
    }
}

fn options(cast: &Cast) -> Options {
    let mut options = Options::named(&cast.name);
    if cast.trusting {
        options.password = None;
    }
    if let Some((certificate, key)) = &cast.tls {
        let chain = |file: &PathBuf| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect();
        let roots: Vec<_> = cast.client_ca.iter().flat_map(|file| -> Vec<_> { chain(file) }).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        options.tls = Some(tls::server(chain(certificate), key, &roots).unwrap());
    }
    options
}

async fn obey(registrar: &Registrar, cast: &Cast, order: &str) -> Result<Value, String> {
    let words: Vec<&str> = order.split_whitespace().collect();
    match words[..] {
        ["ports"] => {
            let tls = cast.tls.as_ref().map_or(0, |_| registrar.addr(Transport::Tls).port());
            Ok(json!([registrar.addr(Transport::Udp).port(), tls]))
        }
        ["behave", ref how @ ..] => {
            let behaviour = behaviour(how).ok_or("no such behaviour")?;
            registrar.behave(behaviour).await.map_err(|error| error.to_string())?;
            Ok(json!({}))
        }
        ["next", ref codes @ ..] => {
            registrar.next(codes.iter().map(|code| Reaction::Answer(code.parse().unwrap())));
            Ok(json!({}))
        }
        ["await", method, times] => {
            let times = times.parse().unwrap();
            registrar.wait_for(method, times, PATIENCE).await.map_err(|late| late.to_string())?;
            Ok(json!({}))
        }
        ["report"] => Ok(serde_json::to_value(report(registrar)).unwrap()),
        ["contacts", aor] => {
            Ok(json!(registrar.bindings(aor).into_iter().map(|binding| binding.contact).collect::<Vec<_>>()))
        }
        ["send", method, aor] => {
            let exchange = registrar.send(aor, &Outgoing::new(method)).await.ok_or("no such binding")?;
            Ok(json!({ "status": exchange.status(), "end": format!("{:?}", exchange.end) }))
        }
        ["reset"] => {
            registrar.end_connections(true).await;
            Ok(json!({}))
        }
        _ => Err("no such order".to_owned()),
    }
}

fn behaviour(words: &[&str]) -> Option<Behaviour> {
    let number = |text: &str| text.parse().ok();
    Some(match words {
        ["normal"] => Behaviour::Normal,
        ["silent"] => Behaviour::Silent,
        ["answer", status] => Behaviour::Answer(number(status)?),
        ["challenge-then", status] => Behaviour::ChallengeThen(number(status)?),
        ["refuse"] => Behaviour::Refuse,
        ["unreachable"] => Behaviour::Unreachable,
        ["reset-on-accept"] => Behaviour::ResetOnAccept,
        ["break-tls"] => Behaviour::BreakTls,
        ["late", millis] => Behaviour::Late(Duration::from_millis(millis.parse().ok()?)),
        _ => return None,
    })
}

fn report(registrar: &Registrar) -> Report {
    registrar.read(|record| {
        let all = || record.received.iter().filter(|received| received.message.is_request());
        let registers = || all().filter(|received| received.message.method() == "REGISTER");
        let mut requests = BTreeMap::new();
        for request in all().filter(|received| !received.repeated) {
            *requests.entry(request.message.method().to_owned()).or_default() += 1;
        }
        let digests = registers().filter_map(|r| r.message.header("Authorization")).filter_map(|credentials| {
            let (_, digest) = credentials.split_once("response=\"")?;
            Some(digest.split('"').next()?.to_owned())
        });
        Report {
            requests,
            branches: registers().map(|r| r.message.branch().to_owned()).collect::<BTreeSet<_>>().len(),
            registers_with_repetitions: registers().count(),
            transports: all().map(|r| r.transport.to_string()).collect(),
            connections: all().filter_map(|r| r.connection).collect::<BTreeSet<_>>().len(),
            opened: record.opened,
            registered: registrar.registered(),
            digests: digests.collect(),
        }
    })
}
