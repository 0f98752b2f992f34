//! The binary in a process of its own, and its log.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

/// `run` with nothing but loopback, any port, and a log that a test can read.
const QUIET: [&str; 5] = [
    "run",
    "--listen=udp:127.0.0.1:0,tcp:127.0.0.1:0",
    "--upstream-bind=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--log-format=json",
];

/// A command that runs the binary with these arguments, without the caller's environment and without input.
pub(crate) fn holdline(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// `holdline run` on loopback with these arguments; a flag that is among them replaces the usual one.
pub(crate) fn run(arguments: &[impl AsRef<str>]) -> Command {
    let flag = |argument: &str| argument.split('=').next().map(str::to_owned);
    let given = |quiet: &&&str| arguments.iter().any(|given| flag(given.as_ref()) == flag(quiet));
    let mut command = holdline(QUIET.iter().filter(|quiet| !given(quiet)));
    command.args(arguments.iter().map(AsRef::as_ref)).stdout(Stdio::null());
    command
}

/// Where a socket was bound, by the lines of the log so far.
pub(crate) fn bound(lines: &[Value], side: &str, transport: &str) -> Option<SocketAddr> {
    let is = |line: &&Value| line["message"] == "listening" && line["side"] == side && line["transport"] == transport;
    address(lines.iter().find(is)?)
}

/// The address that a line of the log names.
pub(crate) fn address(line: &Value) -> Option<SocketAddr> {
    line["address"].as_str()?.parse().ok()
}

/// True for a line of the log whose message begins so.
pub(crate) fn begins(line: &Value, message: &str) -> bool {
    line["message"].as_str().is_some_and(|text| text.starts_with(message))
}

/// Sends a process a signal by its name.
#[track_caller]
pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &id.to_string()]).status().expect("kill");
    assert!(sent.success(), "{name} to {id}");
}

/// A running Holdline whose log the test reads line by line, killed when the test ends. A process that dies closes the pipe,
/// and so ends a wait.
pub(crate) struct Running {
    pub child: Child,
    log: Option<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Running { child, log: Some(log) }
    }

    /// Log lines up to the first with a message that begins so.
    #[track_caller]
    pub(crate) fn until(&mut self, message: &str) -> Vec<Value> {
        let log = self.log.as_mut().expect("a log that is still read");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("its log") > 0, "ended before {message:?}: {lines:#?}");
            lines.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}")));
            if lines.last().is_some_and(|line| begins(line, message)) {
                return lines;
            }
        }
    }

    /// Log lines up to the one that names the admin listener, and its address: everything is bound then.
    #[track_caller]
    pub(crate) fn until_bound(&mut self) -> (Vec<Value>, SocketAddr) {
        let lines = self.until("admin: ");
        let admin = lines.last().and_then(address).expect("the admin listener's address");
        (lines, admin)
    }

    /// Nobody reads the log any more. It is taken from the pipe all the same: a full one would stop the process.
    pub(crate) fn ignore_log(&mut self) {
        if let Some(mut log) = self.log.take() {
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        }
    }

    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
