//! Results at a registry that several machines share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Act, Look, PLAIN, amd64, builds, files, once};
use crate::event::EventKind;
use crate::oci::watched::{Failure, Watched};
use crate::oci::{Digest, Memory, Pointer, Repository, Store, image_stands};
use crate::plan::{Decision, Plan, Request};
use crate::record::{Records, ScopeName};
use crate::run::fixture::{BASE, Site, Step, base_image};
use crate::survey::survey;

/// A family on a machine with a store of its own and one that all share: a base, a parent and two leaves.
pub(super) fn machine(
    own: &Arc<Memory>,
    shared: Arc<dyn Store>,
    elsewhere: &Arc<Memory>,
    scope: &str,
    leaf: &str,
) -> Site {
    let (base, leaf) = (format!("FROM {BASE}\n"), format!("FROM a\nENV LEAF={leaf}\n"));
    let table = files(&[("a", &base), ("b", &leaf), ("c", "FROM a\n")]);
    let mut site = Site::over(Some("tests = [{ run = \"id\" }]\n"), &table, own.clone(), elsewhere.clone());
    let scope: ScopeName = scope.parse().unwrap();
    let records = Records::of_scope(own.clone(), &scope);
    site.records = records.at_registry(shared, &"owner/cache".parse().unwrap()).unwrap();
    site
}

/// Run it once: how many passed and were built, and what the command would share at its end is shared.
pub(super) async fn run(site: &Site) -> (usize, usize) {
    let (ran, steps) = once(site, 2, Act::Build(1), Look::Pass, PLAIN).await;
    for passed in ran.passed.values() {
        site.records.share(passed).await.unwrap();
    }
    if ran.passed.len() == site.family.jobs().count() {
        site.records.keep_roll(&ran.passed).await.unwrap();
    }
    (ran.passed.len(), builds(&steps))
}

pub(super) async fn elsewhere() -> Arc<Memory> {
    let elsewhere = Arc::new(Memory::new());
    base_image(&*elsewhere, &[amd64()]).await;
    elsewhere
}

/// Every tag of a repository with what it points at; each leads to content that is there.
pub(super) async fn whole(store: &Memory, repository: &str) -> BTreeMap<String, Digest> {
    let repository: Repository = repository.parse().unwrap();
    let mut found = BTreeMap::new();
    for tag in store.tags(&repository, None, 1000).await.unwrap() {
        let document = store.read_document(&repository, &Pointer::Tag(tag.clone())).await.unwrap();
        let images = if document.is_index() { document.index().unwrap().manifests } else { Vec::new() };
        for image in images {
            assert!(
                image_stands(store, &repository, &image.digest).await.unwrap(),
                "{tag} names what is not there"
            );
        }
        found.insert(tag.to_string(), document.digest().clone());
    }
    found
}

#[tokio::test(start_paused = true)]
async fn law_4_machines_that_share_a_registry_build_each_job_once_on_the_same_parents() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let (one, two) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    assert_eq!(run(&machine(&one, shared.clone(), &elsewhere, "trusted", "1")).await, (3, 3));
    let before = whole(&shared, "owner/cache/scopes/trusted").await;

    let watched = Arc::new(Watched::new(shared.as_ref().clone()));
    let idle = machine(&two, watched.clone(), &elsewhere, "trusted", "1");
    assert_eq!(run(&idle).await, (3, 0), "another machine, whose folder is empty");
    assert_eq!(watched.writes(), Vec::<String>::new(), "0 writes");
    // The roll and the durations, for the plan of `once` and for its run.
    assert!(watched.calls() <= 4, "{} calls", watched.calls());
    assert_eq!(whole(&shared, "owner/cache/scopes/trusted").await, before);

    let leaf = machine(&two, shared.clone(), &elsewhere, "trusted", "2");
    assert_eq!(run(&leaf).await, (3, 1), "the parent is brought");
    let back = machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "trusted", "2");
    assert_eq!(run(&back).await, (3, 0));
    whole(&shared, "owner/cache/scopes/trusted").await;
}

