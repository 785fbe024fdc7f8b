//! A report as JUnit XML, which CI services and test tools read: a suite a job, in which its build and each of its checks is a
//! case. There is no specification of it; this keeps to what the Ant task `junitreport` writes, from which all readers come.

use std::borrow::Cow;

use maud::{Markup, PreEscaped, html};

use crate::event::Outcome;

use super::{CheckReport, JobReport, JobResult, Report};

/// What the case of a job's build is called.
const BUILD: &str = "build";

impl Report {
    /// The report as JUnit XML, in UTF-8.
    pub(crate) fn to_junit(&self) -> String {
        let suites: Vec<Suite<'_>> = self.jobs.iter().map(|(job, report)| Suite::of(job, report)).collect();
        let sum = |kind| suites.iter().map(|suite| suite.count(kind)).sum::<usize>();
        let cases: usize = suites.iter().map(|suite| suite.cases.len()).sum();
        let xml = html! {
            (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
            testsuites name="polyarch" tests=(cases) failures=(sum(Kind::Failure)) errors=(sum(Kind::Error)) skipped=(sum(Kind::Skipped)) time=(seconds(self.milliseconds)) {
                "\n"
                @for suite in &suites { (suite.to_xml()) }
            }
            "\n"
        };
        xml.into_string()
    }
}

/// A job.
struct Suite<'a> {
    job: &'a str,
    milliseconds: u64,
    cases: Vec<Case<'a>>,
}

/// Its build, or a check of it.
struct Case<'a> {
    name: &'a str,
    milliseconds: u64,
    kind: Kind,
    why: Cow<'a, str>,
}

/// What became of a case. A failure is a check that did not pass; an error is all else that kept an image from being.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Passed,
    Failure,
    Error,
    Skipped,
}

impl<'a> Suite<'a> {
    fn of(job: &'a str, report: &'a JobReport) -> Self {
        let reason = match &report.result {
            JobResult::Ended(Outcome::Failed { reason, .. }) => Some(reason.as_str()),
            _ => None,
        };
        let checks: Vec<Case<'a>> = report.checks.iter().map(|check| Case::of_check(check, reason)).collect();
        let is_checks_fault = checks.iter().any(|case| case.kind == Kind::Failure);
        let took: u64 = report.checks.iter().map(|check| check.milliseconds).sum();
        let milliseconds = report.milliseconds.saturating_sub(took);
        let build = Case::of_build(&report.result, is_checks_fault, milliseconds);
        let cases = [build].into_iter().chain(checks).collect();
        Self { job, milliseconds: report.milliseconds, cases }
    }

    fn count(&self, kind: Kind) -> usize {
        self.cases.iter().filter(|case| case.kind == kind).count()
    }

    fn to_xml(&self) -> Markup {
        html! {
            testsuite name=(text(self.job)) tests=(self.cases.len()) failures=(self.count(Kind::Failure)) errors=(self.count(Kind::Error)) skipped=(self.count(Kind::Skipped)) time=(seconds(self.milliseconds)) {
                "\n"
                @for case in &self.cases { (case.to_xml(self.job)) }
            }
            "\n"
        }
    }
}

impl<'a> Case<'a> {
    fn of_build(result: &'a JobResult, is_checks_fault: bool, milliseconds: u64) -> Self {
        let (kind, why): (Kind, Cow<'a, str>) = match result {
            JobResult::Ended(Outcome::Built { .. } | Outcome::Checked { .. }) => (Kind::Passed, "".into()),
            JobResult::Ended(Outcome::Failed { .. }) if is_checks_fault => (Kind::Passed, "".into()),
            JobResult::Ended(Outcome::Failed { reason, .. }) => (Kind::Error, reason.into()),
            JobResult::Ended(Outcome::Skipped { because }) => {
                (Kind::Skipped, format!("because of {because}").into())
            }
            JobResult::Ended(Outcome::Cancelled) => (Kind::Skipped, "the run was stopped".into()),
            JobResult::Reused => (Kind::Skipped, "a record stands for it".into()),
            JobResult::Unfinished => (Kind::Error, "the log has no end of it".into()),
        };
        Self { name: BUILD, milliseconds, kind, why }
    }

    fn of_check(check: &'a CheckReport, reason: Option<&'a str>) -> Self {
        let (kind, why) = match check.passed {
            true => (Kind::Passed, ""),
            false => (Kind::Failure, reason.unwrap_or("it did not pass")),
        };
        Self { name: &check.check, milliseconds: check.milliseconds, kind, why: why.into() }
    }

    fn to_xml(&self, job: &str) -> Markup {
        let brief = text(self.why.lines().next().unwrap_or_default());
        html! {
            testcase classname=(text(job)) name=(text(self.name)) time=(seconds(self.milliseconds)) {
                @match self.kind {
                    Kind::Passed => {},
                    Kind::Failure => failure message=(brief) { (text(&self.why)) },
                    Kind::Error => error message=(brief) { (text(&self.why)) },
                    Kind::Skipped => skipped message=(brief) {},
                }
            }
            "\n"
        }
    }
}

/// Without what may not stand in XML 1.0 (§2.2), not even by its number.
fn text(text: &str) -> String {
    let may = |letter: &char| !letter.is_control() && !matches!(letter, '\u{fffe}' | '\u{ffff}');
    text.chars().filter(|letter| may(letter) || matches!(letter, '\n' | '\t')).collect()
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000)
}
