//! One run at a time: retries, checks that fail, failing fast, logs, and copies of base images.

mod caches;
mod claims;
mod ending;
mod failures;
mod far;
mod losses;
mod parents;
mod refresh;
mod again;
mod agreement;

mod placed;
mod scopes;

use std::sync::Arc;

use super::fixture::{Act, BASE, Look, PLAIN, Script, Site, Step, base_image};
use super::{Options, Ran};
use crate::engine::Room;
use crate::event::{EventKind, Outcome};
use crate::family::Barrier;
use crate::oci::watched::Watched;
use crate::oci::{Digest, Document, Memory, Platform, Store, Tag};
use crate::plan::{Decision, Estimate, Estimates, Plan, Request, speed};
use crate::record::{Description, Durations, Said, Taken};
use crate::survey::{Memo, survey};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn files(table: &[(&str, &str)]) -> Vec<(String, String)> {
    table.iter().map(|(name, text)| (format!("{name}/Dockerfile"), (*text).to_owned())).collect()
}

async fn site(config: &str, table: &[(&str, &str)]) -> Site {
    Site::new(Some(config), &files(table), &[amd64()]).await
}

/// Run it once on an engine that does these things, and what was seen.
async fn once(site: &Site, slots: usize, act: Act, look: Look, options: Options) -> (Ran, Vec<Step>) {
    let builder = site.scripted(slots, Arc::new(move |_, _| act), Arc::new(move |_, _| look));
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &[builder], options, std::future::pending()).await;
    (ran.unwrap(), steps)
}

fn count(steps: &[Step], which: impl Fn(&Step) -> bool) -> usize {
    steps.iter().filter(|step| which(step)).count()
}

/// The tags of the scope, but for what is remembered of all jobs.
async fn kept(site: &Site) -> Vec<Tag> {
    let tags = site.records.store.tags(&site.records.scope, None, 10).await.unwrap();
    tags.into_iter().filter(|tag| tag.as_str() != "durations").collect()
}

fn builds(steps: &[Step]) -> usize {
    count(steps, |step| matches!(step, Step::BuildBegins { .. }))
}