#[tokio::test(start_paused = true)]
async fn i_t1_another_scope_reads_the_trusted_one_at_the_registry_and_writes_its_own_there() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let fresh = || Arc::new(Memory::new());
    run(&machine(&fresh(), shared.clone(), &elsewhere, "trusted", "1")).await;
    let trusted = whole(&shared, "owner/cache/scopes/trusted").await;
    assert_eq!(run(&machine(&fresh(), shared.clone(), &elsewhere, "pr-1", "2")).await, (3, 1));
    assert_eq!(run(&machine(&fresh(), shared.clone(), &elsewhere, "pr-1", "2")).await, (3, 0), "its own");
    assert_eq!(
        run(&machine(&fresh(), shared.clone(), &elsewhere, "pr-2", "2")).await,
        (3, 1),
        "not another's"
    );
    assert_eq!(run(&machine(&fresh(), shared.clone(), &elsewhere, "pr-3", "1")).await, (3, 0), "F-U6");
    assert!(whole(&shared, "owner/cache/scopes/pr-3").await.is_empty(), "F-U6");
    assert!(!whole(&shared, "owner/cache/scopes/pr-1").await.is_empty());
    assert_eq!(whole(&shared, "owner/cache/scopes/trusted").await, trusted);
    assert_eq!(run(&machine(&fresh(), shared.clone(), &elsewhere, "trusted", "2")).await, (3, 1));
}

/// What is adopted goes from scope to scope within the registry.
#[tokio::test(start_paused = true)]
async fn i_t7_what_is_promoted_within_a_registry_passes_through_no_machine() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let fresh = || Arc::new(Memory::new());
    run(&machine(&fresh(), shared.clone(), &elsewhere, "pr-1", "1")).await;
    let (own, watched) = (fresh(), Arc::new(Watched::new(shared.as_ref().clone())));
    let mut site = machine(&own, watched.clone(), &elsewhere, "trusted", "1");
    site.records = site.records.before(&"pr-1".parse().unwrap());
    let (_, plan) = site.plan().await;
    for (job, planned) in &plan.jobs {
        let Decision::Reuse(passed) = &planned.decision else { panic!("{job} is not there") };
        for (kind, key) in passed.keys() {
            site.records.adopt(kind, key, job).await.unwrap();
        }
    }
    assert_eq!(own.repositories(None, 10).await.unwrap(), [], "nothing of it is here");
    let writes = watched.writes();
    assert!(writes.iter().any(|write| write.starts_with("mount")), "{writes:?}");
    assert!(!writes.iter().any(|write| write.starts_with("blob")), "{writes:?}");
    let adopted = whole(&shared, "owner/cache/scopes/trusted").await;
    let of_pull = whole(&shared, "owner/cache/scopes/pr-1").await;
    assert!(adopted.len() >= 9 && adopted.iter().all(|(tag, digest)| of_pull[tag] == *digest), "{adopted:?}");
    assert_eq!(run(&machine(&fresh(), shared.clone(), &elsewhere, "trusted", "1")).await, (3, 0));
}

