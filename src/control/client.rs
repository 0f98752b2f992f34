//! The asking end, for the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, Command};

/// Longer than the serving end takes for anything.
const PATIENCE: Duration = Duration::from_secs(15);

/// No answer is longer than this.
const LONGEST: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no Holdline at the control socket {}: {error}", path.display())]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke, or took too long.
    #[error("the control socket {} gave no answer: {error}", path.display())]
    Broken {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Asks the Holdline whose control socket is at `path`, and waits for the answer.
pub fn ask(path: &Path, command: &Command) -> Result<Answer, AskError> {
    let mut stream = UnixStream::connect(path).map_err(|error| AskError::Connect { path: path.to_owned(), error })?;
    converse(&mut stream, command).map_err(|error| AskError::Broken { path: path.to_owned(), error })
}

/// Asks, and waits for the first line of an answer that goes on. What follows it comes out of the reader, whenever it comes.
pub fn open(path: &Path, command: &Command) -> Result<(Answer, BufReader<UnixStream>), AskError> {
    let stream = UnixStream::connect(path).map_err(|error| AskError::Connect { path: path.to_owned(), error })?;
    begin(stream, command).map_err(|error| AskError::Broken { path: path.to_owned(), error })
}

fn begin(mut stream: UnixStream, command: &Command) -> io::Result<(Answer, BufReader<UnixStream>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_vec(command)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line)?;
    let answer = serde_json::from_slice(&line)?;
    reader.get_ref().set_read_timeout(None)?;
    Ok((answer, reader))
}

fn converse(stream: &mut UnixStream, command: &Command) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
