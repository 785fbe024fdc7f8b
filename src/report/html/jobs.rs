//! Every image, and every job of it with what is known: digest, size, builder, tests, steps, and why it was built.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::diag::{count, size};

use super::{Page, anchor, became, money, parts, short};
use crate::report::terminal::duration;
use crate::report::timeline::{Attempt, Step, Timeline};
use crate::report::{JobReport, JobView};

/// How many steps of one job are shown: the longest.
const STEPS: usize = 12;
/// How many letters of each.
const STEP_LETTERS: usize = 200;

pub(super) fn section(page: &Page<'_>) -> Markup {
    let views: BTreeMap<&str, &JobView> =
        page.plan.into_iter().flat_map(|plan| &plan.jobs).map(|job| (&*job.job, job)).collect();
    let mut attempts: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in &page.timeline.attempts {
        attempts.entry(&attempt.job).or_default().push(attempt);
    }
    let units = units(page);
    html! {
        section #jobs {
            h2 { "Images" }
            p.filter hidden {
                label for="filter" { "Only those with " } input #filter type="search" autocomplete="off" placeholder="a name, or failed";
                " " output for="filter" {}
            }
            @for (unit, jobs) in &units {
                article.image #(anchor(unit)) data-words=(words(unit, jobs)) {
                    h3 { (unit) }
                    @for (job, report) in jobs {
                        (one(page.timeline, (job, report), views.get(job).copied(), attempts.get(job).map_or(&[], Vec::as_slice)))
                    }
                }
            }
        }
    }
}

/// The images with their jobs: those of the plan in its order, parents before children, then all others.
fn units<'a>(page: &'a Page<'_>) -> Vec<(&'a str, Vec<(&'a str, &'a JobReport)>)> {
    let mut of_unit: BTreeMap<&str, Vec<(&str, &JobReport)>> = BTreeMap::new();
    for (job, report) in &page.report.jobs {
        of_unit.entry(parts(job).0).or_default().push((job, report));
    }
    let planned = page.plan.into_iter().flat_map(|plan| &plan.jobs);
    let mut units: Vec<_> = planned.filter_map(|job| of_unit.remove_entry(&*job.unit)).collect();
    units.extend(of_unit);
    units
}

/// What an image is found by.
fn words(unit: &str, jobs: &[(&str, &JobReport)]) -> String {
    let of_jobs = jobs.iter().map(|(job, report)| format!(" {} {}", parts(job).1, became(Some(report))));
    unit.to_owned() + &of_jobs.collect::<String>()
}

fn one(
    timeline: &Timeline,
    (job, report): (&str, &JobReport),
    view: Option<&JobView>,
    attempts: &[&Attempt],
) -> Markup {
    let result = became(Some(report));
    let tags: Vec<&String> = report.checks.iter().filter_map(|check| check.tag.as_ref()).collect();
    let costs: Vec<f64> = attempts.iter().filter_map(|attempt| timeline.cost_of(attempt)).collect();
    html! {
        details.job.(result) #(anchor(job)) {
            summary {
                span.platform { (parts(job).1) }
                span.key.(result) { (result) }
                @if report.milliseconds > 0 { span.took { (duration(report.milliseconds)) } }
                @if report.bytes > 0 { span.bytes { (size(report.bytes)) } }
                @if report.emulated { span.emulated { "emulated" } }
                @if !report.checks.is_empty() { span.tests { (tests(report)) } }
            }
            dl {
                @if let Some(image) = &report.image { dt { "Digest" } dd { code { (image) } } }
                @if let Some(builder) = &report.builder { dt { "Builder" } dd { (builder) } }
                @if !report.layers.is_empty() {
                    dt { "Layers" }
                    dd { ol.layers { @for bytes in &report.layers { li style=(format!("--part:{}", per_mille(*bytes, report.bytes))) { (size(*bytes)) } } } }
                }
                @if !tags.is_empty() { dt { "Tags" } dd { @for tag in &tags { code { (tag) } " " } } }
                @if !costs.is_empty() { dt { "Cost" } dd { (money(costs.iter().sum())) } }
                @if let Some(view) = view {
                    @if !view.reasons.is_empty() { dt { "Built because" } dd { ul { @for reason in &view.reasons { li { (reason) } } } } }
                    @if !view.parents.is_empty() {
                        dt { "Stands on" }
                        dd { @for parent in &view.parents { a href=(format!("#{}", anchor(parent))) { (parent) } " " } }
                    }
                    @if !view.bases.is_empty() { dt { "From outside" } dd { @for base in &view.bases { code { (base) } " " } } }
                    dt { "Key" } dd { code title=(view.key) { (short(&view.key)) } }
                }
                @if !report.retries.is_empty() { dt { "Tried again" } dd { ul { @for retry in &report.retries { li { (retry) } } } } }
                @if !report.caches_dropped.is_empty() { dt { "Caches" } dd { ul { @for cache in &report.caches_dropped { li { (cache) } } } } }
                @if !report.checks.is_empty() {
                    dt { "Tests" }
                    dd { ul.checks {
                        @for check in &report.checks {
                            li { span.key.(if check.passed { "passed" } else { "failed" }) { (if check.passed { "passed" } else { "failed" }) } " " (check.check) " " span.took { (duration(check.milliseconds)) } }
                        }
                    } }
                }
                @for attempt in attempts.iter().filter(|attempt| !attempt.steps.is_empty()) {
                    dt { "Steps on " (attempt.builder) }
                    dd { (steps(attempt)) }
                }
            }
        }
    }
}

/// A layer's part of an image, of a thousand.
fn per_mille(bytes: u64, whole: u64) -> u64 {
    bytes.saturating_mul(1_000).checked_div(whole).unwrap_or_default()
}

fn tests(report: &JobReport) -> String {
    let failed = report.checks.iter().filter(|check| !check.passed).count();
    match failed {
        0 => format!("{} passed", count(report.checks.len(), "test")),
        _ => format!("{failed} of {} failed", count(report.checks.len(), "test")),
    }
}

/// The longest steps, in the order in which they were.
fn steps(attempt: &Attempt) -> Markup {
    let mut longest: Vec<&Step> = attempt.steps.iter().collect();
    longest.sort_by_key(|step| std::cmp::Reverse(step.milliseconds));
    longest.truncate(STEPS);
    longest.sort_by_key(|step| step.began);
    let others = attempt.steps.len() - longest.len();
    html! {
        ol.steps { @for step in longest { li { code { (brief(&step.name)) } " " span.took { (duration(step.milliseconds)) } } } }
        @if others > 0 { p { "and " (count(others, "shorter one")) } }
    }
}

/// Of a long text its beginning.
fn brief(text: &str) -> String {
    match text.chars().nth(STEP_LETTERS) {
        Some(_) => text.chars().take(STEP_LETTERS).chain(['…']).collect(),
        None => text.to_owned(),
    }
}