#[tokio::test(start_paused = true)]
async fn i_b5_a_registry_that_fails_at_any_call_has_no_record_of_what_is_not_there() {
    let elsewhere = elsewhere().await;
    let (mut fails_from, mut failed) = (0, 0);
    loop {
        let (shared, own) = (Memory::new(), Arc::new(Memory::new()));
        let failing = Arc::new(Watched::failing(shared.clone(), fails_from, Failure::Before));
        let site = machine(&own, failing.clone(), &elsewhere, "trusted", "1");
        let surveyed = survey(
            &site.family,
            site.folder.path(),
            (&*site.registries, &crate::survey::Unreachable),
            &site.records,
            &crate::survey::Memo::none(),
            &crate::plan::Settled::default(),
        )
        .await;
        if let Ok((facts, _)) = surveyed {
            let plan = Plan::new(&site.family, &facts, &Request::default());
            let builder = site.scripted(2, Arc::new(|_, _| Act::Build(1)), Arc::new(|_, _| Look::Pass));
            let (ran, _) = site.run(&(facts, plan), &[builder], PLAIN, std::future::pending()).await;
            let ran = ran.unwrap();
            for problem in ran.failed.values() {
                let told = problem.hints.concat();
                assert_eq!(problem.kind.exit_code(), 3, "{problem}");
                assert!(told.contains("see that the store can be reached"), "{problem}: {told}");
                assert!(told.contains("run the same command again"), "{problem}: {told}");
                failed += 1;
            }
            for passed in ran.passed.values() {
                // It fails, as the command does.
                let _ = site.records.share(passed).await;
            }
            if ran.passed.len() == 3 {
                let _ = site.records.keep_roll(&ran.passed).await;
            }
        }
        whole(&shared, "owner/cache/scopes/trusted").await;
        let is_over = failing.calls() < fails_from;
        let shared = Arc::new(shared);
        let (passed, built) = run(&machine(&own, shared.clone(), &elsewhere, "trusted", "1")).await;
        assert_eq!(passed, 3, "the next run goes through");
        let fresh = machine(&Arc::new(Memory::new()), shared, &elsewhere, "trusted", "1");
        assert_eq!(run(&fresh).await, (3, 0), "it has shared what was in its folder: {built} built");
        if is_over {
            break;
        }
        fails_from += 1;
    }
    assert!(fails_from > 30, "{fails_from} calls");
    assert!(failed > 10, "{failed} jobs whose results could not be kept");
}

#[tokio::test(start_paused = true)]
async fn law_4_a_parent_that_cannot_be_read_is_an_error_and_is_not_built_again() {
    let elsewhere = elsewhere().await;
    let fresh = || Arc::new(Memory::new());
    let (mut planned, mut failed, mut tries) = (0, 0, 0);
    loop {
        let shared = Memory::new();
        let first = machine(&fresh(), Arc::new(shared.clone()), &elsewhere, "trusted", "1");
        assert_eq!(run(&first).await, (3, 3));
        if tries == 0 {
            let watched = Arc::new(Watched::new(shared.clone()));
            machine(&fresh(), watched.clone(), &elsewhere, "trusted", "2").plan().await;
            planned = watched.calls();
        }
        // The plan is made; from some request of the run on there is no answer.
        let fails_from = planned + tries;
        let store = Arc::new(Watched::failing(shared, fails_from, Failure::Before));
        let site = machine(&fresh(), store.clone(), &elsewhere, "trusted", "2");
        let plan = site.plan().await;
        let builder = site.scripted(2, Arc::new(|_, _| Act::Build(1)), Arc::new(|_, _| Look::Pass));
        let (ran, steps) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
        let ran = ran.unwrap();
        let of_parent = |step: &Step| matches!(step, Step::BuildBegins { job, .. } if !job.starts_with("b@"));
        assert!(!steps.iter().any(of_parent), "{fails_from}: {steps:?}");
        for (job, problem) in &ran.failed {
            assert_eq!(
                (job.to_string().as_str(), problem.kind.exit_code()),
                ("b@linux/amd64", 3),
                "{problem}"
            );
            failed += usize::from(builds(&steps) == 0);
        }
        if store.calls() < fails_from {
            break;
        }
        tries += 1;
    }
    assert!(failed > 1, "{failed} times the parent could not be brought");
}

