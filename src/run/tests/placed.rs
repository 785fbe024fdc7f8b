//! Where jobs go: to builders that understand their Dockerfiles, to faster ones, and nowhere else.

use std::time::Duration;

use super::*;
use crate::record::Records;
use crate::run::{Asked, Builder, Dispatch, check_builders, emulated, hindrances, lacks};

/// The builder of each try of a job.
fn tries(steps: &[Step], job: &str) -> Vec<String> {
    let started = steps.iter().filter_map(|step| match step {
        Step::Event(EventKind::JobStarted { job: of, builder, .. }) if of.starts_with(job) => Some(builder),
        _ => None,
    });
    started.cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_newer_form_goes_to_the_builders_that_understand_it() {
    let newer = "FROM scratch\nCOPY <<END /word\nword\nEND\n";
    let table = [("a", newer), ("b", "FROM scratch\nLABEL b=b\n"), ("c", "FROM a\nLABEL c=c\n")];
    let site = site("", &table).await;
    let builders = || {
        let mut old = site.builder("old", &[&amd64()], &[], 4, Script::healthy());
        old.facts.version = "20.10.24".to_owned();
        old.facts.image_store = crate::engine::ImageStore::Classic;
        [old, site.builder("new", &[&amd64()], &[], 1, Script::healthy())]
    };
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &builders(), PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 3);
    assert_eq!(tries(&steps, "a@"), ["new"]);
    assert_eq!(tries(&steps, "b@"), ["old"], "what both understand goes to the emptier one");
    let (ran, steps) = site.run(&plan, &builders()[..1], PLAIN, std::future::pending()).await;
    let told = ran.expect_err("no builder understands it").to_string();
    assert!(told.contains("20.10.24 does not understand"), "{told}");
    assert_eq!(builds(&steps), 0);
    // A builder that understands it and has not the label is none for it.
    let labelled = Site::new(Some("[image.a]\nneeds = [\"gpu\"]\n"), &files(&table), &[amd64()]).await;
    let [mut old, new] = builders();
    old.labels.insert("gpu".to_owned());
    let plan = labelled.plan().await;
    let (ran, _) = labelled.run(&plan, &[old, new], PLAIN, std::future::pending()).await;
    let told = ran.expect_err("no builder has both").to_string();
    assert!(told.contains("has the labels that a@linux/amd64 needs: gpu"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_job_does_not_move_to_builders_that_lack_what_it_needs() {
    let site = site("tests = [\"true\"]\n[image.a]\nneeds = [\"gpu\"]\n", &[("a", "FROM scratch\n")]).await;
    let broken = Script { looks: Arc::new(|_, _| Look::Break), ..Script::healthy() };
    let mut with = site.builder("with", &[&amd64()], &[], 1, broken);
    with.labels.insert("gpu".to_owned());
    let without = site.builder("without", &[&amd64()], &[], 1, Script::healthy());
    let plan = site.plan().await;
    let enough = tokio::time::sleep(Duration::from_secs(3600));
    let (ran, steps) = site.run(&plan, &[with, without], PLAIN, enough).await;
    let ran = ran.unwrap();
    assert_eq!((ran.failed.len(), ran.cancelled.len()), (1, 0), "it fails, and does not go on for ever");
    assert_eq!(tries(&steps, "a@"), ["with"]);
}

#[tokio::test(start_paused = true)]
async fn a_builder_is_as_fast_as_it_is_said_to_be() {
    let site = site("", &[("a", "FROM scratch\n")]).await;
    let plan = site.plan().await;
    for (speeds, expected) in
        [([None, None], "one"), ([Some(50), None], "two"), ([Some(50), Some(10)], "one")]
    {
        let mut builders =
            ["one", "two"].map(|name| site.builder(name, &[&amd64()], &[], 1, Script::healthy()));
        builders.iter_mut().zip(speeds).for_each(|(builder, speed)| builder.speed = speed);
        let request = Request { no_reuse: true, ..Request::default() };
        let again = Plan::new(&site.family, &plan.0, &request);
        let facts = site.plan().await.0;
        let (_, steps) = site.run(&(facts, again), &builders, PLAIN, std::future::pending()).await;
        assert_eq!(tries(&steps, "a@"), [expected], "{speeds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_emulation_costs_is_told_where_anything_is_known() {
    let arm: Platform = "linux/arm64".parse().unwrap();
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\nemulate = \"allow\"\n";
    let site = Site::new(Some(config), &files(&[("a", "FROM scratch\n")]), &[amd64(), arm.clone()]).await;
    let builder = || site.builder("one", &[&amd64()], &[&arm], 1, Script::healthy());
    let costs = |steps: &[Step]| -> Vec<Option<(u64, u64)>> {
        let started = steps.iter().filter_map(|step| match step {
            Step::Event(EventKind::JobStarted { cost, .. }) => Some(*cost),
            _ => None,
        });
        started.map(|cost| cost.map(|cost| (cost.emulated_milliseconds, cost.native_milliseconds))).collect()
    };
    let (_, steps) =
        site.run(&site.plan_as_configured().await, &[builder()], PLAIN, std::future::pending()).await;
    assert_eq!(costs(&steps), [None, None], "nothing is known yet");
    let (facts, _) = site.plan_as_configured().await;
    let plan = Plan::new(&site.family, &facts, &Request { no_reuse: true, ..Request::default() });
    let (_, steps) = site.run(&(facts, plan), &[builder()], PLAIN, std::future::pending()).await;
    // By emulation it took three seconds, and as long natively on the other platform.
    assert_eq!(costs(&steps).into_iter().flatten().collect::<Vec<_>>(), [(3_000, 3_000)]);
    let engine = steps.iter().find_map(|step| match step {
        Step::Event(EventKind::JobEnded { milliseconds, engine_milliseconds, .. }) => {
            Some((*milliseconds, *engine_milliseconds))
        }
        _ => None,
    });
    assert_eq!(engine, Some((3_000, 3_000)), "all of it is the engine's");
}

#[tokio::test(start_paused = true)]
async fn what_stands_on_a_reused_image_goes_to_the_builder_that_made_it() {
    let table = [("a", "FROM scratch\nLABEL a=a\n"), ("b", "FROM a\nLABEL b=b\n")];
    let site = site("", &table).await;
    let builders =
        ["first", "second", "third"].map(|name| site.builder(name, &[&amd64()], &[], 1, Script::healthy()));
    let (facts, mut parent_alone) = site.plan().await;
    parent_alone.order.retain(|job| job.unit.to_string() == "a");
    parent_alone.jobs.retain(|job, _| job.unit.to_string() == "a");
    let third = &builders[2..];
    let (ran, _) = site.run(&(facts, parent_alone), third, PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 1);
    let plan = site.plan().await;
    let (ran, steps) = site.run(&plan, &builders, PLAIN, std::future::pending()).await;
    assert_eq!(ran.unwrap().passed.len(), 2);
    assert_eq!(tries(&steps, "a@"), Vec::<String>::new(), "its record stands");
    assert_eq!(tries(&steps, "b@"), ["third"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_is_said_of_a_disk_is_filled_however_much_is_free() {
    let table: Vec<(String, String)> = ["a", "b", "c"]
        .iter()
        .map(|name| (format!("{name}/Dockerfile"), format!("FROM scratch\nLABEL n={name}\n")))
        .collect();
    let site = Site::new(
        Some("[image.a]\ndisk = \"10GB\"\n[image.b]\ndisk = \"10GB\"\n[image.c]\ndisk = \"10GB\"\n"),
        &table,
        &[amd64()],
    )
    .await;
    let mut builder = site.builder("one", &[&amd64()], &[], 4, Script::healthy());
    builder.room = Some(crate::engine::Room::given(15_000_000_000));
    builder.most = Some(15_000_000_000);
    let (facts, plan) = site.plan().await;
    let builders = [builder];
    let jobs = plan.order.clone();
    let asked = Asked { family: &site.family, facts: &facts, plan: &plan, is_untrusted: false };
    let mut dispatch = Dispatch::new(jobs, &asked, &builders, &PLAIN);
    let first = dispatch.next(0).expect("the first fits");
    assert!(dispatch.next(0).is_none(), "a second would fill 20 GB");
    // The disk is looked at, and has much more.
    dispatch.free(first.machine, 500_000_000_000);
    assert!(dispatch.next(0).is_none(), "what is free is not what may be filled");
    dispatch.passed(first.ticket);
    let second = dispatch.next(1).expect("the first has made room");
    // What could not begin fills nothing: where 12 GB are free, 10 GB of another job fit.
    dispatch.turned_away(second.ticket, second.machine, 12_000_000_000);
    assert!(dispatch.next(2).is_some());
}

#[tokio::test(start_paused = true)]
async fn tm1_what_must_be_kept_apart_goes_to_builders_that_can_and_is_refused_where_none_does() {
    let table = [
        ("a", "FROM scratch\nONBUILD RUN --mount=type=cache,target=/c true\n"),
        ("b", "FROM a\nLABEL b=b\n"),
        ("c", "FROM scratch\nLABEL c=c\n"),
    ];
    let proxy = "[image.c]\nargs = { HTTP_PROXY = \"http://proxy.invalid\" }\n";
    let cases = [
        ("trusted", "", 1, "which may mount one of others"),
        ("trusted", proxy, 1, "which may mount one of others"),
        ("pr-1", proxy, 2, "names a proxy"),
    ];
    for (scope, config, apart, why) in cases {
        let mut site = site(config, &table).await;
        let store = site.records.store.clone();
        site.records = Records::of_scope(store, &scope.parse().unwrap());
        let builders = || {
            let mut buildah = site.builder("buildah", &[&amd64()], &[], 8, Script::healthy());
            buildah.facts.image_store = crate::engine::ImageStore::Containers { buildah: (1, 40) };
            [buildah, site.builder("docker", &[&amd64()], &[], 1, Script::healthy())]
        };
        let (facts, plan) = site.plan().await;
        let asked = Asked {
            family: &site.family,
            facts: &facts,
            plan: &plan,
            is_untrusted: site.records.is_untrusted(),
        };
        let told = hindrances(&asked, &builders()[0]);
        assert_eq!(told, [("cannot keep its steps apart from those of others".to_owned(), apart)].into());
        assert_eq!(hindrances(&asked, &builders()[1]), [].into());

        let plan = (facts, plan);
        let (ran, steps) = site.run(&plan, &builders()[..1], PLAIN, std::future::pending()).await;
        let refused = ran.expect_err("no builder keeps it apart").to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(builds(&steps), 0, "before anything is built");

        let (ran, steps) = site.run(&plan, &builders(), PLAIN, std::future::pending()).await;
        assert_eq!(ran.unwrap().passed.len(), 3);
        for job in ["b@", "c@"].iter().take(apart) {
            assert_eq!(tries(&steps, job), ["docker"], "{scope}: {job}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s4_25_a_builder_says_what_it_emulates_that_no_other_does_natively() {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let config =
        |emulate: &str| format!("platforms = [\"linux/amd64\", \"linux/arm64\"]\nemulate = \"{emulate}\"\n");
    for (emulate, alone, beside_arm) in [("refuse", 0, 0), ("allow", 1, 0), ("always", 1, 1)] {
        let site = Site::new(Some(&config(emulate)), &files(&[("a", "FROM scratch\n")]), &both).await;
        let all = || site.builder("all", &[&both[0]], &[&both[1]], 1, Script::healthy());
        let arm = site.builder("arm", &[&both[1]], &[], 1, Script::healthy());
        let (facts, plan) = site.plan_as_configured().await;
        let asked = Asked { family: &site.family, facts: &facts, plan: &plan, is_untrusted: false };
        assert_eq!(emulated(&asked, &all(), &[all()]), alone, "{emulate}");
        assert_eq!(emulated(&asked, &all(), &[all(), arm]), beside_arm, "{emulate}");
    }
}

/// What is told of builders that have everything, but none of them all of it: by a plan, and without one.
async fn told_of(config: &str, builders: impl Fn(&Site) -> Vec<Builder>) -> (String, usize) {
    let both: [Platform; 2] = [amd64(), "linux/arm64".parse().unwrap()];
    let site = Site::new(Some(config), &files(&[("a", "FROM scratch\n")]), &both).await;
    let builders = builders(&site);
    let (facts, plan) = site.plan_as_configured().await;
    let asked = Asked { family: &site.family, facts: &facts, plan: &plan, is_untrusted: false };
    let refused = check_builders(&asked, &builders).expect_err("it is refused");
    let hints: Vec<String> = refused.iter().flat_map(|problem| problem.hints.clone()).collect();
    let told = format!("{refused} {}", hints.join(" "));
    (told, lacks(&site.family, &builders).len())
}

#[tokio::test(start_paused = true)]
async fn f_g15_platforms_that_can_be_built_are_those_of_the_family() {
    let config = |platforms: &str| format!("platforms = [{platforms}]\n");
    let builders = |site: &Site| {
        let riscv64: Platform = "linux/riscv64".parse().unwrap();
        vec![site.builder("all", &[&amd64(), &riscv64], &[], 1, Script::healthy())]
    };
    let (told, _) = told_of(&config("\"linux/amd64\", \"linux/arm64\""), builders).await;
    assert!(told.ends_with("or leave it out: polyarch build --platform linux/amd64"), "{told}");
    let (told, _) = told_of(&config("\"linux/arm64\""), builders).await;
    assert!(told.contains("no builder runs linux/arm64") && !told.contains("leave it out"), "{told}");
    assert!(told.contains("let the machine of a builder emulate it"), "{told}");
    let kept_to_amd64 = |site: &Site| {
        let mut laptop = site.builder("laptop", &[&amd64()], &[], 1, Script::healthy());
        laptop.withheld.insert("linux/arm64".parse().unwrap());
        vec![laptop]
    };
    let (told, _) = told_of(&config("\"linux/arm64\""), kept_to_amd64).await;
    let hint = "builder laptop could, and its `platforms` leave it out: add linux/arm64 to them";
    assert!(told.contains(hint) && !told.contains("qemu"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn f_g15_what_no_one_builder_has_together_is_told_before_anything_is_built() {
    let arm64: Platform = "linux/arm64".parse().unwrap();
    let tested =
        "platforms = [\"linux/amd64\"]\n[image.a]\nneeds = [\"big\"]\ntests = [{ host = \"true\" }]\n";
    let (told, lacks) = told_of(tested, |site| {
        let only_builds = Script { only_builds: true, ..Script::healthy() };
        let mut fleet = site.builder("fleet", &[&amd64()], &[], 1, only_builds);
        fleet.labels.insert("big".to_owned());
        vec![site.builder("docker", &[&amd64()], &[], 1, Script::healthy()), fleet]
    })
    .await;
    assert!(told.contains("no builder has all that a@linux/amd64 wants"), "{told}");
    assert!(told.contains("builder docker lacks the labels big"), "{told}");
    assert!(told.contains("builder fleet keeps no image for tests on this machine"), "{told}");
    assert_eq!(lacks, 1, "doctor tells it too");

    let whole =
        "platforms = [\"linux/amd64\", \"linux/arm64\"]\n[image.a]\ndisk = \"2GB\"\nemulate = \"always\"\n";
    let (told, lacks) = told_of(whole, |site| {
        let mut all = site.builder("all", &[&amd64()], &[&arm64], 1, Script::healthy());
        all.room = Some(Room::given(1_000_000_000));
        let alone = |name, platform| site.builder(name, &[platform], &[], 1, Script::healthy());
        vec![alone("amd", &amd64()), alone("arm", &arm64), all]
    })
    .await;
    assert!(told.contains("builder all has no room for 2.0 GB"), "{told}");
    assert_eq!(told.matches("no builder has all that").count(), 2, "one for each platform: {told}");
    assert_eq!(lacks, 2);
}
