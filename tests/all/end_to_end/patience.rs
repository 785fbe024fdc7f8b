//! Images that fail again and again, in runs that a service begins because the time has come.

use std::collections::BTreeSet;

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use crate::program::Place;

const BROKEN: &str = "broken@linux/amd64";

/// The jobs that the newest run has begun.
fn started(place: &Place) -> BTreeSet<String> {
    let events = place.events().into_iter().filter(|event| event["event"] == "job-started");
    events.map(|event| event["job"].as_str().expect("a job").to_owned()).collect()
}

#[test]
fn what_fails_again_and_again_is_left_out_by_the_schedule_and_fails_its_runs_until_it_is_mended() {
    let test = "patience::what_fails_again_and_again_is_left_out_by_the_schedule";
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"patience\"\nplatforms = [\"linux/amd64\"]\n"),
        ("root/Dockerfile", FOUNDATION),
        ("broken/Dockerfile", "FROM root\nRUN exit 7\n"),
        ("leaf/Dockerfile", "FROM broken\nRUN echo leaf > /leaf\n"),
        ("sound/Dockerfile", "FROM root\nRUN echo sound > /sound\n"),
    ]);
    if !Engine::Containerd.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    for _ in 0..2 {
        let _ = place.run(&["build"]).ended(1);
        assert!(started(&place).contains(BROKEN), "a person's run tries it");
    }
    let why = place.run(&["why", "broken"]).well().stdout;
    assert!(why.contains("broken@linux/amd64: in scheduled runs it waits until 2"), "{why}");
    let nightly = place.run(&["build", "--nightly"]).ended(1);
    assert_eq!(started(&place), BTreeSet::new(), "{}", nightly.stderr);

    let event = [("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "schedule")];
    event.iter().for_each(|(name, value)| place.set(name, *value));
    let plan = place.run(&["plan", "--out", "../plan.json"]).well().stdout;
    assert!(plan.contains("wait linux/amd64: until 2") && plan.contains("failed 2 times in a row"), "{plan}");
    assert!(plan.contains("skip linux/amd64: because of broken@linux/amd64"), "{plan}");
    assert!(plan.contains("2 reused, 1 waiting, 1 skipped"), "{plan}");
    // The run says so and fails, but begins nothing; so does the job of a pipeline that carries the plan out.
    for arguments in [&["build"][..], &["build", "--plan", "../plan.json", BROKEN]] {
        let answer = place.run(arguments).ended(1);
        assert!(answer.stderr.contains("broken@linux/amd64 waits until 2"), "{}", answer.stderr);
        assert!(answer.stderr.contains("failed 2 times in a row"), "{}", answer.stderr);
        assert_eq!((started(&place), ended(&place, "failed")), (BTreeSet::new(), jobs(BROKEN)));
    }
    let _ = place.run(&["build", "broken"]).ended(1);
    assert_eq!(started(&place), jobs(BROKEN), "who names it has it tried");

    place.write("broken/Dockerfile", "FROM root\nRUN echo mended > /mended\n");
    let _ = place.run(&["build"]).well();
    assert_eq!(ended(&place, "built"), jobs("broken@linux/amd64 leaf@linux/amd64"));
}
