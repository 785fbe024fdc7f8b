//! Progress: one redrawn line a running job on a terminal, a plain line for every fact elsewhere.

use std::collections::BTreeMap;

use crate::diag::count;
use crate::event::{Event, EventKind, Outcome};
use crate::report::{duration, emulation_cost, size};

use super::Display;
use super::problem::shown;

/// Nothing is drawn before a run has lasted this long.
const QUIET_MILLISECONDS: u64 = 250;
/// The least time between two drawings.
const REDRAW_MILLISECONDS: u64 = 100;
/// The least time between two lines about what was sent, where every fact is a line.
const SENT_MILLISECONDS: u64 = 10_000;
/// What the live line about bytes on their way is called.
const SENDING: &str = "publish";
/// Live lines at once; further jobs are counted in one line more.
const LINES_LIMIT: usize = 16;

/// What is under way.
pub(super) struct Progress {
    display: Display,
    /// Running jobs, in the order of their names.
    running: BTreeMap<String, Running>,
    jobs: usize,
    ended: usize,
    started: Option<u64>,
    drawn_at: Option<u64>,
    /// When it was last told how much was sent or written, where every fact is a line.
    sent_at: Option<u64>,
    /// How many live lines stand on the terminal.
    drawn_lines: usize,
}

struct Running {
    since: u64,
    step: String,
    /// That it is emulated, where it is.
    how: &'static str,
}

impl Progress {
    pub(super) fn new(display: Display) -> Self {
        let running = BTreeMap::new();
        Self {
            display,
            running,
            jobs: 0,
            ended: 0,
            started: None,
            drawn_at: None,
            sent_at: None,
            drawn_lines: 0,
        }
    }

    /// What to write because of an event.
    pub(super) fn take(&mut self, event: &Event) -> String {
        let now = event.at_milliseconds;
        self.started.get_or_insert(now);
        let line = self.line(event);
        match self.display {
            Display::Quiet => String::new(),
            Display::Plain => line.map_or_else(String::new, |line| format!("{line}\n")),
            Display::Live { .. } => match line.filter(|_| lasting(&event.kind)) {
                Some(line) => {
                    self.drawn_at = None;
                    format!("{}{line}\n{}", self.clear(), self.tick(now))
                }
                None => self.tick(now),
            },
        }
    }

    /// What to write because time has passed.
    pub(super) fn tick(&mut self, now: u64) -> String {
        let Display::Live { columns } = self.display else { return String::new() };
        let early = self.started.is_none_or(|started| now < started + QUIET_MILLISECONDS);
        let recent = self.drawn_at.is_some_and(|drawn| now < drawn + REDRAW_MILLISECONDS);
        if early || recent {
            return String::new();
        }
        self.drawn_at = Some(now);
        let mut text = self.clear();
        for (job, running) in self.running.iter().take(LINES_LIMIT) {
            let time = duration(now.saturating_sub(running.since));
            let line = format!("  {job}  {time}{}  {}", running.how, running.step);
            text.push_str(&cut(&line, columns));
            text.push('\n');
        }
        let more = self.running.len().saturating_sub(LINES_LIMIT);
        if more > 0 {
            text.push_str(&cut(&format!("  and {more} more"), columns));
            text.push('\n');
        }
        self.drawn_lines = self.running.len().min(LINES_LIMIT) + usize::from(more > 0);
        text
    }

