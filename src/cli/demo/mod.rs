//! `holdline demo`: the main job, end to end, with nothing installed and no privileges.
//!
//! A DNS server, two registrars and a few dozen phones run in this process; Holdline itself is a child process, the very
//! `holdline run` that an operator starts. Everything is on 127.0.0.1 and ephemeral ports. [`story`] kills and revives the
//! registrars and judges by the phones' and registrars' own records, never by what Holdline says of itself.
#![allow(clippy::disallowed_methods, reason = "the demo lives in real time")]

mod cast;
mod child;
mod narrator;
mod story;

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use cast::Cast;
use narrator::Narrator;

/// Arguments of `holdline demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// End after the story, with a summary; exit 0 only if the story held
    #[arg(long)]
    pub once: bool,
    /// How many phones, two thirds of them over UDP, the others over TCP
    #[arg(long, value_name = "N", default_value_t = 36, value_parser = clap::value_parser!(u16).range(3..=500))]
    pub phones: u16,
    /// Holdline's `failures` setting; with 1000 nothing ever rolls over, and the story does not hold
    #[arg(long, value_name = "N")]
    pub failures: Option<u32>,
    /// Both registrars reject every registration with 403: the story does not hold
    #[arg(long)]
    pub registrar_rejects: bool,
}

/// The interval at which the state is printed after the story.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Tells the story. Ctrl-C (SIGTERM, SIGHUP) ends it at any moment.
pub(super) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let say = Narrator::new();
    runtime.block_on(async {
        let mut stop = Stop::listen().context("signals cannot be received")?;
        tokio::select! {
            ended = play(args, &say) => ended,
            () = say.unheard() => if args.once { Err(Failure::No) } else { Ok(()) },
            () = stop.wait() => {
                say.end("Stopped: phones, registrars, DNS and Holdline are gone; nothing is left behind.");
                if args.once { Err(Failure::Other(anyhow::anyhow!("stopped before the story ended"))) } else { Ok(()) }
            }
        }
    })
}

async fn play(args: &DemoArgs, say: &Narrator) -> Result<(), Failure> {
    let mut cast = Cast::assemble(args, say).await.map_err(Failure::Unavailable)?;
    let told = story::tell(&mut cast, say).await;
    match told {
        Ok(()) => say.good("The story held."),
        Err(broken) => {
            say.bad(&format!("The story does not hold: {broken:#}"));
            story::summary(&cast, say);
            cast.holdline.stop().await;
            return Err(Failure::Other(anyhow::anyhow!("the story did not hold")));
        }
    }
    story::summary(&cast, say);
    if !args.once {
        say.tell("The phones go on refreshing. Ctrl-C ends the demo.");
        story::go_on(&mut cast, say, STATUS_EVERY).await.map_err(Failure::Other)?;
    }
    cast.holdline.stop().await;
    Ok(())
}

/// The signals that end the demo.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn listen() -> std::io::Result<Stop> {
        Ok(Stop([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
