//! The command line: one file a subcommand.

pub mod args;
mod check;
mod contents;
mod demo;
mod failure;
mod healthcheck;
mod locate;
mod notes;
mod phones;
mod rejoin;
mod reload;
mod roll;
mod run;
mod shells;
mod srv;
mod status;
mod terminal;
mod trace;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use args::RunArgs;
pub use failure::Failure;

/// A SIP outbound proxy that gives desk phones DNS SRV failover.
#[derive(Debug, Parser)]
#[command(name = "holdline", version = VERSION, max_term_width = 120, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// `0.2.0 (commit)`: the version, and the commit it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOLDLINE_REVISION"), ")");

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve handsets: resolve the SRV record, forward requests, fail over.
    Run(Box<RunArgs>),
    /// Look an SRV record up as Holdline would, probe its targets, and say what to enter.
    Srv(Box<srv::SrvArgs>),
    /// Show targets, counts and what happened: what the status page shows, on a terminal.
    Status(status::StatusArgs),
    /// List the handsets, registered or in trouble; exit status 0: one that matches is registered, 1: none is.
    Phones(phones::PhonesArgs),
    /// Make another target active now.
    Roll(roll::RollArgs),
    /// Bring an instance that went alone back to where its fleet is.
    Rejoin(rejoin::RejoinArgs),
    /// Show the messages of a handset or of a call as they pass, or what failed, as a ladder, whole, or as a capture file.
    Trace(trace::TraceArgs),
    /// Probe a running Holdline; exit status 0: healthy, 1: not.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Show a whole failover on loopback: handsets, two registrars, DNS, with nothing to install.
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell: holdline completions bash > /etc/bash_completion.d/holdline
    Completions(shells::CompletionArgs),
    /// Print a manual page (roff): holdline man | man -l -
    Man(shells::ManArgs),
}

/// Parses `arguments` (the program's name first) and does what they say. The code is 0 but for `srv`, whose code is its
/// answer.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let probes = subcommand(&arguments).as_deref() == Some("healthcheck");
    obey(arguments).map_err(|failure| if probes { failure.plain() } else { failure })
}

fn obey(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    match parse(arguments)?.command {
        Command::Run(args) if args.check => check::check(&args),
        Command::Run(args) => run::run(&args),
        Command::Srv(args) => return srv::srv(&args),
        Command::Status(args) => status::status(&args),
        Command::Phones(args) => phones::phones(&args),
        Command::Roll(args) => roll::roll(&args),
        Command::Rejoin(args) => rejoin::rejoin(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Healthcheck(args) => healthcheck::healthcheck(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Completions(args) => shells::completions(&args),
        Command::Man(args) => shells::man(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Help and version are printed here and end the process with 0; a mistake is a [`Failure::Usage`].
fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let command = subcommand(&arguments);
    let usage = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // There is nothing to be done where even that cannot be written.
            let _ = error.print();
            Failure::Help
        }
        _ if error.exit_code() == 0 => error.exit(),
        _ => failure::usage(&error, command.as_deref()),
    };
    let matches = Cli::command().try_get_matches_from(arguments).map_err(usage)?;
    Cli::from_arg_matches(&matches).map_err(usage)
}

/// The subcommand that is asked for, if there is one of that name.
fn subcommand(arguments: &[OsString]) -> Option<String> {
    let given = arguments.get(1)?.to_str()?;
    Cli::command().find_subcommand(given).map(|command| command.get_name().to_owned())
}
