//! `holdline roll`: the operator moves the phones.

use clap::Args;

use super::Failure;
use super::locate::{ControlArgs, FileArgs, ask};
use super::terminal::{json, print, visible};
use crate::control::Command;

/// The arguments of `holdline roll`.
#[derive(Debug, Args)]
pub struct RollArgs {
    /// The target to make active, host:port or host as `holdline status` shows it [default: the next in order].
    target: Option<String>,
    /// Answer with JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// Moves, and says from where to where. A target that is not there is a mistake in the command line: 64.
pub(super) fn roll(args: &RollArgs) -> Result<(), Failure> {
    let path = args.control.path(&args.file)?;
    let rolled = ask(&path, &Command::Roll { target: args.target.clone() })?;
    if args.json {
        return print(&json(&rolled, true));
    }
    let target = |key: &str| visible(rolled[key].as_str().unwrap_or("?"));
    let (from, to) = (target("from"), target("to"));
    print(&if from == to {
        format!("{to} is the only target and stays active; its count of failures is zero again\n")
    } else {
        format!("{from} -> {to}: active from now on; phones move with their next REGISTER\n")
    })
}
