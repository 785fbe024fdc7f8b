//! GitLab CI: a job for each image variant on each platform, in stages that only the publication waits for.
//!
//! GitLab CI/CD YAML syntax reference. Names and values reach a shell through variables alone.

use super::Written;
use super::install;
use super::pipeline::{BuildJob, Ground, PUBLISH_MINUTES, Pipeline, SHORT_MINUTES};
use super::yaml::{Map, Yaml, document};
use crate::config::{PromotionSetting, Variable, release_expression};

/// Tags of the service's own runners, and how many jobs a pipeline may have.
pub(super) const GROUND: Ground = Ground {
    runners: &[
        ("linux/amd64", "saas-linux-small-amd64"),
        ("linux/386", "saas-linux-small-amd64"),
        ("linux/arm64", "saas-linux-small-arm64"),
    ],
    jobs_limit: 500,
    needs_limit: 50,
    bytes_limit: 1 << 20,
    // A fork's pipeline runs in the fork, on runners of its owner's.
    is_own: |_| false,
};
const PATH: &str = ".gitlab-ci.yml";
/// Where files of jobs are: artifacts are below the repository's folder. Hidden folders are no part of a family.
const WORK: &str = ".polyarch";
const IS_PROPOSED: &str = "$CI_PIPELINE_SOURCE == \"merge_request_event\"";
const IS_PUBLISHED: &str = "$CI_COMMIT_BRANCH == $POLYARCH_BRANCH";
/// Whether what is proposed is of the same project: neither a fork's pipeline nor one that a member begins for a fork.
const OF_SAME_PROJECT: &str =
    "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID && $CI_MERGE_REQUEST_PROJECT_ID == $CI_PROJECT_ID";
/// Whether something was pushed, and nobody has begun the pipeline otherwise.
const IS_PUSHED: &str = "$CI_PIPELINE_SOURCE == \"push\"";
/// The environment with the key that signs.
const SIGNING: &str = "sign";
const SIGN: &str = "polyarch job sign";

/// The file of a pipeline.
pub(super) fn gitlab(pipeline: &Pipeline<'_>) -> Written {
    let variables = Map::default()
        .with("POLYARCH_BRANCH", pipeline.branch())
        .with("POLYARCH_WORK", format!("$CI_PROJECT_DIR/{WORK}"));
    let variables =
        pipeline.settings.install.iter().fold(variables, |all, one| all.and(install::variables(one)));
    let sign = pipeline.service.sign.as_ref();
    let stages = ["plan", "build", "publish"];
    let top = Map::default()
        .with("stages", sign.map(|_| "promote").into_iter().chain(stages).collect::<Vec<_>>())
        .with("workflow", workflow(pipeline))
        .with("variables", variables)
        .with_some("default", default(pipeline))
        .with_some("promote", sign.map(|setting| promote(pipeline, setting)))
        .with("plan", plan(pipeline));
    let top = pipeline.builds.iter().fold(top, |top, build| top.with(&build.id, build_job(pipeline, build)));
    let top = top
        .with("rehearse", rehearse(pipeline))
        .with_some("sign", sign.map(|setting| self::sign(pipeline, setting)))
        .with("publish", publish(pipeline));
    Written::new("gitlab", PATH, &document(&top))
}

/// Merge requests, the branch that is published, by schedule too, and release tags. A newer push to a merge request ends
/// the older pipeline; what publishes is never ended (F-Y7).
fn workflow(pipeline: &Pipeline<'_>) -> Map {
    let tags = pipeline.settings.release_tags.iter();
    let tags =
        tags.map(|pattern| format!("$CI_COMMIT_TAG =~ /{}/", release_expression(pattern.value.as_str())));
    let rules = [IS_PROPOSED.to_owned(), IS_PUBLISHED.to_owned()].into_iter().chain(tags);
    let cancels = |how: &str| Map::default().with("on_new_commit", how);
    let rules: Vec<Map> = rules
        .map(|rule| {
            let how = if rule == IS_PROPOSED { "interruptible" } else { "none" };
            Map::default().with("if", rule).with("auto_cancel", cancels(how))
        })
        .collect();
    Map::default().with("auto_cancel", cancels("none")).with("rules", rules)
}

fn default(pipeline: &Pipeline<'_>) -> Option<Map> {
    let script = pipeline
        .settings
        .install
        .as_ref()
        .map(|_| Yaml::List(vec![Yaml::Script(install::script("export PATH=\"$bin:$PATH\""))]));
    let image = pipeline.service.image.as_ref().map(|image| image.value.as_str());
    let default = Map::default().with_some("image", image).with_some("before_script", script);
    (!default.is_empty()).then_some(default)
}