#[tokio::test(start_paused = true)]
async fn f_g20_a_passing_failure_is_tried_three_times_with_pauses_and_a_failing_step_once() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    let begun = tokio::time::Instant::now();
    let (ran, steps) = once(&site, 1, Act::FailPassingly, Look::Pass, PLAIN).await;
    assert_eq!(builds(&steps), 3);
    assert_eq!(count(&steps, |step| matches!(step, Step::Event(EventKind::JobRetried { .. }))), 2);
    // Three builds of two seconds, and pauses of one and two.
    assert_eq!(begun.elapsed().as_secs(), 9);
    assert_eq!(ran.failed.values().next().unwrap().message, "the network is down");
    let (ran, steps) = once(&site, 1, Act::FailStep, Look::Pass, PLAIN).await;
    assert_eq!((builds(&steps), ran.failed.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_that_passes_leaves_a_passed_job() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    let builder = site.scripted(
        1,
        Arc::new(|_, attempt| if attempt < 3 { Act::FailPassingly } else { Act::Build(1) }),
        Arc::new(|_, _| Look::Pass),
    );
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    assert_eq!((ran.unwrap().passed.len(), builds(&steps)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn f_g2_an_engine_that_never_answers_ends_the_job_and_not_the_run() {
    let site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n")]).await;
    let (ran, _) = once(&site, 1, Act::Hang, Look::Pass, PLAIN).await;
    let problem = ran.failed.values().next().unwrap();
    assert_eq!(problem.message, "hear from builder scripted how the build of a@linux/amd64 ended");
    let (ran, _) = once(&site, 1, Act::Build(1), Look::Hang, PLAIN).await;
    let problem = ran.failed.values().next().unwrap();
    assert_eq!(problem.message, "hear from scripted how test `id` of a@linux/amd64 ended");
}

#[tokio::test(start_paused = true)]
async fn i_b4_what_fails_its_checks_keeps_its_image_and_is_only_checked_the_next_time() {
    let site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n"), ("b", "FROM a\n")]).await;
    let (ran, steps) = once(&site, 1, Act::Build(1), Look::Fail, PLAIN).await;
    assert_eq!((ran.failed.len(), ran.skipped.len()), (1, 1));
    let kept = steps.iter().find_map(|step| match step {
        Step::Event(EventKind::JobEnded { outcome: Outcome::Failed { image, .. }, .. }) => image.clone(),
        _ => None,
    });
    let (_, plan) = site.plan().await;
    let Decision::Check(image) = &plan.jobs[&plan.order[0]].decision else {
        panic!("it is not only checked")
    };
    assert_eq!(kept, Some(image.image.to_string()));
    assert!(matches!(plan.jobs[&plan.order[1]].decision, Decision::Build(_)));
    let (ran, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!((ran.passed.len(), builds(&steps)), (2, 1), "only the child is built");
}

#[tokio::test(start_paused = true)]
async fn law_12_what_stands_on_a_parent_that_fails_its_checks_is_not_reused() {
    let table = [("a", "FROM scratch\n"), ("b", "FROM a\n")];
    let site = site("", &table).await;
    once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let (_, before) = site.plan().await;
    // The record of the parent's checks is lost, that of the child's stands.
    let Decision::Reuse(parent) = &before.jobs[&before.order[0]].decision else { panic!("not reused") };
    let tag = format!("checks-{}", parent.checks.key.hex()).parse().unwrap();
    site.records.store.remove_tag(&site.records.scope, &tag).await.unwrap();
    let (facts, plan) = site.plan().await;
    assert_eq!((plan.to_check(), plan.reused()), (1, 1));
    let (ran, steps) = site.run(&(facts, plan), &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 2);
    let order: Vec<bool> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Event(EventKind::JobEnded { .. }) => Some(false),
            Step::Event(EventKind::JobReused { .. }) => Some(true),
            _ => None,
        })
        .collect();
    assert_eq!(order, [false, true], "the parent is checked before the child counts as passed");
}

#[tokio::test(start_paused = true)]
async fn i_b1_two_units_of_the_same_inputs_are_built_once() {
    let table = [("a", "FROM scratch\n"), ("b", "FROM scratch\n"), ("c", "FROM a\n"), ("d", "FROM b\n")];
    let site = site("", &table).await;
    let (ran, steps) = once(&site, 4, Act::Build(5), Look::Pass, PLAIN).await;
    assert_eq!((ran.passed.len(), builds(&steps)), (4, 3));
    let (_, plan) = site.plan().await;
    assert_eq!(plan.reused(), 4, "what stands on either is left alone");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_nothing_new_begins_where_that_was_asked_for() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\nRUN b\n"), ("c", "FROM a\n")];
    let site = site("", &table).await;
    let (ran, steps) = once(&site, 1, Act::FailStep, Look::Pass, Options { fail_fast: true, ..PLAIN }).await;
    assert_eq!((builds(&steps), ran.failed.len(), ran.skipped.len(), ran.cancelled.len()), (1, 1, 1, 1));
    let (ran, steps) = once(&site, 1, Act::FailStep, Look::Pass, PLAIN).await;
    assert_eq!((builds(&steps), ran.failed.len(), ran.skipped.len()), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn f_g5_nothing_keeps_what_a_failed_build_pushed() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    for act in [Act::OtherImage, Act::OtherPlatform, Act::NoImage, Act::FailStep] {
        let (ran, _) = once(&site, 1, act, Look::Pass, PLAIN).await;
        assert_eq!(ran.failed.len(), 1, "{act:?}");
        assert_eq!(kept(&site).await, [], "{act:?} leaves no tag and no record");
    }
}

#[tokio::test(start_paused = true)]
async fn f_d12_what_was_built_of_files_that_changed_meanwhile_is_not_kept_under_their_key() {
    type Edit = fn(&std::path::Path);
    let edits: [(Edit, &str); 3] = [
        (
            |folder| std::fs::write(folder.join("word"), "new").unwrap(),
            "a/word: the context of a@linux/amd64",
        ),
        (|folder| std::fs::remove_file(folder.join("word")).unwrap(), "a/word: the context"),
        (|folder| std::fs::write(folder.join("more"), "").unwrap(), "a/more: the context"),
    ];
    for (edit, told) in edits {
        let site = site("", &[("a", "FROM scratch\nCOPY . /\n"), ("b", "FROM a\n")]).await;
        let folder = site.folder.path().join("a");
        std::fs::write(folder.join("word"), "old").unwrap();
        let plan = site.plan().await;
        let edited = move |_: &str, _| {
            edit(&folder);
            Act::Build(1)
        };
        let builder = site.scripted(1, Arc::new(edited), Arc::new(|_, _| Look::Pass));
        let (ran, _) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
        let ran = ran.unwrap();
        let problem = ran.failed.values().next().expect("it is not kept");
        assert!(problem.to_string().starts_with(told), "{problem}");
        assert!(problem.message.ends_with("changed while it was built") && !problem.hints.is_empty());
        assert_eq!((ran.failed.len(), ran.skipped.len()), (1, 1));
        assert_eq!(kept(&site).await, [], "no record and no tag");
        // What stands there now has a key of its own.
        let (ran, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
        assert_eq!(ran.passed.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn f_d12_files_that_the_build_cannot_read_may_change() {
    let site = site("", &[("a", "FROM scratch\nCOPY word /\n")]).await;
    let folder = site.folder.path().join("a");
    std::fs::write(folder.join("word"), "old").unwrap();
    let plan = site.plan().await;
    let edited = move |_: &str, _| {
        std::fs::write(folder.join("README"), "new").unwrap();
        Act::Build(1)
    };
    let builder = site.scripted(1, Arc::new(edited), Arc::new(|_, _| Look::Pass));
    let (ran, _) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tm18_the_output_of_checks_is_in_the_log_and_no_secret_is() {
    let config = "tests = [{ run = \"id\" }]\n[image.a]\ndescribe = [{ title = \"Files\", run = \"ls\" }]\n";
    let site = site(config, &[("a", "FROM scratch\n")]).await;
    let (ran, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!(ran.passed.len(), 1);
    let log = std::fs::read_to_string(site.run_folder().logs.join("a.linux-amd64.log")).unwrap();
    expect_test::expect![[r#"

        test `id`: exit code 0
          out of `id`
          ***

        description "Files": exit code 0
          out of `ls`
          ***
    "#]]
    .assert_eq(&log);
    once(&site, 1, Act::Build(1), Look::Fail, PLAIN).await;
}

#[tokio::test(start_paused = true)]
async fn s_4_9_a_description_keeps_each_command_and_one_that_prints_nothing_fails() {
    let config =
        "[image.a]\ndescribe = [{ title = \"Files\", bare = \"ls --version\", run = [\"ls\", \"du\"] }]\n";
    let site = site(config, &[("a", "FROM scratch\n")]).await;
    let (ran, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let descriptions = &ran.passed.values().next().unwrap().checks.descriptions;
    let said = |run: &str, bare| Said { run: run.to_owned(), bare, text: format!("out of `{run}`") };
    let pieces = vec![said("ls --version", true), said("ls", false), said("du", false)];
    assert_eq!(descriptions, &[Description { title: "Files".to_owned(), pieces }]);

    let silent = self::site(config, &[("a", "FROM scratch\n")]).await;
    let (ran, _) = once(&silent, 1, Act::Build(1), Look::Silent, PLAIN).await;
    let problem = format!("{:?}", ran.failed.values().next().unwrap());
    assert!(problem.contains("description \\\"Files\\\" `ls --version` printed nothing"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn tm18_the_reason_of_a_failed_check_has_no_secret() {
    let site = site("tests = [{ run = \"id\" }]\n", &[("a", "FROM scratch\n")]).await;
    let (ran, _) = once(&site, 1, Act::Build(1), Look::Fail, PLAIN).await;
    let problem = format!("{:?}", ran.failed.values().next().unwrap());
    assert!(problem.contains("out of `id`") && !problem.contains("canary"), "{problem}");
}

/// Requests to the registry of base images by a run of so many jobs that all stand on the same one.
async fn copies_of_the_base(jobs: usize) -> usize {
    let elsewhere = Memory::new();
    base_image(&elsewhere, &[amd64()]).await;
    let elsewhere = Arc::new(Watched::new(elsewhere));
    let table: Vec<_> =
        (0..jobs).map(|at| (format!("u{at}/Dockerfile"), format!("FROM {BASE}\nRUN {at}\n"))).collect();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let site = Site::over(None, &table, store, elsewhere.clone());
    let plan = site.plan().await;
    let before = elsewhere.calls();
    let (ran, _) = site.run(&plan, &[site.healthy(jobs)], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), jobs);
    elsewhere.calls() - before
}

#[tokio::test(start_paused = true)]
async fn f_g20_a_base_is_copied_once_however_many_jobs_stand_on_it() {
    // Manifest, configuration and layer.
    assert_eq!(copies_of_the_base(1).await, 3);
    assert_eq!(copies_of_the_base(12).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_frontend_is_sent_as_its_manifest_in_the_store_and_one_without_a_look_up_as_it_is_written() {
    let text = |frontend: &str| format!("# syntax={frontend}\nFROM scratch\n");
    let (known, unknown) = (text(BASE), text("unknown.example/frontend:1"));
    let site = site("", &[("a", &known), ("b", &unknown)]).await;
    let (_, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let sent = |wanted: &str| {
        let found = steps.iter().find_map(|step| match step {
            Step::BuildBegins { job, dockerfile, images_stand, .. } if job == wanted => {
                Some((dockerfile.clone(), *images_stand))
            }
            _ => None,
        });
        found.unwrap()
    };
    let registry = (site.registries)("base.example").unwrap();
    let index = registry.read_document(&"base".parse().unwrap(), &"1".parse::<Tag>().unwrap().into()).await;
    let index = index.unwrap();
    let manifest = &index.index().unwrap().manifests[0].digest;
    let pinned = text(&format!("127.0.0.1:5000/scopes/trusted@{manifest}"));
    assert_eq!(sent("a@linux/amd64"), (pinned, true));
    assert_eq!(sent("b@linux/amd64"), (unknown, true));
    let (_, plan) = site.plan().await;
    let planned = |job: &str| &plan.jobs[&job.parse().unwrap()];
    let key = &planned("a@linux/amd64").inputs["frontend"];
    assert_eq!(*key, format!("base.example/base@{}", index.digest()));
    assert!(matches!(planned("a@linux/amd64").decision, Decision::Reuse(_)));
    assert!(matches!(&planned("b@linux/amd64").decision, Decision::Build(reasons)
        if reasons[0].to_string() == "frontend unknown.example/frontend:1 is unknown"));
}

#[tokio::test(start_paused = true)]
async fn what_jobs_took_is_remembered_and_orders_the_next_run() {
    let text = |round: usize| {
        let table = [("a", 30), ("b", 5), ("c", 20)];
        table.map(|(name, _)| (name.to_owned(), format!("FROM scratch\nRUN {name} {round}\n")))
    };
    let first: Vec<_> =
        text(1).into_iter().map(|(name, text)| (format!("{name}/Dockerfile"), text)).collect();
    let site = Site::new(None, &first, &[amd64()]).await;
    let seconds = |job: &str, _: usize| {
        Act::Build(match &job[..1] {
            "a" => 5,
            "b" => 30,
            _ => 20,
        })
    };
    let started = |steps: &[Step]| -> Vec<String> {
        let jobs = steps.iter().filter_map(|step| match step {
            Step::Event(EventKind::JobStarted { job, .. }) => Some(job.replace("@linux/amd64", "")),
            _ => None,
        });
        jobs.collect()
    };
    let builder = || site.scripted(1, Arc::new(seconds), Arc::new(|_, _| Look::Pass));
    let (_, steps) = site.run(&site.plan().await, &[builder()], PLAIN, std::future::pending()).await;
    assert_eq!(started(&steps), ["a", "b", "c"]);
    let (facts, plan) = site.plan().await;
    let estimates = Estimates::new(&plan, &facts.durations);
    assert_eq!(estimates.of(&plan.order[1], false), Estimate { milliseconds: 0, assumed: false }, "reused");
    let request = Request { no_reuse: true, ..Request::default() };
    let plan = Plan::new(&site.family, &facts, &request);
    let estimates = Estimates::new(&plan, &facts.durations);
    assert_eq!(estimates.of(&plan.order[1], false), Estimate { milliseconds: 30_000, assumed: false });
    assert_eq!(estimates.of(&plan.order[1], true), Estimate { milliseconds: 300_000, assumed: true });
    let (_, steps) = site.run(&(facts, plan), &[builder()], PLAIN, std::future::pending()).await;
    assert_eq!(started(&steps), ["b", "c", "a"], "the longest first, now that it is known");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_of_a_job_is_assumed_from_its_neighbours() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\nRUN b\n"), ("c", "FROM a\n")];
    let platforms: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::new(Some(config), &files(&table), &platforms).await;
    let (_, plan) = site.plan().await;
    let of = |durations: &Durations, job: &str| {
        let Estimate { milliseconds, assumed } =
            Estimates::new(&plan, durations).of(&job.parse().unwrap(), false);
        (milliseconds, assumed)
    };
    let mut durations = Durations::default();
    assert!(!Estimates::new(&plan, &durations).are_informed());
    assert_eq!(of(&durations, "a@linux/amd64"), (60_000, true));
    let took = |durations: &mut Durations, job: &str, emulated, milliseconds| {
        let milliseconds = vec![milliseconds];
        let taken = Taken { builder: "one".to_owned(), emulated, checks_only: false, milliseconds };
        durations.add(&job.parse().unwrap(), taken);
    };
    took(&mut durations, "a@linux/amd64", false, 4_000);
    took(&mut durations, "b@linux/amd64", true, 90_000);
    took(&mut durations, "gone@linux/amd64", false, 7_000);
    assert_eq!(of(&durations, "a@linux/amd64"), (4_000, false));
    assert_eq!(of(&durations, "a@linux/arm64"), (4_000, true), "as on the other platform");
    assert_eq!(of(&durations, "b@linux/amd64"), (9_000, true), "a tenth of what emulation took");
    assert_eq!(of(&durations, "c@linux/amd64"), (7_000, true), "the median of all");
    took(&mut durations, "a@linux/arm64", true, 110_000);
    assert_eq!(
        of(&durations, "a@linux/arm64"),
        (4_000, true),
        "natively elsewhere, before a tenth of emulated here"
    );
}

#[tokio::test(start_paused = true)]
async fn s4_28_what_is_downstream_fails_alone_even_where_the_run_is_to_fail_fast() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM scratch\nRUN b\n"), ("c", "FROM a\n")];
    let failing = |config: &'static str| async move {
        let site = site(config, &table.map(|(name, text)| (name, text))).await;
        let act = |job: &str, _: usize| if job.starts_with('a') { Act::FailStep } else { Act::Build(1) };
        let builder = site.scripted(1, Arc::new(act), Arc::new(|_, _| Look::Pass));
        let plan = site.plan().await;
        let options = Options { fail_fast: true, ..PLAIN };
        let (ran, _) = site.run(&plan, &[builder], options, std::future::pending()).await;
        let ran = ran.unwrap();
        let told = (ran.problems(&site.family).len(), ran.warnings(&site.family).len());
        (told, ran.passed.len(), ran.skipped.len(), ran.cancelled.len())
    };
    assert_eq!(failing("").await, ((1, 0), 0, 1, 1));
    let downstream = "[image.a]\ndownstream = true\n[image.c]\ndownstream = true\n";
    assert_eq!(failing(downstream).await, ((0, 1), 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn s3_15_fail_fast_and_s2_3_the_barrier_are_by_image_and_by_run() {
    let table = [("a", "FROM scratch\nRUN a\n"), ("b", "FROM a\n"), ("c", "FROM scratch\nRUN c\n")];
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let run = |config: &'static str, barrier: Barrier| {
        let both = both.clone();
        async move {
            let config = format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\n{config}");
            let site = Site::new(Some(&config), &files(&table), &both).await;
            let act = |job: &str, _: usize| match job {
                "a@linux/amd64" => Act::FailStep,
                _ => Act::Build(1),
            };
            let builder = site.scripted(1, Arc::new(act), Arc::new(|_, _| Look::Pass));
            let plan = site.plan().await;
            let options = Options { barrier, ..PLAIN };
            let (ran, _) = site.run(&plan, &[builder], options, std::future::pending()).await;
            let ran = ran.unwrap();
            [ran.passed.len(), ran.failed.len(), ran.skipped.len(), ran.cancelled.len()]
        }
    };
    assert_eq!(run("", Barrier::Said).await, [4, 1, 1, 0]);
    assert_eq!(
        run("[image.a]\nfail-fast = true\n", Barrier::Said).await,
        [2, 1, 1, 2],
        "a and b on arm64 never begin"
    );
    let whole = [3, 1, 2, 0];
    for (config, barrier, wanted) in [
        ("", Barrier::Everywhere, whole),
        ("barrier = true\n", Barrier::Said, whole),
        ("[image.a]\nbarrier = true\n", Barrier::Said, whole),
        ("barrier = true\n[image.a]\nbarrier = false\n", Barrier::Said, [4, 1, 1, 0]),
        ("barrier = true\n[image.a]\nbarrier = false\n", Barrier::Everywhere, whole),
        ("[image.b]\nbarrier = true\n[image.c]\nbarrier = true\n", Barrier::Said, [4, 1, 1, 0]),
    ] {
        assert_eq!(
            run(config, barrier).await,
            wanted,
            "{config:?} {barrier:?}: b stands on all platforms of a"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s2_3_what_is_reused_waits_at_no_barrier() {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::new(Some(config), &files(&[("a", "FROM scratch\n"), ("b", "FROM a\n")]), &both).await;
    let act = |job: &str, _: usize| match job {
        "a@linux/amd64" => Act::FailStep,
        _ => Act::Build(1),
    };
    for barrier in [Barrier::Said, Barrier::Everywhere] {
        let builder = site.scripted(1, Arc::new(act), Arc::new(|_, _| Look::Pass));
        let plan = site.plan().await;
        let held = site.family.jobs().map(|job| plan.1.beside(&site.family, &job, barrier).len());
        let held: usize = held.sum();
        assert_eq!(held, usize::from(barrier == Barrier::Everywhere), "b@linux/amd64 alone is left to wait");
        let options = Options { barrier, ..PLAIN };
        let (ran, _) = site.run(&plan, &[builder], options, std::future::pending()).await;
        let ran = ran.unwrap();
        assert_eq!([ran.passed.len(), ran.failed.len(), ran.skipped.len()], [2, 1, 1], "{barrier:?}");
    }
}

#[test]
fn f_g14_how_fast_a_builder_is_shows_by_what_others_took_for_the_same_jobs() {
    let mut durations = Durations::default();
    let mut took = |job: &str, builder: &str, checks_only, milliseconds| {
        let (builder, milliseconds) = (builder.to_owned(), vec![milliseconds]);
        let taken = Taken { builder, emulated: false, checks_only, milliseconds };
        durations.add(&job.parse().unwrap(), taken);
    };
    for (job, time) in [("a@linux/amd64", 10_000), ("b@linux/amd64", 20_000)] {
        took(job, "fast", false, time);
        took(job, "fair", false, time + 1_000);
        took(job, "slow", false, 100 * time);
        took(job, "slow", true, 1);
    }
    took("alone@linux/amd64", "lonely", false, 1);
    let speeds = ["fast", "fair", "slow", "lonely", "unknown"].map(|builder| speed(&durations, builder));
    assert_eq!(speeds, [3402, 3189, 34, 100, 100]);
    let mut alike = Durations::default();
    let job = "a@linux/amd64".parse().unwrap();
    for (builder, time) in [("one", 10_000), ("two", 13_000)] {
        let (builder, milliseconds) = (builder.to_owned(), vec![time]);
        alike.add(&job, Taken { builder, emulated: false, checks_only: false, milliseconds });
    }
    assert_eq!(["one", "two"].map(|builder| speed(&alike, builder)), [100, 100], "as fast as each other");
}

/// The builder of each job, and what was refused, of a run on four builders: one native to each platform, and two that
/// are native to one and emulate the other.
async fn on_four_builders(config: &str) -> Result<Vec<(String, String)>, String> {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config = format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\n{config}");
    let site = Site::new(Some(&config), &files(&[("a", "FROM scratch\n")]), &both).await;
    let builder = |name, native: &[&Platform], emulated: &[&Platform]| {
        site.builder(name, native, emulated, 1, Script::healthy())
    };
    let mut builders = [
        builder("amd", &[&both[0]], &[]),
        builder("arm", &[&both[1]], &[]),
        builder("all", &[&both[0]], &[&both[1]]),
        builder("also", &[&both[1]], &[&both[0]]),
    ];
    builders[2].labels.insert("gpu".to_owned());
    for small in [1, 3] {
        builders[small].room = Some(Room::given(1_000_000_000));
    }
    let plan = site.plan_as_configured().await;
    let (ran, steps) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
    ran.map_err(|problems| problems.to_string())?;
    let started = steps.into_iter().filter_map(|step| match step {
        Step::Event(EventKind::JobStarted { job, builder, .. }) => Some((job, builder)),
        _ => None,
    });
    let mut started: Vec<_> = started.collect();
    started.sort();
    Ok(started)
}

#[tokio::test(start_paused = true)]
async fn s2_23_s4_2_jobs_go_where_their_image_and_platform_say() {
    let on = |amd64: &str, arm64: &str| {
        Ok([("a@linux/amd64", amd64), ("a@linux/arm64", arm64)]
            .map(|(job, builder)| (job.to_owned(), builder.to_owned()))
            .to_vec())
    };
    assert_eq!(on_four_builders("").await, on("amd", "arm"));
    assert_eq!(
        on_four_builders("[image.a]\nemulate = \"allow\"\n").await,
        on("amd", "arm"),
        "native goes first"
    );
    // One setting switches between builders of each platform and one that emulates.
    assert_eq!(on_four_builders("[image.a]\nemulate = \"always\"\n").await, on("all", "all"));
    let needs = "[image.a]\non.\"linux/amd64\" = { needs = [\"gpu\"] }\n";
    assert_eq!(on_four_builders(needs).await, on("all", "arm"));
    let told = |answer: Result<_, String>| answer.expect_err("it is refused before anything is built");
    let needs = told(on_four_builders("[image.a]\nneeds = [\"gpu\"]\n").await);
    assert!(
        needs.contains("no builder of linux/arm64 has the labels that a@linux/arm64 needs: gpu"),
        "{needs}"
    );
    let disk = told(on_four_builders("[image.a]\ndisk = \"2GB\"\n").await);
    assert!(disk.contains("no builder has room for a@linux/arm64, which wants 2.0 GB"), "{disk}");
    let emulated = "[image.a]\ndisk = \"2GB\"\nemulate = \"allow\"\n";
    assert_eq!(on_four_builders(emulated).await, on("amd", "all"), "it goes where there is room");
}

/// What becomes of the text of a record, if anything is left of it.
type Harm<'a> = &'a dyn Fn(&str) -> Option<String>;

#[tokio::test(start_paused = true)]
async fn f_s2_a_record_that_cannot_be_used_is_made_again_with_a_warning_that_names_it() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let (_, plan) = site.plan().await;
    let key = plan.jobs[&plan.order[0]].key.clone();
    let tag: Tag = format!("image-{}", key.hex()).parse().unwrap();
    let (store, scope) = (&site.records.store, &site.records.scope);
    let warned = async || {
        let surveyed = survey(
            &site.family,
            site.folder.path(),
            (&*site.registries, &crate::survey::Unreachable),
            &site.records,
            &Memo::none(),
            &crate::plan::Settled::default(),
        )
        .await;
        let (_, warnings) = surveyed.unwrap();
        let of_records = warnings.iter().filter(|warning| warning.message.contains("the record"));
        of_records.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warned().await, [""; 0]);
    let other = Digest::of(b"other").to_string();
    let harms: [(&str, Harm<'_>, &str); 6] = [
        ("garbage", &|_| Some("\u{0}garbage".to_owned()), "it cannot be read"),
        ("half of it", &|text| Some(text[..text.len() / 2].to_owned()), "it cannot be read"),
        ("a newer version", &|text| Some(text.replacen(":1,", ":7,", 1)), "it has version 7"),
        ("another key", &|text| Some(text.replace(&key.to_string(), &other)), &other),
        ("without a field", &|text| Some(text.replace("\"builder\"", "\"builders\"")), "missing field"),
        ("no record", &|_| None, "it has no annotation"),
    ];
    for (what, harm, why) in harms {
        let document = store.read_document(scope, &tag.clone().into()).await.unwrap();
        let mut index = document.index().unwrap();
        let (name, text) = index.annotations.pop_first().unwrap();
        index.annotations.extend(harm(&text).map(|text| (name, text)));
        store.write_document(scope, &Document::of_index(&index), std::slice::from_ref(&tag)).await.unwrap();
        let warnings = warned().await;
        assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
        assert!(warnings[0].contains(tag.as_str()) && warnings[0].contains(why), "{what}: {warnings:?}");
        let (_, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
        assert_eq!((builds(&steps), warned().await.len()), (1, 0), "{what}");
    }
    // A field that a later version adds harms nothing.
    let document = store.read_document(scope, &tag.clone().into()).await.unwrap();
    let mut index = document.index().unwrap();
    index.annotations.values_mut().for_each(|text| *text = text.replacen('{', "{\"more\":[1],", 1));
    store.write_document(scope, &Document::of_index(&index), std::slice::from_ref(&tag)).await.unwrap();
    let (_, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!((builds(&steps), warned().await.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn f_s14_a_tested_image_stands_again_where_another_of_the_same_inputs_fails_its_tests() {
    let tests = "[image.a]\ntests = [\"true\"]\n";
    let site = site(tests, &[("a", "FROM scratch\n")]).await;
    let (first, _) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    let first = first.passed.values().next().unwrap().image.image.clone();
    for look in [Look::Fail, Look::Pass] {
        let (facts, _) = site.plan().await;
        let request = Request { no_reuse: true, ..Request::default() };
        let plan = Plan::new(&site.family, &facts, &request);
        let builder = site.scripted(1, Arc::new(|_, _| Act::Build(2)), Arc::new(move |_, _| look));
        let (ran, _) = site.run(&(facts, plan), &[builder], PLAIN, std::future::pending()).await;
        let passes = look == Look::Pass;
        assert_eq!(ran.unwrap().passed.len(), usize::from(passes));
        let (_, plan) = site.plan().await;
        let Decision::Reuse(standing) = &plan.jobs[&plan.order[0]].decision else { panic!("not reused") };
        assert_eq!(standing.image.image == first, !passes, "a new one replaces it once it has passed");
    }
}

#[tokio::test(start_paused = true)]
async fn s3_24_a_retry_has_the_image_that_was_settled_though_another_of_the_same_inputs_stands() {
    let site = site("tests = [\"true\"]\n", &[("a", "FROM scratch\n")]).await;
    let build = async |seconds| {
        let (facts, _) = site.plan().await;
        let request = Request { no_reuse: true, ..Request::default() };
        let plan = Plan::new(&site.family, &facts, &request);
        let builder =
            site.scripted(1, Arc::new(move |_, _| Act::Build(seconds)), Arc::new(|_, _| Look::Pass));
        let (ran, _) = site.run(&(facts, plan), &[builder], PLAIN, std::future::pending()).await;
        ran.unwrap().passed.into_values().next().unwrap().image
    };
    let standing = async |settled: &crate::plan::Settled| {
        let memo = Memo::none();
        let surveyed = survey(
            &site.family,
            site.folder.path(),
            (&*site.registries, &crate::survey::Unreachable),
            &site.records,
            &memo,
            settled,
        );
        let (facts, _) = surveyed.await.unwrap();
        let plan = Plan::new(&site.family, &facts, &Request::default());
        let Decision::Reuse(passed) = &plan.jobs[&plan.order[0]].decision else { panic!("not reused") };
        passed.image.clone()
    };
    let images = [build(1).await, build(2).await, build(3).await];
    assert!(images[0].image != images[1].image && images[1].image != images[2].image);
    assert_eq!(standing(&crate::plan::Settled::default()).await, images[2], "the newest");
    for image in images {
        let settled = crate::plan::Settled {
            images: [(image.key.clone(), image.image.clone())].into(),
            ..Default::default()
        };
        assert_eq!(standing(&settled).await, image);
    }
}

#[tokio::test(start_paused = true)]
async fn s3_24_a_retry_has_the_image_of_the_first_try_where_none_was_settled() {
    let mut site = site("tests = [\"true\"]\n", &[("a", "FROM scratch\n")]).await;
    let plain = site.records.clone();
    let of_plan = |name: &str| plain.clone().carrying_out(Some(crate::oci::Digest::of(name.as_bytes())));
    // Builds where nothing stands; what a run of another does, or of none, counts for nobody else.
    let mut run = async |records: &crate::record::Records, no_reuse: bool, seconds: u64, look: Look| {
        site.records = records.clone();
        let (facts, _) = site.plan().await;
        let plan = Plan::new(&site.family, &facts, &Request { no_reuse, ..Request::default() });
        let stood = plan.jobs[&plan.order[0]].decision.image().cloned();
        let builder = site.scripted(1, Arc::new(move |_, _| Act::Build(seconds)), Arc::new(move |_, _| look));
        let (ran, _) = site.run(&(facts, plan), &[builder], PLAIN, std::future::pending()).await;
        let passed = ran.unwrap().passed.into_values().next();
        passed.map(|passed| (passed.image.image, stood.is_some()))
    };
    let (one, two, new) = (of_plan("one"), of_plan("two"), of_plan("new"));
    // A build whose tests fail is no image of the plan.
    assert_eq!(run(&one, false, 1, Look::Fail).await, None);
    let (first, _) = run(&one, true, 2, Look::Pass).await.unwrap();
    let (other, _) = run(&plain, true, 3, Look::Pass).await.unwrap();
    let (mine, _) = run(&two, true, 4, Look::Pass).await.unwrap();
    let (newest, _) = run(&plain, true, 5, Look::Pass).await.unwrap();
    assert_eq!(std::collections::BTreeSet::from([&first, &other, &mine, &newest]).len(), 4);
    for (records, image) in
        [(&one, &first), (&two, &mine), (&plain, &newest), (&new, &newest), (&one, &first)]
    {
        assert_eq!(run(records, false, 6, Look::Pass).await, Some((image.clone(), true)));
    }
}

#[tokio::test(start_paused = true)]
async fn f_s14_another_image_of_the_same_inputs_is_told_of() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    let replaced = |steps: &[Step]| {
        steps.iter().find_map(|step| match step {
            Step::Event(EventKind::ImageReplaced { before, image, .. }) => {
                Some((before.clone(), image.clone()))
            }
            _ => None,
        })
    };
    let image = |ran: &Ran| ran.passed.values().next().unwrap().image.image.to_string();
    let (first, steps) = once(&site, 1, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!(replaced(&steps), None);
    let (facts, _) = site.plan().await;
    let request = Request { no_reuse: true, ..Request::default() };
    let plan = Plan::new(&site.family, &facts, &request);
    let (ran, steps) = site.run(&(facts, plan), &[site.healthy(1)], PLAIN, std::future::pending()).await;
    assert_eq!(replaced(&steps), Some((image(&first), image(&ran.unwrap()))));
}
