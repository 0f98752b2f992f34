//! `holdline roll`: the operator moves the phones.

use clap::Args;

use super::Failure;
use super::locate::QuestionArgs;
use super::terminal::{json, print, visible};
use crate::control::Command;

/// The arguments of `holdline roll`.
#[derive(Debug, Args)]
pub struct RollArgs {
    /// The target to make active, host:port or host as `holdline status` shows it [default: the next in order].
    target: Option<String>,
    #[command(flatten)]
    question: QuestionArgs,
}

/// Moves, and says from where to where. A target that is not there is a mistake in the command line: 64.
pub(super) fn roll(args: &RollArgs) -> Result<(), Failure> {
    let rolled = args.question.ask(&Command::Roll { target: args.target.clone() })?;
    if args.question.json {
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
