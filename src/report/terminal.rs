//! A report for a person: what stays where it was first, then what was skipped and why, then images and tags. Why a
//! job failed is told beside it, in full, by whoever ran it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::diag::{count, moment, size};
use crate::event::{Amount, EmulationCost, Outcome, Waiting};

use super::{Counts, JobReport, JobResult, PublicationReport, Report};

impl Report {
    /// The report as plain text.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        if let Some(publication) = &self.publication {
            write_withheld(publication, out)?;
        }
        self.write_skipped(out)?;
        self.write_images(out)?;
        for publication in self.publication.iter().chain(&self.mirrors) {
            write_publication(publication, out)?;
        }
        let jobs = count(self.counts.total(), "job");
        writeln!(out, "{jobs} in {}: {}", duration(self.milliseconds), self.counts)?;
        if let Some(line) = traffic_line(&self.traffic) {
            writeln!(out, "{line}")?;
        }
        if let Some((median, most)) = own_time(self) {
            let (median, most) = (duration(median), duration(most));
            writeln!(out, "beside engines and tests a job took {median}, {most} at most")?;
        }
        for builder in &self.by_archives {
            writeln!(out, "builder {builder} does not reach the store: images were loaded and saved whole")?;
        }
        self.logs.as_ref().map_or(Ok(()), |logs| writeln!(out, "logs: {logs}"))
    }

    fn write_skipped(&self, out: &mut String) -> fmt::Result {
        let skipped = self.jobs.iter().filter_map(|(job, report)| match &report.result {
            JobResult::Ended(Outcome::Skipped { because }) => Some((job, because)),
            _ => None,
        });
        let skipped: Vec<_> = skipped.collect();
        for (job, because) in &skipped {
            writeln!(out, "skipped   {job}: because of {because}")?;
        }
        if skipped.is_empty() { Ok(()) } else { writeln!(out) }
    }

    /// One line an image: its platforms, each with what became of it.
    fn write_images(&self, out: &mut String) -> fmt::Result {
        let mut images: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (job, report) in &self.jobs {
            let (unit, platform) = job.split_once('@').unwrap_or((job, "?"));
            images.entry(unit).or_default().push(format!("{platform} {}", became(report)));
        }
        let width = images.keys().map(|unit| unit.chars().count()).max().unwrap_or_default();
        for (unit, platforms) in &images {
            writeln!(out, "{unit:width$}  {}", platforms.join(", "))?;
        }
        if images.is_empty() { Ok(()) } else { writeln!(out) }
    }
}

/// "registry: 215 requests, 12.4 MB sent, 0.3 MB received", of several hosts their sum and the requests of each;
/// nothing where nothing was asked.
pub(crate) fn traffic_line(traffic: &BTreeMap<String, Amount>) -> Option<String> {
    let sum = |part: fn(&Amount) -> u64| traffic.values().map(part).sum::<u64>();
    let (requests, sent, received) = (sum(|one| one.requests), sum(|one| one.sent), sum(|one| one.received));
    let asked = count(usize::try_from(requests).unwrap_or(usize::MAX), "request");
    let hosts: Vec<String> = traffic.iter().map(|(host, one)| format!("{host} {}", one.requests)).collect();
    let hosts = if hosts.len() > 1 { format!(" ({})", hosts.join(", ")) } else { String::new() };
    let line = format!("registry: {asked}, {} sent, {} received{hosts}", size(sent), size(received));
    (requests > 0).then_some(line)
}

fn write_withheld(publication: &PublicationReport, out: &mut String) -> fmt::Result {
    for (reference, reason) in &publication.withheld {
        writeln!(out, "withheld  {reference} stays where it is: {reason}")?;
    }
    if publication.withheld.is_empty() { Ok(()) } else { writeln!(out) }
}

