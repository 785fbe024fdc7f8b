//! Jobs on machines that share nothing but files: each has an empty store, takes in what those before it made, and builds
//! its own image upon it.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::engines::{Engine, FOUNDATION, ended, inspected, jobs, layers, root_file_systems};
use crate::program::Place;

const CONFIGURATION: &str =
    "name = \"chain\"\nplatforms = [\"linux/amd64\"]\ntests = [\"test -e /bin/sh\"]\n";

/// A machine with a checkout of the family and nothing else: a base, a child and a grandchild.
fn machine(test: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("base/Dockerfile", FOUNDATION),
        ("middle/Dockerfile", "FROM base\nRUN echo middle > /middle\n"),
        ("leaf/Dockerfile", "FROM middle\nRUN echo leaf > /leaf\n"),
    ]);
    let fit = Engine::Classic.equip(test, &mut place) && root_file_systems(test, &place, "base", &["amd64"]);
    fit.then_some(place)
}

/// One job: take in what is in a folder, build, and add to the folder what came of it.
fn job(test: &str, folder: &str, image: &str) -> Option<Place> {
    let place = machine(test)?;
    if std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) {
        let _ = place.run(&["import", folder]).well();
    }
    let _ = place.run(&["build", image]).well();
    let _ = place.run(&["export", "--delta", image, "--to", folder]).well();
    Some(place)
}

fn size(folder: &str, image: &str) -> u64 {
    PathBuf::from(folder).join(format!("{image}-amd64-default.tar")).metadata().expect("a file").len()
}

#[test]
fn law_5_jobs_that_share_files_alone_build_one_family() {
    let test = "transfer::law_5_jobs_that_share_files_alone_build_one_family";
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("artifacts").display().to_string();
    for image in ["base", "middle", "leaf"] {
        let Some(place) = job(test, &to, image) else { return };
        assert_eq!(ended(&place, "built"), jobs(&format!("{image}@linux/amd64")));
    }
    assert!(size(&to, "base") > 20 * size(&to, "leaf"), "the lowest layer moves once");
    // The machine that publishes has built nothing.
    let Some(last) = machine(test) else { return };
    let taken = last.run(&["import", &to]).well();
    assert_eq!(taken.stdout, "base@linux/amd64\nleaf@linux/amd64\nmiddle@linux/amd64\n");
    let _ = last.run(&["publish"]).well();
    let [base, leaf] = ["base", "leaf"]
        .map(|image| layers(&inspected(&last, &format!("embedded/chain/{image}:latest")), "linux/amd64"));
    assert!(base.len() < leaf.len() && leaf.starts_with(&base), "{base:?} {leaf:?}");
}

#[test]
fn an_image_whose_tests_fail_is_handed_on_to_be_looked_at() {
    let test = "transfer::an_image_whose_tests_fail_is_handed_on_to_be_looked_at";
    let (Some(place), Some(other)) = (machine(test), machine(test)) else { return };
    for place in [&place, &other] {
        place.write("polyarch.toml", &CONFIGURATION.replace("test -e /bin/sh", "false"));
    }
    let _ = place.run(&["build", "base"]).ended(1);
    let to = place.folder().join("artifacts").display().to_string();
    let exported = place.run(&["export", "--delta", "base", "--to", &to]).well();
    assert!(exported.stderr.contains("base@linux/amd64 has not passed its checks"), "{}", exported.stderr);
    let taken = other.run(&["import", &to]).well();
    assert!(taken.stderr.contains("whose checks have not passed"), "{}", taken.stderr);
    // It stands as built and not as passed.
    let planned = other.run(&["plan", "base"]).well();
    assert!(planned.stdout.contains("0 to build, 1 to check"), "{}", planned.stdout);
    let _ = other.run(&["publish", "base"]).ended(1);
}

#[test]
fn f_p2_the_image_of_a_job_that_is_killed_in_its_tests_is_handed_on() {
    let test = "transfer::f_p2_the_image_of_a_job_that_is_killed_in_its_tests_is_handed_on";
    let (Some(place), Some(other)) = (machine(test), machine(test)) else { return };
    for place in [&place, &other] {
        place.write("polyarch.toml", &CONFIGURATION.replace("test -e /bin/sh", "sleep 300"));
    }
    let work = place.folder().join("work");
    let mut begun = place.start(&["job", "base@linux/amd64", "--work", &work.display().to_string()]);
    let file = work.join("base-amd64/base-amd64-default.tar");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !file.exists() && Instant::now() < deadline {
        sleep(Duration::from_millis(50));
    }
    begun.kill().and_then(|()| begun.wait()).expect("it is gone");
    let taken = other.run(&["import", &file.display().to_string()]).well();
    assert!(taken.stderr.contains("whose checks have not passed"), "{}", taken.stderr);
    let planned = other.run(&["plan", "base"]).well();
    assert!(planned.stdout.contains("0 to build, 1 to check"), "{}", planned.stdout);
}

