//! What carries out the jobs of a pipeline as CI services do, as far as those need it that are generated: every job a separate
//! process with an empty environment, a home and a checkout of its own; files are copied from one to the next.
//!
//! What it does not know it refuses, so that a pipeline that needs more fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::end_to_end::engines::wait_for;
use crate::program::{Answer, Place, program};

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure,
    Cancelled,
    Skipped,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// A job, as every service has it. Texts may hold `${{ … }}`, `$CI_PROJECT_DIR` and [`TEMPORARY`].
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) needs: Vec<String>,
    pub(super) runs: Runs,
    pub(super) environment: BTreeMap<String, String>,
    /// The environment of GitLab's that it works in.
    pub(super) scope: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// When a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    IfAllDone,
    IfPublishing,
    IfRehearsing,
    IfOfSameRepository,
    Always,
}

#[derive(Debug)]
pub(super) enum Step {
    CheckOut,
    Shell { script: String, environment: BTreeMap<String, String>, when: When },
    Take { pattern: String, to: String },
    HandOn { name: String, from: String, when: When, is_required: bool },
}

/// When a step is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Well,
    Failed,
    Always,
}

/// The folder for temporary files that a service has for a job.
pub(super) const TEMPORARY: &str = "/tmp/polyarch";

/// A pipeline, and what is left of its runs.
pub(super) struct Pipeline<'a> {
    place: &'a Place,
    jobs: Vec<Job>,
    /// What the service says of the run.
    pub(super) event: BTreeMap<&'static str, String>,
    /// `secrets.NAME`, `vars.NAME` and `inputs.NAME`, by those texts.
    pub(super) values: BTreeMap<String, String>,
    /// What the project has for the jobs of an environment of GitLab's: the name of that, and variables.
    pub(super) scoped: Vec<(&'static str, BTreeMap<&'static str, String>)>,
    /// Jobs whose engine is not there, this time.
    pub(super) without_engine: BTreeSet<String>,
    /// The job that is being run when somebody cancels the run.
    pub(super) cancelled_in: Option<String>,
    folder: tempfile::TempDir,
    attempt: u32,
    /// How each job ended, and what it said for others to use.
    pub(super) endings: BTreeMap<String, (Ending, BTreeMap<String, String>)>,
    /// What each job wrote.
    pub(super) logs: BTreeMap<String, String>,
}

