//! The arguments of `holdline srv`: its own, and those of `holdline run` that matter to a look.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::super::args::{arg, origin};
use crate::config::keys::find;
use crate::config::{Layers, PROBE_KEYS, duration};

/// Arguments of `holdline srv`.
#[derive(Debug, Clone, Args)]
pub struct SrvArgs {
    /// SRV records (_sip._tls.pbx.example.com), domains, outbound-proxy URLs, or HOST:PORT; - reads them from standard input
    #[arg(value_name = "NAME", required_unless_present = "recent")]
    pub names: Vec<String>,
    /// Print the TOML for holdline run and, as comments, the firewall list; takes one NAME
    #[arg(long, conflicts_with_all = ["json", "markdown", "csv", "watch", "diff", "recent"])]
    pub emit_config: bool,
    /// Print JSON (docs/srv.md); with --watch one line a look
    #[arg(long)]
    pub json: bool,
    /// Print Markdown, for a ticket
    #[arg(long, conflicts_with_all = ["json", "csv", "watch", "diff"])]
    pub markdown: bool,
    /// Print one line of CSV for each address of each target
    #[arg(long, conflicts_with_all = ["json", "watch", "diff"])]
    pub csv: bool,
    /// Only look up and sort; send nothing to the targets
    #[arg(long)]
    pub no_probe: bool,
    /// Look again every so often and print what changed, until Ctrl-C
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        value_parser = at_least_a_second,
        conflicts_with = "recent"
    )]
    pub watch: Option<Duration>,
    /// Show only what changed since the last look at that NAME
    #[arg(long, conflicts_with_all = ["watch", "recent"])]
    pub diff: bool,
    /// List earlier looks, of these NAMEs or of all; with a number, open that one. Looks at nothing
    #[arg(long)]
    pub recent: bool,
    /// Time for one probe: connection, TLS handshake and answer to OPTIONS together
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = probing)]
    pub timeout: Duration,
    /// Settings that mean here what they mean to `holdline run`.
    #[command(flatten)]
    pub settings: ProbeArgs,
}

fn probing(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100))
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1))
}

/// The settings of [`PROBE_KEYS`], still as text.
#[derive(Debug, Clone)]
pub struct ProbeArgs {
    /// The values of flags and variables.
    pub layers: Layers,
}

impl Args for ProbeArgs {
    fn augment_args(command: Command) -> Command {
        command.args(PROBE_KEYS.iter().filter_map(|name| find(name)).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ProbeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layers = Layers::default();
        for key in PROBE_KEYS.iter().filter_map(|name| find(name)) {
            if let Some(origin) = origin(matches, key.name, key.flag, key.variable) {
                let texts = matches.get_many::<String>(key.name).into_iter().flatten().cloned().collect();
                layers.add(key, texts, &origin);
            }
        }
        Ok(ProbeArgs { layers })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
