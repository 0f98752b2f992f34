//! `holdline completions` and `holdline man`: made from the arguments.

use std::io::Write as _;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failure};

/// Arguments of `holdline completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// Which shell
    pub shell: Shell,
}

/// Arguments of `holdline man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The subcommand whose page is wanted; without it the page of holdline itself
    pub command: Option<String>,
}

/// Prints a script that completes subcommands, flags and file names.
pub(super) fn completions(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdline", &mut script);
    print(&script)
}

/// Prints one page as roff.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut cli = Cli::command();
    // Gives the subcommands their names: holdline-run(1).
    cli.build();
    let command = match &args.command {
        None => cli,
        Some(name) => page_of(&cli, name)?,
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).context("the page cannot be made")?;
    print(&page)
}

fn page_of(cli: &Command, name: &str) -> Result<Command, Failure> {
    let found = cli.get_subcommands().find(|command| command.get_name() == name);
    let command = found.ok_or_else(|| Failure::Usage(format!("there is no subcommand {name}; see holdline --help")))?;
    Ok(command.clone().disable_help_subcommand(true))
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    std::io::stdout().lock().write_all(bytes).context("standard output cannot be written")?;
    Ok(())
}
