//! What is built again, and what is not.

use std::io::BufRead as _;

use super::engines::{Engine, FOUNDATION, root_file_systems};
use crate::program::Place;

const CONFIGURATION: &str = "name = \"reuse\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n\
    [image.left]\ntests = [{ host = \"sh left/tests/look.sh\" }]\n";

/// A root, a parent on it, and two leaves, of which one has a test in a file.
fn family(test: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("parent/Dockerfile", "FROM root\nRUN echo parent > /parent\n"),
        ("left/Dockerfile", "FROM parent\nCOPY word /word\n"),
        ("left/.dockerignore", "tests\n"),
        ("left/word", "one\n"),
        ("left/tests/look.sh", "true\n"),
        ("right/Dockerfile", "FROM parent\nRUN echo right > /right\n"),
    ]);
    let is_there = Engine::Containerd.equip(test, &mut place);
    (is_there && root_file_systems(test, &place, "root", &["amd64"])).then_some(place)
}

/// What a run built and what it only checked, by job; nothing of either where all was reused.
fn done(place: &Place) -> (Vec<String>, Vec<String>) {
    let _ = place.run(&["build"]).well();
    let of = |outcome: &str| {
        let ended = place.events().into_iter().filter(|event| event["event"] == "job-ended");
        let of = ended.filter(|event| event["outcome"]["outcome"] == outcome);
        let mut jobs: Vec<String> = of.filter_map(|event| Some(event["job"].as_str()?.to_owned())).collect();
        jobs.sort();
        jobs
    };
    (of("built"), of("checked"))
}

fn jobs(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}@linux/amd64")).collect()
}

/// Every key of the plan and what it was made of, as `why` says it.
fn keys(place: &Place) -> String {
    let told = place.run(&["why", "root", "parent", "left", "right"]).well().stdout;
    told.lines().filter(|line| line.starts_with("  ")).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn i_b1_i_t3_what_changed_is_made_again_and_nothing_else() {
    let Some(place) = family("reuse::i_b1_i_t3") else { return };
    assert_eq!(done(&place), (jobs(&["left", "parent", "right", "root"]), Vec::new()));
    assert_eq!(done(&place), (Vec::new(), Vec::new()), "the second run builds, tests and sends nothing");

    place.write("left/word", "two\n");
    let why = place.run(&["why", "left"]).well().stdout;
    assert!(why.contains("file word changed"), "{why}");
    assert_eq!(done(&place), (jobs(&["left"]), Vec::new()), "one leaf is touched: exactly it");

    place.write("left/tests/look.sh", "test 1 = 1\n");
    let why = place.run(&["why", "left"]).well().stdout;
    assert!(why.contains("stands; its tests run, because file left/tests/look.sh changed: "), "{why}");
    assert_eq!(done(&place), (Vec::new(), jobs(&["left"])), "a file of a test: its tests only");

    place.write("parent/README.md", "not copied\n");
    assert_eq!(done(&place), (Vec::new(), Vec::new()), "what no COPY reaches changes nothing");

    let before = keys(&place);
    std::fs::remove_dir_all(place.store()).expect("forget everything");
    assert_eq!(done(&place), (jobs(&["left", "parent", "right", "root"]), Vec::new()));
    assert_eq!(keys(&place), before, "I-T3: the keys and what they are made of are the same");
}

#[test]
fn a_base_that_moved_rebuilds_what_stands_on_it_and_nothing_else() {
    let test = "reuse::a_base_that_moved";
    let Some(base) = family(test) else { return };
    let store = base.folder().join("registry");
    let store = store.to_str().expect("text");
    let mut server =
        base.start(&["--store", store, "serve", "--listen", "127.0.0.1:0", "--anonymous-writes"]);
    let mut address = String::new();
    let stdout = server.stdout.take().expect("what it prints");
    std::io::BufReader::new(stdout).read_line(&mut address).expect("serve says where");
    let address = address.trim();
    let _ = base.run(&["build", "root", "--publish", "--to", address]).well();

    let configuration = "name = \"above\"\nplatforms = [\"linux/amd64\"]\n";
    let place = Place::with(&[
        ("polyarch.toml", configuration),
        ("upon/Dockerfile", &format!("FROM {address}/reuse/root\nRUN echo upon > /word\n")),
        ("further/Dockerfile", "FROM upon\nRUN echo further > /word\n"),
        ("apart/Dockerfile", "FROM scratch\nCOPY file /file\n"),
        ("apart/file", "apart\n"),
    ])
    .like(&base);
    assert_eq!(done(&place), (jobs(&["apart", "further", "upon"]), Vec::new()));
    assert_eq!(done(&place), (Vec::new(), Vec::new()), "a base that has not moved rebuilds nothing");

    base.write("root/Dockerfile", &format!("{FOUNDATION}RUN echo moved > /moved\n"));
    let _ = base.run(&["build", "root", "--publish", "--to", address]).well();
    let why = place.run(&["why", "upon"]).well().stdout;
    let told = format!("base image {address}/reuse/root");
    assert!(why.contains(&told) && why.contains(" changed: "), "{why}");
    let of_child = place.run(&["why", "further"]).well().stdout;
    assert!(of_child.contains("upon@linux/amd64 is built") && !of_child.contains(" changed: "), "{of_child}");
    let of_other = place.run(&["why", "apart"]).well().stdout;
    assert!(of_other.contains("reused, its record has image"), "{of_other}");
    assert_eq!(done(&place), (jobs(&["further", "upon"]), Vec::new()));
    let _ = server.kill();
    let _ = server.wait();
}
