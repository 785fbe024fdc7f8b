//! GitLab CI: a job for each image variant on each platform, in stages that only the publication waits for, and what needs
//! more jobs than it may name.
//!
//! GitLab CI/CD YAML syntax reference. Names and values reach a shell through variables alone.

use std::collections::BTreeMap;

use super::Written;
use super::install;
use super::joining::JoiningJob;
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
    has_stages: true,
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
/// The stage of the jobs that publish an image each.
const JOINING: &str = "manifest";

/// The file of a pipeline.
pub(super) fn gitlab(pipeline: &Pipeline<'_>) -> Written {
    let variables = Map::default()
        .with("POLYARCH_BRANCH", pipeline.branch())
        .with("POLYARCH_WORK", format!("$CI_PROJECT_DIR/{WORK}"));
    let variables =
        pipeline.settings.install.iter().fold(variables, |all, one| all.and(install::variables(one)));
    let sign = pipeline.service.sign.as_ref();
    let places = places(pipeline);
    let mut stages = vec!["plan".to_owned()];
    stages.extend((0..=places.values().copied().max().unwrap_or(0)).map(build_stage));
    stages.extend((!pipeline.joining.is_empty()).then(|| JOINING.to_owned()));
    stages.push("publish".to_owned());
    if sign.is_some() {
        stages.insert(0, "promote".to_owned());
    }
    let top = Map::default()
        .with("stages", stages)
        .with("workflow", workflow(pipeline))
        .with("variables", variables)
        .with_some("default", default(pipeline))
        .with_some("promote", sign.map(|setting| promote(pipeline, setting)))
        .with("plan", plan(pipeline));
    let build = |build: &BuildJob| build_job(pipeline, build, places[build.id.as_str()]);
    let top = pipeline.builds.iter().fold(top, |top, one| top.with(&one.id, build(one)));
    let top = pipeline.joining.iter().fold(top, |top, job| top.with(&job.id, join(pipeline, job)));
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

/// In which of the stages for builds each job is. What needs more jobs than it may name comes after the stages of these, and
/// waits for the whole of them; nothing is in a stage before what it needs.
fn places<'a>(pipeline: &'a Pipeline<'_>) -> BTreeMap<&'a str, usize> {
    let mut places = BTreeMap::new();
    for build in &pipeline.builds {
        let needed = build.ancestors.iter().chain(&build.beside);
        let before = needed.filter_map(|id| places.get(id.as_str()).copied()).max().unwrap_or(0);
        places.insert(build.id.as_str(), before + usize::from(is_wide(build)));
    }
    places
}

fn build_stage(place: usize) -> String {
    if place == 0 { "build".to_owned() } else { format!("build-{}", place + 1) }
}

/// Whether a job needs more others than it may name.
fn is_wide(build: &BuildJob) -> bool {
    build.needs_number() > GROUND.needs_limit
}

/// What a job needs: the plan and those whose files it takes in, and what it only waits for.
fn needs(taken: &[String], only_waited_for: &[String]) -> Vec<Yaml> {
    let taken = std::iter::once("plan").chain(taken.iter().map(String::as_str)).map(Yaml::from);
    let without_files = |id: &String| Map::default().with("job", id.as_str()).with("artifacts", false).into();
    taken.chain(only_waited_for.iter().map(without_files)).collect()
}

/// Its needs are all that it stands on, whose files it takes in: they order nothing that its parents do not. It takes in no
/// file of what else it waits for.
fn build_job(pipeline: &Pipeline<'_>, build: &BuildJob, place: usize) -> Map {
    let needs = (!is_wide(build)).then(|| needs(&build.ancestors, &build.beside));
    let stage = if build.downstream { "publish".to_owned() } else { build_stage(place) };
    let job = job(&stage, &build.runner, build.minutes);
    let job = if build.downstream { job.with("allow_failure", true) } else { job };
    job.with("interruptible", true)
        .with_some("needs", needs)
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
    publishing(pipeline, "publish", "publish-images", None)
        .with("variables", history().and(key))
        .with("script", script.collect::<Vec<_>>())
}

/// Joins the platforms of the images of one repository, and publishes them.
fn join(pipeline: &Pipeline<'_>, job: &JoiningJob) -> Map {
    let needs = needs(&job.taken, &job.after);
    publishing(pipeline, JOINING, &format!("publish-{}", job.id), Some(needs))
        .with("variables", history().with("IMAGES", job.images()))
        .with("script", vec!["polyarch job publish \"$IMAGES\""])
}

/// A job that publishes: in its environment, and never ended.
fn publishing(pipeline: &Pipeline<'_>, stage: &str, group: &str, needs: Option<Vec<Yaml>>) -> Map {
    let never = Map::default().with("if", IS_PROPOSED).with("when", "never");
    let token = Map::default().with("SIGSTORE_ID_TOKEN", Map::default().with("aud", "sigstore"));
    job(stage, pipeline.near_runner(), PUBLISH_MINUTES)
        .with("interruptible", false)
        .with_some("needs", needs)
        .with("resource_group", group)
        .with("environment", pipeline.environment())
        .with_note("id_tokens", token, "to sign by the identity of this run")
        .with("rules", vec![never, Map::default().with("when", "on_success")])
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
