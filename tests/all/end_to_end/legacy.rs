//! The builder that Docker had before BuildKit, whose cache can be poisoned: it is never used.

use super::engines::{Engine, FOUNDATION, printed, root_file_systems};
use crate::program::Place;

const STEP: &str = "echo well > /word";

/// Leave in the engine a child of an image that says it was made by [`STEP`], and was not (CVE-2024-24557).
fn poison(place: &Place, parent: &str, name: &str) {
    // Detached and with an empty entry point, as that builder runs a step.
    let step = ["run", "--detach", "--network", "none", "--entrypoint", "", parent, "/bin/sh", "-c", STEP];
    let container = place.ask("docker", &step);
    place.ask("docker", &["wait", container.trim()]);
    let canary = place.folder().join("word");
    std::fs::write(&canary, "poison\n").expect("a canary");
    let into = format!("{}:/word", container.trim());
    place.ask("docker", &["cp", canary.to_str().expect("text"), &into]);
    place.ask("docker", &["commit", container.trim(), name]);
    place.ask("docker", &["rm", container.trim()]);
}

#[test]
fn tm7_a_poisoned_cache_of_the_legacy_builder_does_not_enter_a_build() {
    let test = "legacy::tm7_a_poisoned_cache_of_the_legacy_builder_does_not_enter_a_build";
    let check = "[image.leaf]\ntests = [{ run = \"cat /word\", stdout = \"well\" }]\n";
    let leaf = format!("FROM root\nRUN {STEP}\n");
    let mut place = Place::with(&[
        ("polyarch.toml", &format!("name = \"legacy\"\nplatforms = [\"linux/amd64\"]\n{check}")),
        // Of this test alone, as is what the poison stands on.
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo {} > /own\n", std::process::id())),
        ("leaf/Dockerfile", &leaf),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let _ = place.run(&["build", "root"]).well();
    let names = ["parent", "poison", "control"].map(|name| format!("{name}-{}:1", std::process::id()));
    let [parent, poisoned, control] = &names;
    let _ = place.run(&["load", "root", "--name", parent]).well();
    poison(&place, parent, poisoned);
    place.set("DOCKER_BUILDKIT", "0");
    place.write("control/Dockerfile", &leaf.replace("FROM root", &format!("FROM {parent}")));
    let folder = place.family().join("control");
    place.ask("docker", &["build", "--tag", control, folder.to_str().expect("text")]);
    let entered = printed(&place, &[], &["--network", "none", control, "cat", "/word"]);
    std::fs::remove_dir_all(folder).expect("no image of the family");
    let built = place.run(&["build"]);
    for name in [control, poisoned, parent] {
        place.ask("docker", &["image", "rm", name]);
    }
    assert_eq!(entered.trim(), "poison", "the poison works where that builder is used");
    let _ = built.well();
}
