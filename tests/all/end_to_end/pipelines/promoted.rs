//! What a pull request has built is published once it is merged, and nothing is built again.

use super::*;
use crate::end_to_end::promotion::pairs_of_keys;
use crate::end_to_end::shared_store;

/// A pull request of the same repository.
const PROPOSED: [(&str, &str); 4] =
    [PUSHED[0], ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/12/merge"), PUSHED[3]];

/// The family with a store that everyone may read, at the registry that it is published at.
fn ground_with_store(test: &str) -> Option<(Place, shared_store::Registry)> {
    let (place, _) = super::ground(test)?;
    pairs_of_keys(&place);
    let registry = shared_store::Registry::start(&place);
    let sign = "sign = { key = \"SIGN_KEY\", trust = \"TRUST_KEYS\" }\n";
    let sign = format!("[ci.github]\n{sign}[ci.gitlab]\n{sign}");
    place.write("polyarch.toml", &format!("store = \"{}\"\n{CONFIGURATION}{sign}", registry.store));
    for service in ["github", "gitlab"] {
        let _ = place.run(&["ci", service]).well();
    }
    Some((place, registry))
}

fn key(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.folder().join(name)).expect("a key")
}

fn host(registry: &shared_store::Registry) -> &str {
    registry.store.split('/').next().expect("a host")
}

/// What the project has in its settings; of the environments, all jobs that name secrets have them.
fn workflow<'a>(
    place: &'a Place,
    registry: &shared_store::Registry,
    event: &[(&'static str, &str)],
) -> Pipeline<'a> {
    let host = host(registry);
    let mut pipeline =
        Pipeline::new(place, read::github(&file(place, ".github/workflows/polyarch.yml")), event);
    for (name, value) in [
        ("vars.POLYARCH_REGISTRY", host),
        ("vars.POLYARCH_STORE", &registry.store),
        ("vars.TRUST_KEYS", &key(place, "own.pub")),
        ("secrets.SIGN_KEY", &key(place, "own.key")),
        ("secrets.REGISTRY_USER", "trusted"),
        ("secrets.REGISTRY_TOKEN", "secret"),
        ("github.repository", "somebody/images"),
        ("github.event.pull_request.head.repo.full_name", "somebody/images"),
    ] {
        pipeline.values.insert(name.to_owned(), value.to_owned());
    }
    pipeline
}

