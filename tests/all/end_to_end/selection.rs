//! Which jobs a run has, and which of them it can do without.

use super::engines::{Engine, FOUNDATION, ended, inspected, jobs, root_file_systems, runs_arm64};
use crate::program::Place;

const CONFIGURATION: &str = "name = \"chosen\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n";

fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("middle/Dockerfile", "FROM root\nCOPY word /word\n"),
        ("middle/word", "one\n"),
        ("leaf/Dockerfile", "FROM middle\nRUN echo leaf >> /word\n"),
        ("other/Dockerfile", "FROM root\nARG COLOUR=red\nRUN echo ${COLOUR} > /word\n"),
    ]);
    let ready = engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["386", "amd64"]);
    ready.then_some(place)
}

#[test]
fn only_what_is_asked_for_and_has_changed_is_built() {
    let Some(place) = family("selection::only_what_is_asked_for_and_has_changed_is_built", Engine::Classic)
    else {
        return;
    };
    let build = |arguments: &[&str]| {
        let answer = place.run(&[&["build"], arguments].concat()).well();
        (ended(&place, "built"), answer)
    };
    let (built, _) = build(&["+middle", "--platform", "linux/amd64"]);
    assert_eq!(built, jobs("root@linux/amd64 middle@linux/amd64 leaf@linux/amd64"));
    let (built, _) = build(&["middle@linux/386"]);
    assert_eq!(built, jobs("root@linux/386 middle@linux/386"));
    let answer = place.run(&["build", "other@linux/amd64", "--publish"]).ended(1);
    let told = "other is not published: linux/386 was not selected and no record stands for it";
    assert!(answer.stderr.contains(told), "{}", answer.stderr);
    // Its parent was not published yet, and goes with it.
    let (built, _) = build(&["root", "other@linux/386", "--publish"]);
    assert_eq!(built, jobs("other@linux/386"));
    let both = inspected(&place, "chosen/other:latest")["images"].as_array().map(Vec::len);
    assert_eq!(both, Some(2), "the platform that was built before is published too");
    let (built, _) = build(&[]);
    assert_eq!(built, jobs("leaf@linux/386"));

    let tests = "[image.middle]\ntests = [{ run = \"cat /word\", stdout = \"one\" }]\n";
    place.write("polyarch.toml", &format!("{CONFIGURATION}{tests}"));
    let (built, _) = build(&[]);
    assert_eq!(built, jobs(""), "a change of tests builds nothing");
    let tested = "middle@linux/386 middle@linux/amd64 leaf@linux/386 leaf@linux/amd64";
    assert_eq!(ended(&place, "checked"), jobs(tested), "and runs them where they are inherited");

    place.write("middle/README.md", "No COPY reaches this.\n");
    place.write("README.md", "Nor this.\n");
    let (built, answer) = build(&[]);
    assert_eq!(built, jobs(""));
    assert!(answer.stderr.contains("nothing to build"), "{}", answer.stderr);

    place.write("middle/word", "one and two\n");
    let why = place.run(&["why", "middle@linux/amd64"]).well();
    assert!(why.stdout.contains("file word changed"), "{}", why.stdout);
    let why = place.run(&["why", "leaf@linux/amd64"]).well();
    assert!(why.stdout.contains("middle@linux/amd64 is built"), "{}", why.stdout);
    let (built, _) = build(&["--platform", "linux/amd64"]);
    assert_eq!(built, jobs("middle@linux/amd64 leaf@linux/amd64"), "it and what stands on it");

    let (built, _) = build(&["--platform", "linux/amd64", "--build-arg", "COLOUR=green"]);
    assert_eq!(built, jobs("other@linux/amd64"), "only what asks for the argument");
    let (built, _) = build(&["--platform", "linux/amd64"]);
    assert_eq!(built, jobs(""), "what was built before still stands under its key");
}

fn lost_layers_come_back(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let all = ["--platform", "linux/amd64"];
    let _ = place.run(&[&["build"], &all[..]].concat()).well();
    let blobs = place.store().join("blobs/sha256");
    // Every layer is a gzip file; documents are not.
    let is_layer = |file: &std::path::Path| std::fs::read(file).expect("a blob").starts_with(&[0x1f, 0x8b]);
    let files: Vec<_> =
        std::fs::read_dir(&blobs).expect("blobs").map(|file| file.expect("one").path()).collect();
    let layers: Vec<_> = files.into_iter().filter(|file| is_layer(file)).collect();
    assert!(layers.len() >= 5, "{layers:?}");
    for (at, layer) in layers.iter().enumerate() {
        match at % 2 {
            0 => std::fs::remove_file(layer).expect("removed"),
            _ => std::fs::write(layer, "cut").expect("cut"),
        }
    }
    let plan = place.run(&[&["plan"], &all[..]].concat()).well();
    assert!(plan.stdout.contains("is missing from the store"), "{}", plan.stdout);
    let _ = place.run(&[&["build"], &all[..]].concat()).well();
    assert_eq!(ended(&place, "built").len(), 4, "everything stood on what was lost");
    let again = place.run(&[&["build"], &all[..]].concat()).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    let _ = place.run(&["build", "--publish"]).well();
    let _ = place.run(&["verify"]).well();
}

#[test]
fn law_3_layers_that_the_store_has_lost_come_back_on_the_classic_store() {
    let test = "selection::law_3_layers_that_the_store_has_lost_come_back_on_the_classic_store";
    lost_layers_come_back(test, Engine::Classic);
}

