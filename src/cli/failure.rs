//! How the program ends when it does not end well: one line on standard error, and an exit code from `sysexits.h`.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a subcommand ended.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: 64.
    Usage(String),
    /// A configuration that cannot be run: 78.
    Config(ConfigError),
    /// Something this needs cannot be had, a port for instance: 69.
    Unavailable(anyhow::Error),
    /// The answer to the question is no, and has been given: 1, without a word.
    No,
    /// There was no question, and the help has been printed instead: 64.
    Help,
    /// Anything else: 1.
    Other(anyhow::Error),
}

impl Failure {
    /// True where there is nothing left to say.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::No | Failure::Help)
    }

    /// The same for a caller to whom only 0 and 1 mean something: a container's runtime.
    pub(super) fn plain(self) -> Self {
        match self {
            Failure::No | Failure::Other(_) => self,
            Failure::Help | Failure::Usage(_) | Failure::Config(_) | Failure::Unavailable(_) => {
                Failure::Other(anyhow::anyhow!("{self}"))
            }
        }
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) | Failure::Help => 64,
            Failure::Config(_) => 78,
            Failure::Unavailable(_) => 69,
            Failure::No | Failure::Other(_) => 1,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(line) => f.write_str(line),
            Failure::No => f.write_str("no"),
            Failure::Help => f.write_str("a subcommand is missing"),
            Failure::Config(error) => write!(f, "bad configuration: {error}"),
            Failure::Unavailable(error) | Failure::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// clap's several lines as one: what is wrong, the tip if there is one, and where to read more. `command`: the subcommand
/// that was meant, if one was.
pub(super) fn usage(error: &clap::Error, command: Option<&str>) -> Failure {
    let rendered = error.render().to_string();
    let told: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(|line| line.strip_prefix("error: ").or_else(|| line.strip_prefix("tip: ")).unwrap_or(line))
        .collect();
    let page = command.map_or_else(|| "holdline --help".to_owned(), |command| format!("holdline {command} --help"));
    Failure::Usage(format!("{}; see {page}", told.join("; ")))
}
