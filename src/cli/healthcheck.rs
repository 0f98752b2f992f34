//! `holdline healthcheck`: a probe for images in which there is nothing else that could ask.

use clap::Args;

use super::Failure;
use super::locate::{AdminArgs, FileArgs, get};
use super::terminal::visible;

/// The arguments of `holdline healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Ask whether it is ready (it has targets and is not stopping) instead of whether it works.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// 0: healthy; 1: not, or nobody answers, or it was asked wrongly, with the reason on standard error.
pub(super) fn healthcheck(args: &HealthcheckArgs) -> Result<(), Failure> {
    let path = if args.ready { "/readyz" } else { "/livez" };
    match get(&args.admin.address(&args.file)?, path, None)? {
        (200, _) => Ok(()),
        (_, why) => Err(Failure::Other(anyhow::anyhow!("{}", visible(why.trim())))),
    }
}