#[tokio::test(start_paused = true)]
async fn f_x1_a_registry_that_cannot_be_read_in_the_second_look_is_done_without() {
    let (shared, elsewhere) = (Memory::new(), elsewhere().await);
    let fresh = || Arc::new(Memory::new());
    let calls = {
        let watched = Arc::new(Watched::new(shared.clone()));
        machine(&fresh(), watched.clone(), &elsewhere, "trusted", "1").plan().await;
        watched.calls()
    };
    let mut built = Vec::new();
    for failure in [None, Some(Failure::Before), Some(Failure::Denied), Some(Failure::After)] {
        let shared = Memory::new();
        // The first look of the first job alone; what it has built is kept at the registry.
        let fails = if failure.is_some() { calls..calls + 1 } else { 0..0 };
        let failure = failure.unwrap_or(Failure::Before);
        let store = Arc::new(Watched::failing_at(shared.clone(), fails, failure));
        let late = machine(&fresh(), store.clone(), &elsewhere, "trusted", "1");
        let plan = late.plan().await;
        assert_eq!(store.calls(), calls, "it fails in the run, and not before");
        let first = machine(&fresh(), Arc::new(shared), &elsewhere, "trusted", "1");
        assert_eq!(run(&first).await, (3, 3), "another machine has built it meanwhile");
        let builder = late.scripted(2, Arc::new(|_, _| Act::Build(1)), Arc::new(|_, _| Look::Pass));
        let (ran, steps) = late.run(&plan, &[builder], PLAIN, std::future::pending()).await;
        let ran = ran.unwrap();
        assert_eq!(ran.passed.len(), 3, "{failure:?}: {:?}", ran.failed);
        built.push(builds(&steps));
    }
    assert_eq!(built, [0, 1, 1, 1], "it is built, and what stands on it is found as it is the same");
}

