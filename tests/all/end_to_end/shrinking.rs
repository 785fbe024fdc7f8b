//! `polyarch gc --at-most` and `--end-after` over a store at a registry: ours, which removes tags, and Debian's docker-registry, which
//! removes what they point at.

use std::path::Path;
use std::time::{Duration, Instant};

use super::engines::{ended, jobs};
use super::shared_store::{Registry, machine, picture};
use crate::program::{Answer, Place};

/// Run a command over the store at a registry, by a machine whose folder has this name.
fn over(place: &Place, registry: &Registry, machine: &str, arguments: &[&str]) -> Answer {
    let folder = place.folder().join(machine);
    let folder = folder.to_str().expect("text");
    place.run(&[arguments, &["--store", &registry.store, "--folder", folder]].concat())
}

fn only_the_oldest_ends(place: &Place, registry: &Registry) {
    // Beside them the parent has less than 2 MB.
    let leaf = |word: &str| {
        let random = "head -c 3000000 /dev/urandom >/random";
        place.write("leaf/Dockerfile", &format!("FROM parent\nRUN echo {word} >/word; {random}\n"));
    };
    let own = place.folder().display().to_string();
    for word in ["one", "two", "three"] {
        leaf(&format!("{word}{own}"));
        let _ = over(place, registry, "first", &["build"]).well();
        // Records say when they were made by the second.
        std::thread::sleep(Duration::from_secs(2));
    }
    let gc = |more: &[&str]| over(place, registry, "first", &[&["gc"], more].concat());
    assert!(
        gc(&["--grace", "0s", "--at-most", "20MB"]).well().stdout.lines().all(|line| !line.contains("ended"))
    );
    let kept = gc(&["--at-most", "6MB", "--grace", "1h"]).well();
    assert!(kept.stderr.contains("stay at the registry"), "{}", kept.stderr);
    let would = gc(&["--grace", "0s", "--at-most", "6MB", "--dry-run"]).well().stdout;
    assert!(would.contains("to end") && would.contains("2 images"), "{would}");
    let done = gc(&["--grace", "0s", "--at-most", "6MB"]).well().stdout;
    assert!(done.contains("ended") && done.contains("2 images"), "{done}");
    assert!(!gc(&["--grace", "0s", "--at-most", "6MB"]).well().stdout.contains("ended"), "it fits now");

    // Machines that have nothing find the newest leaf, whole, and the parent that all of them stand on.
    let folder = place.store();
    let name = folder.strip_prefix(place.folder()).expect("it is below").to_str().expect("text");
    let _ = over(place, registry, name, &["build"]).well();
    assert_eq!(ended(place, "built").len(), 0);
    std::fs::remove_dir_all(&folder).expect("forget everything");
    leaf(&format!("one{own}"));
    let _ = over(place, registry, name, &["build"]).well();
    assert_eq!(ended(place, "built"), jobs("leaf@linux/amd64"), "upon the parent that is there");
}

#[test]
fn the_oldest_ends_at_a_registry_of_ours() {
    let Some(mut place) = machine("shrinking::ours", "shrinking") else { return };
    let registry = Registry::start(&place);
    registry.let_in(&mut place);
    only_the_oldest_ends(&place, &registry);
}

#[test]
fn the_oldest_ends_at_docker_registry() {
    let test = "shrinking::docker_registry";
    let Some(place) = machine(test, "shrinking") else { return };
    let Some(registry) = Registry::of_debian(test, &place) else { return };
    only_the_oldest_ends(&place, &registry);
}

/// The scopes of which something stands in the folder of a machine, or below a folder of the registry.
fn scopes(within: &Path) -> Vec<String> {
    let tagged =
        |scope: &Path| ["_tags", "_manifests/tags"].iter().any(|tags| !picture(&scope.join(tags)).is_empty());
    let entries = std::fs::read_dir(within).expect("scopes").flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| tagged(&entry.path()))
        .map(|entry| entry.file_name().into_string().expect("text"))
        .collect();
    found.sort();
    found
}

fn scopes_that_were_left_end(place: &Place, registry: &Registry, there: &str) {
    let build = |scope: &str| {
        place.write("leaf/Dockerfile", &format!("FROM parent\nRUN echo {scope} >/word\n"));
        let _ = over(place, registry, "first", &["build", "--scope", scope]).well();
    };
    let (there, here) = (place.folder().join(there), place.folder().join("first/repositories/scopes"));
    let is_left = |expected: &[&str]| {
        assert_eq!(scopes(&here), expected, "in the folder");
        assert_eq!(scopes(&there), expected, "at the registry");
    };
    build("trusted");
    build("pr-1");
    std::thread::sleep(Duration::from_secs(40));
    let begun = Instant::now();
    build("pr-2");
    // What was built before is older by 2 s at the least, and what was built now is younger for the next half of a minute.
    let after = format!("{}s", begun.elapsed().as_secs() + 37);
    let gc = |more: &[&str]| over(place, registry, "first", &[&["gc", "--grace", "0s"], more].concat());

    let kept = over(place, registry, "first", &["gc", "--end-after", &after]).well();
    assert!(!kept.stdout.contains("ended"), "inside the grace time: {}", kept.stdout);
    let would = gc(&["--end-after", &after, "--dry-run"]).well().stdout;
    assert!(would.contains("to end") && would.contains("/pr-1\n") && !would.contains("/pr-2\n"), "{would}");
    is_left(&["pr-1", "pr-2", "trusted"]);
    let refused = gc(&["--end-after", &after, "--scope", "pr-2"]).ended(4);
    assert!(refused.stderr.contains("refused in the scope `pr-2`"), "{}", refused.stderr);
    let done = gc(&["--end-after", &after]).well().stdout;
    assert!(done.contains("ended") && done.contains("/pr-1\n") && !done.contains("/pr-2\n"), "{done}");
    is_left(&["pr-2", "trusted"]);
    let rest = gc(&["--end-after", "0s"]).well().stdout;
    assert!(!rest.contains("/trusted\n"), "{rest}");
    is_left(&["trusted"]);
}

#[test]
fn f_s14_scopes_that_were_left_end_at_a_registry_of_ours() {
    let Some(mut place) = machine("shrinking::left_ours", "shrinking") else { return };
    let registry = Registry::start(&place);
    registry.let_in(&mut place);
    scopes_that_were_left_end(&place, &registry, "registry/repositories/owner/cache/scopes");
}

#[test]
fn f_s14_scopes_that_were_left_end_at_docker_registry() {
    let test = "shrinking::left_docker_registry";
    let Some(place) = machine(test, "shrinking") else { return };
    let Some(registry) = Registry::of_debian(test, &place) else { return };
    scopes_that_were_left_end(
        &place,
        &registry,
        "storage/docker/registry/v2/repositories/owner/cache/scopes",
    );
}
