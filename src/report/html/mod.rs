//! A report as one HTML file: what came of a run, the graph of the family, the timeline, every job, and the logs of those that
//! failed. It asks nothing of any network, and what images print in it is text, whatever it looks like.

mod graph;
mod jobs;
mod timeline;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::diag::{count, size};
use crate::oci::Digest;

use super::terminal::{duration, traffic_line};
use super::{CriticalPath, JobReport, JobResult, JobView, PlanView, PublicationReport, Report, Timeline};
use crate::event::Outcome;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// So many logs are open when the page is.
const OPEN_LOGS: usize = 3;

/// All that a page is made of.
pub(crate) struct Page<'a> {
    /// What the family is called.
    pub(crate) family: &'a str,
    /// When the run began, for a person.
    pub(crate) date: &'a str,
    pub(crate) report: &'a Report,
    pub(crate) timeline: &'a Timeline,
    /// The plan that was carried out; of an older run there may be none.
    pub(crate) plan: Option<&'a PlanView>,
    /// The ends of the logs of jobs that failed, by job.
    pub(crate) logs: &'a BTreeMap<String, String>,
}

impl Page<'_> {
    /// The page.
    pub(crate) fn to_html(&self) -> String {
        let title = format!("{}: {}", self.family, self.ending());
        let policy = policy();
        let path = CriticalPath::of(self.timeline, self.plan);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#jobs" { "To the images" }
                    header {
                        h1 { (self.family) }
                        p.ending.(self.tone()) { (self.ending()) }
                        p.when { (self.date) " · run " code { (self.report.run) } }
                    }
                    main {
                        (self.summary(&path))
                        (self.failures())
                        @if let Some(plan) = self.plan { (graph::section(plan, self.report)) }
                        (timeline::section(self.timeline, &path))
                        (jobs::section(self))
                        @for publication in self.report.publication.iter().chain(&self.report.mirrors) {
                            (published(publication))
                        }
                    }
                    footer { "Written by polyarch " (env!("CARGO_PKG_VERSION")) "." }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn ending(&self) -> String {
        let counts = &self.report.counts;
        match self.report.exit_code {
            Some(0) => "all is well".to_owned(),
            Some(_) if counts.failed > 0 => {
                format!("{} of {} failed", counts.failed, count(counts.total(), "job"))
            }
            Some(code) => format!("ended with exit code {code}"),
            None => "not ended".to_owned(),
        }
    }

    fn tone(&self) -> &'static str {
        match self.report.exit_code {
            Some(0) => "good",
            Some(_) => "bad",
            None => "odd",
        }
    }

    fn summary(&self, path: &CriticalPath) -> Markup {
        let counts = &self.report.counts;
        let numbers = [
            ("built", counts.built),
            ("checked", counts.checked),
            ("reused", counts.reused),
            ("failed", counts.failed),
            ("skipped", counts.skipped),
            ("cancelled", counts.cancelled),
            ("unfinished", counts.unfinished),
        ];
        html! {
            section #summary aria-label="Summary" {
                dl.numbers {
                    div { dt { "jobs" } dd { (counts.total()) } }
                    @for (word, number) in numbers.iter().filter(|(_, number)| *number > 0) {
                        div class=(word) { dt { (word) } dd { (number) } }
                    }
                    div { dt { "took" } dd { (duration(self.report.milliseconds)) } }
                    @if let Some(cost) = self.timeline.cost() { div { dt { "cost" } dd { (money(cost)) } } }
                }
                @if let Some(saved) = self.saved() { p { (saved) } }
                @if path.jobs.len() > 1 { p { "With builders enough it would have taken " (duration(path.milliseconds)) ": the " (count(path.jobs.len(), "job")) " of the critical path, marked in the timeline." } }
                @if let Some(line) = traffic_line(&self.report.traffic) { p { (line) } }
            }
        }
    }

    /// What reuse has saved, by what the jobs took when they were built.
    fn saved(&self) -> Option<String> {
        let reused = |job: &&JobView| {
            self.report.jobs.get(&job.job).is_some_and(|report| report.result == JobResult::Reused)
        };
        let saved: u64 = { self.plan?.jobs.iter().filter(reused) }
            .filter_map(|job| job.estimate.filter(|estimate| !estimate.assumed))
            .map(|estimate| estimate.milliseconds)
            .sum();
        (saved > 0)
            .then(|| format!("Reuse saved {} of building, by what these jobs took before.", duration(saved)))
    }

    fn failures(&self) -> Markup {
        let failed: Vec<(&String, &String)> = { self.report.jobs.iter() }
            .filter_map(|(job, report)| match &report.result {
                JobResult::Ended(Outcome::Failed { reason, .. }) => Some((job, reason)),
                _ => None,
            })
            .collect();
        html! {
            @if !failed.is_empty() {
                section #failures {
                    h2 { "What failed" }
                    @for (at, (job, reason)) in failed.into_iter().enumerate() {
                        article.failure {
                            h3 { a href=(format!("#{}", anchor(job))) { (job) } }
                            p.reason { (reason) }
                            @if let Some(log) = self.logs.get(job) {
                                details open[at < OPEN_LOGS] { summary { "The end of its log" } pre tabindex="0" { (log) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn published(publication: &PublicationReport) -> Markup {
    let state = if publication.complete { "complete" } else { "not complete" };
    html! {
        section.publication {
            h2 { "Published to " (publication.target) }
            p { (publication.tags.len()) " of " (count(publication.tags_planned, "tag")) ", " (state) }
            div.wide tabindex="0" role="region" aria-label="Tags" {
                table {
                    thead { tr { th scope="col" { "Tag" } th scope="col" { "Digest" } th scope="col" { "" } } }
                    tbody {
                        @for (reference, tag) in &publication.tags {
                            tr { td { code { (reference) } } td { code title=(tag.digest) { (short(&tag.digest)) } } td { (if tag.moved { "moved" } else { "stood" }) } }
                        }
                        @for (reference, reason) in &publication.withheld {
                            tr.withheld { td { code { (reference) } } td colspan="2" { "stays where it is: " (reason) } }
                        }
                    }
                }
            }
            @if !publication.images.is_empty() {
                p { "Moved: " (size(publication.images.iter().map(|image| image.bytes).sum())) " for " (count(publication.images.len(), "image")) "." }
            }
        }
    }
}

/// Nothing may be fetched or sent, and no script runs but the page's own, which is named by its digest (CSP level 3, §2.3.1).
fn policy() -> String {
    let digest = Digest::of(SCRIPT.as_bytes());
    let pairs = digest.hex().as_bytes().chunks(2);
    let bytes = pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let script = BASE64_STANDARD.encode(bytes.collect::<Vec<u8>>());
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'"
    )
}

/// How a job ended, in the word by which the page colours it.
fn became(report: Option<&JobReport>) -> &'static str {
    match report.map(|report| &report.result) {
        Some(JobResult::Reused) => "reused",
        Some(JobResult::Ended(outcome)) => match outcome {
            Outcome::Built { .. } => "built",
            Outcome::Checked { .. } => "checked",
            Outcome::Failed { .. } => "failed",
            Outcome::Skipped { .. } => "skipped",
            Outcome::Cancelled => "cancelled",
        },
        Some(JobResult::Unfinished) | None => "unfinished",
    }
}

/// An amount in whatever money the prices are said in.
fn money(amount: f64) -> String {
    if amount < 1.0 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

/// The place of a job, or of an image, in the page.
fn anchor(name: &str) -> String {
    let mut anchor = "of-".to_owned();
    for letter in name.chars() {
        match letter.is_ascii_alphanumeric() || letter == '-' {
            true => anchor.push(letter),
            // By its number, so that no two names have one place.
            false => anchor.push_str(&format!("_{:x}_", u32::from(letter))),
        }
    }
    anchor
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> &str {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// The image of a job, and its platform.
fn parts(job: &str) -> (&str, &str) {
    job.split_once('@').unwrap_or((job, "?"))
}

#[cfg(test)]
mod tests;
