//! One run, told live and from its log, and plans in every form.

use expect_test::expect;

use super::*;

fn events() -> Vec<Event> {
    let kinds = [run_events(), publication_events()].concat();
    { kinds.into_iter().zip(1u64..) }
        .map(|(kind, at)| Event { at_milliseconds: 1_000_000 + at * 100, kind })
        .collect()
}

fn run_events() -> Vec<EventKind> {
    let job = |name: &str| name.to_owned();
    vec![
        EventKind::RunStarted { version: EVENT_VERSION, run: "r1".into(), jobs: 5, reused: 1 },
        EventKind::JobReused { job: job("base@linux/386"), image: "sha256:aa".into() },
        EventKind::JobStarted {
            job: job("base@linux/arm64"),
            builder: "local".into(),
            emulated: true,
            checks_only: false,
            cost: Some(EmulationCost { emulated_milliseconds: 2_000, native_milliseconds: 200 }),
        },
        EventKind::JobStep { job: job("base@linux/arm64"), step: "RUN true".into() },
        EventKind::JobRetried {
            job: job("base@linux/arm64"),
            reason: "the network broke".into(),
            without_cache: false,
        },
        EventKind::JobKept {
            job: job("base@linux/arm64"),
            image: "sha256:bb".into(),
            config: "sha256:cc".into(),
            bytes: 1_250_000,
            layers: vec![1_000_000, 250_000],
        },
        EventKind::CheckEnded {
            job: job("base@linux/arm64"),
            check: "id -un".into(),
            passed: true,
            tag: None,
            milliseconds: 90,
        },
        EventKind::JobEnded {
            job: job("base@linux/arm64"),
            outcome: Outcome::Built { image: "sha256:bb".into() },
            milliseconds: 1_740,
            engine_milliseconds: 1_700,
        },
        EventKind::JobEnded {
            job: job("leaf@linux/386"),
            outcome: Outcome::Failed {
                reason: "test `true` failed".into(),
                log: Some("logs/leaf.log".into()),
                image: Some("sha256:dd".into()),
                waiting: None,
            },
            milliseconds: 65_000,
            engine_milliseconds: 64_900,
        },
        EventKind::JobEnded {
            job: job("twig@linux/386"),
            outcome: Outcome::Skipped { because: "leaf@linux/386".into() },
            milliseconds: 0,
            engine_milliseconds: 0,
        },
    ]
}

fn publication_events() -> Vec<EventKind> {
    vec![
        EventKind::PublishStarted { target: "r.io".into(), images: 1, tags: 2 },
        EventKind::TagWithheld {
            reference: "r.io/o/base:v1".into(),
            reason: "linux/386 made it; linux/arm64 made `v2`".into(),
        },
        EventKind::ContentPublished {
            repository: "r.io/o/base".into(),
            digest: "sha256:ee".into(),
            bytes: 2_000,
        },
        EventKind::TagPublished {
            reference: "r.io/o/base:latest".into(),
            digest: "sha256:ee".into(),
            moved: true,
        },
        EventKind::TagPublished {
            reference: "r.io/o/base:386-latest".into(),
            digest: "sha256:aa".into(),
            moved: false,
        },
        EventKind::Published { tags: 2 },
        EventKind::RunEnded { exit_code: 1 },
    ]
}

fn log() -> String {
    events().iter().map(|event| serde_json::to_string(event).expect("JSON") + "\n").collect()
}

#[test]
fn the_report_made_live_is_the_report_made_from_the_log() {
    let live = Report::of(&events());
    assert_eq!(live, Report::of(&events_of_log("events.jsonl", &log()).expect("log")));
    assert_eq!(live, serde_json::from_str::<Report>(&live.to_json()).expect("report"));
    assert_eq!(live.counts.total(), 5, "a job without an event is one that did not finish");
}