/// One job while it runs.
struct Running<'j> {
    job: &'j Job,
    checkout: PathBuf,
    temporary: PathBuf,
    said: BTreeMap<String, String>,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(place: &'a Place, jobs: Vec<Job>, event: &[(&'static str, &str)]) -> Self {
        Self {
            place,
            jobs,
            event: event.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            values: BTreeMap::new(),
            scoped: Vec::new(),
            without_engine: BTreeSet::new(),
            cancelled_in: None,
            folder: tempfile::tempdir().expect("a folder"),
            attempt: 0,
            endings: BTreeMap::new(),
            logs: BTreeMap::new(),
        }
    }

    /// Run all jobs that have not succeeded yet, each when those that it needs have ended.
    pub(super) fn run(&mut self) {
        self.attempt += 1;
        self.endings.retain(|_, (ending, _)| *ending == Ending::Success);
        let jobs = std::mem::take(&mut self.jobs);
        let mut waiting: Vec<&Job> = jobs.iter().filter(|job| !self.endings.contains_key(&job.id)).collect();
        while !waiting.is_empty() {
            let has_ended = |need: &String| self.endings.contains_key(need);
            let ready = waiting.iter().position(|job| job.needs.iter().all(has_ended));
            let job = waiting.remove(ready.expect("no circle of jobs"));
            let ending = self.job(job);
            self.endings.insert(job.id.clone(), ending);
        }
        self.jobs = jobs;
    }

    /// How a job ended.
    pub(super) fn ending(&self, id: &str) -> Ending {
        self.endings[id].0
    }

    /// What a job wrote.
    pub(super) fn log(&self, id: &str) -> &str {
        self.logs.get(id).map_or("", String::as_str)
    }

    /// What jobs wrote that did not go well.
    pub(super) fn told(&self) -> String {
        let failed = self.endings.iter().filter(|(_, (ending, _))| *ending == Ending::Failure);
        failed.map(|(id, _)| format!("{id}: {}\n", self.log(id))).collect()
    }

    /// The folders that jobs have handed on.
    pub(super) fn artifacts(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.folder.path().join("artifacts")).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn job(&mut self, job: &Job) -> (Ending, BTreeMap<String, String>) {
        if !self.is_to_run(job) {
            return (Ending::Skipped, BTreeMap::new());
        }
        let folder = self.folder.path().join(format!("{}-{}", self.attempt, job.id));
        let (checkout, temporary) = (folder.join("checkout"), folder.join("temp"));
        for folder in [&folder.join("home"), &temporary] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let mut running = Running { job, checkout, temporary, said: BTreeMap::new() };
        let mut ending = Ending::Success;
        for step in &job.steps {
            let when = match step {
                Step::Shell { when, .. } | Step::HandOn { when, .. } => *when,
                Step::CheckOut | Step::Take { .. } => When::Well,
            };
            let is_well = ending == Ending::Success;
            if when == When::Always || is_well == (when == When::Well) {
                let ended = self.step(&mut running, step);
                ending = if is_well { ended } else { ending };
            }
        }
        std::fs::remove_dir_all(&folder).expect("remove what a job left");
        (ending, running.said)
    }

    fn is_to_run(&self, job: &Job) -> bool {
        let all_done = job.needs.iter().all(|id| self.endings[id].0 == Ending::Success);
        let plan = self.endings.get("plan").map(|(_, said)| said);
        let publishes = plan.and_then(|said| said.get("publishes")).is_some_and(|said| said == "true");
        match job.runs {
            Runs::Always => true,
            Runs::IfAllDone => all_done,
            Runs::IfPublishing => all_done && publishes,
            Runs::IfRehearsing => all_done && !publishes,
            Runs::IfOfSameRepository => all_done && self.is_proposed() && self.is_of_same_repository(),
        }
    }

    fn is_pushed(&self) -> bool {
        let says = |name: &str, start: &str| self.event.get(name).is_some_and(|said| said.starts_with(start));
        says("GITHUB_EVENT_NAME", "push") && says("GITHUB_REF", "refs/heads/")
    }

    fn is_proposed(&self) -> bool {
        self.event.get("GITHUB_EVENT_NAME").is_some_and(|name| name == "pull_request")
    }

    fn is_of_same_repository(&self) -> bool {
        let said = |name: &str| self.values.get(name);
        said("github.event.pull_request.head.repo.full_name") == said("github.repository")
    }

    fn step(&mut self, running: &mut Running<'_>, step: &Step) -> Ending {
        let artifacts = self.folder.path().join("artifacts");
        match step {
            Step::CheckOut => copy(&self.place.family(), &running.checkout),
            Step::Shell { script, environment, .. } => return self.shell(running, script, environment),
            Step::HandOn { name, from, is_required, .. } => {
                let (from, to) = (PathBuf::from(self.filled(running, from)), artifacts.join(name));
                if *is_required && !from.is_dir() {
                    return Ending::Failure;
                }
                let _ = std::fs::remove_dir_all(&to);
                if from.is_dir() {
                    copy(&from, &to);
                }
            }
            Step::Take { pattern, to } => {
                let to = PathBuf::from(self.filled(running, to));
                for found in self.artifacts().iter().filter(|name| is_meant(pattern, name)) {
                    copy(&artifacts.join(found), &to.join(found));
                }
            }
        }
        Ending::Success
    }

    fn shell(&mut self, running: &mut Running<'_>, script: &str, own: &BTreeMap<String, String>) -> Ending {
        assert!(!script.contains("${{"), "an expression in a script: {script}");
        let (said, log) = (self.folder.path().join("said"), self.folder.path().join("log"));
        std::fs::write(&said, "").expect("a file for what a step says");
        let script = self.filled(running, script);
        let mut command = self.place.program("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script]);
        let checkout = if running.checkout.is_dir() { &running.checkout } else { &running.temporary };
        command.current_dir(checkout).env("HOME", checkout.with_file_name("home"));
        let bin = Path::new(env!("CARGO_BIN_EXE_polyarch")).parent().expect("a folder").display().to_string();
        let path = self.place.ask("sh", &["-c", "printf %s \"$PATH\""]);
        command.env("PATH", format!("{bin}:{path}"));
        if self.without_engine.contains(&running.job.id) {
            command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        }
        let is_in = |scope: &str| running.job.scope.as_deref() == Some(scope);
        let of_scope = self.scoped.iter().filter(|(scope, _)| is_in(scope)).flat_map(|(_, of)| of);
        let project: BTreeMap<&str, &String> =
            of_scope.chain(&self.event).map(|(name, value)| (*name, value)).collect();
        for (name, value) in running.job.environment.iter().chain(own) {
            let is_plain =
                |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let other = value.strip_prefix('$').filter(is_plain);
            let value = other.map_or_else(
                || self.filled(running, value),
                |other| project.get(other).map_or_else(String::new, |value| (*value).clone()),
            );
            command.env(name, value);
        }
        command.envs(&project).env("GITHUB_RUN_ATTEMPT", self.attempt.to_string());
        command.env("RUNNER_TEMP", &running.temporary).env("GITHUB_OUTPUT", &said);
        command.env("GITHUB_STEP_SUMMARY", self.folder.path().join(format!("summary-{}", running.job.id)));
        let file = std::fs::File::create(&log).expect("a log");
        command.stdout(file.try_clone().expect("the log twice")).stderr(Stdio::from(file));
        let child = command.spawn().expect("start a shell");
        let ending = self.wait(&running.job.id, child, &log);
        let log = std::fs::read_to_string(&log).expect("the log");
        self.logs.entry(running.job.id.clone()).or_default().push_str(&log);
        let said = std::fs::read_to_string(&said).expect("what the step says");
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        running.said.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        ending
    }

    fn wait(&mut self, id: &str, mut child: Child, log: &Path) -> Ending {
        if self.cancelled_in.as_deref() == Some(id) {
            wait_for("the job to work", || {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                text.contains("[1/")
                    || text.contains("started")
                    || child.try_wait().expect("its state").is_some()
            });
            // The shell has become the program, which is all that the script runs.
            let _ = self.place.program("kill").args(["-INT", &child.id().to_string()]).status();
            let _ = child.wait();
            self.cancelled_in = None;
            return Ending::Cancelled;
        }
        match child.wait().expect("its end").success() {
            true => Ending::Success,
            false => Ending::Failure,
        }
    }

    /// A text with what a service fills in.
    fn filled(&self, running: &Running<'_>, text: &str) -> String {
        let temporary = running.temporary.join("polyarch").display().to_string();
        let text = text.replace(TEMPORARY, &temporary);
        let text = text.replace("$CI_PROJECT_DIR", &running.checkout.display().to_string());
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some((before, behind)) = rest.split_once("${{ ") {
            let (expression, after) = behind.split_once(" }}").expect("an end of the expression");
            out.push_str(before);
            // What a job has after a push of a branch alone.
            let only_pushed =
                expression.strip_prefix("github.event_name == 'push' && github.ref_type == 'branch' && ");
            let expression = match only_pushed.and_then(|rest| rest.strip_suffix(" || ''")) {
                Some(_) if !self.is_pushed() => {
                    rest = after;
                    continue;
                }
                Some(value) => value,
                None => expression,
            };
            out.push_str(&match expression {
                "runner.temp" => running.temporary.display().to_string(),
                "toJSON(needs)" => self.needs(running.job),
                "contains(github.event.pull_request.labels.*.name, 'no-cache')" => {
                    let labels = self.values.get("github.event.pull_request.labels.*.name");
                    labels.is_some_and(|labels| labels == "no-cache").to_string()
                }
                other
                    if ["inputs.", "vars.", "secrets.", "github.event.pull_request."]
                        .iter()
                        .any(|kind| other.starts_with(kind)) =>
                {
                    self.values.get(other).cloned().unwrap_or_default()
                }
                other => panic!("{other} is not known"),
            });
            rest = after;
        }
        out + rest
    }

    fn needs(&self, job: &Job) -> String {
        let result = |id: &String| format!("\"{id}\": {{\"result\": \"{}\"}}", self.endings[id].0.name());
        format!("{{{}}}", job.needs.iter().map(result).collect::<Vec<_>>().join(", "))
    }
}

/// A glob of one `*` at the end, or with alternatives.
fn is_meant(pattern: &str, name: &str) -> bool {
    if let Some(start) = pattern.strip_suffix('*') {
        return name.starts_with(start);
    }
    match pattern.split_once('{') {
        None => pattern == name,
        Some((start, rest)) => {
            let all = rest.strip_suffix('}').expect("an end of the alternatives");
            name.strip_prefix(start).is_some_and(|end| all.split(',').any(|one| one == end))
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let copied = program("cp").arg("-a").arg(from.join(".")).arg(to).output().expect("run cp");
    let _ = Answer::from(copied).well();
}
