//! Caches of layers that travel between machines by the store, their budget, and the tags of nightly builds.

use std::collections::BTreeMap;

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags};
use super::hosts::Hosts;
use crate::program::{Place, variable};

const CONFIGURATION: &str = "name = \"warm\"\nplatforms = [\"linux/amd64\"]\nlayer-cache = true\n";

/// A step that no engine has in its cache before a test, and that takes a while.
fn slow(nonce: &str) -> String {
    format!(
        "FROM root AS made\nRUN echo {nonce} && date +%s%N > /stamp && sleep 3\nFROM root\nCOPY --from=made /stamp /\n"
    )
}

/// A word that no other test has said.
fn nonce() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    folder.path().file_name().expect("a name").to_string_lossy().into_owned()
}

fn place(dockerfile: &str) -> Place {
    Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("leaf/Dockerfile", dockerfile),
    ])
}

fn on(engine: &str) -> String {
    format!("{CONFIGURATION}[builder.one]\nengine = \"{engine}\"\n")
}

/// What `why` says of the image of `leaf`, which has its digest.
fn image(place: &Place) -> String {
    let why = place.run(&["why", "leaf"]).well().stdout;
    let line = why.lines().next().unwrap_or_default().to_owned();
    assert!(line.contains("reused"), "{line}");
    line
}

/// The caches of a scope.
fn caches(place: &Place, scope: &str) -> BTreeMap<String, String> {
    let mut found = tags(place, &format!("scopes/{scope}"));
    found.retain(|tag, _| tag.starts_with("cache-"));
    found
}

#[test]
fn s1_2_a_machine_that_has_built_nothing_takes_layers_of_all_stages_from_the_store() {
    let test = "s1_2_a_machine_that_has_built_nothing_takes_layers_of_all_stages_from_the_store";
    let nonce = nonce();
    let mut place = place(&slow(&nonce));
    let Some(_hosts) = Hosts::reached_from(test, &mut place) else { return };
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let here = variable("POLYARCH_TEST_CONTAINERD").expect("it was equipped");
    // Were its content that of others, the second machine could have it from other tests, with their times in it.
    place.write("root/rootfs/amd64/nonce", &nonce);
    place.write("polyarch.toml", &on(&here.to_string_lossy()));
    let _ = place.run(&["build", "--nightly"]).well();
    let first = image(&place);
    assert_eq!(caches(&place, "trusted").len(), 2, "one for each image and platform");
    let nightly = tags(&place, "warm/leaf");
    let names: Vec<_> = nightly.keys().collect();
    assert_eq!(names, ["nightly-amd64", "polyarch-nightly"], "a platform's own, the list, and no index");

    place.write("polyarch.toml", &on("ssh://east"));
    let _ = place.run(&["build", "--no-reuse"]).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"));
    assert_eq!(image(&place), first, "every step was taken from the cache, that of the first stage too");

    // A refresh reads none, and leaves a warm one.
    let before = caches(&place, "trusted");
    let _ = place.run(&["build", "leaf", "--refresh", "--nightly"]).well();
    assert_ne!(image(&place), first);
    let after = caches(&place, "trusted");
    assert!(before != after && before.keys().eq(after.keys()));
    assert_ne!(tags(&place, "warm/leaf"), nightly, "and the nightly tag has moved");

    // TM1: another scope reads the trusted cache and writes its own.
    place.write("leaf/Dockerfile", &(slow(&nonce) + "LABEL pull-request=12\n"));
    let _ = place.run(&["build", "--scope", "pr-12"]).well();
    assert_eq!((caches(&place, "pr-12").len(), caches(&place, "trusted")), (1, after));
    let refused = place.run(&["build", "--scope", "pr-12", "--nightly"]).ended(4);
    assert!(refused.stderr.contains("is refused in the scope `pr-12`"), "{}", refused.stderr);
}

#[test]
fn s3_11_a_build_that_has_a_cache_and_takes_longer_than_its_budget_fails() {
    let test = "s3_11_a_build_that_has_a_cache_and_takes_longer_than_its_budget_fails";
    let nonce = nonce();
    let mut place = place(&slow(&nonce));
    if !Engine::Containerd.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let budget = format!("{CONFIGURATION}[image.leaf]\ncache-budget = \"2s\"\n");
    place.write("polyarch.toml", &budget);
    let _ = place.run(&["build", "--nightly"]).well();
    let before = tags(&place, "warm/leaf");
    let cache = caches(&place, "trusted");
    // What makes the slow step new, so that the cache does not hold.
    place.write("leaf/Dockerfile", &slow(&format!("{nonce}-2")));
    for _ in 0..2 {
        let failed = place.run(&["build", "--nightly"]).ended(1);
        assert!(failed.stderr.contains("to build with a cache, of 2 s"), "{}", failed.stderr);
        assert_eq!(tags(&place, "warm/leaf"), before, "moving tags move after tests only");
    }
    assert_ne!(caches(&place, "trusted"), cache, "S3 row 10: the cache is written before");
    place.write("polyarch.toml", CONFIGURATION);
    let _ = place.run(&["build", "--nightly"]).well();
    assert_eq!(ended(&place, "checked"), jobs("leaf@linux/amd64"));
    assert_ne!(tags(&place, "warm/leaf"), before);
}

#[test]
fn a_classic_image_store_keeps_its_cache_within_the_image() {
    let test = "a_classic_image_store_keeps_its_cache_within_the_image";
    let mut place = place(&slow(&nonce()));
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let _ = place.run(&["build"]).well();
    assert!(caches(&place, "trusted").is_empty());
    let _ = place.run(&["build", "leaf", "--no-reuse"]).well();
    let log = place.log("leaf.linux-amd64");
    let import = log.lines().position(|line| {
        line.contains("importing cache manifest from localhost:")
            || line.contains("importing cache manifest from 127.0.0.1:")
    });
    let import = import.unwrap_or_else(|| panic!("{log}"));
    assert!(!log.lines().skip(import).take(4).any(|line| line.contains("ERROR")), "{log}");
    assert!(log.contains("CACHED"), "{log}");
}
