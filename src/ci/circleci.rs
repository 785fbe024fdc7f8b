//! CircleCI: a job for each image variant on each platform, and workflows that put them in order.
//!
//! CircleCI configuration reference, version 2.1. Files go from job to job by the workspace; names and values reach a shell
//! through the environment alone.

use super::Written;
use super::install;
use super::pipeline::{BuildJob, Ground, PUBLISH_MINUTES, Pipeline, SHORT_MINUTES};
use super::yaml::{Map, Yaml, document};
use crate::config::release_expression;

/// The service's own resource classes.
pub(super) const GROUND: Ground = Ground {
    runners: &[("linux/amd64", "medium"), ("linux/386", "medium"), ("linux/arm64", "arm.medium")],
    jobs_limit: 500,
    needs_limit: usize::MAX,
    has_stages: false,
    bytes_limit: 3 << 20,
    is_own: |class| class.contains('/'),
};
const PATH: &str = ".circleci/config.yml";
/// The machine that jobs run in where nothing is said.
const IMAGE: &str = "ubuntu-2404:current";
/// Where files of jobs are.
const WORK: &str = "/tmp/polyarch";
/// Where those of a job that failed are, to be looked at.
const FAILED: &str = "/tmp/polyarch-failed";

/// The file of a pipeline.
pub(super) fn circleci(pipeline: &Pipeline<'_>) -> Written {
    let plan = |more: Map| {
        let steps = Steps::new(pipeline)
            .run("See that this file is up to date", "polyarch ci circleci --check", SHORT_MINUTES)
            .run("Plan", "polyarch job plan", SHORT_MINUTES)
            .hand_on("plan");
        job(pipeline, pipeline.near_runner(), more, steps)
    };
    let mut jobs = Map::default().with("plan", plan(Map::default()));
    if pipeline.settings.schedule.is_some() {
        jobs = jobs.with("plan-anew", plan(scheduled()));
    }
    for build in &pipeline.builds {
        jobs = jobs.with(&build.id, build_job(pipeline, build));
    }
    let last = |title: &str, command: &str, more: Map| {
        let steps = Steps::new(pipeline).take().run(title, command, PUBLISH_MINUTES);
        job(pipeline, pipeline.near_runner(), more, steps)
    };
    for job in &pipeline.joining {
        let images = Map::default().with("IMAGES", job.images());
        jobs = jobs.with(&job.id, last("Publish", "polyarch job publish \"$IMAGES\"", images));
    }
    let publish = |more: Map| last("Publish", "polyarch job publish", more);
    jobs = jobs
        .with("rehearse", last("Rehearse the publication", "polyarch job rehearse", Map::default()))
        .with("publish", publish(Map::default()));
    if pipeline.settings.schedule.is_some() {
        jobs = jobs.with("publish-anew", publish(scheduled()));
    }
    let top = Map::default()
        .with("version", Yaml::Version("2.1"))
        .with("jobs", jobs)
        .with("workflows", workflows(pipeline));
    Written::new("circleci", PATH, &document(&top))
}

/// What tells a job that the time has come: the service has no variable for it.
fn scheduled() -> Map {
    Map::default().with("POLYARCH_SCHEDULED", "1")
}

fn build_job(pipeline: &Pipeline<'_>, build: &BuildJob) -> Map {
    let environment = Map::default().with("JOB", build.task()).with("FOLDER", build.id.as_str());
    let keep = Map::default()
        .with("name", "Keep what has failed")
        .with("when", "on_fail")
        .with("command", format!("mv \"{WORK}/$FOLDER\" {FAILED}"));
    let steps = Steps::new(pipeline)
        .take()
        .run("Build and test", "polyarch job \"$JOB\"", build.minutes)
        .step("run", keep)
        .step("store_artifacts", Map::default().with("path", FAILED))
        .hand_on(&build.id);
    job(pipeline, &build.runner, environment, steps)
}

fn job(pipeline: &Pipeline<'_>, runner: &str, environment: Map, steps: Steps) -> Map {
    let image = pipeline.service.image.as_ref().map_or(IMAGE, |image| image.value.as_str());
    let own = Map::default().with("POLYARCH_BRANCH", pipeline.branch()).with("POLYARCH_WORK", WORK);
    Map::default()
        .with("machine", Map::default().with("image", image))
        .with("resource_class", runner)
        .with("environment", own.and(environment))
        .with("steps", steps.list)
}

