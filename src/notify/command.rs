//! A command, run without a shell: its words are its arguments, whatever is in them.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Undelivered;

/// After this long it is killed, with whatever it has started.
pub(super) const TIME: Duration = Duration::from_secs(30);

/// Runs it to its end. Its output is not read.
pub(super) async fn run(words: &[String], input: &str) -> Result<(), Undelivered> {
    run_within(TIME, words, input).await
}

pub(super) async fn run_within(time: Duration, words: &[String], input: &str) -> Result<(), Undelivered> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let failed = |what: String| Undelivered { what: format!("{program}: {what}"), again: false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, so that its children can be killed with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let ended = timeout(time, feed(&mut child, input)).await;
    let Ok(status) = ended else {
        if let Some(group) = child.id() {
            // It may have ended at this very moment.
            let _ = killpg(Pid::from_raw(group.cast_signed()), Signal::SIGKILL);
        }
        let _ = child.wait().await;
        return Err(failed(format!("killed, because it took more than {time:?}")));
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A command that does not read what it is given is none the worse.
async fn feed(child: &mut Child, input: &str) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes()).await;
        let _ = stdin.shutdown().await;
    }
    child.wait().await
}
