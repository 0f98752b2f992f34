//! What happens, and whether it went as promised.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;

use super::cast::{Cast, DOMAIN};
use super::child::Holdline;
use super::narrator::Narrator;
use crate::agents::phone::{Phone, Record};
use crate::agents::registrar::{Behaviour, Outgoing, Registrar};
use crate::agents::wire::Timers;

/// All handsets are registered this soon after they are switched on.
const FIRST: Duration = Duration::from_secs(10);
/// All handsets are at the other registrar this soon after theirs went silent: a refresh interval, three attempts of 4 s
/// one after the other, and the attempt under way at the third strike.
const AFTER_SILENCE: Duration = Duration::from_secs(25);
/// The same after it refuses: attempts are paced 1 s and 3 s.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);
/// No handset moves for this long at least: two refreshes of each.
const STICKY: Duration = Duration::from_secs(12);
/// Handsets answer the registrar's own requests this soon.
const RING: Duration = Duration::from_secs(5);

/// The story from the first registration to the return to A. An error says which promise was not kept.
pub(super) async fn tell(cast: &mut Cast, say: &Narrator) -> anyhow::Result<()> {
    phones_register(cast, say).await?;
    a_goes_silent(cast, say).await?;
    a_returns(cast, say).await?;
    b_refuses(cast, say).await
}

async fn phones_register(cast: &mut Cast, say: &Narrator) -> anyhow::Result<()> {
    say.chapter("Phones are switched on and register with digest authentication");
    if cast.rejects {
        say.tell("(both registrars were told to answer 403)");
    }
    let since = Instant::now();
    cast.switch_phones_on();
    cast.wait_for_phones("pbx-a", since, FIRST, say).await?;
    let at_a = cast.a.registered().len();
    ensure!(at_a == cast.phones.len(), "registrar A knows {at_a} of {} phones", cast.phones.len());
    ensure!(cast.b.read(|r| r.received.is_empty()), "registrar B was asked although A is well");
    say.good(&format!("{at_a} phones are registered at A, and B has not heard of any"));
    ring(&cast.a, &cast.phones, say).await
}

async fn a_goes_silent(cast: &mut Cast, say: &Narrator) -> anyhow::Result<()> {
    say.chapter("A goes silent: a black hole, like a stopped process");
    let since = Instant::now();
    let before = cast.a.read(branches);
    cast.a.behave(Behaviour::Silent).await?;
    let (failures, timeout) = (&cast.failures, cast.attempt_timeout);
    say.tell(&format!(
        "{failures} failed attempts in a row make B active, {timeout} each; the phones wait and know nothing"
    ));
    cast.wait_for_phones("pbx-b", since, AFTER_SILENCE, say).await?;
    let unheard = cast.a.read(|r| branches(r).difference(&before).count());
    ensure!(unheard >= 3, "A was left after {unheard} unanswered REGISTERs, fewer than three");
    say.good(&format!("all {} phones are registered at B", cast.phones.len()));
    cast.nobody_noticed(since, say)?;
    ring(&cast.b, &cast.phones, say).await
}

async fn a_returns(cast: &mut Cast, say: &Narrator) -> anyhow::Result<()> {
    say.chapter("A is back");
    let seen = cast.a.read(branches);
    let since = Instant::now();
    cast.a.behave(Behaviour::Normal).await?;
    say.tell("Holdline does not probe and does not fail back; two refreshes of every phone to see that");
    for phone in &cast.phones {
        let twice = |r: &Record| from(r, "pbx-b", since) >= 2;
        let wait = phone.wait("two refreshes", left(since, STICKY), twice);
        let late = || format!("phone {} did not refresh twice at B within {STICKY:?}", phone.options().user);
        until(wait, &mut cast.holdline, say).await?.ok().with_context(late)?;
    }
    // An attempt that A did not hear may still be repeated to it: the same branch is no new request.
    let new = cast.a.read(|r| branches(r).difference(&seen).count());
    let others =
        cast.a.read(|r| r.received.iter().filter(|r| r.at >= since && r.message.method() != "REGISTER").count());
    ensure!(others == 0, "A got {others} requests other than REGISTER although B is well");
    ensure!(new == 0, "A got {new} new requests although B is well");
    say.good("nobody moved: every phone refreshed twice at B, and A got no request");
    cast.nobody_noticed(since, say)
}

async fn b_refuses(cast: &mut Cast, say: &Narrator) -> anyhow::Result<()> {
    say.chapter("B refuses: its sockets are closed");
    let since = Instant::now();
    cast.b.behave(Behaviour::Refuse).await?;
    say.tell(&format!("{} refusals in a row, and after the last target comes the first again", cast.failures));
    cast.wait_for_phones("pbx-a", since, AFTER_REFUSAL, say).await?;
    say.good(&format!("all {} phones are back at A", cast.phones.len()));
    cast.nobody_noticed(since, say)?;
    ring(&cast.a, &cast.phones, say).await
}

impl Cast {
    /// Waits until every handset has a 2xx from this registrar that is younger than `since`.
    async fn wait_for_phones(
        &mut self,
        server: &str,
        since: Instant,
        within: Duration,
        say: &Narrator,
    ) -> anyhow::Result<()> {
        for phone in &self.phones {
            let settled = |r: &Record| from(r, server, since) > 0 || !r.errors().is_empty();
            let wait = phone.wait("a registration", left(since, within), settled);
            let late = || format!("phone {} is not registered at {server} after {within:?}", phone.options().user);
            until(wait, &mut self.holdline, say).await?.ok().with_context(late)?;
        }
        self.no_errors()
    }

