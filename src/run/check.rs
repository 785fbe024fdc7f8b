//! Checks of one image: tests, taggers and descriptions, in the order of the recipe.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use tokio::sync::Mutex;

use super::ENGINE_SLACK;
use super::engine_time::EngineTime;
use super::package::{self, Missing, Packages};
use crate::config::PackageName;
use crate::diag::{Diagnostic, Kind};
use crate::engine::host::{self, HostOrder};
use crate::engine::{ContainerOrder, Engine, Finished, Redactor, RunId, StoreAddress};
use crate::family::{Action, Check, CheckKind, JobId, Piece, TagSource};
use crate::oci::Digest;
use crate::record::{Description, Said};

/// How much of an output stands in an error.
const SHOWN_LINES: usize = 20;

/// What is checked, where.
pub(super) struct Subject<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) host: &'a HostTests,
    pub(super) redactor: &'a Redactor,
    pub(super) run: &'a RunId,
    pub(super) store: &'a StoreAddress,
    pub(super) job: &'a JobId,
    pub(super) packages: Packages<'a>,
    pub(super) image: &'a Digest,
    /// The job's log, which the outputs are added to.
    pub(super) log: &'a Path,
    /// Counts for how long the engine, or a test, is at work.
    pub(super) engine_time: &'a EngineTime,
    /// What commands have answered already: tests, taggers and descriptions often ask the same of one image.
    pub(super) answers: Mutex<BTreeMap<String, Finished>>,
}

/// In what tests run on this machine.
#[derive(Clone, Debug)]
pub(crate) struct HostTests {
    /// The folder, absolute.
    pub(crate) folder: PathBuf,
    /// The environment.
    pub(crate) variables: BTreeMap<OsString, OsString>,
}

/// What a check found.
pub(super) enum Found {
    /// A test passed.
    Passed,
    /// A tagger's tag.
    Tag(String),
    /// A description.
    Description(Description),
}

/// What to call a check in messages.
pub(super) fn title(check: &Check) -> String {
    match &check.kind {
        CheckKind::Test { action: Action::Image(run) | Action::Host { run, .. }, .. } => {
            format!("test `{run}`")
        }
        CheckKind::Tagger { template, .. } => format!("tagger `{template}`"),
        CheckKind::Description { title, .. } => format!("description \"{title}\""),
    }
}

/// Run one check.
///
/// # Errors
/// A [`Kind::Failed`] where the image does not pass; another kind where it could not be tried.
pub(super) async fn carry_out(subject: &Subject<'_>, check: &Check) -> Result<Found, Diagnostic> {
    match &check.kind {
        CheckKind::Test { action, stdout } => {
            let finished = match action {
                Action::Image(run) => answer(subject, check, run, stdout.is_some()).await?,
                Action::Host { run, .. } => on_host(subject, check, run).await?,
            };
            log(subject, check, &finished)?;
            judge(subject, check, &finished, stdout.as_deref()).map(|()| Found::Passed)
        }
        CheckKind::Tagger { template, source } => {
            let finished = match source {
                TagSource::Package { package, .. } => of_package(subject, check, package).await?,
                TagSource::Run { run, .. } => answer(subject, check, run, true).await?,
                TagSource::OsRelease(_) => answer(subject, check, "cat /etc/os-release", true).await?,
            };
            log(subject, check, &finished)?;
            judge(subject, check, &finished, None)?;
            let values = values(source, &finished.stdout)
                .map_err(|why| failed(subject, check, why).because(shown(&finished.stdout)))?;
            filled(template, &values).map(Found::Tag).map_err(|why| failed(subject, check, why))
        }
        CheckKind::Description { title, pieces } => {
            let mut described = Vec::new();
            for piece in pieces {
                described.push(said(subject, check, piece).await?);
            }
            Ok(Found::Description(Description { title: title.clone(), pieces: described }))
        }
    }
}

/// What a command of a description says.
async fn said(subject: &Subject<'_>, check: &Check, piece: &Piece) -> Result<Said, Diagnostic> {
    let finished = answer(subject, check, &piece.run, true).await?;
    log(subject, check, &finished)?;
    judge(subject, check, &finished, None)?;
    match Said::tidied(piece, &finished.stdout) {
        said if said.text.is_empty() => {
            Err(failed(subject, check, format!("`{}` printed nothing", piece.run)))
        }
        said => Ok(said),
    }
}

/// The version of a package, with nothing run for it.
async fn of_package(
    subject: &Subject<'_>,
    check: &Check,
    package: &PackageName,
) -> Result<Finished, Diagnostic> {
    let packages = subject.packages.of(subject.image).await?;
    let stdout = package::version(&packages, package).map_err(|Missing { why, causes, hint }| {
        let problem = causes.into_iter().fold(failed(subject, check, why), Diagnostic::because);
        hint.into_iter().fold(problem, Diagnostic::hint)
    })?;
    Ok(Finished { code: Some(0), stdout, ..Finished::default() })
}

