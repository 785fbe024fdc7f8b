//! `polyarch report`: what came of a run, from its log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::diag::{Diagnostic, Result};
use crate::event::{Event, Outcome};
use crate::report::{JobResult, Page, PlanView, Report, Timeline, events_of_log};

use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended, recorder};

/// How much of the end of a log is shown, in bytes.
const LOG_END: u64 = 16 << 10;
/// How many bytes of logs are in one report at most.
const LOGS_LIMIT: usize = 1 << 20;
/// How many runs are named where one is not there.
const NAMED: usize = 5;

/// Tell what came of a run: what was built, reused, tested and published, how long it took, and why it failed
///
/// The HTML is one file that asks nothing of any network: the graph of the family, the timeline of the builders with its
/// critical path, every image, and the logs of what failed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch report                                    of the newest run
  polyarch report --format html --output report.html
  polyarch report --format json | jq .counts
  polyarch report --format junit --output junit.xml
  polyarch report mwt0qdsi-1856dc81 --format html --output report.html")]
pub(super) struct Options {
    /// The run, as its report names it, or how that begins; the newest where it is not said
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write it into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Html,
    Junit,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Ended> {
    let workspace = Workspace::read_quietly(context, &BTreeMap::new())?;
    let shelf = Shelf::look(context, &workspace)?;
    let run = Run::find(&shelf.folder.join("runs"), options.run.as_deref())?;
    let report = Report::of(&run.events);
    let text = match options.format {
        Format::Text => report.to_text(),
        Format::Json => report.to_json(),
        Format::Junit => report.to_junit(),
        Format::Html => run.html(&workspace.family.name, &report),
    };
    match &options.output {
        None => context.ui.data(&text),
        Some(file) => {
            std::fs::write(file, text).map_err(|error| unwritable(file, &error))?;
            context.ui.note(&format!("report: {}", file.display()));
        }
    }
    Ok(Ended::Well)
}

/// A run that has ended, or goes on.
struct Run {
    folder: PathBuf,
    events: Vec<Event>,
}

impl Run {
    /// The newest one, or the one whose name begins so.
    fn find(runs: &Path, wanted: Option<&str>) -> Result<Self> {
        let all = recorder::logged(runs);
        let wanted = wanted.unwrap_or_default();
        let mut fitting = all.iter().rev().filter(|name| name.starts_with(wanted));
        let Some(name) = fitting.next() else { return Err(none(&all, wanted).into()) };
        if !wanted.is_empty() && name != wanted && fitting.next().is_some() {
            return Err(Diagnostic::request(format!("several runs begin with `{wanted}`"))
                .hint("write more of its name, as in the last line of `polyarch build`")
                .into());
        }
        let folder = runs.join(name);
        let file = folder.join("events.jsonl");
        let log = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let events = events_of_log(&file.display().to_string(), &log)?;
        Ok(Self { folder, events })
    }

    fn html(&self, family: &str, report: &Report) -> String {
        let plan = std::fs::read(self.folder.join(recorder::PLAN_FILE));
        let plan: Option<PlanView> = plan.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let began = i64::try_from(report.started_at_milliseconds).ok();
        let began = began.and_then(|began| Timestamp::from_millisecond(began).ok());
        let date =
            began.map_or_else(String::new, |began| began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        Page {
            family,
            date: &date,
            report,
            timeline: &Timeline::of(&self.events),
            plan: plan.as_ref(),
            logs: &self.logs(report),
        }
        .to_html()
    }

    /// The ends of the logs of jobs that failed, as far as they are on this machine and there is room for them.
    fn logs(&self, report: &Report) -> BTreeMap<String, String> {
        let mut room = LOGS_LIMIT;
        let mut logs = BTreeMap::new();
        for (job, report) in &report.jobs {
            let JobResult::Ended(Outcome::Failed { log: Some(log), .. }) = &report.result else { continue };
            let Some(name) = Path::new(log).file_name() else { continue };
            let Ok(end) = end_of(&self.folder.join("logs").join(name)) else { continue };
            let Some(left) = room.checked_sub(end.len()) else { break };
            room = left;
            logs.insert(job.clone(), end);
        }
        logs
    }
}

/// The last lines of a log. What colours them, and all else that is no text, was left out when it was written.
fn end_of(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    let from = file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
    let mut bytes = Vec::new();
    file.take(LOG_END).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line of an end is a half one.
    let whole = if from == 0 { &*text } else { text.split_once('\n').map_or(&*text, |(_, rest)| rest) };
    Ok(whole.to_owned())
}

fn none(all: &[String], wanted: &str) -> Diagnostic {
    if all.is_empty() {
        return Diagnostic::request("there is no run yet").hint("make one: polyarch build");
    }
    let newest: Vec<&str> = all.iter().rev().take(NAMED).map(String::as_str).collect();
    Diagnostic::request(format!("no run begins with `{wanted}`"))
        .hint(format!("the newest are {}", newest.join(", ")))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::surroundings(format!("read the log {}", file.display())).caused_by(error)
}

fn unwritable(file: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::surroundings(format!("write {}", file.display()))
        .caused_by(error)
        .hint("choose another place, as in: polyarch report --format html --output report.html")
}