    /// What takes the live lines away: up to the first of them, then all below is erased.
    pub(super) fn clear(&mut self) -> String {
        match std::mem::take(&mut self.drawn_lines) {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A\u{1b}[J"),
        }
    }

    /// The plain line of an event, where it has one.
    fn line(&mut self, event: &Event) -> Option<String> {
        let now = event.at_milliseconds;
        match &event.kind {
            EventKind::RunStarted { jobs, reused, .. } => {
                self.jobs = *jobs;
                let to_do = jobs - reused;
                let jobs = count(*jobs, "job");
                Some(format!("{jobs}: {to_do} to do, {reused} reused"))
            }
            EventKind::JobReused { job, .. } => {
                self.ended += 1;
                // Of others it is said in the first line.
                let was_begun = self.running.remove(job).is_some();
                was_begun.then(|| self.ending(job, "reused: its record stands by now"))
            }
            EventKind::JobAwaits { job, run } => {
                let run = run
                    .as_deref()
                    .map_or_else(|| "another run".to_owned(), |run| format!("run {}", shown(run)));
                let step = format!("waits for {run}, which builds the same");
                if let Some(running) = self.running.get_mut(job) {
                    running.step.clone_from(&step);
                }
                Some(format!("  {job}  {step}"))
            }
            EventKind::JobStarted { job, builder, emulated, checks_only, cost } => {
                let step = if *checks_only { "check" } else { "build" };
                let how = if *emulated { ", emulated" } else { "" };
                self.running.insert(job.clone(), Running { since: now, step: step.to_owned(), how });
                let cost = cost.map_or_else(String::new, |cost| format!(", {}", emulation_cost(&cost)));
                let emulated = format!("{how}{cost}");
                Some(format!("{job}  {step} on {}{emulated}", shown(builder)))
            }
            EventKind::JobStep { job, step } => {
                let step = shown(step).replace('\n', " ");
                if let Some(running) = self.running.get_mut(job) {
                    running.step.clone_from(&step);
                }
                Some(format!("  {job}  {step}"))
            }
            EventKind::JobKept { job, bytes, .. } => Some(format!("  {job}  kept, {}", size(*bytes))),
            EventKind::CheckEnded { job, check, passed, milliseconds, .. } => {
                let result = if *passed { "passed" } else { "FAILED" };
                Some(format!("  {job}  {result} {} in {}", shown(check), duration(*milliseconds)))
            }
            EventKind::ImageReplaced { job, before, image } => Some(format!(
                "  {job}  warning: the same inputs had made {}, which {} replaces",
                shown(before),
                shown(image)
            )),
            EventKind::BuiltTwice { job, other, image } if other == image => {
                Some(format!("  {job}  warning: another machine has built the same image meanwhile"))
            }
            EventKind::BuiltTwice { job, other, image } => Some(format!(
                "  {job}  warning: another machine has built it meanwhile: {}, which {} replaces",
                shown(other),
                shown(image)
            )),
            EventKind::CacheFailed { job, reason } => {
                Some(format!("  {job}  warning: cannot {}", shown(reason)))
            }
            EventKind::CacheMoved { job, cache, kept, bytes, milliseconds } => {
                let how = if *kept { "kept" } else { "taken" };
                let (cache, bytes) = (shown(cache), size(*bytes));
                Some(format!("  {job}  cache {cache} {how}, {bytes} in {}", duration(*milliseconds)))
            }
            EventKind::CacheDropped { job, cache, reason } => {
                Some(format!("  {job}  warning: cache {}: {}", shown(cache), shown(reason)))
            }
            EventKind::JobRetried { job, reason, without_cache } => {
                let how = if *without_cache { " without the engine's cache" } else { "" };
                Some(format!("  {job}  tried again{how}: {}", shown(reason)))
            }
            EventKind::JobMoved { job, builder, reason } => {
                self.running.remove(job);
                Some(format!("  {job}  leaves {}: {}", shown(builder), shown(reason)))
            }
            EventKind::JobEnded { job, outcome, milliseconds, .. } => {
                self.running.remove(job);
                self.ended += 1;
                Some(self.ending(job, &ended(outcome, *milliseconds)))
            }
            EventKind::Sent { target, bytes, at_most } => self.sent(now, target, *bytes, *at_most),
            EventKind::Exporting { file, looking, bytes, at_most } => {
                let step = if *looking { "layers read" } else { "written" };
                let step = format!("{} of {} {step}", size(*bytes), size(*at_most));
                self.far(now, file, step)
            }
            EventKind::Exported { file, bytes, stood } => {
                self.running.clear();
                let stood = if *stood { "  as before" } else { "" };
                Some(format!("{}  {}{stood}", shown(file), size(*bytes)))
            }
            EventKind::Published { .. } | EventKind::RunEnded { .. } => {
                self.running.remove(SENDING);
                publication_line(&event.kind)
            }
            other => builder_line(other).or_else(|| publication_line(other)),
        }
    }

    /// How much was sent: in a live line of its own, and otherwise not too often.
    fn sent(&mut self, now: u64, target: &str, bytes: u64, at_most: u64) -> Option<String> {
        let step = format!("{} of at most {} sent to {}", size(bytes), size(at_most), shown(target));
        self.often(now, SENDING, &step).then(|| format!("  {step}"))
    }

    /// How far a file is, in the same way.
    fn far(&mut self, now: u64, file: &str, step: String) -> Option<String> {
        let file = shown(file);
        // One file at a time.
        self.running.retain(|running, _| *running == file);
        self.often(now, &file, &step).then(|| format!("  {file}  {step}"))
    }

    /// Sets the live line of something that is told all the time; whether it is time for a line that stays.
    fn often(&mut self, now: u64, what: &str, step: &str) -> bool {
        let running = self.running.entry(what.to_owned());
        step.clone_into(&mut running.or_insert(Running { since: now, step: String::new(), how: "" }).step);
        let told = *self.sent_at.get_or_insert(now);
        let is_time = now >= told + SENT_MILLISECONDS;
        if is_time {
            self.sent_at = Some(now);
        }
        is_time
    }

    fn ending(&self, job: &str, how: &str) -> String {
        format!("[{}/{}] {job}  {how}", self.ended, self.jobs)
    }
}

/// Events whose line stays on a terminal; the others are seen in the live lines only.
fn lasting(kind: &EventKind) -> bool {
    match kind {
        EventKind::JobEnded { .. }
        | EventKind::JobReused { .. }
        | EventKind::JobAwaits { .. }
        | EventKind::CacheFailed { .. }
        | EventKind::ImageReplaced { .. }
        | EventKind::BuiltTwice { .. }
        | EventKind::CacheDropped { .. }
        | EventKind::JobRetried { .. }
        | EventKind::JobMoved { .. }
        | EventKind::BuilderFedByArchives { .. }
        | EventKind::BuilderLost { .. }
        | EventKind::LateResult { .. }
        | EventKind::BuilderReturned { .. }
        | EventKind::PublishStarted { .. }
        | EventKind::TagWithheld { .. }
        | EventKind::PublicationCompleted { .. }
        | EventKind::Exported { .. }
        | EventKind::Published { .. } => true,
        EventKind::CheckEnded { passed, .. } => !passed,
        _ => false,
    }
}

/// The plain line of what became of a builder.
fn builder_line(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::BuilderFedByArchives { builder } => Some(format!(
            "builder {} does not reach the store: images are loaded and saved whole",
            shown(builder)
        )),
        EventKind::BuilderLost { builder, reason } => {
            Some(format!("builder {} is lost: {}", shown(builder), shown(reason).replace('\n', " ")))
        }
        EventKind::LateResult { job, builder, config } => Some(format!(
            "  {job}  warning: builder {}, which was lost, has made another image of it, {}, which is not used",
            shown(builder),
            shown(config)
        )),
        EventKind::BuilderReturned { builder } => Some(format!("builder {} is back", shown(builder))),
        _ => None,
    }
}

