//! The arguments of `holdline run`, made from the table of settings.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use crate::config::keys::{KEYS, Key};
use crate::config::{Config, ConfigError, Layers, Origin};

/// The values of flags and variables, still as text.
#[derive(Debug, Clone)]
pub struct RunArgs {
    /// Every setting given.
    pub layers: Layers,
    /// The configuration file, and the source that named it.
    pub file: Option<(PathBuf, Origin)>,
    /// Validate and leave.
    pub check: bool,
}

impl RunArgs {
    /// Reads the file, if there is one, and parses everything.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::build(&self.with_file()?)
    }

    /// What was given, the file as it is now included.
    pub fn with_file(&self) -> Result<Layers, ConfigError> {
        let mut layers = self.layers.clone();
        if let Some((path, origin)) = &self.file {
            layers.read_file(path, origin.clone())?;
        }
        Ok(layers)
    }
}

const FILE: &str = "config";
const FILE_VARIABLE: &str = "HOLDLINE_CONFIG";
const CHECK: &str = "check";

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .short('c')
            .long(FILE)
            .env(FILE_VARIABLE)
            .hide_env_values(true)
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .help("TOML file with the settings below, named with _ for -; flags and variables win over it");
        let check = Arg::new(CHECK)
            .long(CHECK)
            .action(ArgAction::SetTrue)
            .help("Validate the configuration, certificates and directories included, and leave");
        command.arg(file).args(KEYS.iter().map(arg)).arg(check)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Values stay text: `config` reports what is wrong with one, alike for all three sources.
pub(super) fn arg(key: &'static Key) -> Arg {
    let help = match key.default {
        "" => key.help.to_owned(),
        default => format!("{} [default: {}]", key.help, default.replace(',', ", ")),
    };
    Arg::new(key.name)
        .long(key.flag)
        .env(key.variable)
        .hide_env_values(true)
        .value_name(key.value)
        .value_hint(match key.value {
            "FILE" | "SOCKET-PATH" => ValueHint::FilePath,
            "DIR" => ValueHint::DirPath,
            _ => ValueHint::Other,
        })
        .action(if key.many { ArgAction::Append } else { ArgAction::Set })
        .help(help)
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layers = Layers::default();
        for key in KEYS {
            if let Some(origin) = origin(matches, key.name, key.flag, key.variable) {
                let texts = matches.get_many::<String>(key.name).into_iter().flatten().cloned().collect();
                layers.add(key, texts, &origin);
            }
        }
        let file = origin(matches, FILE, FILE, FILE_VARIABLE)
            .zip(matches.get_one::<String>(FILE).filter(|path| !path.trim().is_empty()))
            .map(|(origin, path)| (PathBuf::from(path), origin));
        Ok(RunArgs { layers, file, check: matches.get_flag(CHECK) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The source of this argument, if it was given.
pub(super) fn origin(matches: &ArgMatches, id: &str, flag: &'static str, variable: &'static str) -> Option<Origin> {
    match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Origin::Flag(flag)),
        ValueSource::EnvVariable => Some(Origin::Variable(variable)),
        _ => None,
    }
}
