//! How REGISTER attempts went over the last hour, minute by minute: what the status page draws.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::AttemptOutcome;

/// Minutes kept, the running one included.
pub(super) const MINUTES: usize = 60;

const MINUTE: Duration = Duration::from_secs(60);

const OUTCOMES: usize = AttemptOutcome::ALL.len();

/// One minute in which something happened.
#[derive(Debug, Clone, Default)]
struct Minute {
    /// Minutes since the start.
    number: u64,
    outcomes: [u32; OUTCOMES],
    /// Attempts that were answered, and how long that took.
    answered: u32,
    took: Duration,
    longest: Duration,
}

/// A ring of at most [`MINUTES`] entries, whatever happens.
#[derive(Debug)]
pub(super) struct Minutes {
    began: Instant,
    kept: VecDeque<Minute>,
    totals: [u64; OUTCOMES],
}

/// Attempts by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// 2xx.
    pub success: u64,
    /// 401, 407.
    pub challenged: u64,
    /// Any other answer that is no failure.
    pub rejected: u64,
    /// What counts against a target.
    pub failed: u64,
}

impl Counts {
    fn of(counts: impl Fn(AttemptOutcome) -> u64) -> Self {
        Counts {
            success: counts(AttemptOutcome::Success),
            challenged: counts(AttemptOutcome::Challenged),
            rejected: counts(AttemptOutcome::Rejected),
            failed: counts(AttemptOutcome::Failed),
        }
    }
}

/// How long the answers of the last hour took, in milliseconds from an attempt's start; null where nothing was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    /// On average.
    pub mean_ms: Option<u64>,
    /// The longest of them.
    pub max_ms: Option<u64>,
}

/// The hour as columns of [`MINUTES`] entries, oldest first; the last entry is the running minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MinutesShown {
    /// How much of the running minute is over.
    pub running_seconds: f64,
    /// 2xx.
    pub success: Vec<u32>,
    /// 401, 407.
    pub challenged: Vec<u32>,
    /// Any other answer that is no failure.
    pub rejected: Vec<u32>,
    /// What counts against a target.
    pub failed: Vec<u32>,
    /// Milliseconds from an attempt's start to its answer, on average; null where nothing was answered.
    pub mean_ms: Vec<Option<u64>>,
    /// The longest of them.
    pub max_ms: Vec<Option<u64>>,
}

impl Minutes {
    pub(super) fn new(now: Instant) -> Self {
        Minutes { began: now, kept: VecDeque::new(), totals: [0; OUTCOMES] }
    }

    /// Takes one attempt's end. `answered`: how long its answer took, if one came.
    pub(super) fn note(&mut self, outcome: AttemptOutcome, answered: Option<Duration>, now: Instant) {
        let number = self.number(now);
        if self.kept.back().is_none_or(|last| last.number < number) {
            if self.kept.len() == MINUTES {
                self.kept.pop_front();
            }
            self.kept.push_back(Minute { number, ..Minute::default() });
        }
        let Some(minute) = self.kept.back_mut() else { return };
        let count = &mut minute.outcomes[outcome as usize];
        *count = count.saturating_add(1);
        self.totals[outcome as usize] += 1;
        if let Some(took) = answered {
            minute.answered = minute.answered.saturating_add(1);
            minute.took = minute.took.saturating_add(took);
            minute.longest = minute.longest.max(took);
        }
    }

    /// Since the start.
    pub(super) fn totals(&self) -> Counts {
        Counts::of(|outcome| self.totals[outcome as usize])
    }

    /// In the last hour.
    pub(super) fn hour(&self, now: Instant) -> Counts {
        Counts::of(|outcome| self.recent(now).map(|minute| u64::from(minute.outcomes[outcome as usize])).sum())
    }

    /// Of the last hour.
    pub(super) fn latency(&self, now: Instant) -> Latency {
        let answered: u32 = self.recent(now).map(|minute| minute.answered).fold(0, u32::saturating_add);
        let took: Duration = self.recent(now).map(|minute| minute.took).fold(Duration::ZERO, Duration::saturating_add);
        let longest = self.recent(now).map(|minute| minute.longest).max().unwrap_or_default();
        let ms = |duration: Duration| (answered > 0).then_some(duration.as_millis() as u64);
        Latency { mean_ms: ms(took / answered.max(1)), max_ms: ms(longest) }
    }

