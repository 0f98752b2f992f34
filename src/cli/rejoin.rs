//! `holdline rejoin`: an instance that went alone comes back to its fleet.

use clap::Args;

use super::Failure;
use super::locate::QuestionArgs;
use super::terminal::{json, print, visible};
use crate::control::Command;

/// The arguments of `holdline rejoin`.
#[derive(Debug, Args)]
pub struct RejoinArgs {
    #[command(flatten)]
    question: QuestionArgs,
}

/// Comes back, and says from where to where.
pub(super) fn rejoin(args: &RejoinArgs) -> Result<(), Failure> {
    let rejoined = args.question.ask(&Command::Rejoin {})?;
    if args.question.json {
        return print(&json(&rejoined, true));
    }
    let target = |key: &str| visible(rejoined[key].as_str().unwrap_or("?"));
    print(&format!(
        "{} -> {}: with the fleet again; phones move with their next REGISTER\n",
        target("from"),
        target("to")
    ))
}
