//! A run that is killed or interrupted: what it has started ends with it, whoever has killed it (F-P7).

use super::engines::{Engine, FOUNDATION, root_file_systems, wait_for};
use crate::program::{Place, program};

/// The command lines of all processes, with blanks between the arguments.
pub(super) fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

fn orphans_end(test: &str, engine: Engine, builder: &str, signal: &str) {
    // No other process sleeps for as long.
    let sleep = format!("sleep {}.{}{}", std::process::id(), engine as usize, signal.len());
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"orphans\"\nplatforms = [\"linux/amd64\"]\n"),
        ("slow/Dockerfile", &format!("{FOUNDATION}RUN {sleep}; true\n")),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "slow", &["amd64"]) {
        return;
    }
    let folder = place.folder().display().to_string();
    let mut child = place.start(&["build", "--builder", builder]);
    let sleeps = || processes().iter().any(|line| line.trim_end() == sleep);
    wait_for("the slow step", sleeps);
    let clients = || processes().into_iter().filter(|line| line.contains(&folder)).collect::<Vec<_>>();
    assert!(clients().iter().any(|line| line.contains("build")), "{:?}", clients());
    let status = program("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("run kill").success());
    child.wait().expect("it is dead");
    wait_for("the end of all clients", || clients().is_empty());
    wait_for("the end of the step", || !sleeps());
}

#[test]
fn f_p7_a_build_ends_with_the_run_that_was_killed_on_the_classic_store() {
    let test = "orphans::f_p7_a_build_ends_with_the_run_that_was_killed_on_the_classic_store";
    orphans_end(test, Engine::Classic, "docker", "-KILL");
}

#[test]
fn f_p7_a_build_ends_with_the_run_that_was_killed_on_the_containerd_store() {
    let test = "orphans::f_p7_a_build_ends_with_the_run_that_was_killed_on_the_containerd_store";
    orphans_end(test, Engine::Containerd, "here=docker", "-KILL");
}

#[test]
fn f_p7_a_build_ends_with_the_run_that_was_killed_with_podman() {
    let test = "orphans::f_p7_a_build_ends_with_the_run_that_was_killed_with_podman";
    orphans_end(test, Engine::Podman, "podman", "-KILL");
}

#[test]
fn f_p7_a_build_ends_with_the_run_that_was_killed_with_buildah() {
    let test = "orphans::f_p7_a_build_ends_with_the_run_that_was_killed_with_buildah";
    orphans_end(test, Engine::Buildah, "buildah", "-KILL");
}

#[test]
fn f_p7_a_step_ends_with_the_run_that_was_interrupted_with_podman() {
    let test = "orphans::f_p7_a_step_ends_with_the_run_that_was_interrupted_with_podman";
    orphans_end(test, Engine::Podman, "podman", "-INT");
}
