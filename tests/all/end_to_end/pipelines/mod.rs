//! Generated pipelines, carried out: the jobs share nothing but what the service brings from one to the next.

mod promoted;
mod read;
mod runner;

use std::collections::BTreeSet;

use super::engines::{Engine, FOUNDATION, inspected, layers, root_file_systems};
use super::foreign_registry::{PASSWORD, RIGHT, Registry, USER, log_in};
use crate::program::Place;

use read::For;
use runner::{Ending, Pipeline};

const CONFIGURATION: &str = r#"
name = "chain"
platforms = ["linux/amd64", "linux/386"]
emulate = "allow"
tests = ["test -e /bin/sh"]

[tags]
common = ["latest"]
release = ["{version}", "stable"]

[ci]
release-tags = ["v*"]
schedule = "0 3 * * *"
owners = ["somebody"]
login = { user = "REGISTRY_USER", password = "REGISTRY_TOKEN" }
"#;

const BUILDS: [&str; 6] = ["base-386", "base-amd64", "leaf-386", "leaf-amd64", "middle-386", "middle-amd64"];

/// What GitHub says of a push to the branch that is published.
const PUSHED: [(&str, &str); 5] = [
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_EVENT_NAME", "push"),
    ("GITHUB_REF", "refs/heads/main"),
    ("GITHUB_REPOSITORY_OWNER", "somebody"),
    ("GITHUB_RUN_ID", "7"),
];

/// A family of three images upon each other for two platforms, and a registry that wants a password.
fn ground(test: &str) -> Option<(Place, Registry)> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("base/Dockerfile", FOUNDATION),
        ("middle/Dockerfile", "FROM base\nRUN echo middle > /middle\n"),
        ("leaf/Dockerfile", "FROM middle\nRUN echo leaf > /leaf\n"),
    ]);
    let fit =
        Engine::Classic.equip(test, &mut place) && root_file_systems(test, &place, "base", &["amd64", "386"]);
    let registry = fit.then(|| Registry::start(test, &place)).flatten()?;
    for service in ["github", "circleci", "gitlab"] {
        let _ = place.run(&["ci", service]).well();
    }
    Some((place, registry))
}

fn file(place: &Place, path: &str) -> String {
    std::fs::read_to_string(place.family().join(path)).expect("the file of a pipeline")
}

