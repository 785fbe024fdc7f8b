//! What machines do over a store at a registry that one of them has filled: move nightly tags, take its caches, look at
//! files, and find out what it has lost. None of them has anything in its folder.

use std::path::Path;

use super::engines::{ended, jobs, printed};
use super::shared_store::{Registry, machine, over};
use crate::program::Place;

/// One machine that has built everything, and the registry.
fn filled(test: &str, configuration: &str) -> Option<(Place, Registry)> {
    let mut one = machine(test, "one")?;
    add(&one, configuration);
    let registry = Registry::start(&one);
    registry.let_in(&mut one);
    let _ = over(&one, &registry, &["build"]).well();
    Some((one, registry))
}

/// Another machine, of the same family.
fn another(test: &str, configuration: &str, registry: &Registry) -> Option<Place> {
    let mut place = machine(test, "one")?;
    add(&place, configuration);
    registry.let_in(&mut place);
    Some(place)
}

fn add(place: &Place, configuration: &str) {
    let file = place.family().join("polyarch.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(file, format!("{configuration}{text}")).expect("a configuration");
}

fn host(registry: &Registry) -> &str {
    registry.store.split('/').next().expect("a host")
}

/// The names below a folder that begin so.
fn names(folder: &Path, beginning: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

#[test]
fn s3_8_nightly_tags_move_where_nothing_is_in_the_folder() {
    let test = "shared_work::s3_8_nightly_tags";
    let Some((_one, registry)) = filled(test, "") else { return };
    let Some(two) = another(test, "", &registry) else { return };
    let moved = over(&two, &registry, &["build", "--nightly", "--to", host(&registry)]).well();
    assert!(moved.stderr.contains("0 built, 0 checked, 2 reused"), "{}", moved.stderr);
    assert!(moved.stderr.contains("2 nightly tags moved"), "{}", moved.stderr);
    for image in ["parent", "leaf"] {
        let reference = format!("{}/shared/{image}:nightly-amd64", host(&registry));
        let _ = two.run(&["inspect", &reference]).well();
    }
    let again = over(&two, &registry, &["build", "--nightly", "--to", host(&registry)]).well();
    assert!(again.stderr.contains("no nightly tag had to move"), "{}", again.stderr);
}

#[test]
fn s1_2_caches_of_layers_come_to_other_machines_by_the_registry() {
    let test = "shared_work::s1_2_caches_of_layers";
    let cached = "layer-cache = true\n";
    let Some((one, registry)) = filled(test, cached) else { return };
    let trusted = one.folder().join("registry/repositories/owner/cache/scopes/trusted");
    assert!(trusted.exists());
    let Some(two) = another(test, cached, &registry) else { return };
    let _ = over(&two, &registry, &["build", "leaf", "--no-reuse"]).well();
    assert_eq!(ended(&two, "built"), jobs("leaf@linux/amd64"));
    let log = two.log("leaf.linux-amd64");
    let import = log
        .lines()
        .position(|line| line.contains("importing cache manifest") && line.contains("shared-cache-"));
    let import = import.unwrap_or_else(|| panic!("{log}"));
    assert!(!log.lines().skip(import).take(4).any(|line| line.contains("ERROR")), "{log}");
    assert!(log.contains("CACHED"), "{log}");
}

#[test]
fn an_image_of_a_file_is_loaded_beside_a_store_at_a_registry() {
    let test = "shared_work::an_image_of_a_file";
    let Some((one, registry)) = filled(test, "") else { return };
    let files = one.folder().join("files");
    let to = files.to_str().expect("text");
    let _ = over(&one, &registry, &["export", "--delta", "leaf", "--to", to]).well();
    let Some(two) = another(test, "", &registry) else { return };
    two.write("leaf/Dockerfile", "FROM parent\nRUN echo another tree > /word\n");
    let name = format!("polyarch.test/of-file-{}:1", std::process::id());
    let file = files.join("leaf-amd64-default.tar");
    let file = file.to_str().expect("text");
    let loaded = over(&two, &registry, &["load", "leaf", "--from", file, "--name", &name]).well();
    assert!(loaded.stderr.contains("in the scope `loaded`"), "{}", loaded.stderr);
    let word = printed(&two, &[], &[&name, "cat", "/word"]);
    two.ask("docker", &["image", "rm", "--force", &name]);
    assert_eq!(word, "one\n");
    let scopes = one.folder().join("registry/repositories/owner/cache/scopes");
    assert_eq!(names(&scopes, ""), ["trusted"], "nothing of it goes to the registry");
}

/// A disk of the registry has lost a layer, which no idle run looks for. Whoever builds upon it is told what to do, and
/// once it is built again it is whole there, though the image is the same.
#[test]
fn f_s3_a_layer_that_the_registry_has_lost_is_put_back_by_its_next_build() {
    let test = "shared_work::f_s3_a_layer";
    let Some((one, registry)) = filled(test, "") else { return };
    let blobs = one.folder().join("registry/blobs/sha256");
    for name in names(&blobs, "") {
        let file = blobs.join(name);
        if std::fs::read(&file).expect("a blob").starts_with(&[0x1f, 0x8b]) {
            std::fs::remove_file(file).expect("lost");
        }
    }
    let leaf = || -> Option<Place> {
        let place = another(test, "", &registry)?;
        place.write("leaf/Dockerfile", "FROM parent\nRUN echo two > /word\n");
        Some(place)
    };
    let (Some(two), Some(three)) = (leaf(), leaf()) else { return };
    let failed = over(&two, &registry, &["build"]).ended(3);
    assert!(failed.stderr.contains("which has lost some of the image"), "{}", failed.stderr);
    assert!(failed.stderr.contains(" build parent --no-reuse"), "{}", failed.stderr);
    let _ = over(&one, &registry, &["build", "parent", "--no-reuse"]).well();
    assert_eq!(ended(&one, "built"), jobs("parent@linux/amd64"));
    let _ = over(&three, &registry, &["build"]).well();
    assert_eq!(ended(&three, "built"), jobs("leaf@linux/amd64"));
}