/// What a command says in the image, of which something is `wanted` or only its exit code. No secret is in it.
async fn answer(
    subject: &Subject<'_>,
    check: &Check,
    run: &str,
    wanted: bool,
) -> Result<Finished, Diagnostic> {
    let limit = Duration::from_secs(check.time_limit_seconds);
    let mut answers = subject.answers.lock().await;
    // Seen once, on an engine under load: all that a short command had printed was lost. One that has something to
    // say, and ends well without a word, is asked again.
    let silent = |finished: &Finished| {
        wanted && finished.code == Some(0) && finished.stdout.is_empty() && finished.stderr.is_empty()
    };
    if let Some(finished) = answers.get(run).filter(|finished| !silent(finished)) {
        return Ok(finished.clone());
    }
    let mut finished = answered(subject, check, run, limit).await?;
    if silent(&finished) {
        finished = answered(subject, check, run, limit).await?;
    }
    let [stdout, stderr] = [&finished.stdout, &finished.stderr].map(|text| subject.redactor.text(text));
    let finished = Finished { stdout, stderr, ..finished };
    if !finished.timed_out {
        answers.insert(run.to_owned(), finished.clone());
    }
    Ok(finished)
}

/// The answer of the image to a command, waited for no longer than the command may take and the engine needs.
async fn answered(
    subject: &Subject<'_>,
    check: &Check,
    run: &str,
    limit: Duration,
) -> Result<Finished, Diagnostic> {
    let answer = tokio::time::timeout(limit + ENGINE_SLACK, in_image(subject, run, limit)).await;
    answer.unwrap_or_else(|_| {
        let problem =
            format!("hear from {} how {} of {} ended", subject.engine.name(), title(check), subject.job);
        Err(Diagnostic::surroundings(problem).hint("see whether it answers: polyarch doctor"))
    })
}

/// Add what a check wrote to the job's log, below the output of its build.
fn log(subject: &Subject<'_>, check: &Check, finished: &Finished) -> Result<(), Diagnostic> {
    let mut text = format!("\n{}: ", title(check));
    let _ = match finished.code {
        _ if finished.timed_out => writeln!(text, "took longer than {} s", check.time_limit_seconds),
        Some(code) => writeln!(text, "exit code {code}"),
        None => writeln!(text, "was killed"),
    };
    for output in [&finished.stdout, &finished.stderr] {
        for line in output.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let text = subject.redactor.text(&text);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(subject.log);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| {
        Diagnostic::surroundings(format!("write to the log {}", subject.log.display())).caused_by(&error)
    })
}

async fn in_image(subject: &Subject<'_>, run: &str, time_limit: Duration) -> Result<Finished, Diagnostic> {
    let order = ContainerOrder {
        run: subject.run.clone(),
        store: subject.store.clone(),
        image: subject.image.clone(),
        platform: subject.job.platform.clone(),
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), run.to_owned()],
        time_limit,
    };
    subject.engine_time.of(subject.engine.run(&order)).await
}

async fn on_host(subject: &Subject<'_>, check: &Check, run: &str) -> Result<Finished, Diagnostic> {
    let time_limit = Duration::from_secs(check.time_limit_seconds);
    // The tag of a build, so that the run's own sweep takes the name away again.
    let tag = subject
        .run
        .build_tag(0)
        .map_err(|error| Diagnostic::new(Kind::Bug, "name an image").caused_by(&error))?;
    let name = format!("polyarch.invalid/{}:{tag}", subject.job.slug()).to_lowercase();
    let loading = subject.engine.load(subject.store, subject.image, &name);
    subject.engine_time.of(loading).await?;
    let mut variables = subject.host.variables.clone();
    // The engine that has the image may be on another machine than the one that people mean by `docker`.
    variables.extend(subject.engine.client_variables());
    variables.insert("POLYARCH_PLATFORM".into(), subject.job.platform.to_string().into());
    let folder = subject.host.folder.clone();
    let order = HostOrder { command: run.to_owned(), folder, variables, image: name, time_limit };
    subject.engine_time.of(host::run(&order, subject.redactor)).await
}

fn judge(
    subject: &Subject<'_>,
    check: &Check,
    finished: &Finished,
    expected: Option<&str>,
) -> Result<(), Diagnostic> {
    let why = match finished.code {
        _ if finished.timed_out => format!("took longer than {} s", check.time_limit_seconds),
        Some(0) => match expected {
            Some(text) if !finished.stdout.contains(text) => format!("did not print `{text}`"),
            _ => return Ok(()),
        },
        Some(code) => format!("ended with exit code {code}"),
        None => "was killed".to_owned(),
    };
    let problem = failed(subject, check, why);
    let outputs = [&finished.stdout, &finished.stderr].map(|text| shown(text));
    Err(outputs.into_iter().filter(|text| !text.is_empty()).fold(problem, Diagnostic::because))
}

