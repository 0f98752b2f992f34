//! Questions in, answers out.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::trace::{self, Manner};
use super::{Answer, Command, CommandRefusal};
use crate::admin::about;
use crate::driver::Request;
use crate::proxy::phones::Query;
use crate::tap::Filter;
use crate::upstream::RollError;

/// Clients served at once; more wait in the listen queue.
const CLIENTS: usize = 8;

/// A question is no longer than this.
const LONGEST: u64 = 4096;

/// For a question to come, and for its answer to be taken.
const TIME: Duration = Duration::from_secs(5);

/// Handsets listed unless another number is asked for.
const LISTED: usize = 100;

/// Answers from now on, on a thread of its own, until the process ends.
pub fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(accept(listener, requests));
    thread::Builder::new().name("control".to_owned()).spawn(serve).map(|_| ())
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket cannot be served"),
    };
    let (free, started) = (Arc::new(Semaphore::new(CLIENTS)), Instant::now());
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &requests, started, permit).await {
                        tracing::debug!(%error, "control client gone");
                    }
                });
            }
            // Out of file descriptors, most likely: some will be free in a while.
            Err(error) => {
                tracing::debug!(%error, "control client not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One question, one answer. A trace goes on, and is no client any more that others have to wait for: traces have a limit of
/// their own.
async fn converse(
    mut stream: UnixStream,
    requests: &mpsc::Sender<Request>,
    started: Instant,
    permit: OwnedSemaphorePermit,
) -> io::Result<()> {
    let who = stream.peer_cred()?;
    let (mut reader, mut writer) = stream.split();
    let mut line = Vec::new();
    timeout(TIME, BufReader::new((&mut reader).take(LONGEST)).read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice(&line) {
        Ok(Command::Roll { target }) => {
            let asked = target.as_deref().unwrap_or("next");
            tracing::info!(target = asked, uid = who.uid(), pid = who.pid(), "roll asked for over the control socket");
            roll(requests, target).await
        }
        Ok(Command::Rejoin {}) => {
            tracing::info!(uid = who.uid(), pid = who.pid(), "rejoin asked for over the control socket");
            match ask(requests, Request::Rejoin).await {
                Some(Ok((from, to))) => Answer::Ok(json!({ "from": from, "to": to })),
                Some(Err(error)) => Answer::Error { kind: CommandRefusal::NotApart, message: error.to_string() },
                None => silent(),
            }
        }
        Ok(Command::Phones { query, limit }) => {
            let query = Query::new(&query);
            let phones = ask(requests, |to| Request::Phones(query, limit.unwrap_or(LISTED), to)).await;
            phones.map_or_else(silent, |phones| Answer::Ok(json!(phones)))
        }
        Ok(Command::Trace { what, failures, last_seconds, secrets }) => {
            tracing::info!(secrets, uid = who.uid(), pid = who.pid(), "trace asked for over the control socket");
            let filter = Filter::new(&what, failures);
            let last = last_seconds.map(Duration::from_secs);
            match ask(requests, |to| Request::Trace(filter.clone(), last, to)).await {
                Some(Ok(traced)) => {
                    drop(permit);
                    let manner = Manner { secrets, failures_only: failures };
                    return trace::stream(traced, &filter, manner, &mut reader, writer).await;
                }
                Some(Err(busy)) => Answer::Error { kind: CommandRefusal::Busy, message: busy.to_string() },
                None => silent(),
            }
        }
        Ok(Command::Status {}) => match ask(requests, Request::Status).await {
            Some(mut status) => {
                status["holdline"] = about(started);
                Answer::Ok(status)
            }
            None => silent(),
        },
        Err(error) => {
            let message = if line.len() as u64 == LONGEST {
                format!("the question is longer than {LONGEST} bytes")
            } else {
                format!("not a question: {error}")
            };
            Answer::Error { kind: CommandRefusal::BadRequest, message }
        }
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    timeout(TIME, async {
        writer.write_all(&bytes).await?;
        writer.shutdown().await
    })
    .await?
}

async fn roll(requests: &mpsc::Sender<Request>, target: Option<String>) -> Answer {
    match ask(requests, |to| Request::Roll(target, to)).await {
        Some(Ok(rollover)) => {
            Answer::Ok(json!({ "from": rollover.from, "to": rollover.to, "epoch": rollover.epoch, "reason": "manual" }))
        }
        Some(Err(error)) => {
            let kind = match error {
                RollError::NotReady => CommandRefusal::NotReady,
                RollError::NoSuchTarget { .. } => CommandRefusal::NoSuchTarget,
                RollError::AlreadyActive(_) => CommandRefusal::AlreadyActive,
            };
            Answer::Error { kind, message: error.to_string() }
        }
        None => silent(),
    }
}

/// Asks the driver; `None` where it does not answer in time.
async fn ask<T>(requests: &mpsc::Sender<Request>, question: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
    let (to, answer) = oneshot::channel();
    timeout(TIME, async {
        requests.send(question(to)).await.ok()?;
        answer.await.ok()
    })
    .await
    .ok()
    .flatten()
}

fn silent() -> Answer {
    let message =
        "Holdline does not answer: it is stopping, or its loop hangs (see /livez). What was asked for may still happen";
    Answer::Error { kind: CommandRefusal::Silent, message: message.to_owned() }
}
