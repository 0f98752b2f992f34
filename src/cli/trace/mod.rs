//! `holdline trace`: the messages of a handset or of a call as they pass, or what failed a while ago.
//!
//! With TLS on both sides no capture tool sees them any more. What is shown comes over the control socket; the secrets in it are
//! masked there already.

mod ladder;
mod pcap;
mod raw;

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueHint};

use super::Failure;
use super::locate::{ControlArgs, FileArgs, open};
use super::terminal::{colours, print, span, visible};
use crate::config::duration;
use crate::control::Command;
use crate::control::trace::{Frame, read};
use ladder::Ladder;
use pcap::Pcap;

/// The arguments of `holdline trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Digits: the handset of that extension. Other text: a Call-ID, or a part of an address of record or of a handset's
    /// address. Nothing: everything.
    what: Option<String>,
    /// Only requests that fail, each once it has failed.
    #[arg(long)]
    failures: bool,
    /// What failed within this time (5m, 90s), then end; the strikes of rollovers are kept for longest.
    #[arg(long, value_name = "DURATION", value_parser = last)]
    last: Option<Duration>,
    /// Whole messages.
    #[arg(long)]
    raw: bool,
    /// Write the messages to a capture file, too, for Wireshark or sngrep; what came over TLS is in clear in it. -: standard
    /// output, and nothing else there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pcap: Option<PathBuf>,
    /// Show the answers of Digest, passwords and the keys of media encryption, which are masked otherwise.
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    file: FileArgs,
}

fn last(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1))
}

/// Shows what is traced until its end: of the past, of Holdline, of whoever reads.
pub(super) fn trace(args: &TraceArgs) -> Result<(), Failure> {
    let what = args.what.clone().unwrap_or_default();
    let command = Command::Trace {
        what: what.clone(),
        failures: args.failures,
        last_seconds: args.last.map(|last| last.as_secs().max(1)),
        secrets: args.secrets,
    };
    // Before the question: a file that cannot be written is no trace.
    let mut show = Show::new(args)?;
    let mut reader = open(&args.control.path(&args.file)?, &command)?;
    if args.last.is_none() {
        let named = if what.trim().is_empty() { "everything".to_owned() } else { visible(what.trim()) };
        eprintln!("holdline: tracing {named}; Ctrl-C ends it");
    }
    let mut shown = false;
    loop {
        match read(&mut reader).context("the trace broke off").map_err(Failure::Unavailable)? {
            Some((frame, bytes)) => match show.frame(&frame, &bytes) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("what is traced cannot be written")?,
            },
            None if args.last.is_none() => {
                return Err(Failure::Unavailable(anyhow!("the trace has ended: Holdline has stopped")));
            }
            None => break,
        }
        shown = true;
    }
    match args.last {
        Some(last) if !shown && !show.only_captures() => {
            print(&format!("nothing of the kind has failed in the last {}\n", span(last.as_secs_f64())))
        }
        _ => Ok(()),
    }
}

/// Where frames go.
struct Show {
    /// `None` where standard output is the capture.
    text: Option<Text>,
    pcap: Option<Pcap<Box<dyn Write>>>,
}

enum Text {
    Ladder(Ladder),
    Raw,
}

impl Show {
    fn new(args: &TraceArgs) -> Result<Show, Failure> {
        let to_stdout = args.pcap.as_deref() == Some(Path::new("-"));
        let text = if args.raw { Text::Raw } else { Text::Ladder(Ladder::new(colours())) };
        let pcap = match &args.pcap {
            None => None,
            Some(path) => {
                let out: Box<dyn Write> = if to_stdout { Box::new(io::stdout()) } else { Box::new(file(path)?) };
                Some(Pcap::new(out).context("the capture cannot be written")?)
            }
        };
        Ok(Show { text: (!to_stdout).then_some(text), pcap })
    }

    fn only_captures(&self) -> bool {
        self.text.is_none()
    }

    fn frame(&mut self, frame: &Frame, bytes: &[u8]) -> io::Result<()> {
        let mut captured = true;
        if let (Some(pcap), Frame::Message(heading)) = (&mut self.pcap, frame) {
            captured = pcap.write(heading, bytes)?;
        }
        let text = match &mut self.text {
            None => return Ok(()),
            Some(Text::Ladder(ladder)) => ladder.frame(frame, bytes),
            Some(Text::Raw) => raw::frame(frame, bytes),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !captured {
            writeln!(out, "(too long for a packet: not in the capture)")?;
        }
        out.flush()
    }
}

/// Names and numbers of people are in it: for nobody else to read.
fn file(path: &Path) -> Result<std::fs::File, Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    Ok(opened.with_context(|| format!("{} cannot be written", path.display()))?)
}

/// `12:34:56.789`, UTC, as in the log.
fn time(micros: u64) -> String {
    let millis = micros / 1000;
    let (hours, minutes, seconds) = (millis / 3_600_000 % 24, millis / 60_000 % 60, millis / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", millis % 1000)
}

/// What is said of a frame that is no message.
fn note(frame: &Frame) -> Option<(u64, String)> {
    Some(match frame {
        Frame::Message(_) => return None,
        Frame::Attempt { at, handset, target, outcome, strike, strikes } => {
            let of = handset.as_deref().map_or(String::new(), |handset| format!(" of {}", visible(handset)));
            let why = match outcome.as_str() {
                "timeout" => "no answer in time".to_owned(),
                code if code.bytes().all(|b| b.is_ascii_digit()) => format!("answered {code}"),
                other => visible(other),
            };
            let count = match (strike, strikes) {
                (false, _) => ", no strike".to_owned(),
                (true, 0) => ", the last strike".to_owned(),
                (true, strikes) => format!(", strike {strikes}"),
            };
            (*at, format!("REGISTER{of} failed at {}: {why}{count}", visible(target)))
        }
        Frame::Rollover { at, from, to, reason } => {
            (*at, format!("rollover: {} -> {} ({})", visible(from), visible(to), visible(&reason.replace('_', " "))))
        }
        Frame::Lost { items } => (0, format!("{items} messages lost here: this trace is read too slowly")),
    })
}
