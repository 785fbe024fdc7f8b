//! When each job was on which builder, and what that cost: a fold over the events of a run.

use std::collections::BTreeMap;

use crate::event::{Event, EventKind, Outcome};

/// A run along its time. Times are milliseconds since its first event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timeline {
    /// Every time that a job was on a builder, in the order in which they began.
    pub(crate) attempts: Vec<Attempt>,
    /// When the last event was.
    pub(crate) ended: u64,
    began: Option<u64>,
    /// What builders cost a minute, and how many slots they have.
    prices: BTreeMap<String, (f64, usize)>,
}

/// One time that a job was on a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) job: String,
    pub(crate) builder: String,
    pub(crate) emulated: bool,
    /// Only its checks ran.
    pub(crate) checks_only: bool,
    pub(crate) began: u64,
    /// `None` where the log stops before.
    pub(crate) ended: Option<u64>,
    pub(crate) end: AttemptEnd,
    /// What the engine named, as it began.
    pub(crate) steps: Vec<Step>,
    /// When its image stood, if it got so far: what comes after are its checks.
    kept: Option<u64>,
}

/// One step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) began: u64,
    /// How long it was until the next one began, or the image stood.
    pub(crate) milliseconds: u64,
}

/// How a job left a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Built,
    Checked,
    Failed,
    /// It went elsewhere, or a record came to stand meanwhile.
    Left,
    /// The run was stopped, or the log stops.
    Cancelled,
}

impl Timeline {
    /// The timeline of a run's events, in their order.
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut timeline = Self::default();
        events.into_iter().for_each(|event| timeline.take(event));
        let ended = timeline.ended;
        for attempt in &mut timeline.attempts {
            attempt.measure_steps(ended);
        }
        timeline
    }

    fn take(&mut self, event: &Event) {
        let began = *self.began.get_or_insert(event.at_milliseconds);
        let now = event.at_milliseconds.saturating_sub(began).max(self.ended);
        self.ended = now;
        match &event.kind {
            EventKind::BuilderReady { builder, slots, price: Some(price) } => {
                self.prices.insert(builder.clone(), (*price, *slots));
            }
            EventKind::JobStarted { job, builder, emulated, checks_only, .. } => {
                self.end(job, now, AttemptEnd::Left);
                self.attempts.push(Attempt {
                    job: job.clone(),
                    builder: builder.clone(),
                    emulated: *emulated,
                    checks_only: *checks_only,
                    began: now,
                    ended: None,
                    end: AttemptEnd::Cancelled,
                    steps: Vec::new(),
                    kept: None,
                });
            }
            EventKind::JobStep { job, step } => {
                if let Some(attempt) = self.open(job) {
                    attempt.steps.push(Step { name: step.clone(), began: now, milliseconds: 0 });
                }
            }
            EventKind::JobKept { job, .. } => {
                if let Some(attempt) = self.open(job) {
                    attempt.kept = Some(now);
                }
            }
            EventKind::JobMoved { job, .. } | EventKind::JobReused { job, .. } => {
                self.end(job, now, AttemptEnd::Left);
            }
            EventKind::JobEnded { job, outcome, .. } => self.end(job, now, AttemptEnd::of(outcome)),
            _ => {}
        }
    }

    fn open(&mut self, job: &str) -> Option<&mut Attempt> {
        self.attempts.iter_mut().rev().find(|attempt| attempt.job == job && attempt.ended.is_none())
    }

    fn end(&mut self, job: &str, now: u64, end: AttemptEnd) {
        if let Some(attempt) = self.open(job) {
            attempt.ended = Some(now);
            attempt.end = end;
        }
    }

    /// The rows of each builder: on one row one attempt stands after the other, as on a slot.
    pub(crate) fn rows(&self) -> BTreeMap<&str, Vec<Vec<&Attempt>>> {
        let mut rows: BTreeMap<&str, Vec<Vec<&Attempt>>> = BTreeMap::new();
        for attempt in &self.attempts {
            let of_builder = rows.entry(&attempt.builder).or_default();
            let is_free = |row: &&mut Vec<&Attempt>| {
                row.last().is_none_or(|last| last.ended.is_some_and(|ended| ended <= attempt.began))
            };
            match of_builder.iter_mut().find(is_free) {
                Some(row) => row.push(attempt),
                None => of_builder.push(vec![attempt]),
            }
        }
        rows
    }

    /// What an attempt cost: a slot's part of what its builder costs for so long. `None` where no price was said.
    pub(crate) fn cost_of(&self, attempt: &Attempt) -> Option<f64> {
        let (price, slots) = self.prices.get(&attempt.builder)?;
        Some(price * minutes(self.end_of(attempt) - attempt.began) / (*slots).max(1) as f64)
    }

    /// What the builders cost, each from its first job's beginning to its last one's end, as `polyarch simulate` counts.
    /// `None` where no price was said.
    pub(crate) fn cost(&self) -> Option<f64> {
        let cost = |builder: &String, price: &f64| {
            let on_it = || self.attempts.iter().filter(|attempt| attempt.builder == *builder);
            let (begin, end) =
                (on_it().map(|one| one.began).min()?, on_it().map(|one| self.end_of(one)).max()?);
            Some(price * minutes(end - begin))
        };
        let costs = self.prices.iter().filter_map(|(builder, (price, _))| cost(builder, price));
        (!self.prices.is_empty()).then(|| costs.sum())
    }

    /// When an attempt ended, or the log did.
    pub(crate) fn end_of(&self, attempt: &Attempt) -> u64 {
        attempt.ended.unwrap_or(self.ended)
    }
}