fn on_github<'a>(place: &'a Place, registry: &Registry, event: &[(&'static str, &str)]) -> Pipeline<'a> {
    let jobs = read::github(&file(place, ".github/workflows/polyarch.yml"));
    let mut pipeline = Pipeline::new(place, jobs, event);
    for (name, value) in [
        ("vars.POLYARCH_REGISTRY", registry.address.as_str()),
        ("secrets.REGISTRY_USER", USER),
        ("secrets.REGISTRY_TOKEN", PASSWORD),
    ] {
        pipeline.values.insert(name.to_owned(), value.to_owned());
    }
    pipeline
}

/// What services have of a project in the environment of every job, or of those of a context.
fn of_project(registry: &Registry) -> [(&'static str, &str); 3] {
    [("POLYARCH_REGISTRY", &registry.address), ("REGISTRY_USER", USER), ("REGISTRY_TOKEN", PASSWORD)]
}

#[track_caller]
fn all_has_gone_well(pipeline: &Pipeline<'_>) {
    for (job, (ending, _)) in &pipeline.endings {
        let wanted = if job == "rehearse" { Ending::Skipped } else { Ending::Success };
        assert_eq!(*ending, wanted, "{job}\n{}", pipeline.log(job));
    }
    let artifacts = pipeline.artifacts();
    let ends = |id: &str| artifacts.iter().any(|name| name.trim_start_matches("polyarch-") == id);
    let handed_on: BTreeSet<&str> = BUILDS.iter().copied().filter(|id| ends(id)).collect();
    assert_eq!(handed_on, BUILDS.into(), "{artifacts:?}");
    for leaf in ["leaf-386", "leaf-amd64"] {
        assert!(pipeline.log(leaf).contains("1 built, 0 checked, 2 reused"), "{}", pipeline.log(leaf));
    }
}

/// What stands at the registry is whole, and children have the layers of their parents.
#[track_caller]
fn all_is_published(place: &Place, registry: &Registry) {
    log_in(place, &format!(r#"{{"auths":{{"{}":{{"auth":"{RIGHT}"}}}}}}"#, registry.address));
    let at = |image: &str| inspected(place, &format!("{}/chain/{image}:latest", registry.address));
    let (base, leaf) = (at("base"), at("leaf"));
    for platform in ["linux/386", "linux/amd64"] {
        let (base, leaf) = (layers(&base, platform), layers(&leaf, platform));
        assert!(base.len() < leaf.len() && leaf.starts_with(&base), "{platform}: {base:?} {leaf:?}");
    }
}

#[track_caller]
fn nothing_is_published(place: &Place, registry: &Registry) {
    log_in(place, &format!(r#"{{"auths":{{"{}":{{"auth":"{RIGHT}"}}}}}}"#, registry.address));
    let looked = place.run(&["inspect", &format!("{}/chain/leaf:latest", registry.address)]);
    assert_ne!(looked.code, Some(0), "{}", looked.stdout);
}

#[test]
fn law_4_a_workflow_of_github_builds_tests_and_publishes_a_family() {
    let test = "pipelines::law_4_a_workflow_of_github_builds_tests_and_publishes_a_family";
    let Some((place, registry)) = ground(test) else { return };
    let mut pipeline = on_github(&place, &registry, &PUSHED);
    pipeline.without_engine.insert("middle-386".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("middle-386"), Ending::Failure);
    assert_eq!(pipeline.ending("leaf-386"), Ending::Skipped);
    assert_eq!(pipeline.ending("leaf-amd64"), Ending::Success, "what does not stand on it goes on");
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    assert_eq!(pipeline.ending("done"), Ending::Failure);
    let told = pipeline.log("done");
    assert!(told.contains("the job middle-386 has not ended as planned"), "{told}");
    nothing_is_published(&place, &registry);
    pipeline.without_engine.clear();
    pipeline.cancelled_in = Some("middle-386".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("middle-386"), Ending::Cancelled);
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    pipeline.run();
    all_has_gone_well(&pipeline);
    assert_eq!(pipeline.ending("done"), Ending::Success);
    all_is_published(&place, &registry);
}

#[test]
fn law_4_the_jobs_of_circleci_build_test_and_publish_a_family() {
    let test = "pipelines::law_4_the_jobs_of_circleci_build_test_and_publish_a_family";
    let Some((place, registry)) = ground(test) else { return };
    let said = [("CIRCLECI", "true"), ("CIRCLE_BRANCH", "main"), ("CIRCLE_PROJECT_USERNAME", "somebody")];
    let jobs = read::circleci(&file(&place, ".circleci/config.yml"), For::Branch);
    let mut pipeline = Pipeline::new(&place, jobs, &[&said[..], &of_project(&registry)].concat());
    pipeline.without_engine.insert("middle-386".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("middle-386"), Ending::Failure);
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    nothing_is_published(&place, &registry);
    pipeline.without_engine.clear();
    pipeline.run();
    all_has_gone_well(&pipeline);
    all_is_published(&place, &registry);
}

#[test]
fn law_4_the_jobs_of_gitlab_build_test_and_publish_a_family() {
    let test = "pipelines::law_4_the_jobs_of_gitlab_build_test_and_publish_a_family";
    let Some((place, registry)) = ground(test) else { return };
    let said = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_PROJECT_NAMESPACE", "somebody"),
    ];
    let jobs = read::gitlab(&file(&place, ".gitlab-ci.yml"), &said);
    let mut pipeline = Pipeline::new(&place, jobs, &[&said[..], &of_project(&registry)].concat());
    pipeline.without_engine.insert("leaf-386".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("leaf-386"), Ending::Failure);
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    pipeline.without_engine.clear();
    pipeline.cancelled_in = Some("leaf-386".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("leaf-386"), Ending::Cancelled);
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    nothing_is_published(&place, &registry);
    pipeline.run();
    all_has_gone_well(&pipeline);
    all_is_published(&place, &registry);
}

/// Where each image goes by itself, what fails in one is not in the way of those that do not stand on it.
#[test]
fn s2_1_an_image_that_goes_by_itself_is_published_by_a_job_of_its_own() {
    let test = "pipelines::s2_1_an_image_that_goes_by_itself_is_published_by_a_job_of_its_own";
    let Some((place, registry)) = ground(test) else { return };
    place.write("polyarch.toml", &format!("{CONFIGURATION}[publish]\nunit = \"image\"\n"));
    place.write("leaf/Dockerfile", "FROM base\nRUN echo leaf > /leaf\n");
    std::fs::remove_dir_all(place.family().join("middle")).expect("two images are left");
    let _ = place.run(&["ci", "github"]).well();
    let mut pipeline = on_github(&place, &registry, &PUSHED);
    pipeline.without_engine.insert("leaf-386".to_owned());
    pipeline.run();
    let endings = |pipeline: &Pipeline<'_>| {
        ["base-manifest", "leaf-manifest", "publish", "done"].map(|job| pipeline.ending(job))
    };
    let (well, skipped) = (Ending::Success, Ending::Skipped);
    assert_eq!(
        endings(&pipeline),
        [well, skipped, skipped, Ending::Failure],
        "{}",
        pipeline.log("base-manifest")
    );
    log_in(&place, &format!(r#"{{"auths":{{"{}":{{"auth":"{RIGHT}"}}}}}}"#, registry.address));
    let look = |image: &str| place.run(&["inspect", &format!("{}/chain/{image}:latest", registry.address)]);
    let base = look("base").well().stdout;
    assert_ne!(look("leaf").code, Some(0), "its other platform failed");
    pipeline.without_engine.clear();
    pipeline.run();
    assert_eq!(
        endings(&pipeline),
        [well; 4],
        "{}\n{}",
        pipeline.log("leaf-manifest"),
        pipeline.log("publish")
    );
    all_is_published(&place, &registry);
    assert_eq!(look("base").well().stdout, base, "what was published stands");
}

#[test]
fn f_y9_what_is_proposed_is_rehearsed_without_a_secret_on_three_services() {
    let test = "pipelines::f_y9_what_is_proposed_is_rehearsed_without_a_secret_on_three_services";
    let Some((place, registry)) = ground(test) else { return };
    let github =
        [PUSHED[0], ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/5/merge"), PUSHED[3]];
    let circleci = [("CIRCLECI", "true"), ("CIRCLE_BRANCH", "pull/5"), ("CIRCLE_PR_NUMBER", "5")];
    // The label of GitHub's is said by the pipeline, that of GitLab by the service, and CircleCI has none.
    let gitlab = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "merge_request_event"),
        ("CI_MERGE_REQUEST_IID", "5"),
        ("CI_MERGE_REQUEST_LABELS", "bug,no-cache"),
    ];
    let read = |path| file(&place, path);
    for (jobs, event, is_labelled) in [
        (read::github(&read(".github/workflows/polyarch.yml")), &github[..], true),
        (read::circleci(&read(".circleci/config.yml"), For::Proposal), &circleci[..], false),
        (read::gitlab(&read(".gitlab-ci.yml"), &gitlab), &gitlab[..], true),
    ] {
        let mut pipeline = Pipeline::new(&place, jobs, event);
        let label = ("github.event.pull_request.labels.*.name".to_owned(), "no-cache".to_owned());
        pipeline.values.extend([label]);
        pipeline.run();
        let log = pipeline.log("rehearse");
        assert_eq!(pipeline.ending("rehearse"), Ending::Success, "{event:?}\n{log}");
        assert!(log.contains("rehearsed in the scope `pr-5`"), "{log}");
        assert!(pipeline.endings.get("publish").is_none_or(|(ending, _)| *ending == Ending::Skipped));
        let plan = pipeline.log("plan");
        assert_eq!(plan.contains("a refresh is asked for"), is_labelled, "S3 row 9: {event:?}\n{plan}");
    }
    nothing_is_published(&place, &registry);
}

#[test]
fn s3_14_what_began_a_run_says_what_platforms_it_is_for() {
    let test = "pipelines::s3_14_what_began_a_run_says_what_platforms_it_is_for";
    let Some((place, _registry)) = ground(test) else { return };
    let platforms = "[ci.platforms]\nproposed = [\"linux/amd64\"]\nscheduled = [[\"linux/386\"]]\n";
    place.write("polyarch.toml", &format!("{CONFIGURATION}{platforms}"));
    for service in ["github", "circleci", "gitlab"] {
        let _ = place.run(&["ci", service, "--check"]).well();
    }
    let jobs = read::github(&file(&place, ".github/workflows/polyarch.yml"));
    let proposal =
        [PUSHED[0], ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/5/merge"), PUSHED[3]];
    let mut pipeline = Pipeline::new(&place, jobs, &proposal);
    pipeline.run();
    assert!(pipeline.log("plan").contains("this run is for linux/amd64 alone"), "{}", pipeline.log("plan"));
    for (job, told) in [
        ("leaf-386", "leaf@linux/386 is not among the images of this run"),
        ("leaf-amd64", "1 built, 0 checked, 2 reused"),
        ("rehearse", "linux/386: not chosen, and rehearsed without"),
        ("rehearse", "rehearsed in the scope `pr-5`"),
    ] {
        let log = pipeline.log(job);
        assert!(pipeline.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    let planned = |event: &[(&'static str, &str)], images: &str| {
        let work = place.folder().join("planned");
        let mut job = place.program(env!("CARGO_BIN_EXE_polyarch"));
        job.args(["job", "plan", "--work"]).arg(work).env("POLYARCH_STORE", place.store());
        job.envs(event.iter().copied()).env("POLYARCH_BRANCH", "main").env("POLYARCH_IMAGES", images);
        let answer = crate::program::Answer::from(job.output().expect("polyarch"));
        answer.well().stdout
    };
    let due = [PUSHED[0], ("GITHUB_EVENT_NAME", "schedule"), PUSHED[2], PUSHED[3]];
    for (event, images, platforms) in [
        (&due, "", &["linux/386"][..]),
        (&proposal, "", &["linux/amd64"]),
        (&proposal, "base@linux/386", &["linux/386"]),
        (&[PUSHED[0], PUSHED[1], PUSHED[2], PUSHED[3]], "", &["linux/386", "linux/amd64"]),
    ] {
        let plan = planned(event, images);
        for platform in ["linux/386", "linux/amd64"] {
            let is_planned = plan.lines().any(|line| line.starts_with("base ") && line.contains(platform));
            assert_eq!(is_planned, platforms.contains(&platform), "{event:?} {images}: {plan}");
        }
    }
}

#[test]
fn a_run_whose_time_has_come_refreshes_all_or_what_is_stale() {
    let test = "pipelines::a_run_whose_time_has_come_refreshes_all_or_what_is_stale";
    let Some((place, _registry)) = ground(test) else { return };
    let due = [PUSHED[0], ("GITHUB_EVENT_NAME", "schedule"), PUSHED[2], PUSHED[3]];
    for (said, refreshes) in
        [("", true), ("scheduled = \"refresh\"\n", true), ("scheduled = \"reuse\"\n", false)]
    {
        let configuration = CONFIGURATION.replacen("[ci]\n", &format!("[ci]\n{said}"), 1);
        assert!(said.is_empty() || configuration != CONFIGURATION, "there is a section for it");
        place.write("polyarch.toml", &configuration);
        let mut job = place.program(env!("CARGO_BIN_EXE_polyarch"));
        job.args(["job", "plan", "--work"]).arg(place.folder().join("planned"));
        job.env("POLYARCH_STORE", place.store()).envs(due.iter().copied()).env("POLYARCH_BRANCH", "main");
        let plan = crate::program::Answer::from(job.output().expect("polyarch")).well().stdout;
        assert_eq!(plan.contains("a refresh is asked for"), refreshes, "{said}: {plan}");
    }
}

#[test]
fn a_tag_of_git_is_published_under_its_version_on_three_services() {
    let test = "pipelines::a_tag_of_git_is_published_under_its_version_on_three_services";
    let Some((place, registry)) = ground(test) else { return };
    let tagged = ("GITHUB_REF", "refs/tags/v1.0");
    let mut github = on_github(&place, &registry, &[PUSHED[0], PUSHED[1], tagged, PUSHED[3]]);
    github.run();
    all_has_gone_well(&github);
    let circleci = [("CIRCLECI", "true"), ("CIRCLE_TAG", "v1.1"), ("CIRCLE_PROJECT_USERNAME", "somebody")];
    let gitlab = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_TAG", "v1.2"),
        ("CI_PROJECT_NAMESPACE", "somebody"),
    ];
    for (jobs, event) in [
        (read::circleci(&file(&place, ".circleci/config.yml"), For::Tag), &circleci[..]),
        (read::gitlab(&file(&place, ".gitlab-ci.yml"), &gitlab), &gitlab[..]),
    ] {
        let mut pipeline = Pipeline::new(&place, jobs, &[event, &of_project(&registry)].concat());
        pipeline.run();
        all_has_gone_well(&pipeline);
    }
    log_in(&place, &format!(r#"{{"auths":{{"{}":{{"auth":"{RIGHT}"}}}}}}"#, registry.address));
    let at = |tag: &str| place.run(&["inspect", &format!("{}/chain/leaf:{tag}", registry.address)]);
    for tag in ["1.0", "1.1", "1.2", "stable", "amd64-1.0", "386-1.2", "386-stable"] {
        let _ = at(tag).well();
    }
    for tag in ["latest", "amd64-latest", "v1.0"] {
        assert_ne!(at(tag).code, Some(0), "{tag} is the branch's, or nobody's");
    }
}

#[test]
fn s1_1_when_the_time_has_come_all_is_refreshed_and_nightly_tags_move_on_three_services() {
    let test =
        "pipelines::s1_1_when_the_time_has_come_all_is_refreshed_and_nightly_tags_move_on_three_services";
    let Some((place, registry)) = ground(test) else { return };
    let due = ("GITHUB_EVENT_NAME", "schedule");
    let github = on_github(&place, &registry, &[PUSHED[0], due, PUSHED[2], PUSHED[3]]);
    let circleci = [("CIRCLECI", "true"), ("CIRCLE_BRANCH", "main"), ("CIRCLE_PROJECT_USERNAME", "somebody")];
    let gitlab = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "schedule"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_PROJECT_NAMESPACE", "somebody"),
    ];
    let jobs = read::circleci(&file(&place, ".circleci/config.yml"), For::Time);
    let circleci = Pipeline::new(&place, jobs, &[&circleci[..], &of_project(&registry)].concat());
    let jobs = read::gitlab(&file(&place, ".gitlab-ci.yml"), &gitlab);
    let gitlab = Pipeline::new(&place, jobs, &[&gitlab[..], &of_project(&registry)].concat());
    log_in(&place, &format!(r#"{{"auths":{{"{}":{{"auth":"{RIGHT}"}}}}}}"#, registry.address));
    let mut before = BTreeSet::new();
    for mut pipeline in [github, circleci, gitlab] {
        pipeline.run();
        let log = pipeline.log("publish");
        assert_eq!(pipeline.ending("publish"), Ending::Success, "{log}");
        assert!(log.contains("6 nightly tags moved"), "{log}");
        let plan = pipeline.log("plan");
        assert!(plan.contains("refresh"), "{plan}");
        for tag in ["nightly-amd64", "nightly-386", "latest"] {
            let one = place.run(&["inspect", &format!("{}/chain/leaf:{tag}", registry.address)]).well();
            assert!(before.insert(one.stdout), "{tag} has moved each time");
        }
    }
}

#[test]
fn other_owners_run_every_step_and_push_nothing() {
    let test = "pipelines::other_owners_run_every_step_and_push_nothing";
    let Some((place, registry)) = ground(test) else { return };
    let mut pipeline = on_github(&place, &registry, &PUSHED);
    pipeline.event.insert("GITHUB_REPOSITORY_OWNER", "another".to_owned());
    pipeline.run();
    assert_eq!(pipeline.ending("publish"), Ending::Skipped);
    assert_eq!(pipeline.ending("rehearse"), Ending::Success, "{}", pipeline.log("rehearse"));
    assert_eq!(pipeline.ending("done"), Ending::Success);
    nothing_is_published(&place, &registry);
}
