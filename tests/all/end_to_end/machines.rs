//! Programs of other machines in an image: found without running anything, unless they are meant to be there.

use super::engines::{Engine, FOUNDATION, busybox, root_file_systems};
use crate::program::Place;

const CHILD: &str = "FROM base\nCOPY tool /usr/local/bin/tool\nCOPY prebuilds /srv/prebuilds\n";

/// The architecture of this machine, and one that it does not run.
const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

fn a_program_of_another_machine_is_found(test: &str, engine: Engine) {
    let mut place = Place::with(&[("base/Dockerfile", FOUNDATION), ("child/Dockerfile", CHILD)]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "base", &[NATIVE]) {
        return;
    }
    let (Some(native), Some(other)) = (busybox(test, NATIVE), busybox(test, OTHER)) else { return };
    let platform = format!("platforms = [\"linux/{NATIVE}\"]\n");
    place.write("polyarch.toml", &platform);
    let named = format!("child/prebuilds/linux-{OTHER}");
    place.write(&format!("{named}/README"), "one for each machine\n");
    std::fs::copy(&other, place.family().join(&named).join("tool.node")).expect("copy busybox");
    std::fs::copy(&other, place.family().join("child/tool")).expect("copy busybox");

    let found = place.run(&["build"]).ended(1);
    let told = format!("child@linux/{NATIVE}: usr/local/bin/tool is for {OTHER}, not for linux/{NATIVE}");
    assert!(found.stderr.contains(&told), "{}", found.stderr);
    assert!(!found.stderr.contains("tool.node"), "a path that names the machine: {}", found.stderr);

    // What is meant is said, and nothing is built again for it.
    let meant = "foreign-executables = [{ path = \"usr/local/**\", reason = \"for a controller\" }]\n";
    place.write("polyarch.toml", &format!("{platform}[image.child]\n{meant}"));
    let meant = place.run(&["build"]).well();
    let events = place.events();
    let started: Vec<_> = events.iter().filter(|event| event["event"] == "job-started").collect();
    assert_eq!(started.len(), 1, "{}", meant.stderr);
    assert_eq!(started[0]["checks_only"], true, "{}", meant.stderr);

    // Without that word it is found again in what is there.
    place.write("polyarch.toml", &platform);
    assert!(place.run(&["build"]).ended(1).stderr.contains(&told));

    std::fs::copy(&native, place.family().join("child/tool")).expect("copy busybox");
    let _ = place.run(&["build"]).well();
}

#[test]
fn a_program_of_another_machine_is_found_classic() {
    a_program_of_another_machine_is_found("a_program_of_another_machine_is_found_classic", Engine::Classic);
}

#[test]
fn a_program_of_another_machine_is_found_podman() {
    a_program_of_another_machine_is_found("a_program_of_another_machine_is_found_podman", Engine::Podman);
}
