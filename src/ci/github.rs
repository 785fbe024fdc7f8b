//! GitHub Actions: one workflow, a job for each image variant on each platform.
//!
//! Workflow syntax for GitHub Actions. Rights: none on top, the least by job. Names and values reach a shell through the
//! environment alone, and expressions hold nothing that a user has written.

use super::Written;
use super::event::{LABEL, LABELLED, TITLE};
use super::install;
use super::joining::JoiningJob;
use super::pipeline::{BuildJob, Ground, PUBLISH_MINUTES, Pipeline, SHORT_MINUTES};
use super::yaml::{Map, Yaml, document};
use crate::config::PromotionSetting;
use crate::defence::{Defence, stands};

/// The service's own runners, and how many jobs a run may have.
pub(super) const GROUND: Ground = Ground {
    runners: &[
        ("linux/amd64", "ubuntu-24.04"),
        ("linux/386", "ubuntu-24.04"),
        ("linux/arm64", "ubuntu-24.04-arm"),
    ],
    jobs_limit: 256,
    needs_limit: usize::MAX,
    has_stages: false,
    // A larger workflow begins no runs.
    bytes_limit: 500_000,
    is_own: |label| !label.starts_with("ubuntu-"),
};
/// Where the jobs around the builds run.
const RUNNER: &str = "ubuntu-24.04";
const PATH: &str = ".github/workflows/polyarch.yml";
/// The actions that are used, at the commits of their releases.
const CHECKOUT: (&str, &str) = ("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "v6.0.2");
const UPLOAD: (&str, &str) = ("actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a", "v7.0.1");
const DOWNLOAD: (&str, &str) =
    ("actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1");
/// F-Y8: when these were last looked at, 2026-11-20, in days since 1970-01-01.
pub(super) const LOOKED_AT_DAY: u64 = 20_777;
/// The label of every runner that is not the service's own: what judges workflows stops at it.
const SELF_HOSTED: &str = "self-hosted";
/// Where a job's files are: outside of the repository, so that they are in no build context.
const WORK: &str = "${{ runner.temp }}/polyarch";
/// Whether the first job has found that this run publishes: only it knows branch and owners, and no expression does.
const PUBLISHES: &str = "needs.plan.outputs.publishes == 'true'";
/// Whether it has found that nothing strange is built: only then are there secrets for builds, in an environment of theirs.
const TRUSTED: &str = "needs.plan.outputs.trusted == 'true'";

/// Whether what is proposed is of the same repository: no fork's run can begin a job with such a condition.
const SAME_REPOSITORY: &str = "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository";
/// Whether the branch that is published has moved.
const PUSHED: &str = "github.event_name == 'push' && github.ref_type == 'branch'";
/// The environment with the key that signs.
const SIGNING: &str = "sign";

/// The workflow of a pipeline.
pub(crate) fn github(pipeline: &Pipeline<'_>) -> Written {
    let sign = pipeline.service.sign.as_ref();
    let mut jobs = Map::default()
        .with_some("promote", sign.map(|setting| promote(pipeline, setting)))
        .with("plan", plan(pipeline));
    for build in &pipeline.builds {
        jobs = jobs.with(&build.id, build_job(pipeline, build));
    }
    for job in &pipeline.joining {
        jobs = jobs.with(&job.id, join(pipeline, job));
    }
    jobs = jobs
        .with("rehearse", rehearse(pipeline))
        .with_some("sign", sign.map(|setting| self::sign(pipeline, setting)))
        .with("publish", publish(pipeline))
        .with("done", done(pipeline));
    let top = Map::default()
        .with("name", "images")
        .with("on", events(pipeline))
        .with("permissions", Map::default())
        .with("concurrency", concurrency())
        .with("env", Map::default().with("POLYARCH_BRANCH", pipeline.branch()))
        .with("defaults", Map::default().with("run", Map::default().with("shell", "bash")))
        .with("jobs", jobs);
    Written::new("github", PATH, &document(&top))
}

fn events(pipeline: &Pipeline<'_>) -> Map {
    let tags: Vec<&str> =
        pipeline.settings.release_tags.iter().map(|pattern| pattern.value.as_str()).collect();
    let push = Map::default().with("branches", vec![pipeline.branch()]);
    let push = if tags.is_empty() { push } else { push.with("tags", tags) };
    let schedule = pipeline
        .settings
        .schedule
        .as_ref()
        .map(|schedule| Yaml::List(vec![Map::default().with("cron", schedule.value.as_str()).into()]));
    let input = |what: &str| {
        Map::default()
            .with("description", what)
            .with("required", false)
            .with("default", "")
            .with("type", "string")
    };
    let refresh = Map::default()
        .with("description", "Build them with what is new outside")
        .with("required", false)
        .with("default", false)
        .with("type", "boolean");
    let inputs = Map::default()
        .with("images", input("Only these images, with spaces between them"))
        .with("refresh", refresh);
    Map::default()
        .with("pull_request", Map::default())
        .with("merge_group", Map::default())
        .with("push", push)
        .with_some("schedule", schedule)
        .with("workflow_dispatch", Map::default().with("inputs", inputs))
}

/// A newer push to a pull request ends the run of the older; what publishes waits, and is never cancelled (F-Y7).
fn concurrency() -> Map {
    Map::default()
        .with("group", "images-${{ github.event.pull_request.number || github.ref }}")
        .with("cancel-in-progress", "${{ github.event_name == 'pull_request' }}")
}

fn plan(pipeline: &Pipeline<'_>) -> Map {
    let steps = Steps::new(pipeline)
        .check_out(true)
        .install()
        .run("See that this file is up to date", "polyarch ci github --check", Map::default())
        .step(
            Map::default().with("name", "Plan").with("id", "plan").and(run("polyarch job plan", selection())),
        )
        .hand_on("plan", false, pipeline.keep_plan_days());
    let outputs = Map::default()
        .with("publishes", "${{ steps.plan.outputs.publishes }}")
        .with("trusted", "${{ steps.plan.outputs.trusted }}");
    let needs = pipeline.service.sign.as_ref().map(|_| vec!["promote".to_owned()]);
    job("plan", RUNNER, SHORT_MINUTES)
        .with_some("needs", needs)
        .with("outputs", outputs)
        .with("steps", steps.list)
}

fn build_job(pipeline: &Pipeline<'_>, build: &BuildJob) -> Map {
    let needs: Vec<String> = build.waits_for().collect();
    let secrets = build.secrets.iter().fold(Map::default(), |all, name| {
        let name = name.as_str();
        all.with(name, format!("${{{{ {TRUSTED} && secrets.{name} || '' }}}}"))
    });
    let environment = (!build.secrets.is_empty()).then(|| format!("${{{{ {TRUSTED} && 'build' || '' }}}}"));
    let steps = Steps::new(pipeline)
        .check_out(false)
        .install()
        .take(&build.ancestors)
        .run("Build and test", "polyarch job \"$JOB\"", Map::default().with("JOB", build.task()).and(secrets))
        .hand_on(&build.id, true, pipeline.keep_days());
    job(&build.title(), &build.runner, build.minutes)
        .with_some("environment", environment)
        .with("needs", needs)
        .with("steps", steps.list)
}

/// The whole publication into a registry that is thrown away.
fn rehearse(pipeline: &Pipeline<'_>) -> Map {
    let steps = Steps::new(pipeline).check_out(true).install().take_all().run(
        "Rehearse the publication",
        "polyarch job rehearse",
        Map::default(),
    );
    job("rehearse the publication", RUNNER, PUBLISH_MINUTES)
        .with("needs", pipeline.all_published())
        .with("if", format!("${{{{ !({PUBLISHES}) }}}}"))
        .with("steps", steps.list)
}

/// Signs what a proposal of the same repository has built, in the store: it builds nothing, and alone has the key.
fn sign(pipeline: &Pipeline<'_>, setting: &PromotionSetting) -> Map {
    let secret = |name: &str| format!("${{{{ secrets.{name} }}}}");
    let env = Map::default()
        .with("POLYARCH_STORE", "${{ vars.POLYARCH_STORE }}")
        .with("POLYARCH_SIGN_KEY", secret(setting.key.as_str()))
        .and(login(pipeline, &secret));
    let steps =
        Steps::new(pipeline).check_out(true).install().take_all().run("Sign", "polyarch job sign", env);
    job("sign what was built", RUNNER, PUBLISH_MINUTES)
        .with("environment", SIGNING)
        .with("needs", pipeline.all_published())
        .with("if", format!("${{{{ {SAME_REPOSITORY} }}}}"))
        .with("steps", steps.list)
}

/// Takes over what a proposal has built that the pushed commit brings in. It is never skipped, which would skip all behind it.
fn promote(pipeline: &Pipeline<'_>, setting: &PromotionSetting) -> Map {
    let secret = |name: &str| format!("${{{{ {PUSHED} && secrets.{name} || '' }}}}");
    let env = Map::default()
        .with("POLYARCH_TRUST_KEYS", format!("${{{{ vars.{} }}}}", setting.trust.as_str()))
        .and(login(pipeline, &secret));
    let steps = Steps::new(pipeline).check_out(true).install().run("Promote", "polyarch job promote", env);
    let environment = format!("${{{{ {PUSHED} && 'promote' || '' }}}}");
    job("promote", RUNNER, PUBLISH_MINUTES).with("environment", environment).with("steps", steps.list)
}

/// Who logs in at the registry, in expressions of the names of secrets.
fn login(pipeline: &Pipeline<'_>, secret: &dyn Fn(&str) -> String) -> Map {
    pipeline.settings.login.as_ref().map_or_else(Map::default, |login| {
        Map::default()
            .with("POLYARCH_USER", secret(login.user.as_str()))
            .with("POLYARCH_PASSWORD", secret(login.password.as_str()))
    })
}

/// Where the family is published, and who logs in there.
fn target(pipeline: &Pipeline<'_>) -> Map {
    Map::default()
        .with("POLYARCH_REGISTRY", "${{ vars.POLYARCH_REGISTRY }}")
        .and(login(pipeline, &|name: &str| format!("${{{{ secrets.{name} }}}}")))
}

/// Joins the platforms of the images of one repository, and publishes them.
fn join(pipeline: &Pipeline<'_>, job: &JoiningJob) -> Map {
    let env = Map::default().with("IMAGES", job.images()).and(target(pipeline));
    let steps = Steps::new(pipeline).check_out(true).install().take(&job.taken);
    let steps = steps.run("Publish", "polyarch job publish \"$IMAGES\"", env);
    // Of what waits in a group, a service keeps only the newest.
    publishing(pipeline, &job.id, &format!("publish-{}", job.id), job.waits_for(), steps)
}

fn publish(pipeline: &Pipeline<'_>) -> Map {
    let secret = |name: &str| format!("${{{{ secrets.{name} }}}}");
    let steps = Steps::new(pipeline).check_out(true).install().take_all();
    let steps = steps.run("Publish", "polyarch job publish", target(pipeline));
    // What proposals build upon has to be signed as well.
    let steps = match &pipeline.service.sign {
        Some(setting) => {
            let key = Map::default().with("POLYARCH_SIGN_KEY", secret(setting.key.as_str()));
            steps.run("Sign", "polyarch job sign", key.and(login(pipeline, &secret)))
        }
        None => steps,
    };
    publishing(pipeline, "publish", "publish-images", pipeline.before_publication(), steps)
}

/// A job that publishes: in its environment, and never cancelled.
fn publishing(pipeline: &Pipeline<'_>, name: &str, group: &str, needs: Vec<String>, steps: Steps<'_>) -> Map {
    let permissions = Map::default().with_note("contents", "read", "to check out").with_note(
        "id-token",
        "write",
        "to sign by the identity of this run",
    );
    Map::default()
        .with("name", name)
        .with("runs-on", RUNNER)
        .with("timeout-minutes", PUBLISH_MINUTES)
        .with("permissions", permissions)
        .with("environment", pipeline.environment())
        .with("concurrency", Map::default().with("group", group).with("cancel-in-progress", false))
        .with("needs", needs)
        .with("if", format!("${{{{ github.event_name != 'pull_request' && {PUBLISHES} }}}}"))
        .with("steps", steps.list)
}

/// The one job that says whether all went as planned.
fn done(pipeline: &Pipeline<'_>) -> Map {
    let mut needs = pipeline.before_publication();
    needs.extend(["rehearse".to_owned(), "publish".to_owned()]);
    if pipeline.service.sign.is_some() {
        // Not `sign`, which waits for a person.
        needs.push("promote".to_owned());
    }
    let steps = Steps::new(pipeline).install().run(
        "See that all jobs ended as planned",
        "polyarch job close",
        Map::default().with("POLYARCH_JOBS", "${{ toJSON(needs) }}"),
    );
    Map::default()
        .with("name", "done")
        .with("runs-on", RUNNER)
        .with("timeout-minutes", SHORT_MINUTES)
        .with("permissions", Map::default())
        .with("needs", needs)
        .with("if", "${{ always() }}")
        .with("steps", steps.list)
}

fn job(name: &str, runner: &str, minutes: u64) -> Map {
    const IGNORED: &str = "zizmor: ignore[self-hosted-runner] its machine is thrown away after the job";
    let named = Map::default().with("name", name);
    let on = if runner == SELF_HOSTED {
        named.with_note("runs-on", runner, IGNORED)
    } else {
        named.with("runs-on", runner)
    };
    on.with("timeout-minutes", minutes)
        .with("permissions", Map::default().with_note("contents", "read", "to check out"))
}

fn run(command: &str, env: Map) -> Map {
    Map::default().with("env", Map::default().with("POLYARCH_WORK", WORK).and(env)).with("run", command)
}

/// What a person chose who began the run by hand, or who proposes something.
fn selection() -> Map {
    Map::default()
        .with("POLYARCH_IMAGES", "${{ inputs.images }}")
        .with("POLYARCH_REFRESH", "${{ inputs.refresh }}")
        .with(TITLE, "${{ github.event.pull_request.title }}")
        .with(LABELLED, format!("${{{{ contains(github.event.pull_request.labels.*.name, '{LABEL}') }}}}"))
}

/// The steps of a job.
struct Steps<'a> {
    pipeline: &'a Pipeline<'a>,
    list: Vec<Yaml>,
}