#[test]
fn f_p2_a_log_that_was_cut_off_is_read_up_to_there() {
    let log = log();
    let cut = &log[..log.len() - 10];
    let report = Report::of(&events_of_log("events.jsonl", cut).expect("log"));
    assert_eq!((report.exit_code, report.counts.built), (None, 1));

    let broken = log.replacen("\"event\"", "\"evnt\"", 1);
    let problems = events_of_log("events.jsonl", &broken).expect_err("a broken line in the middle");
    assert!(problems.to_string().starts_with("events.jsonl:1:"), "{problems}");
    let newer = log.replacen("\"version\":1", "\"version\":2", 1);
    assert!(events_of_log("e", &newer).expect_err("newer").to_string().contains("has the version 2"));
}

#[test]
fn junit_tells_checks_that_failed_from_builds_that_did() {
    let mut all = events();
    let check = EventKind::CheckEnded {
        job: "leaf@linux/386".into(),
        check: "a <b> & \"c\"\u{1b}[31m".into(),
        passed: false,
        tag: None,
        milliseconds: 1_250,
    };
    all.insert(8, Event { at_milliseconds: 1_000_850, kind: check });
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="polyarch" tests="6" failures="1" errors="0" skipped="2" time="1.600">
        <testsuite name="base@linux/386" tests="1" failures="0" errors="0" skipped="1" time="0.000">
        <testcase classname="base@linux/386" name="build" time="0.000"><skipped message="a record stands for it"></skipped></testcase>
        </testsuite>
        <testsuite name="base@linux/arm64" tests="2" failures="0" errors="0" skipped="0" time="1.740">
        <testcase classname="base@linux/arm64" name="build" time="1.650"></testcase>
        <testcase classname="base@linux/arm64" name="id -un" time="0.090"></testcase>
        </testsuite>
        <testsuite name="leaf@linux/386" tests="2" failures="1" errors="0" skipped="0" time="65.000">
        <testcase classname="leaf@linux/386" name="build" time="63.750"></testcase>
        <testcase classname="leaf@linux/386" name="a &lt;b&gt; &amp; &quot;c&quot;[31m" time="1.250"><failure message="test `true` failed">test `true` failed</failure></testcase>
        </testsuite>
        <testsuite name="twig@linux/386" tests="1" failures="0" errors="0" skipped="1" time="0.000">
        <testcase classname="twig@linux/386" name="build" time="0.000"><skipped message="because of leaf@linux/386"></skipped></testcase>
        </testsuite>
        </testsuites>
    "#]].assert_eq(&Report::of(&all).to_junit());
}