#[test]
fn what_the_checks_of_a_job_add_is_a_file_of_its_own() {
    let test = "transfer::what_the_checks_of_a_job_add_is_a_file_of_its_own";
    let (Some(place), Some(other)) = (machine(test), machine(test)) else { return };
    let work = place.folder().join("work");
    let _ = place.run(&["job", "base@linux/amd64", "--work", &work.display().to_string()]).well();
    let file = |end: &str| work.join(format!("base-amd64/base-amd64-default{end}.tar"));
    let bytes = |end: &str| file(end).metadata().expect("a file").len();
    assert!(bytes("") > 20 * bytes("-checks"), "no blob is in both: {} {}", bytes(""), bytes("-checks"));
    let alone = other.run(&["import", &file("-checks").display().to_string()]).ended(2);
    assert!(alone.stderr.contains("in no file and not in the store"), "{}", alone.stderr);
    let taken = other.run(&["import", &work.join("base-amd64").display().to_string()]).well();
    assert!(!taken.stderr.contains("have not passed"), "{}", taken.stderr);
    let planned = other.run(&["plan", "base"]).well();
    assert!(planned.stdout.contains("0 to build, 0 to check"), "{}", planned.stdout);
}

#[test]
fn tm5_what_is_no_file_of_a_job_is_refused_with_its_reason() {
    let test = "transfer::tm5_what_is_no_file_of_a_job_is_refused_with_its_reason";
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("artifacts").display().to_string();
    let (Some(_), Some(_), Some(other)) = (job(test, &to, "base"), job(test, &to, "middle"), machine(test))
    else {
        return;
    };
    let middle = format!("{to}/middle-amd64-default.tar");
    let alone = other.run(&["import", &middle]).ended(2);
    assert!(alone.stderr.contains("in no file and not in the store"), "{}", alone.stderr);
    let mut bytes = std::fs::read(&middle).expect("a file");
    // The one block of its layer, before the two that end an archive.
    let layer = bytes.len() - 3 * 512;
    bytes[layer] ^= 1;
    let spoilt = format!("{to}/spoilt.tar");
    std::fs::write(&spoilt, bytes).expect("a file");
    let refused = other.run(&["import", &to]).ended(2);
    assert!(
        refused.stderr.contains("spoilt.tar") && refused.stderr.contains("another digest"),
        "{}",
        refused.stderr
    );
    let planned = other.run(&["plan"]).well();
    assert!(planned.stdout.contains("3 to build"), "nothing of any of them stands: {}", planned.stdout);
    for wrong in [&*format!("{to}/none"), &other.family().display().to_string()] {
        let refused = other.run(&["import", wrong]).ended(2);
        assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    }
}

#[test]
fn f_d14_what_was_refreshed_elsewhere_is_found_where_it_is_taken_in() {
    let test = "transfer::f_d14_what_was_refreshed_elsewhere_is_found_where_it_is_taken_in";
    let (Some(place), Some(other)) = (machine(test), machine(test)) else { return };
    let _ = place.run(&["build", "base", "--refresh"]).well();
    let to = place.folder().join("artifacts").display().to_string();
    let _ = place.run(&["export", "--delta", "base", "--to", &to]).well();
    // A file has no word on what the trusted scope refreshes, where it is taken into another.
    let aside = other.run(&["import", &to, "--scope", "pr-1"]).well();
    let told = "base@linux/amd64 is of the refresh epoch 1, and 0 counts here";
    assert!(aside.stderr.contains(told), "{}", aside.stderr);
    let planned = other.run(&["plan", "base"]).well();
    assert!(planned.stdout.contains("1 to build"), "{}", planned.stdout);
    let taken = other.run(&["import", &to]).well();
    assert!(taken.stderr.contains("its refresh epoch 1 counts here now"), "{}", taken.stderr);
    let planned = other.run(&["plan", "base"]).well();
    assert!(planned.stdout.contains("0 to build, 0 to check"), "{}", planned.stdout);
}

#[test]
fn an_image_is_handed_on_without_the_variant_that_could_not_be_built() {
    let test = "transfer::an_image_is_handed_on_without_the_variant_that_could_not_be_built";
    let Some(place) = machine(test) else { return };
    place.write("polyarch.toml", &CONFIGURATION.replace("test -e /bin/sh", "false"));
    place.write("base/extra/Dockerfile", "FROM base\nRUN echo extra > /extra\n");
    let _ = place.run(&["build", "base"]).ended(1);
    let to = place.folder().join("artifacts").display().to_string();
    let both = place.run(&["export", "--delta", "base", "--to", &to]).ended(2);
    let hint = "export --delta base:default@linux/amd64";
    assert!(both.stderr.contains("base:extra@linux/amd64 is not built"), "{}", both.stderr);
    assert!(both.stderr.contains(hint), "{}", both.stderr);
    let alone = place.run(&["export", "--delta", "base:default@linux/amd64", "--to", &to]).well();
    assert!(alone.stdout.ends_with("base-amd64-default.tar\n"), "{}", alone.stdout);
}
