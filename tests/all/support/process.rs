//! A peer's process, and its children, which never outlive the test.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Seconds after which a peer is ended even if nobody is left to do it.
const LIFETIME: &str = "900";

/// A running program in a process group of its own. Dropping it kills the group.
pub(crate) struct Process {
    child: Child,
    /// Its files, removed with it.
    folder: TempDir,
}

/// What is sent to every process of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// No process can catch it.
    Kill,
    /// Ends a program that keeps its house.
    Interrupt,
    /// Alive and silent.
    Stop,
    /// On again.
    Continue,
    /// The end, in order.
    Terminate,
}

impl Process {
    /// Starts `program` in `folder`, which it believes to be its user's home. What it prints goes to `output` there.
    pub(crate) fn start(folder: TempDir, program: &str, arguments: &[String]) -> io::Result<Process> {
        Self::spawn(folder, program, arguments, Stdio::null())
    }

    /// The same for a program that is told what to do line by line ([`Process::say`]).
    pub(crate) fn start_listening(folder: TempDir, program: &str, arguments: &[String]) -> io::Result<Process> {
        Self::spawn(folder, program, arguments, Stdio::piped())
    }

    fn spawn(folder: TempDir, program: &str, arguments: &[String], input: Stdio) -> io::Result<Process> {
        let output = File::create(folder.path().join("output"))?;
        // `timeout` makes sure of the end, also where this process is killed before it could.
        let child = Command::new("timeout")
            .args(["--kill-after=5", LIFETIME, program])
            .args(arguments)
            .current_dir(folder.path())
            .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
            .env("TERM", "dumb")
            .env("HOME", folder.path())
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Process { child, folder })
    }

    /// Gives it a line.
    ///
    /// # Panics
    /// When it does not listen, or no longer.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a program that listens");
        input.write_all(format!("{line}\n").as_bytes()).expect("it takes the line");
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has printed so far, or written to another file of its folder.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read(self.file(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        self.read("output")
    }

    /// Its exit code, once it has ended (-1 where a signal ended it).
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
    }

    /// The process numbers of the program and its children, without the `timeout` in front.
    pub(crate) fn members(&self) -> Vec<u32> {
        let group = self.child.id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != group && group_of(*pid) == Some(group))
            .collect()
    }

    /// Sends a signal to the program and its children.
    pub(crate) fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Interrupt => "-INT",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
            Signal::Terminate => "-TERM",
        };
        let members = self.members();
        if !members.is_empty() {
            // One may have ended meanwhile: `kill` says so and signals the others.
            let _ =
                Command::new("kill").arg(name).args(members.iter().map(u32::to_string)).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::Kill);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.folder().display(), self.output());
        }
    }
}

/// Field 5 of proc(5)'s stat, counted from behind the name, which may contain anything.
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(2)?.parse().ok()
}
