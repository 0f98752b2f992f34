//! `holdline status`: what the status page shows, on a terminal.

mod overview;
mod page;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use super::locate::{AdminArgs, ControlArgs, FileArgs, TokenArgs, ask};
use super::terminal::{json, print, watch};
use crate::control::Command;

/// The arguments of `holdline status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the JSON of /status (docs/status.md); with --watch one line each time.
    #[arg(long)]
    json: bool,
    /// Look again every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// One line for each Holdline of this machine: each file in --config-dir is one. Exit status 0: all answered, 1: not all.
    #[arg(long, conflicts_with_all = ["admin", "control", "state_dir", "config"])]
    all: bool,
    /// Where --all finds the configuration files.
    #[arg(long, value_name = "DIR", default_value = "/etc/holdline")]
    config_dir: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// Reads `/status`, or asks over the control socket where `--control` names one.
pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    match args.watch {
        None if args.all => {
            let (text, complete) = overview::all(&args.config_dir, args.json)?;
            print(&text)?;
            if complete { Ok(()) } else { Err(Failure::No) }
        }
        None => print(&look(args)?),
        Some(seconds) => watch(Duration::from_secs(seconds), || look(args)),
    }
}

fn look(args: &StatusArgs) -> Result<String, Failure> {
    if args.all {
        return Ok(overview::all(&args.config_dir, args.json)?.0);
    }
    let status = if args.control.is_given() {
        ask(&args.control.path(&args.file)?, &Command::Status {})?
    } else {
        page::page(&args.admin.address(&args.file)?, args.token.token(&args.file)?.as_deref())?
    };
    if args.json {
        return Ok(json(&status, args.watch.is_none()));
    }
    let status = serde_json::from_value(status)
        .map_err(|error| Failure::Unavailable(anyhow!("this is not the /status of a Holdline: {error}")))?;
    Ok(view::rendered(&status))
}