fn plan(pipeline: &Pipeline<'_>) -> Map {
    job("plan", pipeline.near_runner(), SHORT_MINUTES)
        .with("interruptible", true)
        .with("variables", history())
        .with("script", vec!["polyarch ci gitlab --check", "polyarch job plan"])
        .with("artifacts", artifacts("plan", pipeline.keep_plan_days()))
}

/// Its needs are all that it stands on, whose files it takes in: they order nothing that its parents do not. It takes in no
/// file of what else it waits for.
fn build_job(pipeline: &Pipeline<'_>, build: &BuildJob) -> Map {
    let taken = std::iter::once("plan").chain(build.ancestors.iter().map(String::as_str)).map(Yaml::from);
    let only_waited_for =
        |id: &String| Map::default().with("job", id.as_str()).with("artifacts", false).into();
    let needs: Vec<Yaml> = taken.chain(build.beside.iter().map(only_waited_for)).collect();
    let stage = if build.downstream { "publish" } else { "build" };
    let job = job(stage, &build.runner, build.minutes);
    let job = if build.downstream { job.with("allow_failure", true) } else { job };
    job.with("interruptible", true)
        .with("needs", needs)
        .with("variables", Map::default().with("JOB", build.task()))
        .with("script", vec!["polyarch job \"$JOB\""])
        .with("artifacts", artifacts(&build.id, pipeline.keep_days()))
}

/// What has no needs waits for all stages before its own, and takes in all files.
fn rehearse(pipeline: &Pipeline<'_>) -> Map {
    job("publish", pipeline.near_runner(), PUBLISH_MINUTES)
        .with("interruptible", true)
        .with("rules", vec![Map::default().with("if", IS_PROPOSED)])
        .with("variables", history())
        .with("script", vec!["polyarch job rehearse"])
}

/// Signs what a proposal of the same project has built, in the store, once somebody who may has begun it: it builds nothing,
/// and alone has the key.
fn sign(pipeline: &Pipeline<'_>, setting: &PromotionSetting) -> Map {
    let by_hand = Map::default()
        .with("if", format!("{IS_PROPOSED} && {OF_SAME_PROJECT}"))
        .with("when", "manual")
        .with("allow_failure", true);
    job("publish", pipeline.near_runner(), PUBLISH_MINUTES)
        .with("interruptible", true)
        .with("environment", SIGNING)
        .with("rules", vec![by_hand])
        .with("variables", history().and(known_as("POLYARCH_SIGN_KEY", &setting.key)))
        .with("script", vec![SIGN])
}

/// Takes over what a proposal has built that the pushed commit brings in, in a stage of its own before all others.
fn promote(pipeline: &Pipeline<'_>, setting: &PromotionSetting) -> Map {
    job("promote", pipeline.near_runner(), PUBLISH_MINUTES)
        .with("interruptible", false)
        .with("rules", vec![Map::default().with("if", format!("{IS_PUSHED} && {IS_PUBLISHED}"))])
        .with("variables", history().and(known_as("POLYARCH_TRUST_KEYS", &setting.trust)))
        .with("script", vec!["polyarch job promote"])
}

/// A variable of the project by the name that polyarch knows.
fn known_as(ours: &str, name: &Variable) -> Map {
    match name.as_str() == ours {
        true => Map::default(),
        false => Map::default().with(ours, format!("${}", name.as_str())),
    }
}

fn publish(pipeline: &Pipeline<'_>) -> Map {
    let sign = pipeline.service.sign.as_ref();
    let key = sign.map_or_else(Map::default, |setting| known_as("POLYARCH_SIGN_KEY", &setting.key));
    // What proposals build upon has to be signed as well.
    let script = std::iter::once("polyarch job publish").chain(sign.map(|_| SIGN));
    let never = Map::default().with("if", IS_PROPOSED).with("when", "never");
    let token = Map::default().with("SIGSTORE_ID_TOKEN", Map::default().with("aud", "sigstore"));
    job("publish", pipeline.near_runner(), PUBLISH_MINUTES)
        .with("interruptible", false)
        .with("resource_group", "publish-images")
        .with("environment", pipeline.environment())
        .with_note("id_tokens", token, "to sign by the identity of this run")
        .with("rules", vec![never, Map::default().with("when", "on_success")])
        .with("variables", history().and(key))
        .with("script", script.collect::<Vec<_>>())
}

fn job(stage: &str, runner: &str, minutes: u64) -> Map {
    Map::default()
        .with("stage", stage)
        .with("tags", vec![runner])
        .with("timeout", format!("{minutes} minutes"))
}

/// The age of commits counts.
fn history() -> Map {
    Map::default().with("GIT_DEPTH", "0")
}

/// What a job hands on; also where it failed, so that it can be looked at.
fn artifacts(id: &str, days: u64) -> Map {
    Map::default()
        .with("when", "always")
        .with("paths", vec![format!("{WORK}/{id}")])
        .with("expire_in", format!("{days} days"))
}
