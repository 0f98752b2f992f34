//! `holdline rejoin`: an instance that went alone comes back to its fleet.

use clap::Args;

use super::Failure;
use super::locate::{ControlArgs, FileArgs, ask};
use super::terminal::{json, print, visible};
use crate::control::Command;

/// The arguments of `holdline rejoin`.
#[derive(Debug, Args)]
pub struct RejoinArgs {
    /// Answer with JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// Comes back, and says from where to where.
pub(super) fn rejoin(args: &RejoinArgs) -> Result<(), Failure> {
    let path = args.control.path(&args.file)?;
    let rejoined = ask(&path, &Command::Rejoin {})?;
    if args.json {
        return print(&json(&rejoined, true));
    }
    let target = |key: &str| visible(rejoined[key].as_str().unwrap_or("?"));
    print(&format!(
        "{} -> {}: with the fleet again; phones move with their next REGISTER\n",
        target("from"),
        target("to")
    ))
}