#[test]
fn law_4_what_a_pull_request_built_is_published_after_its_merge_and_not_built_again() {
    let test = "pipelines::promoted::law_4";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let mut proposed = workflow(&place, &registry, &PROPOSED);
    proposed.run();
    for (job, told) in [
        ("promote", "no proposal was merged by what began this run"),
        ("leaf-386", "1 built, 0 checked, 2 reused"),
        ("rehearse", "rehearsed in the scope `pr-12`"),
        ("sign", "signed: 12 records"),
        ("done", "ended as planned"),
    ] {
        let log = proposed.log(job);
        assert!(proposed.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    assert_eq!(proposed.ending("publish"), Ending::Skipped);

    let merged = place.folder().join("event.json");
    std::fs::write(&merged, r#"{"head_commit": {"message": "Say more (#12)\n\nmuch more"}}"#)
        .expect("an event");
    let merged = merged.display().to_string();
    let mut pushed = workflow(&place, &registry, &[&PUSHED[..], &[("GITHUB_EVENT_PATH", &merged)]].concat());
    pushed.without_engine = BUILDS.iter().map(|job| (*job).to_owned()).collect();
    pushed.run();
    for (job, told) in [
        ("promote", "6 images of `pr-12` and before stand, and are not built again"),
        ("plan", "0 to build, 0 to check, 6 reused"),
        ("leaf-386", "0 built, 0 checked, 3 reused"),
        ("publish", "published"),
        ("done", "ended as planned"),
    ] {
        let log = pushed.log(job);
        assert!(pushed.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    assert_eq!((pushed.ending("sign"), pushed.ending("rehearse")), (Ending::Skipped, Ending::Skipped));
    let host = host(&registry);
    for image in ["base", "middle", "leaf"] {
        let _ = place.run(&["inspect", &format!("{host}/chain/{image}:latest")]).well();
    }
}

/// What GitLab says of a merge request of the same project.
const MERGE_REQUEST: [(&str, &str); 7] = [
    ("GITLAB_CI", "true"),
    ("CI_PIPELINE_SOURCE", "merge_request_event"),
    ("CI_MERGE_REQUEST_IID", "12"),
    ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "3"),
    ("CI_MERGE_REQUEST_PROJECT_ID", "3"),
    ("CI_PROJECT_ID", "3"),
    ("CI_PROJECT_NAMESPACE", "somebody"),
];
/// What it says after the merge.
const MERGED: [(&str, &str); 6] = [
    MERGE_REQUEST[0],
    ("CI_PIPELINE_SOURCE", "push"),
    ("CI_COMMIT_BRANCH", "main"),
    ("CI_COMMIT_MESSAGE", "Merge branch 'x' into 'main'\n\nSay more\n\nSee merge request somebody/images!12"),
    MERGE_REQUEST[5],
    MERGE_REQUEST[6],
];

/// A pipeline of GitLab, in a project that has variables for its environments.
fn at_gitlab<'a>(
    place: &'a Place,
    registry: &shared_store::Registry,
    event: &[(&'static str, &str)],
) -> Pipeline<'a> {
    let trust = key(place, "own.pub");
    let project = [("POLYARCH_REGISTRY", host(registry)), ("TRUST_KEYS", trust.as_str())];
    // Those that are protected are in no pipeline of a merge request.
    let protected = [("REGISTRY_USER", "trusted"), ("REGISTRY_TOKEN", "secret")];
    let is_proposed = event.contains(&MERGE_REQUEST[1]);
    let protected = if is_proposed { &[][..] } else { &protected };
    let jobs = read::gitlab(&file(place, ".gitlab-ci.yml"), event);
    let mut pipeline = Pipeline::new(place, jobs, &[event, &project, protected].concat());
    let sign = ("SIGN_KEY", key(place, "own.key"));
    let login = [("POLYARCH_USER", "trusted".to_owned()), ("POLYARCH_PASSWORD", "secret".to_owned())];
    let store = ("POLYARCH_STORE", registry.store.clone());
    pipeline.scoped =
        vec![("sign", login.into_iter().chain([store, sign.clone()]).collect()), ("publish", [sign].into())];
    pipeline
}

#[test]
fn law_4_what_a_merge_request_built_is_published_after_its_merge_and_not_built_again() {
    let test = "pipelines::promoted::law_4_gitlab";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let mut proposed = at_gitlab(&place, &registry, &MERGE_REQUEST);
    proposed.run();
    for (job, told) in [
        ("leaf-386", "1 built, 0 checked, 2 reused"),
        ("rehearse", "rehearsed in the scope `pr-12`"),
        ("sign", "signed: 12 records"),
    ] {
        let log = proposed.log(job);
        assert!(proposed.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    assert!(!proposed.endings.contains_key("promote") && !proposed.endings.contains_key("publish"));

    let mut pushed = at_gitlab(&place, &registry, &MERGED);
    pushed.without_engine = BUILDS.iter().map(|job| (*job).to_owned()).collect();
    pushed.run();
    for (job, told) in [
        ("promote", "6 images of `pr-12` and before stand, and are not built again"),
        ("plan", "0 to build, 0 to check, 6 reused"),
        ("leaf-386", "0 built, 0 checked, 3 reused"),
        ("publish", "published"),
    ] {
        let log = pushed.log(job);
        assert!(pushed.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    assert!(!pushed.endings.contains_key("sign") && !pushed.endings.contains_key("rehearse"));
    for image in ["base", "middle", "leaf"] {
        let _ = place.run(&["inspect", &format!("{}/chain/{image}:latest", host(&registry))]).well();
    }
}

#[test]
fn f_u1_gitlab_gives_no_fork_the_job_that_signs_and_what_is_not_signed_is_built_again() {
    let test = "pipelines::promoted::f_u1_gitlab";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let of_fork = |source: &'static str, own: &'static str| {
        let event = MERGE_REQUEST.map(|(name, value)| match name {
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID" => (name, source),
            "CI_PROJECT_ID" => (name, own),
            _ => (name, value),
        });
        at_gitlab(&place, &registry, &event)
    };
    // In the fork; and in the parent project, where a member has begun it.
    for (source, own) in [("9", "9"), ("9", "3")] {
        let mut proposed = of_fork(source, own);
        proposed.run();
        assert!(!proposed.endings.contains_key("sign"), "{source} {own}");
        let told = proposed.told();
        assert_eq!(proposed.ending("rehearse"), Ending::Success, "{told}");
    }
    // A project that has no key for that environment signs nothing, and says so.
    let mut proposed = at_gitlab(&place, &registry, &MERGE_REQUEST);
    proposed.scoped[0].1.remove("SIGN_KEY");
    proposed.run();
    let log = proposed.log("sign");
    assert!(proposed.ending("sign") == Ending::Success && log.contains("was given no key"), "{log}");

    let mut pushed = at_gitlab(&place, &registry, &MERGED);
    pushed.run();
    let promote = pushed.log("promote");
    assert!(promote.contains("base@linux/amd64 is not promoted: "), "{promote}");
    assert!(pushed.log("leaf-386").contains("1 built, 0 checked, 2 reused"), "{}", pushed.log("leaf-386"));
    assert_eq!(pushed.ending("publish"), Ending::Success, "{}", pushed.log("publish"));
    assert!(pushed.log("publish").contains("signed: 12 records"), "{}", pushed.log("publish"));
}

#[test]
fn f_u1_what_a_fork_proposes_is_signed_by_no_job_and_built_again_after_its_merge() {
    let test = "pipelines::promoted::f_u1";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let mut proposed = workflow(&place, &registry, &PROPOSED);
    let repository = "github.event.pull_request.head.repo.full_name".to_owned();
    proposed.values.insert(repository, "stranger/images".to_owned());
    proposed.run();
    assert_eq!(proposed.ending("sign"), Ending::Skipped);
    assert_eq!(proposed.ending("done"), Ending::Success, "{}", proposed.log("done"));

    let merged = place.folder().join("event.json");
    std::fs::write(&merged, r#"{"head_commit": {"message": "Merge pull request #12 from stranger/x"}}"#)
        .expect("an event");
    let merged = merged.display().to_string();
    let mut pushed = workflow(&place, &registry, &[&PUSHED[..], &[("GITHUB_EVENT_PATH", &merged)]].concat());
    pushed.run();
    let promote = pushed.log("promote");
    assert!(promote.contains("base@linux/amd64 is not promoted: "), "{promote}");
    assert!(pushed.log("leaf-386").contains("1 built, 0 checked, 2 reused"), "{}", pushed.log("leaf-386"));
    assert_eq!(pushed.ending("publish"), Ending::Success, "{}", pushed.log("publish"));

    // What the jobs without a login have built is in the store: the last one has brought it there, and has signed it.
    assert!(pushed.log("publish").contains("signed: 12 records"), "{}", pushed.log("publish"));
    let mut again = workflow(&place, &registry, &PUSHED);
    again.without_engine = BUILDS.iter().map(|job| (*job).to_owned()).collect();
    again.run();
    let plan = again.log("plan");
    assert!(plan.contains("0 to build, 0 to check, 6 reused"), "{plan}");
    assert_eq!(again.ending("done"), Ending::Success, "{}", again.log("done"));

    // So what stands on it is promoted too. Of the leaf only the tests are other ones, and nobody has a login for those.
    place.write(
        "polyarch.toml",
        &file(&place, "polyarch.toml").replace("[tags]", "[image.leaf]\ntests = [\"test -e /leaf\"]\n[tags]"),
    );
    let mut proposed = workflow(&place, &registry, &PROPOSED);
    proposed.run();
    for (job, told) in
        [("leaf-386", "0 built, 1 checked, 2 reused"), ("sign", "signed: "), ("rehearse", "rehearsed")]
    {
        let log = proposed.log(job);
        assert!(proposed.ending(job) == Ending::Success && log.contains(told), "{job}: {log}");
    }
    let mut merged = workflow(&place, &registry, &[&PUSHED[..], &[("GITHUB_EVENT_PATH", &merged)]].concat());
    merged.without_engine = BUILDS.iter().map(|job| (*job).to_owned()).collect();
    merged.run();
    let promote = merged.log("promote");
    assert!(promote.contains("6 images of `pr-12` and before stand"), "{promote}");
    assert_eq!(merged.ending("done"), Ending::Success, "{}", merged.log("done"));
}

#[test]
fn s1_1_a_refresh_by_jobs_without_a_login_is_what_the_next_push_finds() {
    let test = "pipelines::promoted::s1_1";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let mut first = workflow(&place, &registry, &PUSHED);
    first.run();
    assert_eq!(first.ending("done"), Ending::Success, "{}", first.log("done"));
    let due = ("GITHUB_EVENT_NAME", "schedule");
    let mut nightly = workflow(&place, &registry, &[PUSHED[0], due, PUSHED[2], PUSHED[3]]);
    nightly.run();
    assert_eq!(nightly.ending("done"), Ending::Success, "{}", nightly.log("publish"));
    let host = host(&registry);
    let leaf = || place.run(&["inspect", &format!("{host}/chain/leaf:latest")]).well().stdout;
    let refreshed = leaf();
    let mut pushed = workflow(&place, &registry, &PUSHED);
    pushed.without_engine = BUILDS.iter().map(|job| (*job).to_owned()).collect();
    pushed.run();
    let plan = pushed.log("plan");
    assert!(plan.contains("0 to build, 0 to check, 6 reused"), "{plan}");
    assert_eq!(pushed.ending("done"), Ending::Success, "{}", pushed.log("done"));
    assert_eq!(leaf(), refreshed, "what the night has built stands");
}

#[test]
fn f_u12_a_job_signs_nothing_in_a_store_that_only_the_proposal_names() {
    let test = "pipelines::promoted::f_u12";
    let Some((place, registry)) = ground_with_store(test) else { return };
    let mut proposed = workflow(&place, &registry, &PROPOSED);
    proposed.values.remove("vars.POLYARCH_STORE");
    proposed.run();
    let log = proposed.log("sign");
    let told = "sign the records: only the tree that is to be signed says where they are";
    assert!(proposed.ending("sign") == Ending::Failure && log.contains(told), "{log}");
    assert!(!log.contains("came in"), "nothing goes there before: {log}");

    // A login that may not write there.
    proposed.values.insert("vars.POLYARCH_STORE".to_owned(), registry.store.clone());
    proposed.values.insert("secrets.REGISTRY_TOKEN".to_owned(), "wrong".to_owned());
    proposed.run();
    let log = proposed.log("sign");
    assert!(proposed.ending("sign") == Ending::Failure && log.contains("hint: "), "{log}");
}
