//! `polyarch gc --at-most` over a store at a registry: ours, which removes tags, and Debian's docker-registry, which
//! removes what they point at.

use std::time::Duration;

use super::engines::{ended, jobs};
use super::shared_store::{Registry, machine};
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
