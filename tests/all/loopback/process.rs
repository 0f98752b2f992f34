//! A running Holdline, and what can be learnt about it from outside.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use holdline::agents::Watched;
use holdline::flow::Transport;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::PATIENCE;

/// Nothing but loopback, any port, and a log that can be read by a test.
const QUIET: [&str; 5] = [
    "run",
    "--listen=udp:127.0.0.1:0,tcp:127.0.0.1:0",
    "--upstream-bind=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--log-format=json",
];

/// A process that is killed when the test ends, whichever way that is.
pub struct Holdline {
    child: Child,
    log: Log,
    admin: SocketAddr,
}

/// Lines as they were written, and the same as JSON.
#[derive(Clone)]
struct Log(Watched<(String, Vec<Value>)>);

/// A command that runs the binary with these arguments on top of the quiet ones, without the caller's environment.
pub fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
    let flag = |argument: &str| argument.split('=').next().map(str::to_owned);
    command.args(QUIET.iter().filter(|quiet| !arguments.iter().any(|given| flag(given) == flag(quiet))));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

impl Holdline {
    /// Starts, and waits until it answers probes.
    pub async fn start(arguments: &[String]) -> Holdline {
        Holdline::start_with(command(arguments)).await
    }

    /// The same with a command prepared by hand.
    pub async fn start_with(mut command: Command) -> Holdline {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log(Watched::new((String::new(), Vec::new())));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                written.0.update(|(text, events)| {
                    text.push_str(&line);
                    text.push('\n');
                    events.push(serde_json::from_str(&line).unwrap_or(Value::Null));
                });
            }
        });
        let holdline = Holdline { child, log, admin: ([127, 0, 0, 1], 0).into() };
        let admin = holdline.logged("admin: ").await;
        Holdline { admin: admin["address"].as_str().unwrap().parse().unwrap(), ..holdline }
    }

    /// Where a socket was really bound.
    pub fn socket(&self, side: &str, transport: Transport) -> SocketAddr {
        let bound = |line: &&Value| {
            line["message"] == "listening" && line["side"] == side && line["transport"] == transport.as_str()
        };
        let lines = self.lines();
        let line = lines.iter().find(bound).unwrap_or_else(|| panic!("no {side} {transport} in {lines:#?}"));
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// Where the admin listener was really bound.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The log so far.
    pub fn lines(&self) -> Vec<Value> {
        self.log.0.read(|(_, events)| events.clone())
    }

    /// The log so far, as it was written.
    pub fn text(&self) -> String {
        self.log.0.read(|(text, _)| text.clone())
    }

    /// The lines so far whose message begins so.
    pub fn said(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| begins(line, message)).collect()
    }

    /// Waits for a line whose message begins so.
    pub async fn logged(&self, message: &str) -> Value {
        self.logged_times(message, 1).await
    }

    /// Waits for the `times`-th line whose message begins so.
    pub async fn logged_times(&self, message: &str, times: usize) -> Value {
        let count = |lines: &Vec<Value>| lines.iter().filter(|line| begins(line, message)).count();
        let waited = self.log.0.wait(message, PATIENCE, |(_, events)| count(events) >= times).await;
        if let Err(late) = waited {
            panic!("{late}; the log:\n{}", self.text());
        }
        self.said(message).swap_remove(times - 1)
    }

    /// Waits until there are so many lines like this, and returns all like it.
    pub async fn until_lines(&self, many: usize, like: impl Fn(&Value) -> bool) -> Vec<Value> {
        let waited =
            self.log.0.wait("lines", PATIENCE, |(_, events)| events.iter().filter(|e| like(e)).count() >= many);
        if let Err(late) = waited.await {
            panic!("{late}; the log:\n{}", self.text());
        }
        self.lines().into_iter().filter(|line| like(line)).collect()
    }

    /// One page of the admin listener.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut answer = String::new();
        let ask = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: holdline\r\n\r\n").as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        let asked = timeout(PATIENCE, ask).await.unwrap_or_else(|_| panic!("{path} did not answer"));
        if asked.is_err() {
            return (0, String::new());
        }
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    /// What `/status` says.
    pub async fn status(&self) -> Value {
        let (code, body) = self.get("/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until a page has this status, looking often.
    pub async fn until_page(&self, path: &str, status: u16) {
        let end = Instant::now() + PATIENCE;
        while self.get(path).await.0 != status {
            assert!(Instant::now() < end, "{path} never said {status}; the log:\n{}", self.text());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until `/status` fulfils a condition, looking often.
    pub async fn until_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < end, "never {what}: {status:#}; the log:\n{}", self.text());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Every series and its value now.
    pub async fn metrics(&self) -> Metrics {
        let (code, body) = self.get("/metrics").await;
        assert_eq!(code, 200, "{body}");
        let series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.strip_prefix("holdline_").unwrap_or(series).to_owned(), value.parse().ok()?))
        };
        Metrics(body.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect())
    }

    /// Waits until a series has this value, looking often.
    pub async fn until(&self, series: &str, value: u64) -> Metrics {
        let end = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics().await;
            let is = metrics.find(series).map(|is| is as u64);
            if is == Some(value) {
                return metrics;
            }
            assert!(Instant::now() < end, "{series} is {is:?}, never {value}; the log:\n{}", self.text());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Sends it a signal by its name.
    pub async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(late) => panic!("{late}: it does not end; the log:\n{}", self.text()),
        }
    }

    /// `kill -9`, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Between two looks at something that cannot say by itself that it has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn begins(line: &Value, message: &str) -> bool {
    line["message"].as_str().is_some_and(|text| text.starts_with(message))
}

/// Sends a process of ours a signal.
pub async fn signal(child: &Child, name: &str) {
    let id = child.id().expect("a process that runs").to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
    assert!(sent.success(), "{name} to {id}");
}

/// One scrape. Names go without `holdline_`.
#[derive(Debug)]
pub struct Metrics(pub HashMap<String, f64>);

impl Metrics {
    /// A series' value, if it is there.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// A series' value, which is a whole number.
    #[track_caller]
    pub fn get(&self, series: &str) -> u64 {
        let family = series.split('{').next().unwrap();
        let like = || self.0.iter().filter(|(name, _)| name.starts_with(family)).collect::<Vec<_>>();
        self.find(series).unwrap_or_else(|| panic!("no {series} among {:#?}", like())) as u64
    }
}
