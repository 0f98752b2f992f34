//! A trace over the control socket: the one question whose answer goes on.
//!
//! ```text
//! → {"command":"trace","what":"204","failures":false,"last_seconds":null,"secrets":false}
//! ← {"ok":{"live":true}}
//! ← {"message":{"at":1764421234123456,"direction":"in","side":"phone","transport":"udp","local":"…","remote":"…",
//!               "target":null,"handset":"204@pbx.example.com","call_id":"…","bytes":667}}
//! ← 667 bytes, and a line feed
//! ← {"attempt":{…}}   {"rollover":{…}}   {"lost":{"items":17}}
//! ```
//!
//! The end of the stream is the end of the trace: of the past, or of Holdline. Secrets are masked here, not by the reader.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};

use super::Answer;
use crate::message::{Shown, masked};
use crate::proxy::Direction;
use crate::tap::{Filter, Item, Once, Seen, Traced};

/// One line of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// A message; its bytes follow the line.
    Message(Heading),
    /// An attempt failed.
    Attempt {
        /// Microseconds since 1970.
        at: u64,
        /// The handset's address of record.
        handset: Option<String>,
        /// The target.
        target: String,
        /// A status, or why there was no answer.
        outcome: String,
        /// Whether it was a strike.
        strike: bool,
        /// Strikes against the active target by then; zero where this one was the last.
        strikes: u32,
    },
    /// Another target is active.
    Rollover {
        /// Microseconds since 1970.
        at: u64,
        /// The target that was left.
        from: String,
        /// The target that is active now.
        to: String,
        /// The metric label of the reason.
        reason: String,
    },
    /// The reader was too slow: so many messages and notes were lost here.
    Lost {
        /// How many.
        items: u64,
    },
}

/// What is known about a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heading {
    /// Microseconds since 1970.
    pub at: u64,
    /// `in`: to Holdline; `out`: from it.
    pub direction: String,
    /// `phone` or `upstream`.
    pub side: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// Holdline's address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The target that the peer is.
    pub target: Option<String>,
    /// The handset's address of record.
    pub handset: Option<String>,
    /// As it may stand in a log.
    pub call_id: String,
    /// The length of the message.
    pub bytes: usize,
}

/// What a frame brings with it.
pub type Framed = (Frame, Vec<u8>);

/// Reads the next frame; `None` at the end.
pub fn read(from: &mut impl BufRead) -> io::Result<Option<Framed>> {
    /// No line is longer, and no message.
    const LONGEST: usize = 1 << 20;
    let mut line = Vec::new();
    if io::Read::take(&mut *from, LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let frame: Frame = serde_json::from_slice(&line)?;
    let mut bytes = Vec::new();
    if let Frame::Message(heading) = &frame {
        if heading.bytes > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.resize(heading.bytes + 1, 0);
        from.read_exact(&mut bytes)?;
        bytes.pop();
    }
    Ok(Some((frame, bytes)))
}

/// What is asked for, beside the filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub secrets: bool,
    pub failures_only: bool,
}

/// Writes what is traced until its end, or until the reader has gone.
pub(super) async fn stream(
    traced: Traced,
    filter: &Filter,
    manner: Manner,
    reader: &mut (impl AsyncRead + Unpin),
    writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut out = BufWriter::new(writer);
    let live = matches!(traced, Traced::Live(_));
    line(&mut out, &Answer::Ok(json!({ "live": live }))).await?;
    match traced {
        Traced::Past(past) => {
            for item in past.items(filter) {
                write(&mut out, item, manner.secrets).await?;
            }
        }
        Traced::Live(mut subscription) => {
            let mut once = manner.failures_only.then(Once::default);
            out.flush().await?;
            loop {
                let next = tokio::select! {
                    item = subscription.next() => item,
                    // The reader says nothing more: whatever comes of this is its end.
                    _ = reader.read_u8() => None,
                };
                let Some(item) = next else { break };
                let mut item = Some(item);
                while let Some(this) = item {
                    if once.as_mut().is_none_or(|once| once.is_new(&this)) {
                        write(&mut out, this, manner.secrets).await?;
                    }
                    item = subscription.ready();
                }
                out.flush().await?;
            }
        }
    }
    out.shutdown().await
}

async fn write(out: &mut (impl AsyncWrite + Unpin), item: Item, secrets: bool) -> io::Result<()> {
    let micros = |at: std::time::Duration| at.as_micros() as u64;
    let frame = match item {
        Item::Message(seen) => {
            let bytes = if secrets { Cow::from(&*seen.bytes) } else { Cow::from(masked(&seen.bytes)) };
            line(out, &Frame::Message(heading(&seen, micros(seen.at)))).await?;
            out.write_all(&bytes).await?;
            return out.write_all(b"\n").await;
        }
        Item::Attempt { at, handset, target, outcome, strike, strikes } => {
            Frame::Attempt { at: micros(at), handset, target, outcome, strike, strikes }
        }
        Item::Rollover { at, from, to, reason } => {
            Frame::Rollover { at: micros(at), from, to, reason: reason.to_owned() }
        }
        Item::Lost(items) => Frame::Lost { items },
    };
    line(out, &frame).await
}

fn heading(seen: &Seen, at: u64) -> Heading {
    let Seen { leg, direction, handset, call_id, bytes, .. } = seen;
    Heading {
        at,
        direction: if *direction == Direction::In { "in" } else { "out" }.to_owned(),
        side: leg.side.as_str().to_owned(),
        transport: leg.transport.as_str().to_owned(),
        local: leg.local,
        remote: leg.remote,
        target: leg.target.as_ref().map(ToString::to_string),
        handset: handset.as_deref().map(|aor| Shown(aor.as_bytes()).to_string()),
        call_id: Shown(call_id).to_string(),
        bytes: bytes.len(),
    }
}

async fn line(out: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    out.write_all(&bytes).await
}
