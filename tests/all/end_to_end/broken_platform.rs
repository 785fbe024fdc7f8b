//! A test that fails on one platform only, and what it must not touch.

use super::engines::{Engine, FOUNDATION, ended, jobs, printed, root_file_systems, runs_arm64, tags};
use crate::program::Place;

const CONFIGURATION: &str = r#"
name = "broken"
platforms = ["linux/amd64", "linux/arm64"]
emulate = "allow"

[tags]
common = ["latest"]
"#;

const EACH_IMAGE: &str = "[publish]\nunit = \"image\"\n";

const BROKEN: &str = "[image.middle]\ntests = [{ run = 'test \"$(uname -m)\" != aarch64' }]\n";

fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("middle/Dockerfile", "FROM root\nRUN echo 1 > /word\n"),
        ("leaf/Dockerfile", "FROM middle\nRUN echo leaf >> /word\n"),
        ("other/Dockerfile", "FROM root\nRUN echo other > /word\n"),
    ]);
    let ready = runs_arm64(test)
        && engine.equip(test, &mut place)
        && root_file_systems(test, &place, "root", &["amd64", "arm64"]);
    ready.then_some(place)
}

fn fails_alone(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let _ = place.run(&["build", "--publish"]).well();
    let images = ["root", "middle", "leaf", "other"];
    let all = || {
        images.map(|image| {
            let mut tags = tags(&place, &format!("broken/{image}"));
            // The list of publications is none of the images.
            tags.remove("polyarch-publications");
            tags
        })
    };
    let before = all();
    assert!(before.iter().all(|tags| tags.contains_key("latest")), "{before:?}");

    place.write("polyarch.toml", &format!("{CONFIGURATION}{BROKEN}"));
    place.write("middle/Dockerfile", "FROM root\nRUN echo 2 > /word\n");
    place.write("other/Dockerfile", "FROM root\nRUN echo another > /word\n");
    let answer = place.run(&["build", "--publish"]).ended(1);
    assert_eq!(before, all(), "S4 row 15: the family goes as a whole or not at all");
    for told in ["middle is not published", "leaf is not published", "nothing is published"] {
        assert!(answer.stderr.contains(told), "{told}: {}", answer.stderr);
    }
    assert_eq!(ended(&place, "failed"), jobs("middle@linux/arm64"));
    assert_eq!(ended(&place, "skipped"), jobs("leaf@linux/arm64"));
    assert_eq!(
        ended(&place, "built"),
        jobs("middle@linux/amd64 leaf@linux/amd64 other@linux/amd64 other@linux/arm64"),
        "the other platforms finish"
    );
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64 root@linux/arm64"));
    place.write("polyarch.toml", &format!("{CONFIGURATION}{EACH_IMAGE}{BROKEN}"));
    let _ = place.run(&["publish"]).ended(1);
    let after = all();
    assert_eq!(before[..3], after[..3], "no tag of what failed moves, nor any of what stands on it");
    assert_ne!(before[3]["latest"], after[3]["latest"], "what has nothing to do with it is published");
    assert!(answer.stderr.contains("polyarch load middle@linux/arm64"), "{}", answer.stderr);
    the_failed_image_can_be_looked_at(&place);

    let unmended = place.run(&["build", "--publish"]).ended(1);
    assert!(unmended.stderr.contains("middle@linux/arm64"), "{}", unmended.stderr);
    assert_eq!(ended(&place, "built"), jobs(""), "only the check is tried again");
    place.write("polyarch.toml", CONFIGURATION);
    let _ = place.run(&["build", "--publish"]).well();
    assert!(all()[..3].iter().zip(&before).skip(1).all(|(now, then)| now["latest"] != then["latest"]));
}

fn the_failed_image_can_be_looked_at(place: &Place) {
    let name = place.run(&["load", "middle@linux/arm64"]).well().stdout;
    let name = name.trim();
    let architecture = place.ask("docker", &["image", "inspect", "--format", "{{.Architecture}}", name]);
    let container = ["--network", "none", "--platform", "linux/arm64", name, "cat", "/word"];
    let word = printed(place, &[], &container);
    place.ask("docker", &["image", "rm", "--force", name]);
    assert_eq!((architecture.trim(), word.trim()), ("arm64", "2"));
}

#[test]
fn a_test_broken_on_arm64_fails_arm64_alone() {
    fails_alone("broken_platform::a_test_broken_on_arm64_fails_arm64_alone", Engine::Classic);
}