#[test]
fn law_3_layers_that_the_store_has_lost_come_back_on_the_containerd_store() {
    let test = "selection::law_3_layers_that_the_store_has_lost_come_back_on_the_containerd_store";
    lost_layers_come_back(test, Engine::Containerd);
}

#[test]
fn f_d13_what_stands_behind_a_link_that_a_source_names_is_of_the_image_and_of_its_key() {
    let test =
        "selection::f_d13_what_stands_behind_a_link_that_a_source_names_is_of_the_image_and_of_its_key";
    for engine in [Engine::Classic, Engine::Containerd] {
        let mut place = Place::with(&[
            ("polyarch.toml", "platforms = [\"linux/amd64\"]\n"),
            ("a/Dockerfile", "FROM scratch\nCOPY link /link\nCOPY folder/word /word\n"),
            ("a/file", "one\n"),
            ("a/real/word", "one\n"),
        ]);
        if !engine.equip(test, &mut place) {
            continue;
        }
        let context = place.family().join("a");
        std::os::unix::fs::symlink("/../file", context.join("link")).expect("a link");
        std::os::unix::fs::symlink("real", context.join("folder")).expect("a link");
        let build = || {
            let _ = place.run(&["build"]).well();
            let image = &place.events().into_iter().find(|event| event["event"] == "job-kept");
            (ended(&place, "built"), image.as_ref().map(|event| event["image"].to_string()))
        };
        let (built, first) = build();
        assert_eq!(built, jobs("a@linux/amd64"));
        for file in ["a/file", "a/real/word"] {
            place.write(file, "two\n");
            let (built, next) = build();
            assert_eq!(built, jobs("a@linux/amd64"), "{engine:?}: {file}");
            assert_ne!(next, first, "{engine:?}: the engine follows the link to {file}");
        }
        assert_eq!(build().0, jobs(""));
    }
}

#[test]
fn law_3_what_was_emulated_stands_only_where_emulation_is_allowed() {
    let test = "selection::law_3_what_was_emulated_stands_only_where_emulation_is_allowed";
    let foreign = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let mut place = Place::with(&[
        ("polyarch.toml", &format!("platforms = [\"{foreign}\"]\n")),
        ("a/Dockerfile", "FROM scratch\nCOPY word /word\n"),
        ("a/word", "one\n"),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !runs_arm64(test) {
        return;
    }
    let allow = "--emulate=allow";
    let _ = place.run(&["build", allow]).well();
    assert_eq!(ended(&place, "built"), jobs(&format!("a@{foreign}")));
    let _ = place.run(&["build", allow]).well();
    assert_eq!(ended(&place, "built"), jobs(""));
    for command in [&["plan"][..], &["why", "a"], &["publish", "--dry-run"]] {
        let allowed = place.run(&[command, &[allow]].concat());
        assert!(!allowed.stderr.contains("emulat"), "{command:?}: {}", allowed.stderr);
        let refused = place.run(command);
        assert!(refused.stderr.contains("made by emulation, which is refused"), "{}", refused.stderr);
    }
    let reason = "its record was made by emulation";
    for command in [&["plan"][..], &["plan", "--format=json"], &["why", "a"]] {
        let told = place.run(command).well().stdout;
        assert!(told.contains(reason), "{command:?}: {told}");
    }
    let verified = place.run(&["verify"]).ended(1).stderr;
    assert!(verified.contains("polyarch verify --emulate=allow"), "{verified}");
    assert!(!verified.contains("build it"), "that would end the same way: {verified}");
    let published = place.run(&["publish"]).ended(1).stderr;
    assert_eq!(published.matches("nothing to publish").count(), 1, "{published}");
    assert!(!published.contains(" 0 images") && !published.contains(" 0 tags"), "{published}");
    assert!(published.contains("polyarch publish --emulate=allow"), "{published}");
    let answer = place.run(&["build"]).ended(3);
    assert!(answer.stderr.contains(&format!("no builder runs {foreign}")), "{}", answer.stderr);
}

/// Law 2: the check key holds the files of tests on this machine, and nothing stands on files that changed meanwhile.
#[test]
fn law_2_f_d12_tests_on_this_machine_stand_on_their_own_files() {
    let mut place = Place::with(&[
        ("root/Dockerfile", FOUNDATION),
        ("tests/a.sh", "exit 0\n"),
        (
            "polyarch.toml",
            "platforms = [\"linux/amd64\"]\n[image.root]\n\
             tests = [{ host = \"sh tests/a.sh --junit=report.xml >out.log && date +%N | tee report.xml\" }]\n",
        ),
        ("report.xml", "an old report\n"),
        ("out.log", "an old log\n"),
    ]);
    let test = "selection::law_2_f_d12_tests_on_this_machine_stand_on_their_own_files";
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    drop(place.run(&["build"]).well());
    drop(place.run(&["build"]).well());
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64"), "what a test writes is none of its files");

    place.write("tests/a.sh", "echo '#' >>tests/a.sh\n");
    let failed = place.run(&["build"]).ended(1);
    assert!(failed.stderr.contains("changed while they ran"), "{}", failed.stderr);
    assert!(failed.stderr.contains("tests/a.sh"), "{}", failed.stderr);
    place.write("tests/a.sh", "exit 3\n");
    drop(place.run(&["build", "--publish"]).ended(1));
    place.write("tests/a.sh", "exit 0\n");
    drop(place.run(&["build", "--publish"]).well());
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64"), "what passed before stands");
}