    /// No handset ever saw an error.
    fn no_errors(&self) -> anyhow::Result<()> {
        let errors: Vec<String> = self.phones.iter().flat_map(complaints).collect();
        if let Some(first) = errors.first() {
            bail!("phones saw {} errors; the first: {first}", errors.len());
        }
        Ok(())
    }

    fn nobody_noticed(&self, since: Instant, say: &Narrator) -> anyhow::Result<()> {
        self.no_errors()?;
        let slowest = |p: &Phone| p.read(|r| r.finals.iter().filter(|f| f.at >= since).map(|f| f.took).max());
        let slowest = self.phones.iter().filter_map(slowest).max().unwrap_or_default();
        say.good(&format!("no phone saw an error; the longest wait for an answer was {:.1} s", slowest.as_secs_f64()));
        Ok(())
    }
}

/// Errors that a handset saw, and answers that it never asked for.
fn complaints(phone: &Phone) -> Vec<String> {
    let strays = |r: &Record| r.unexpected.iter().chain(&r.late).map(|s| s.message.status()).collect::<Vec<_>>();
    let mut complaints = phone.read(Record::errors);
    complaints.extend(phone.read(strays).into_iter().map(|status| format!("a stray {status}")));
    complaints.iter().map(|complaint| format!("phone {}: {complaint}", phone.options().user)).collect()
}

/// The registrar sends every handset an OPTIONS, to the Contact that it was given.
async fn ring(registrar: &Registrar, phones: &[Phone], say: &Narrator) -> anyhow::Result<()> {
    let mut calls = JoinSet::new();
    for phone in phones {
        let (registrar, user) = (registrar.clone(), phone.options().user.clone());
        calls.spawn(async move {
            let options = Outgoing { timers: Timers::giving_up_after(RING), ..Outgoing::new("OPTIONS") };
            let answer = registrar.send(&format!("{user}@{DOMAIN}"), &options).await;
            (user, answer.map_or(0, |exchange| exchange.status()))
        });
    }
    while let Some(call) = calls.join_next().await {
        let (user, status) = call.context("a call was not made")?;
        ensure!(
            status == 200,
            "the registrar cannot reach phone {user}: {}",
            match status {
                0 => "no answer".to_owned(),
                status => status.to_string(),
            }
        );
    }
    say.good(&format!("the registrar reaches all {} phones through Holdline", phones.len()));
    Ok(())
}

/// The handsets' and registrars' own numbers.
pub(super) fn summary(cast: &Cast, say: &Narrator) {
    let sum = |count: fn(&Record) -> usize| cast.phones.iter().map(|p| p.read(count)).sum::<usize>();
    say.chapter("By the phones' and registrars' own records");
    say.tell(&format!("registrations {}", sum(Record::successes)));
    say.tell(&format!("challenges    {}", sum(|r| r.count(401))));
    say.tell(&format!("errors        {}", sum(|r| r.errors().len())));
    let slowest = cast.phones.iter().map(|p| p.read(|r| r.slowest)).max().unwrap_or_default();
    say.tell(&format!("longest wait  {:.1} s", slowest.as_secs_f64()));
    for (name, registrar) in [("A", &cast.a), ("B", &cast.b)] {
        let requests = registrar.read(|r| r.count("REGISTER"));
        say.tell(&format!(
            "registrar {name}   {requests} REGISTERs, {} phones in its table",
            registrar.registered().len()
        ));
    }
    say.tell(&format!("took          {:.0} s", cast.since.elapsed().as_secs_f64()));
}

/// The handsets refresh until the demo is stopped; an error only if Holdline ends.
pub(super) async fn go_on(cast: &mut Cast, say: &Narrator, every: Duration) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(every);
    loop {
        tokio::select! {
            said = cast.holdline.says() => match said {
                Some(line) => say.quote(&line),
                None => bail!("Holdline has ended"),
            },
            _ = tick.tick() => {
                let registered = cast.phones.iter().filter(|p| p.read(|r| r.registered)).count();
                let sum = |count: fn(&Record) -> usize| cast.phones.iter().map(|p| p.read(count)).sum::<usize>();
                let (all, done, errors) = (cast.phones.len(), sum(Record::successes), sum(|r| r.errors().len()));
                say.tell(&format!("{registered} of {all} phones registered; {done} registrations so far, {errors} errors"));
            }
        }
    }
}

/// Waits, and prints what Holdline logs in the meantime. An error only if Holdline ends.
async fn until<T>(wait: impl Future<Output = T>, holdline: &mut Holdline, say: &Narrator) -> anyhow::Result<T> {
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            said = holdline.says() => match said {
                Some(line) => say.quote(&line),
                None => bail!("Holdline has ended"),
            },
            done = &mut wait => return Ok(done),
        }
    }
}

/// How many 2xx a registrar gave since then.
fn from(record: &Record, server: &str, since: Instant) -> usize {
    let theirs = |f: &&crate::agents::phone::Final| {
        (200..300).contains(&f.status) && f.at >= since && f.server.as_deref() == Some(server)
    };
    record.finals.iter().filter(theirs).count()
}

/// The transactions of the REGISTERs that arrived.
fn branches(record: &crate::agents::registrar::Record) -> HashSet<String> {
    record.requests("REGISTER").map(|r| r.message.branch().to_owned()).collect()
}

fn left(since: Instant, within: Duration) -> Duration {
    within.saturating_sub(since.elapsed())
}
