//! An engine that others use too, and that holds stale things by the names of a family (S4 row 31).

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use super::hosts::Hosts;
use crate::program::Place;

const FAMILY: &str = "name = \"dirty\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n";

/// Names by which something stale may be taken for the parent.
const STALE: [&str; 4] =
    ["parent:latest", "dirty/parent:latest", "localhost/dirty/parent:latest", "polyarch/parent:latest"];

/// A parent and a child, neither of which has the canary of what is stale; the root file system is in both places.
fn family(test: &str) -> Option<Place> {
    let built_upon = "RUN test ! -e /canary && test $(cat /word) = well\n";
    let place = Place::with(&[
        ("polyarch.toml", FAMILY),
        ("parent/Dockerfile", &format!("{FOUNDATION}RUN echo well > /word\n")),
        ("child/Dockerfile", &format!("FROM parent\n{built_upon}")),
    ]);
    root_file_systems(test, &place, "parent", &["amd64"]).then_some(place)
}

/// What a stranger has left there and is at, and what a run and a `clean` make of it.
fn stale_things_are_not_used_and_strangers_left_alone(place: &Place, builder: &str) {
    // It has what an honest one has, so that a build upon it would go on as far as the canary.
    let stale = place.folder().join("stale");
    std::fs::create_dir_all(&stale).expect("a folder");
    let rootfs = place.family().join("parent/rootfs/amd64").display().to_string();
    place.ask("cp", &["-a", &rootfs, &stale.join("rootfs").display().to_string()]);
    std::fs::write(stale.join("canary"), "stale").expect("a canary");
    let dockerfile = "FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nCOPY canary /canary\nCOPY canary /word\n";
    std::fs::write(stale.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    let folder = stale.display().to_string();
    for name in STALE {
        place.ask("docker", &["build", "--quiet", "--tag", name, &folder]);
    }
    let archive = place.family().join("parent.tar").display().to_string();
    place.ask("docker", &["save", "--output", &archive, STALE[0]]);
    let name = format!("s4-31-{}", std::process::id());
    let run = ["run", "--detach", "--network", "none", "--name", &name, STALE[0], "busybox", "sleep", "3600"];
    place.ask("docker", &run);
    let look = |what: &[&str], form: &str| place.ask("docker", &[what, &["--format", form]].concat());
    let container = || look(&["inspect", &name], "{{.Id}} {{.State.Status}} {{.State.StartedAt}}");
    let images = || STALE.map(|name| look(&["image", "inspect", name], "{{.Id}}"));
    let before = (container(), images());

    let built = place.run(&["build", "--publish", "--builder", builder]);
    let logs = ["parent", "child"].map(|image| place.log(&format!("{image}.linux-amd64")));
    let ends = ended(place, "built");
    let cleaned = place.run(&["clean", "--builder", builder]);
    let after = (container(), images());
    place.ask("docker", &["rm", "--force", &name]);
    for name in STALE {
        place.ask("docker", &["image", "rm", "--force", name]);
    }
    let answer = built.well();
    assert_eq!(ends, jobs("parent@linux/amd64 child@linux/amd64"), "{}", answer.stderr);
    assert!(logs.iter().all(|log| !log.contains("stale")), "{logs:?}");
    let _ = cleaned.well();
    assert_eq!(before, after, "I-X2: what is a stranger's stays, and is at work");
}

#[test]
fn s4_31_a_dirty_engine_gives_a_clean_result() {
    let test = "dirty::s4_31_a_dirty_engine_gives_a_clean_result";
    for engine in [Engine::Classic, Engine::Containerd] {
        let Some(mut place) = family(test) else { return };
        if engine.equip(test, &mut place) {
            stale_things_are_not_used_and_strangers_left_alone(&place, "here=docker");
        }
    }
}

#[test]
fn s4_31_a_dirty_host_that_is_shared_gives_a_clean_result() {
    let test = "dirty::s4_31_a_dirty_host_that_is_shared_gives_a_clean_result";
    let Some(mut place) = family(test) else { return };
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    place.set("DOCKER_HOST", format!("unix://{}", hosts.socket("west").display()));
    stale_things_are_not_used_and_strangers_left_alone(&place, "ssh://west");
}