impl<'a> Steps<'a> {
    fn new(pipeline: &'a Pipeline<'a>) -> Self {
        Self { pipeline, list: Vec::new() }
    }

    fn step(mut self, step: Map) -> Self {
        self.list.push(step.into());
        self
    }

    fn action(self, name: &str, condition: Option<&str>, action: (&str, &'static str), with: Map) -> Self {
        let (pinned, release) = action;
        let uses = match pinned.split_once('@') {
            Some((name, _)) if !stands(Defence::PinnedActions) => format!("{name}@{release}"),
            _ => pinned.to_owned(),
        };
        let step = Map::default()
            .with("name", name)
            .with_some("if", condition)
            .with_note("uses", uses, release)
            .with("with", with);
        self.step(step)
    }

    /// The repository; with its history where the age of its commits counts.
    fn check_out(self, history: bool) -> Self {
        let with = Map::default().with("persist-credentials", false);
        let with = if history { with.with("fetch-depth", 0) } else { with };
        self.action("Check out", None, CHECKOUT, with)
    }

    fn install(self) -> Self {
        let Some(setting) = &self.pipeline.settings.install else { return self };
        let step = Map::default()
            .with("name", "Install polyarch")
            .with("env", install::variables(setting))
            .with("run", Yaml::Script(install::script("echo \"$bin\" >>\"$GITHUB_PATH\"")));
        self.step(step)
    }

    fn run(self, name: &str, command: &str, env: Map) -> Self {
        self.step(Map::default().with("name", name).and(run(command, env)))
    }

    /// The plan, and what jobs before this one have handed on: each in a folder of its own. One that has expired is none.
    fn take(self, from: &[String]) -> Self {
        match from {
            [] => self.download("polyarch-plan"),
            from => self.download(&format!("polyarch-{{plan,{}}}", from.join(","))),
        }
    }

    fn take_all(self) -> Self {
        self.download("polyarch-*")
    }

    fn download(self, pattern: &str) -> Self {
        let with = Map::default().with("pattern", pattern).with("path", WORK);
        self.action("Take in what jobs before this one made", None, DOWNLOAD, with)
    }

    /// What this job has made; also where it failed, so that it can be looked at.
    fn hand_on(self, id: &str, always: bool, days: u64) -> Self {
        let with = Map::default()
            .with("name", format!("polyarch-{id}"))
            .with("path", format!("{WORK}/{id}"))
            .with("if-no-files-found", if always { "ignore" } else { "error" })
            .with("overwrite", true)
            .with("compression-level", 0)
            .with("retention-days", days);
        self.action("Hand it on", always.then_some("${{ always() }}"), UPLOAD, with)
    }
}