fn write_publication(publication: &PublicationReport, out: &mut String) -> fmt::Result {
    for image in &publication.images {
        writeln!(out, "{}@{}", image.repository, image.digest)?;
        let own = publication.tags.iter().filter(|(_, tag)| tag.digest == image.digest);
        let tags: Vec<&str> = own
            .filter_map(|(reference, _)| reference.strip_prefix(&image.repository)?.strip_prefix(':'))
            .collect();
        if !tags.is_empty() {
            writeln!(out, "    {}", tags.join(" "))?;
        }
    }
    let moved = publication.tags.values().filter(|tag| tag.moved).count();
    let bytes = publication.images.iter().map(|image| image.bytes).sum();
    let target = &publication.target;
    match publication.complete {
        true => writeln!(
            out,
            "published {} and {} to {target}: {moved} moved, {} sent",
            count(publication.images.len(), "image"),
            count(publication.tags.len(), "tag"),
            size(bytes),
        ),
        false => writeln!(
            out,
            "publication to {target} is incomplete: {} of {} in place",
            publication.tags.len(),
            count(publication.tags_planned, "tag"),
        ),
    }
}

/// "about 11 min, native 1 min"
pub(crate) fn emulation_cost(cost: &EmulationCost) -> String {
    format!("about {}, native {}", duration(cost.emulated_milliseconds), duration(cost.native_milliseconds))
}

/// What jobs took beside the time that engines and tests were at work: their median, and the most; nothing where no
/// engine was.
fn own_time(report: &Report) -> Option<(u64, u64)> {
    let ended = report.jobs.values().filter(|job| job.engine_milliseconds > 0);
    let mut own: Vec<u64> =
        ended.map(|job| job.milliseconds.saturating_sub(job.engine_milliseconds)).collect();
    own.sort_unstable();
    Some((*own.get(own.len() / 2)?, *own.last()?))
}

fn became(report: &JobReport) -> String {
    let time = duration(report.milliseconds);
    let native = |cost: EmulationCost| format!(", native about {}", duration(cost.native_milliseconds));
    let emulated = match report.emulated {
        true => format!(", emulated{}", report.cost.map_or_else(String::new, native)),
        false => String::new(),
    };
    let afresh = if report.without_cache { ", once more without cache" } else { "" };
    let cold = match report.caches_dropped.len() {
        0 => String::new(),
        dropped => format!(", {} not used or not kept", count(dropped, "cache")),
    };
    match &report.result {
        JobResult::Unfinished => "unfinished".to_owned(),
        JobResult::Reused => "reused".to_owned(),
        JobResult::Ended(Outcome::Built { .. }) => format!("built ({time}{emulated}{afresh}{cold})"),
        JobResult::Ended(Outcome::Checked { .. }) => format!("checked ({time}{emulated})"),
        JobResult::Ended(Outcome::Failed { waiting: Some(waiting), .. }) => {
            let Waiting { failures, until_seconds, .. } = waiting;
            format!("not tried until {} (failed {failures} times in a row)", moment(*until_seconds))
        }
        JobResult::Ended(Outcome::Failed { .. }) => format!("failed ({time}{emulated}{afresh}{cold})"),
        JobResult::Ended(Outcome::Skipped { .. }) => "skipped".to_owned(),
        JobResult::Ended(Outcome::Cancelled) => "cancelled".to_owned(),
    }
}

impl Counts {
    /// All jobs of the plan.
    pub(crate) fn total(&self) -> usize {
        self.named().iter().map(|(count, _)| count).sum()
    }

    fn named(&self) -> [(usize, &'static str); 7] {
        [
            (self.built, "built"),
            (self.checked, "checked"),
            (self.reused, "reused"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.cancelled, "cancelled"),
            (self.unfinished, "unfinished"),
        ]
    }
}

impl fmt::Display for Counts {
    /// "3 built, 0 checked, 29 reused", and what went wrong only where something did.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALWAYS: usize = 3;
        let shown =
            self.named().into_iter().enumerate().filter(|(at, (count, _))| *at < ALWAYS || *count > 0);
        let parts: Vec<String> = shown.map(|(_, (count, name))| format!("{count} {name}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A time as a person reads it: `840 ms`, `1.7 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