#[test]
fn a_person_reads_first_what_did_not_happen() {
    let mut report = Report::of(&events());
    report.logs = Some(".polyarch/runs/r1".into());
    expect![[r#"
        withheld  r.io/o/base:v1 stays where it is: linux/386 made it; linux/arm64 made `v2`

        skipped   twig@linux/386: because of leaf@linux/386

        base  linux/386 reused, linux/arm64 built (1.7 s, emulated, native about 200 ms)
        leaf  linux/386 failed (1 min 5 s)
        twig  linux/386 skipped

        r.io/o/base@sha256:ee
            latest
        published 1 image and 2 tags to r.io: 1 moved, 2.0 kB sent
        5 jobs in 1.6 s: 1 built, 0 checked, 1 reused, 1 failed, 1 skipped, 1 unfinished
        beside engines and tests a job took 100 ms, 100 ms at most
        logs: .polyarch/runs/r1
    "#]]
    .assert_eq(&report.to_text());
}

#[test]
fn a_publication_that_stopped_says_so() {
    let events = events();
    let stopped =
        Report::of(events.iter().filter(|event| !matches!(event.kind, EventKind::Published { .. })));
    let text = stopped.to_text();
    assert!(text.contains("publication to r.io is incomplete: 2 of 2 tags in place"), "{text}");
}

fn plan() -> PlanView {
    let job = |unit: &str, platform: &str, decision, reason: &str, parents: &[&str]| JobView {
        job: format!("{unit}@{platform}"),
        unit: unit.into(),
        platform: platform.into(),
        decision,
        reasons: vec![reason.to_owned()],
        parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
        beside: Vec::new(),
        bases: Vec::new(),
        key: "sha256:aa".into(),
        emulation: None,
        disk: None,
        needs: Vec::new(),
        estimate: None,
        emulated: None,
        waiting: None,
    };
    PlanView {
        version: PLAN_VIEW_VERSION,
        jobs: vec![
            job("base", "linux/amd64", DecisionView::Reuse, "a record stands", &[]),
            job("base", "linux/arm64", DecisionView::Build, "`Dockerfile` changed", &[]),
            job("leaf:c\"u", "linux/amd64", DecisionView::Check, "a test changed", &["base@linux/amd64"]),
        ],
        mirrors: Vec::new(),
        builders: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn builders_say_how_they_are_fed_and_what_they_do_not_do() {
    let mut view = plan();
    let builder = CapacityView {
        name: "fleet".to_owned(),
        engine: "buildx:fleet".to_owned(),
        slots: 4,
        content: "through the session".to_owned(),
        runs_containers: false,
        caches: vec!["layer cache: stays in the engine".to_owned()],
        emulates: 2,
        hindrances: [("does not run linux/386".to_owned(), 2)].into(),
    };
    view.builders = vec![builder.clone(), CapacityView { runs_containers: true, ..builder }];
    let text = view.to_text();
    for told in [
        "fleet: buildx:fleet, 4 slots\n  content: through the session\n  checks: as steps of builds",
        "  emulates 2 jobs\n  not 2 jobs: fleet does not run linux/386\n",
        "  checks: in containers\n",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert_eq!(serde_json::from_str::<PlanView>(&view.to_json()).expect("plan"), view);
}

#[test]
fn mirrors_stand_beside_the_jobs_and_before_those_that_use_them() {
    let mut view = plan();
    view.jobs[0].bases.push("docker.io/library/search:7".to_owned());
    let source = "docker.io/library/search:7".to_owned();
    let mirror = |unit: &str, digest: Option<&str>| MirrorView {
        unit: unit.to_owned(),
        source: source.clone(),
        digest: digest.map(str::to_owned),
        tags: vec!["7".to_owned()],
    };
    view.mirrors = vec![mirror("search", Some("sha256:bb"))];
    let text = view.to_text();
    assert!(text.contains("search    mirror docker.io/library/search:7 (sha256:bb)\n"), "{text}");
    assert!(view.to_mermaid().contains("mirror0 --> job0"), "{}", view.to_mermaid());
    assert!(view.to_dot().contains("mirror0 -> job0;"), "{}", view.to_dot());
    assert_eq!(serde_json::from_str::<PlanView>(&view.to_json()).expect("plan"), view);
    view.mirrors = vec![mirror("search", None)];
    assert!(view.to_text().contains("(unknown: it cannot be looked up)"), "{}", view.to_text());
}

#[test]
fn a_plan_is_one_line_an_image_and_a_count() {
    expect![[r#"
        base      build linux/arm64: `Dockerfile` changed; reuse linux/amd64: a record stands
        leaf:c"u  check linux/amd64: a test changed  (on base)
        3 jobs: 1 to build, 1 to check, 1 reused
    "#]]
    .assert_eq(&plan().to_text());
    assert_eq!(serde_json::from_str::<PlanView>(&plan().to_json()).expect("plan"), plan());
    let mut emulated = plan();
    let time = |milliseconds, assumed| Some(EstimateView { milliseconds, assumed });
    emulated.jobs[1].emulation = Some(EmulationView::Allow);
    let text = emulated.to_text();
    assert!(text.ends_with("if no builder is native, 1 job emulated\n"), "no time is known: {text}");
    (emulated.jobs[1].estimate, emulated.jobs[1].emulated) = (time(60_000, false), time(660_000, true));
    let text = emulated.to_text();
    assert!(
        text.ends_with("if no builder is native, 1 job emulated: about 11 min 0 s, native 1 min 0 s\n"),
        "{text}"
    );
}

#[test]
fn s4_25_a_plan_says_what_its_jobs_want_of_builders() {
    let mut view = plan();
    view.jobs[1].emulation = Some(EmulationView::Always);
    view.jobs[1].disk = Some(5_000_000_000);
    view.jobs[1].needs = vec!["big".to_owned(), "gpu".to_owned()];
    let text = view.to_text();
    let told = "build linux/arm64 (all platforms on one builder; wants 5.0 GB; needs big, gpu): `Dockerfile`";
    assert!(text.contains(told), "{text}");
    assert!(text.ends_with("if no builder is native, 1 job emulated\n"), "{text}");
    assert!(view.to_json().contains("\"emulation\": \"always\""), "{}", view.to_json());
    assert_eq!(serde_json::from_str::<PlanView>(&view.to_json()).expect("plan"), view);
}

#[test]
fn graphs_hold_any_name() {
    expect![[r##"
        flowchart LR
            job0["base@linux/amd64<br/>reuse"]:::reuse
            job1["base@linux/arm64<br/>build"]:::build
            job2["leaf:c#34;u@linux/amd64<br/>check"]:::check
            job0 --> job2
            classDef build fill:#ffe8cc,stroke:#d9480f
            classDef check fill:#fff3bf,stroke:#e67700
            classDef reuse fill:#e9ecef,stroke:#868e96
    "##]]
    .assert_eq(&plan().to_mermaid());
    expect![[r#"
        digraph plan {
            rankdir=LR;
            node [shape=box];
            job0 [label="base@linux/amd64\nreuse", style=dashed];
            job1 [label="base@linux/arm64\nbuild", style=bold];
            job2 [label="leaf:c\"u@linux/amd64\ncheck", style=solid];
            job0 -> job2;
        }
    "#]]
    .assert_eq(&plan().to_dot());
}

#[test]
fn times_and_sizes_are_read_by_people() {
    let times = [0, 999, 1_740, 59_999, 60_000, 3_599_999, 7_500_000].map(duration);
    assert_eq!(times, ["0 ms", "999 ms", "1.7 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"]);
    let sizes = [0, 999, 1_000, 1_250_000, 2_900_000_000].map(size);
    assert_eq!(sizes, ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "2.9 GB"]);
}

#[test]
fn what_was_asked_of_registries_is_told_in_one_line() {
    let traffic = |host: &str, requests, sent| EventKind::Traffic {
        host: host.to_owned(),
        amount: Amount { requests, sent, received: 300_000 },
    };
    let event = |kind| Event { at_milliseconds: 1, kind };
    let mut report = Report::of(&[event(traffic("r.io", 215, 12_400_000))]);
    assert!(report.to_text().ends_with("registry: 215 requests, 12.4 MB sent, 300.0 kB received\n"));
    report.take(&event(traffic("q.io:5000", 1, 0)));
    let line = "registry: 216 requests, 12.4 MB sent, 600.0 kB received (q.io:5000 1, r.io 215)\n";
    assert!(report.to_text().ends_with(line), "{}", report.to_text());
    let text = report.to_json();
    assert!(text.contains("\"q.io:5000\""), "{text}");
    assert!(!Report::empty().to_text().contains("registry:"), "nothing was asked");
}

#[test]
fn a_plan_says_how_much_work_it_is_where_that_is_known() {
    let mut view = plan();
    let text = view.to_text();
    assert!(!text.contains("of work") && !view.to_json().contains("estimate"), "{text}");
    let estimate = |milliseconds, assumed| Some(EstimateView { milliseconds, assumed });
    view.jobs[0].estimate = estimate(0, false);
    view.jobs[1].estimate = estimate(200_000, false);
    view.jobs[2].estimate = estimate(5_000, true);
    let text = view.to_text();
    assert!(text.ends_with("1 reused; about 3 min 25 s of work, 1 of them assumed\n"), "{text}");
    assert!(view.to_json().contains("\"assumed\": true"));
}