fn failed(subject: &Subject<'_>, check: &Check, why: impl std::fmt::Display) -> Diagnostic {
    let problem = Diagnostic::new(Kind::Failed, format!("{}: {} {why}", subject.job, title(check)));
    let problem = match check.declared_by == subject.job.unit {
        true => problem,
        false => problem.because(format!("the check comes from {}", check.declared_by)),
    };
    problem
        .hint(format!("look at the image: polyarch load {}", subject.job))
        .hint(format!("see the whole output: less {}", subject.log.display()))
}

/// The last lines of an output.
fn shown(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// What a tagger's source catches in an output.
fn values(source: &TagSource, output: &str) -> Result<Vec<String>, String> {
    match source {
        TagSource::Run { pattern: None, .. } | TagSource::Package { pattern: None, .. } => {
            Ok(vec![output.trim().to_owned()])
        }
        TagSource::Run { pattern: Some(pattern), .. } | TagSource::Package { pattern: Some(pattern), .. } => {
            let pattern =
                Regex::new(pattern).map_err(|error| format!("has no regular expression: {error}"))?;
            let found =
                pattern.captures(output).ok_or_else(|| format!("found nothing that matches `{pattern}`"))?;
            let groups = if found.len() == 1 { 0..1 } else { 1..found.len() };
            Ok(groups
                .map(|at| found.get(at).map_or_else(String::new, |text| text.as_str().to_owned()))
                .collect())
        }
        TagSource::OsRelease(key) => {
            let line = output.lines().find_map(|line| line.strip_prefix(key.as_str())?.strip_prefix('='));
            let value = line.ok_or_else(|| format!("found no {key} in /etc/os-release"))?;
            Ok(vec![value.trim().trim_matches(['"', '\'']).to_owned()])
        }
    }
}

/// A version without what tells one build of it from another: `2.9.0` of `2.9.0+cu126`. No tag has a `+` in it.
fn without_build(value: &str) -> &str {
    value.split_once('+').map_or(value, |(version, _)| version)
}

/// The tag of a template with its values in it.
fn filled(template: &str, values: &[String]) -> Result<String, String> {
    let mut tag = template.to_owned();
    for (at, value) in values.iter().enumerate() {
        let place = format!("{{{at}}}");
        if tag.contains(&place) && without_build(value).is_empty() {
            return Err(format!("found nothing for `{place}`"));
        }
        tag = tag.replace(&place, without_build(value));
    }
    // Fixed parts such as {date} are filled in at publication: only a missing group is wrong here.
    match Regex::new(r"\{\d+\}").ok().and_then(|open| open.find(&tag).map(|found| found.as_str().to_owned()))
    {
        Some(open) => Err(format!("has no group for `{open}`: it caught {}", values.len())),
        None => Ok(tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pattern: Option<&str>) -> TagSource {
        TagSource::Run { run: String::new(), pattern: pattern.map(str::to_owned) }
    }

    fn of_package(pattern: Option<&str>) -> TagSource {
        let package = "dpkg:vim".parse().expect("a package");
        TagSource::Package { package, pattern: pattern.map(str::to_owned) }
    }

    #[test]
    fn taggers_read_what_a_command_says() {
        let os = "NAME=\"Debian\"\nVERSION_ID='12'\n";
        let table = [
            (run(Some(r"Python (\d+)\.(\d+)")), "Python 3.13.5\n", "python-{0}.{1}", Ok("python-3.13")),
            (run(None), " 1.2 \n", "v{0}", Ok("v1.2")),
            (run(Some("[0-9]+")), "abc 42", "n{0}", Ok("n42")),
            (run(Some("([0-9].*)")), "torch 2.9.0+cu126", "pytorch-{0}-slim", Ok("pytorch-2.9.0-slim")),
            (run(None), "1.2+dfsg-3+b1", "v{0}", Ok("v1.2")),
            (run(None), "+cu126", "v{0}", Err("found nothing for `{0}`")),
            (TagSource::OsRelease("VERSION_ID".into()), os, "debian-{0}", Ok("debian-12")),
            (TagSource::OsRelease("VERSION".into()), os, "debian-{0}", Err("found no VERSION in")),
            (of_package(None), "9.1-3", "vim-{0}", Ok("vim-9.1-3")),
            (of_package(Some(r"(\d+)\.(\d+)")), "9.1-3", "vim-{0}.{1}", Ok("vim-9.1")),
            (run(Some("x(y)")), "abc", "{0}", Err("found nothing that matches `x(y)`")),
            (run(None), "", "v{0}", Err("found nothing for `{0}`")),
            (run(None), "1", "v{1}", Err("has no group for `{1}`")),
        ];
        for (source, output, template, expected) in table {
            let found = values(&source, output).and_then(|values| filled(template, &values));
            match (&found, expected) {
                (Ok(tag), Ok(expected)) => assert_eq!(tag, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{found:?}, not {expected:?}"),
            }
        }
    }
}