    pub(super) fn shown(&self, now: Instant) -> MinutesShown {
        let mut columns = vec![None; MINUTES];
        for minute in self.recent(now) {
            // Before the first hour is over, the columns on the left stay empty.
            let place = MINUTES - 1 - (self.number(now) - minute.number) as usize;
            columns[place] = Some(minute);
        }
        let counts = |outcome: AttemptOutcome| {
            columns.iter().map(|minute| minute.map_or(0, |minute| minute.outcomes[outcome as usize])).collect()
        };
        let answered = |of: fn(&Minute) -> Duration| {
            let one = |minute: &&Minute| (minute.answered > 0).then(|| of(minute).as_millis() as u64);
            columns.iter().map(|minute| minute.as_ref().and_then(one)).collect()
        };
        MinutesShown {
            running_seconds: (now.saturating_duration_since(self.began).as_secs_f64()) % MINUTE.as_secs_f64(),
            success: counts(AttemptOutcome::Success),
            challenged: counts(AttemptOutcome::Challenged),
            rejected: counts(AttemptOutcome::Rejected),
            failed: counts(AttemptOutcome::Failed),
            mean_ms: answered(|minute| minute.took / minute.answered.max(1)),
            max_ms: answered(|minute| minute.longest),
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / MINUTE.as_secs()
    }

    /// The minutes of the last hour in which something happened.
    fn recent(&self, now: Instant) -> impl Iterator<Item = &Minute> {
        let first = (self.number(now) + 1).saturating_sub(MINUTES as u64);
        self.kept.iter().filter(move |minute| minute.number >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any instant will do: only differences matter.
    #[allow(clippy::disallowed_methods)]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_hour_is_kept_by_minutes_and_no_more() {
        let start = base();
        let mut minutes = Minutes::new(start);
        for minute in 0..200 {
            let now = start + MINUTE * minute + Duration::from_secs(30);
            for took in [10, 30] {
                minutes.note(AttemptOutcome::Success, Some(Duration::from_millis(took)), now);
            }
            minutes.note(AttemptOutcome::Failed, None, now);
            assert!(minutes.kept.len() <= MINUTES);
        }
        let now = start + MINUTE * 199 + Duration::from_secs(45);
        let shown = minutes.shown(now);
        assert_eq!((shown.success.len(), shown.success[0], shown.success[59]), (60, 2, 2));
        assert_eq!((shown.mean_ms[59], shown.max_ms[59], shown.rejected[59]), (Some(20), Some(30), 0));
        assert!((shown.running_seconds - 45.0).abs() < 0.001, "{}", shown.running_seconds);
        assert_eq!(minutes.totals(), Counts { success: 400, failed: 200, ..Counts::default() });
        assert_eq!(minutes.hour(now), Counts { success: 120, failed: 60, ..Counts::default() });
        minutes.note(AttemptOutcome::Success, Some(Duration::from_millis(20 + 121 * 7)), now);
        assert_eq!(minutes.latency(now), Latency { mean_ms: Some(27), max_ms: Some(867) }, "121 answers");
    }

    #[test]
    fn quiet_minutes_are_empty_columns_and_old_ones_drop_out() {
        let start = base();
        let mut minutes = Minutes::new(start);
        minutes.note(AttemptOutcome::Rejected, Some(Duration::from_millis(7)), start);
        let shown = minutes.shown(start + MINUTE * 3);
        assert_eq!((shown.rejected[56], shown.mean_ms[56], shown.mean_ms[57]), (1, Some(7), None));
        assert_eq!(shown.rejected.iter().sum::<u32>(), 1);
        let shown = minutes.shown(start + MINUTE * 59);
        assert_eq!(shown.rejected[0], 1);
        let shown = minutes.shown(start + MINUTE * 60);
        assert_eq!(shown.rejected.iter().sum::<u32>(), 0);
        assert_eq!(minutes.hour(start + MINUTE * 60), Counts::default());
        assert_eq!(minutes.latency(start + MINUTE * 60), Latency { mean_ms: None, max_ms: None });
        assert_eq!(minutes.totals().rejected, 1);
    }
}