fn minutes(milliseconds: u64) -> f64 {
    milliseconds as f64 / 60_000.0
}

impl Attempt {
    fn measure_steps(&mut self, ended: u64) {
        let mut until = self.kept.or(self.ended).unwrap_or(ended);
        for step in self.steps.iter_mut().rev() {
            step.milliseconds = until.saturating_sub(step.began);
            until = step.began;
        }
    }
}

impl AttemptEnd {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Built { .. } => Self::Built,
            Outcome::Checked { .. } => Self::Checked,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Skipped { .. } | Outcome::Cancelled => Self::Cancelled,
        }
    }

    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Checked => "checked",
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{DecisionView, JobView, PLAN_VIEW_VERSION, PlanView};

    fn event(at_milliseconds: u64, kind: EventKind) -> Event {
        Event { at_milliseconds, kind }
    }

    pub(in crate::report) fn started(at: u64, job: &str, builder: &str) -> Event {
        let (job, builder) = (job.to_owned(), builder.to_owned());
        event(at, EventKind::JobStarted { job, builder, emulated: false, checks_only: false, cost: None })
    }

    fn step(at: u64, job: &str, step: &str) -> Event {
        event(at, EventKind::JobStep { job: job.to_owned(), step: step.to_owned() })
    }

    fn kept(at: u64, job: &str) -> Event {
        let (job, image, config) = (job.to_owned(), "sha256:1".to_owned(), "sha256:2".to_owned());
        event(at, EventKind::JobKept { job, image, config, bytes: 1, layers: Vec::new() })
    }

    pub(in crate::report) fn built(at: u64, job: &str) -> Event {
        let outcome = Outcome::Built { image: "sha256:1".to_owned() };
        event(
            at,
            EventKind::JobEnded { job: job.to_owned(), outcome, milliseconds: 1, engine_milliseconds: 1 },
        )
    }

    pub(in crate::report) fn plan(jobs: &[(&str, &[&str])]) -> PlanView {
        let view = |(job, parents): &(&str, &[&str])| JobView {
            job: (*job).to_owned(),
            unit: job.split('@').next().unwrap_or_default().to_owned(),
            platform: "linux/amd64".to_owned(),
            decision: DecisionView::Build,
            reasons: Vec::new(),
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
            beside: Vec::new(),
            bases: Vec::new(),
            key: String::new(),
            emulation: None,
            disk: None,
            needs: Vec::new(),
            estimate: None,
            emulated: None,
            waiting: None,
        };
        PlanView {
            version: PLAN_VIEW_VERSION,
            jobs: jobs.iter().map(view).collect(),
            mirrors: Vec::new(),
            builders: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn jobs_of_one_time_stand_on_rows_of_their_own_and_steps_last_until_the_next() {
        let events = [
            started(1_000, "a", "one"),
            step(1_010, "a", "first"),
            started(1_020, "b", "one"),
            step(1_040, "a", "second"),
            kept(1_070, "a"),
            built(1_100, "a"),
            started(1_100, "c", "one"),
            started(1_120, "d", "two"),
            built(1_200, "c"),
            built(1_300, "b"),
        ];
        let timeline = Timeline::of(&events);
        let rows = timeline.rows();
        let named: Vec<Vec<&str>> =
            rows["one"].iter().map(|row| row.iter().map(|attempt| &*attempt.job).collect()).collect();
        assert_eq!(named, [vec!["a", "c"], vec!["b"]]);
        let steps: Vec<(&str, u64)> =
            rows["one"][0][0].steps.iter().map(|step| (&*step.name, step.milliseconds)).collect();
        assert_eq!(steps, [("first", 30), ("second", 30)]);
        let open = rows["two"][0][0];
        assert_eq!((open.ended, open.end, timeline.end_of(open)), (None, AttemptEnd::Cancelled, 300));
    }

    #[test]
    fn builders_cost_from_their_first_job_to_their_last_and_jobs_a_slots_part() {
        let ready = |builder: &str, price| {
            let builder = builder.to_owned();
            event(0, EventKind::BuilderReady { builder, slots: 2, price })
        };
        let events = [
            ready("one", Some(0.5)),
            ready("two", None),
            ready("idle", Some(100.0)),
            started(60_000, "a", "one"),
            built(120_000, "a"),
            started(180_000, "b", "one"),
            started(180_000, "c", "two"),
            built(300_000, "b"),
        ];
        let timeline = Timeline::of(&events);
        assert_eq!(timeline.cost(), Some(2.0), "four minutes of `one`");
        let by_job: Vec<_> = timeline.attempts.iter().map(|attempt| timeline.cost_of(attempt)).collect();
        assert_eq!(by_job, [Some(0.25), Some(0.5), None]);
        assert_eq!(Timeline::of(&events[3..]).cost(), None, "no price was said");
    }

    #[test]
    fn a_job_that_moved_was_on_both_builders() {
        let moved = EventKind::JobMoved {
            job: "a".to_owned(),
            builder: "one".to_owned(),
            reason: "it is gone".to_owned(),
        };
        let events = [started(0, "a", "one"), event(50, moved), started(60, "a", "two"), built(90, "a")];
        let timeline = Timeline::of(&events);
        let all: Vec<_> = timeline.attempts.iter().map(|one| (&*one.builder, one.ended, one.end)).collect();
        assert_eq!(all, [("one", Some(50), AttemptEnd::Left), ("two", Some(90), AttemptEnd::Built)]);
    }
}