/// One for what has moved or is proposed, and one for when the time has come.
fn workflows(pipeline: &Pipeline<'_>) -> Map {
    let workflows = Map::default().with("images", Map::default().with("jobs", ordered(pipeline, "", true)));
    let Some(schedule) = &pipeline.settings.schedule else { return workflows };
    let only = Map::default().with("branches", Map::default().with("only", vec![pipeline.branch()]));
    let trigger = Map::default().with("cron", schedule.value.as_str()).with("filters", only);
    let nightly = Map::default()
        .with("triggers", vec![Map::default().with("schedule", trigger)])
        .with("jobs", ordered(pipeline, "-anew", false));
    workflows.with("nightly", nightly)
}

fn ordered(pipeline: &Pipeline<'_>, kind: &str, is_filtered: bool) -> Vec<Yaml> {
    let tags: Vec<String> = { pipeline.settings.release_tags.iter() }
        .map(|pattern| format!("/{}/", release_expression(pattern.value.as_str())))
        .collect();
    let tags = (!tags.is_empty() && is_filtered).then(|| Map::default().with("only", tags));
    let filtered = |of: Map, branches: Option<Map>| {
        let filters = Map::default()
            .with_some("branches", branches.filter(|_| is_filtered))
            .with_some("tags", tags.clone());
        if filters.is_empty() { of } else { of.with("filters", filters) }
    };
    let named = |name: &str, of: Map| match of.is_empty() {
        true => Yaml::from(name),
        false => Map::default().with(name, of).into(),
    };
    // Whichever of its kind it is, others call it by this name.
    let called =
        |name: &str| if kind.is_empty() { Map::default() } else { Map::default().with("name", name) };
    let mut jobs = vec![named(&format!("plan{kind}"), filtered(called("plan"), None))];
    for build in &pipeline.builds {
        let requires: Vec<String> = build.waits_for().collect();
        jobs.push(named(&build.id, filtered(Map::default().with("requires", requires), None)));
    }
    let branch = vec![pipeline.branch()];
    if is_filtered {
        let others = Map::default().with("ignore", branch.clone());
        let rehearse = Map::default().with("requires", pipeline.all_published());
        let filters = Map::default().with("branches", others);
        jobs.push(named("rehearse", rehearse.with("filters", filters)));
    }
    let publishing = |of: Map, requires: Vec<String>| {
        let of = of.with("requires", requires).with("context", vec![pipeline.environment()]);
        filtered(of, Some(Map::default().with("only", branch.clone())))
    };
    for job in &pipeline.joining {
        jobs.push(named(&job.id, publishing(Map::default(), job.waits_for())));
    }
    let publish = publishing(called("publish"), pipeline.before_publication());
    jobs.push(named(&format!("publish{kind}"), publish));
    jobs
}

/// The steps of a job.
struct Steps {
    list: Vec<Yaml>,
}

impl Steps {
    /// The repository and polyarch.
    fn new(pipeline: &Pipeline<'_>) -> Self {
        let steps = Self { list: vec!["checkout".into()] };
        let Some(setting) = &pipeline.settings.install else { return steps };
        let script = install::script("echo \"export PATH=$bin:\\$PATH\" >>\"$BASH_ENV\"");
        let run = Map::default()
            .with("name", "Install polyarch")
            .with("environment", install::variables(setting))
            .with("command", Yaml::Script(script));
        steps.step("run", run)
    }

    fn step(mut self, kind: &str, of: Map) -> Self {
        self.list.push(Map::default().with(kind, of).into());
        self
    }

    fn run(self, name: &str, command: &str, minutes: u64) -> Self {
        let run = Map::default()
            .with("name", name)
            .with("command", command)
            .with("no_output_timeout", format!("{minutes}m"));
        self.step("run", run)
    }

    fn take(self) -> Self {
        self.step("attach_workspace", Map::default().with("at", WORK))
    }

    fn hand_on(self, id: &str) -> Self {
        self.step("persist_to_workspace", Map::default().with("root", WORK).with("paths", vec![id]))
    }
}
