//! What a run has taken is what later ones think of.

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::Place;

#[test]
fn simulate_thinks_of_the_times_that_a_build_took_and_says_which_it_assumes() {
    let test = "measured::simulate_thinks_of_the_times_that_a_build_took_and_says_which_it_assumes";
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"measured\"\nplatforms = [\"linux/amd64\"]\n"),
        ("root/Dockerfile", FOUNDATION),
        ("leaf/Dockerfile", "FROM root\nRUN sleep 3\n"),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let simulate = || {
        let json = place.run(&["simulate", "--no-reuse", "--format", "json"]).well().stdout;
        let simulation: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let span = |job: &str| {
            let timeline = simulation["timeline"].as_array().expect("a timeline");
            let span = timeline.iter().find(|span| span["job"] == job).expect("the job");
            let at = |field: &str| span[field].as_u64().expect("a time");
            (at("end") - at("begin"), span["assumed"] == true)
        };
        let text = place.run(&["simulate", "--no-reuse"]).well().stdout;
        (span("root@linux/amd64"), span("leaf@linux/amd64"), text)
    };
    let (root, leaf, text) = simulate();
    assert_eq!((root, leaf), ((60_000, true), (60_000, true)), "nothing is known");
    assert!(text.contains("the time of 2 jobs is assumed"), "{text}");

    let _ = place.run(&["build"]).well();
    let took = |job: &str| {
        let ended =
            place.events().into_iter().find(|event| event["event"] == "job-ended" && event["job"] == job);
        ended.and_then(|event| event["milliseconds"].as_u64()).expect("a time")
    };
    let (root_took, leaf_took) = (took("root@linux/amd64"), took("leaf@linux/amd64"));
    assert!(leaf_took >= 3_000, "{leaf_took}");
    let (root, leaf, text) = simulate();
    assert_eq!((root, leaf), ((root_took, false), (leaf_took, false)), "{text}");
    assert!(!text.contains("assumed"), "{text}");

    // Of an image that is new nothing was measured.
    place.write("other/Dockerfile", "FROM root\nRUN true\n");
    let (_, leaf, text) = simulate();
    assert_eq!(leaf, (leaf_took, false));
    assert!(text.contains("the time of 1 job is assumed"), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.ends_with("assumed")).collect();
    assert!(lines.iter().any(|line| line.contains("other@linux/amd64")), "{text}");
    assert!(!lines.iter().any(|line| line.contains("leaf@linux/amd64")), "{text}");
}
