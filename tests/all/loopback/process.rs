//! A running Holdline, and what can be learnt about it from outside.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use holdline::agents::Watched;
use holdline::flow::Transport;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::wait::{PATIENCE, within};
use crate::support::{binary, http};

/// A process that is killed when the test ends, whichever way that is.
pub(crate) struct Holdline {
    child: Child,
    log: Log,
    admin: SocketAddr,
}

/// Lines as they were written, and the same as JSON.
#[derive(Clone)]
struct Log(Watched<(String, Vec<Value>)>);

/// As [`binary::run`]; the process ends when it is dropped.
pub(crate) fn command(arguments: &[String]) -> Command {
    let mut command = Command::from(binary::run(arguments));
    command.kill_on_drop(true);
    command
}

impl Holdline {
    /// Starts, and waits until it answers probes.
    pub(crate) async fn start(arguments: &[String]) -> Holdline {
        Holdline::start_with(command(arguments)).await
    }

    /// The same with a command prepared by hand.
    pub(crate) async fn start_with(mut command: Command) -> Holdline {
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
        Holdline { admin: binary::address(&admin).unwrap(), ..holdline }
    }

    /// Where a socket was really bound.
    pub(crate) fn socket(&self, side: &str, transport: Transport) -> SocketAddr {
        let lines = self.lines();
        binary::bound(&lines, side, transport.as_str()).unwrap_or_else(|| panic!("no {side} {transport} in {lines:#?}"))
    }

    /// Where the admin listener was really bound.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The log so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log.0.read(|(_, events)| events.clone())
    }

    /// The log so far, as it was written.
    pub(crate) fn text(&self) -> String {
        self.log.0.read(|(text, _)| text.clone())
    }

    /// The lines so far whose message begins so.
    pub(crate) fn said(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| binary::begins(line, message)).collect()
    }

    /// Waits for a line whose message begins so.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.logged_times(message, 1).await
    }

    /// Waits for the `times`-th line whose message begins so.
    pub(crate) async fn logged_times(&self, message: &str, times: usize) -> Value {
        let count = |lines: &Vec<Value>| lines.iter().filter(|line| binary::begins(line, message)).count();
        let waited = self.log.0.wait(message, PATIENCE, |(_, events)| count(events) >= times).await;
        if let Err(late) = waited {
            panic!("{late}; the log:\n{}", self.text());
        }
        self.said(message).swap_remove(times - 1)
    }

    /// Waits until there are so many lines like this, and returns all like it.
    pub(crate) async fn until_lines(&self, many: usize, like: impl Fn(&Value) -> bool) -> Vec<Value> {
        let waited =
            self.log.0.wait("lines", PATIENCE, |(_, events)| events.iter().filter(|e| like(e)).count() >= many);
        if let Err(late) = waited.await {
            panic!("{late}; the log:\n{}", self.text());
        }
        self.lines().into_iter().filter(|line| like(line)).collect()
    }

    /// One page of the admin listener; status 0 where nobody listens.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        http::get(self.admin, path).await.unwrap_or_default()
    }

    /// What `/status` says.
    pub(crate) async fn status(&self) -> Value {
        let (code, body) = self.get("/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until a page has this status, looking often.
    pub(crate) async fn until_page(&self, path: &str, status: u16) {
        self.wait(&format!("{path} {status}"), async || {
            let (is, _) = self.get(path).await;
            if is == status { Ok(()) } else { Err(is.to_string()) }
        })
        .await;
    }

    /// Waits until `/status` fulfils a condition, looking often.
    pub(crate) async fn until_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, async || {
            let status = self.status().await;
            if condition(&status) { Ok(status) } else { Err(format!("{status:#}")) }
        })
        .await
    }

    /// Every series and its value now.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (code, body) = self.get("/metrics").await;
        assert_eq!(code, 200, "{body}");
        let series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.strip_prefix("holdline_").unwrap_or(series).to_owned(), value.parse().ok()?))
        };
        Metrics(body.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect())
    }

    /// Waits until a series has this value, looking often.
    pub(crate) async fn until(&self, series: &str, value: u64) -> Metrics {
        self.wait(&format!("{series} {value}"), async || {
            let metrics = self.metrics().await;
            let is = metrics.find(series).map(|is| is as u64);
            if is == Some(value) { Ok(metrics) } else { Err(format!("{is:?}")) }
        })
        .await
    }

    /// Waits for a condition; where that is in vain, the log is shown.
    async fn wait<T>(&self, what: &str, condition: impl AsyncFnMut() -> Result<T, String>) -> T {
        let waited = within(PATIENCE, what, condition).await;
        waited.unwrap_or_else(|late| panic!("{late}; the log:\n{}", self.text()))
    }

    /// Its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a process that runs")
    }

    /// Sends it a signal by its name.
    pub(crate) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(late) => panic!("{late}: it does not end; the log:\n{}", self.text()),
        }
    }

    /// `kill -9`, and waits for the end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Sends a process of ours a signal.
pub(crate) async fn signal(child: &Child, name: &str) {
    let id = child.id().expect("a process that runs").to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
    assert!(sent.success(), "{name} to {id}");
}

/// One scrape. Names go without `holdline_`.
#[derive(Debug)]
pub(crate) struct Metrics(pub HashMap<String, f64>);

impl Metrics {
    /// A series' value, if it is there.
    pub(crate) fn find(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// A series' value, which is a whole number.
    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> u64 {
        let family = series.split('{').next().unwrap();
        let like = || self.0.iter().filter(|(name, _)| name.starts_with(family)).collect::<Vec<_>>();
        self.find(series).unwrap_or_else(|| panic!("no {series} among {:#?}", like())) as u64
    }
}