/// The job, the image of another machine, and the own one, where it is told that both were built at once.
fn built_twice(step: &Step) -> Option<(String, String, String)> {
    match step {
        Step::Event(EventKind::BuiltTwice { job, other, image }) => {
            Some((job.clone(), other.clone(), image.clone()))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn f_x2_machines_that_go_at_once_build_each_job_once_each_and_one_of_the_records_stands() {
    let [same, others] = [[1, 1, 1], [1, 2, 3]].map(at_once);
    // Two that look at the very same moment see nothing of each other.
    let told = same.await;
    assert!(told.contains_key("a") && told.values().all(|times| *times <= 2), "{told:?}");
    // What stands on another image is another job to do, which nobody else has done.
    assert_eq!(others.await, BTreeMap::from([("a".to_owned(), 2)]));
}

/// Machines that see nothing of what the others are at, and take so many seconds for each job: how often it was told of an
/// image that another one had built too.
async fn at_once(seconds: [u64; 3]) -> BTreeMap<String, usize> {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let fresh = || Arc::new(Memory::new());
    let of = |own: &Arc<Memory>| machine(own, shared.clone(), &elsewhere, "trusted", "1");
    let machines = [(); 3].map(|()| of(&fresh()));
    // None sees what the others are at.
    let mut plans = Vec::new();
    for machine in &machines {
        plans.push(machine.plan().await);
    }
    let runs = machines.iter().zip(&plans).zip(seconds).map(async |((machine, plan), seconds)| {
        let act = Arc::new(move |_: &str, _| Act::Build(seconds));
        let builder = machine.scripted(2, act, Arc::new(|_, _| Look::Pass));
        let (ran, steps) = machine.run(plan, &[builder], PLAIN, std::future::pending()).await;
        let ran = ran.unwrap();
        for passed in ran.passed.values() {
            machine.records.share(passed).await.unwrap();
        }
        machine.records.keep_roll(&ran.passed).await.unwrap();
        (ran, steps)
    });
    let runs = futures_util::future::join_all(runs).await;
    let mut told = BTreeMap::<String, usize>::new();
    for (ran, steps) in &runs {
        assert_eq!((ran.passed.len(), builds(steps)), (3, 3), "what none can know of is built by each");
        for (job, other, image) in steps.iter().filter_map(built_twice) {
            let (own, passed) = ran.passed.iter().find(|(own, _)| own.to_string() == job).unwrap();
            assert_eq!(image, passed.image.image.to_string(), "{job}");
            let made = runs.iter().any(|(ran, _)| ran.passed[own].image.image.to_string() == other);
            assert!(made, "{job}: {other} is what another has made");
            *told.entry(job.replace("@linux/amd64", "")).or_default() += 1;
        }
    }
    whole(&shared, "owner/cache/scopes/trusted").await;
    let next = of(&fresh());
    let (_, plan) = next.plan().await;
    for (job, planned) in &plan.jobs {
        let Decision::Reuse(found) = &planned.decision else { panic!("{job} has no record that stands") };
        let made = runs.iter().filter(|(ran, _)| ran.passed[job].image.image == found.image.image).count();
        assert!(made > 0, "{job} is what one of them has made");
        for (unit, parent) in &found.image.parents {
            let (_, planned) = plan.jobs.iter().find(|(job, _)| job.unit.to_string() == *unit).unwrap();
            let Decision::Reuse(standing) = &planned.decision else { panic!("{unit} has no record") };
            assert_eq!(standing.image.image, *parent, "{job} stands on what stands");
        }
    }
    assert_eq!(run(&next).await, (3, 0));
    told
}

#[tokio::test(start_paused = true)]
async fn f_s14_what_is_built_again_replaces_what_a_roll_says() {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    let site = machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "trusted", "1");
    run(&site).await;
    let (facts, plan) = site.plan().await;
    let request = Request { selected: [plan.order[0].clone()].into(), no_reuse: true, ..Request::default() };
    let plan = Plan::new(&site.family, &facts, &request);
    let plan = (facts, plan);
    let builder = site.scripted(1, Arc::new(|_, _| Act::Build(1)), Arc::new(|_, _| Look::Pass));
    let (ran, _) = site.run(&plan, &[builder], PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 1);
    let next = machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "trusted", "1");
    assert_eq!(run(&next).await, (3, 2), "what stands on the parent stands on the new one");
}

/// The image that a run finds for the first job, or else builds in so many seconds.
async fn first_image(site: &Site, seconds: u64, no_reuse: bool) -> (Digest, bool) {
    let (facts, plan) = site.plan().await;
    let request = Request { selected: [plan.order[0].clone()].into(), no_reuse, ..Request::default() };
    let plan = Plan::new(&site.family, &facts, &request);
    let builder = site.scripted(1, Arc::new(move |_, _| Act::Build(seconds)), Arc::new(|_, _| Look::Pass));
    let (ran, steps) = site.run(&(facts, plan), &[builder], PLAIN, std::future::pending()).await;
    let passed = ran.unwrap().passed.into_values().next().unwrap();
    (passed.image.image, builds(&steps) > 0)
}

/// A machine that has nothing of its own, in a run of a plan where one is named.
fn machine_of(shared: &Memory, elsewhere: &Arc<Memory>, scope: &str, plan: Option<&str>) -> Site {
    let mut site = machine(&Arc::new(Memory::new()), Arc::new(shared.clone()), elsewhere, scope, "1");
    site.records = site.records.carrying_out(plan.map(|plan| Digest::of(plan.as_bytes())));
    site
}

#[tokio::test(start_paused = true)]
async fn s3_24_of_two_jobs_of_a_plan_that_start_together_the_first_note_stands() {
    for scope in ["trusted", "pr-1"] {
        let (shared, elsewhere) = (Memory::new(), elsewhere().await);
        let of = |plan| machine_of(&shared, &elsewhere, scope, plan);
        let (one, two) = (of(Some("plan")), of(Some("plan")));
        let ((first, _), (last, is_built)) =
            tokio::join!(first_image(&one, 1, false), first_image(&two, 9, false));
        assert!(first != last && is_built, "neither knew of the other");
        assert_eq!(first_image(&of(Some("plan")), 5, false).await, (first, false), "{scope}");
        assert_eq!(first_image(&of(None), 5, false).await, (last, false), "whoever has no plan");
    }
}

#[tokio::test(start_paused = true)]
async fn s3_24_a_note_of_what_is_lost_gives_way() {
    let (shared, elsewhere) = (Memory::new(), elsewhere().await);
    let of = |plan| machine_of(&shared, &elsewhere, "trusted", plan);
    let (first, _) = first_image(&of(Some("plan")), 1, false).await;
    let (other, _) = first_image(&of(Some("plan")), 2, true).await;
    assert_eq!(first_image(&of(Some("plan")), 5, false).await, (first.clone(), false));
    shared.remove_document(&"owner/cache/scopes/trusted".parse().unwrap(), &first).await.unwrap();
    let (new, is_built) = first_image(&of(Some("plan")), 3, true).await;
    assert!(is_built && new != first && new != other);
    assert_eq!(first_image(&of(Some("plan")), 5, false).await, (new, false));
}

#[tokio::test(start_paused = true)]
async fn s3_24_a_retry_of_an_untrusted_run_has_what_its_first_try_took_from_the_trusted_scope() {
    let (shared, elsewhere) = (Memory::new(), elsewhere().await);
    let of = |scope, plan| machine_of(&shared, &elsewhere, scope, plan);
    let (first, _) = first_image(&of("trusted", None), 1, false).await;
    let pull = of("pr-1", Some("plan"));
    let (_, plan) = pull.plan().await;
    let Decision::Reuse(passed) = &plan.jobs[&plan.order[0]].decision else { panic!("it stands") };
    pull.records.note_for_plan(&passed.image, 1).await.unwrap();
    let (newest, _) = first_image(&of("trusted", None), 2, true).await;
    assert_ne!(first, newest);
    assert_eq!(first_image(&of("pr-1", Some("plan")), 5, false).await, (first, false));
    for plan in [None, Some("other")] {
        assert_eq!(first_image(&of("pr-1", plan), 5, false).await, (newest.clone(), false), "{plan:?}");
    }
    assert_eq!(
        first_image(&of("trusted", Some("plan")), 5, false).await,
        (newest, false),
        "its note is its own"
    );
}

/// Where the registry lets a run write nothing, its note goes no further than its folder.
#[tokio::test(start_paused = true)]
async fn s3_24_where_nothing_may_be_written_a_retry_elsewhere_uses_what_stands_then() {
    let (shared, elsewhere, own) = (Memory::new(), elsewhere().await, Arc::new(Memory::new()));
    let of_plan = |own: &Arc<Memory>, store: Arc<dyn Store>| {
        let mut site = machine(own, store, &elsewhere, "pr-1", "1");
        site.records = site.records.carrying_out(Some(Digest::of(b"plan")));
        site
    };
    let trusted = || machine_of(&shared, &elsewhere, "trusted", None);
    let (first, _) = first_image(&trusted(), 1, false).await;
    let calls = {
        let watched = Arc::new(Watched::new(shared.clone()));
        of_plan(&own, watched.clone()).plan().await;
        watched.calls()
    };
    // What the note is of is looked for there, then the note, and then it is written.
    let denying = Arc::new(Watched::failing_at(shared.clone(), calls + 2..calls + 4, Failure::Denied));
    let pull = of_plan(&own, denying);
    let (_, plan) = pull.plan().await;
    let Decision::Reuse(passed) = &plan.jobs[&plan.order[0]].decision else { panic!("it stands") };
    pull.records.note_for_plan(&passed.image, 1).await.unwrap();
    assert!(pull.records.refused().is_some(), "it was tried");
    let (newest, _) = first_image(&trusted(), 2, true).await;
    assert_ne!(first, newest);

    for (folder, image, is_noted) in [(own, first, true), (Arc::new(Memory::new()), newest, false)] {
        let mut retry = of_plan(&folder, Arc::new(shared.clone()));
        retry.records = retry.records.keeping_here();
        assert_eq!(first_image(&retry, 5, false).await, (image, false), "noted: {is_noted}");
    }
    let there = "owner/cache/scopes/pr-1".parse().unwrap();
    assert!(shared.tags(&there, None, 9).await.unwrap_or_default().is_empty(), "nothing was written");
}