fn publication_line(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::PublishStarted { target, images, tags } => {
            Some(format!("publish {} and {} to {target}", count(*images, "image"), count(*tags, "tag")))
        }
        EventKind::ContentPublished { repository, digest, bytes } => {
            Some(format!("  {repository}@{digest}  there, {} sent", size(*bytes)))
        }
        EventKind::TagWithheld { reference, reason } => {
            Some(format!("withheld {reference}: {}", shown(reason)))
        }
        EventKind::PublicationAwaited { id } => Some(format!("  waiting for the publication {}", shown(id))),
        EventKind::PublicationCompleted { id, put_back } => {
            let how = if *put_back { "its tags were put back" } else { "it was completed" };
            Some(format!("the publication {} had been cut off: {how}", shown(id)))
        }
        EventKind::TagRemoved { reference } => Some(format!("  {reference}  removed")),
        EventKind::Published { tags } => Some(format!("published and read back: {}", count(*tags, "tag"))),
        _ => None,
    }
}

fn ended(outcome: &Outcome, milliseconds: u64) -> String {
    let time = duration(milliseconds);
    match outcome {
        Outcome::Built { .. } => format!("built in {time}"),
        Outcome::Checked { .. } => format!("checked in {time}"),
        Outcome::Failed { reason, waiting: Some(_), .. } => format!("NOT TRIED: {}", shown(reason)),
        Outcome::Failed { reason, .. } => format!("FAILED after {time}: {}", shown(reason)),
        Outcome::Skipped { because } => format!("skipped because of {because}"),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}

/// A line cut to the width of the terminal, so that it takes one row and the way back up is known.
fn cut(line: &str, columns: usize) -> String {
    match line.chars().count() <= columns {
        true => line.to_owned(),
        false => line.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
    }
}
