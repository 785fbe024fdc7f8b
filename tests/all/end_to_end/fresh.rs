//! What is built again because time has passed, or because a person wants what is new outside.

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use crate::program::Place;

const CONFIGURATION: &str = "name = \"fresh\"\nplatforms = [\"linux/amd64\"]\n";

/// A step whose outcome an engine would take from its cache, as it does with a list of packages.
const STAMPED: &str = "FROM root\nRUN date +%s%N > /stamp\n";

fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("tool/Dockerfile", STAMPED),
        ("leaf/Dockerfile", "FROM tool\nRUN cp /stamp /copy\n"),
    ]);
    let ready = engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"]);
    ready.then_some(place)
}

fn a_refresh_is_a_new_build(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let built = |arguments: &[&str]| {
        let _ = place.run(&[&["build"], arguments].concat()).well();
        ended(&place, "built")
    };
    let image = || {
        let why = place.run(&["why", "tool"]).well().stdout;
        why.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(built(&[]).len(), 3);
    let first = image();
    assert!(first.contains("reused"), "{first}");
    // The same inputs again, and the engine has it all in its cache.
    assert_eq!(built(&["tool", "--no-reuse"]), jobs("tool@linux/amd64"));
    let cached = image();
    let plan = place.run(&["plan", "--refresh", "tool", "--format", "json"]).well().stdout;
    assert!(plan.contains("a refresh is asked for"), "{plan}");
    assert_eq!(built(&["--refresh", "tool"]), jobs("tool@linux/amd64 leaf@linux/amd64"));
    let fresh = image();
    assert!(fresh.contains("reused"), "other runs find it: {fresh}");
    assert_ne!(fresh, cached, "the step was run anew");
    let again = place.run(&["build"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    assert_eq!(
        built(&["leaf", "--refresh"]),
        jobs("leaf@linux/amd64"),
        "what is chosen and nothing below it"
    );

    place.write("polyarch.toml", &format!("{CONFIGURATION}[image.tool]\nfresh-for = \"1s\"\n"));
    std::thread::sleep(std::time::Duration::from_secs(3));
    let why = place.run(&["why", "tool"]).well().stdout;
    assert!(why.contains(" old, and fresh for 1 s"), "{why}");
    let load = place.run(&["sbom", "tool"]).well();
    assert!(!load.stderr.contains("fresh for"), "what is only looked at may be of any age");
    assert_eq!(built(&[]), jobs("tool@linux/amd64 leaf@linux/amd64"));
    place.write("polyarch.toml", CONFIGURATION);
    assert_ne!(image(), fresh);
    let again = place.run(&["build"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
}

#[test]
fn a_refresh_is_a_new_build_on_the_classic_store() {
    a_refresh_is_a_new_build("fresh::a_refresh_is_a_new_build_on_the_classic_store", Engine::Classic);
}

#[test]
fn a_refresh_is_a_new_build_on_the_containerd_store() {
    a_refresh_is_a_new_build("fresh::a_refresh_is_a_new_build_on_the_containerd_store", Engine::Containerd);
}

#[test]
fn what_is_not_planned_cannot_be_refreshed() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n"), ("b/Dockerfile", "FROM scratch\n")]);
    let refused = place.run(&["plan", "a", "--refresh", "b"]).ended(2);
    assert!(refused.stderr.contains("is not among the images that are chosen"), "{}", refused.stderr);
    let unknown = place.run(&["plan", "--refresh", "c"]).ended(2);
    assert!(unknown.stderr.contains("there is no image `c`"), "{}", unknown.stderr);
}

#[test]
fn s3_24_a_plan_that_was_settled_means_the_same_however_often_it_is_carried_out() {
    let test = "fresh::s3_24_a_plan_that_was_settled_means_the_same_however_often_it_is_carried_out";
    let Some(place) = family(test, Engine::Containerd) else { return };
    let file = place.folder().join("plan.json").display().to_string();
    let carry_out = |images: &[&str]| {
        let _ = place.run(&[&["build", "--plan", &file], images].concat()).well();
        ended(&place, "built")
    };
    let reused = || {
        let events = place.events().into_iter().filter(|event| event["event"] == "job-reused");
        let told = events.map(|event| (event["job"].to_string(), event["image"].to_string()));
        told.collect::<std::collections::BTreeMap<_, _>>()
    };
    let _ = place.run(&["build"]).well();
    let _ = place.run(&["plan", "--refresh", "tool", "--out", &file]).well();
    // Two jobs of a CI service, and one of them again.
    assert_eq!(carry_out(&["tool"]), jobs("tool@linux/amd64"));
    assert_eq!(carry_out(&["leaf"]), jobs("leaf@linux/amd64"));
    assert_eq!(carry_out(&["tool"]), jobs(""));
    assert_eq!(carry_out(&[]), jobs(""));
    let settled = reused();
    assert_eq!(settled.len(), 3);
    // A newer one comes between, and a retry has the images that were settled all the same.
    let _ = place.run(&["build", "--refresh", "tool"]).well();
    let _ = place.run(&["build"]).well();
    let newer = reused();
    assert_ne!(newer, settled);
    assert_eq!((carry_out(&[]), reused()), (jobs(""), settled));

    // Nor does it matter that others of the very same inputs stand under the same keys by then.
    let again = place.folder().join("again.json").display().to_string();
    let _ = place.run(&["plan", "--out", &again]).well();
    let _ = place.run(&["build", "tool", "--no-reuse", "--no-cache"]).well();
    let _ = place.run(&["build"]).well();
    let _ = place.run(&["build"]).well();
    assert_eq!(reused().len(), 3);
    assert_ne!(reused(), newer);
    let _ = place.run(&["build", "--plan", &again]).well();
    assert_eq!((ended(&place, "built"), reused()), (jobs(""), newer));

    // Nor where nothing stood yet: a retry has what the first try has made.
    let own = place.folder().display().to_string();
    place.write("tool/Dockerfile", &format!("{STAMPED}LABEL own={own:?}\n"));
    let empty = place.folder().join("empty.json").display().to_string();
    let _ = place.run(&["plan", "--out", &empty]).well();
    let _ = place.run(&["build", "--plan", &empty]).well();
    assert_eq!(ended(&place, "built"), jobs("tool@linux/amd64 leaf@linux/amd64"));
    let _ = place.run(&["build", "--plan", &empty]).well();
    let first = reused();
    let _ = place.run(&["build", "tool", "--no-reuse", "--no-cache"]).well();
    let _ = place.run(&["build"]).well();
    let _ = place.run(&["build"]).well();
    assert_eq!(reused().len(), 3);
    assert_ne!(reused(), first);
    let _ = place.run(&["build", "--plan", &empty]).well();
    assert_eq!((ended(&place, "built"), reused()), (jobs(""), first));

    place.write("leaf/Dockerfile", "FROM tool\nRUN cp /stamp /other\n");
    let refused = place.run(&["build", "--plan", &file]).ended(2);
    assert!(refused.stderr.contains("its inputs are others than in the plan"), "{}", refused.stderr);
}
