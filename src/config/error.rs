//! A refusal: which key, which value, from where, and what would be right. Always one line.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line; the flag without its dashes.
    Flag(&'static str),
    /// The environment.
    Variable(&'static str),
    /// The configuration file.
    File {
        /// As given to `--config`.
        path: Arc<str>,
        /// From 1.
        line: usize,
    },
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Variable(variable) => f.write_str(variable),
            Origin::File { path, line } => write!(f, "{}:{line}", OneLine(path)),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A configuration that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key as in the file, or the file's own name where the file as a whole is wrong.
    pub key: String,
    /// The value, where there is one.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub remedy: Cow<'static, str>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(&self.key))?;
        if let Some(value) = &self.value {
            write!(f, " = \"{}\"", OneLine(value))?;
        }
        match &self.origin {
            Origin::Default => {}
            origin => write!(f, " ({origin})")?,
        }
        write!(f, ": {}", OneLine(&self.remedy))
    }
}

impl std::error::Error for ConfigError {}

/// Text from outside on one line: control characters escaped, cut where it gets long.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 400;
        for (n, c) in self.0.chars().enumerate() {
            if n == MOST {
                return f.write_str("…");
            }
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
