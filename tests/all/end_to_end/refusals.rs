//! Runs that cannot begin say so before anything is built.

use super::engines::Engine;
use crate::program::Place;

fn place(configuration: &str) -> Place {
    Place::with(&[("polyarch.toml", configuration), ("root/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")])
}

#[test]
fn f_g1_an_engine_that_does_not_answer() {
    let mut place = place("name = \"absent\"\nplatforms = [\"linux/amd64\"]\n");
    place.set("DOCKER_HOST", "unix:///nonexistent");
    let answer = place.run(&["build"]).ended(3);
    for said in ["/nonexistent", "polyarch doctor"] {
        assert!(answer.stderr.contains(said), "{said}: {}", answer.stderr);
    }
    assert!(place.newest_run().is_none_or(|run| !run.join("tmp").exists()), "nothing is left half done");
}

#[test]
fn f_g15_a_platform_that_nobody_builds_natively() {
    let mut place = place("name = \"foreign\"\nplatforms = [\"linux/amd64\", \"linux/s390x\"]\n");
    if !Engine::Classic.equip("refusals::f_g15_a_platform_that_nobody_builds_natively", &mut place) {
        return;
    }
    let answer = place.run(&["build"]);
    assert!(matches!(answer.code, Some(2..=4)), "{answer:?}");
    for said in ["linux/s390x", "emulate"] {
        assert!(answer.stderr.contains(said), "{said}: {}", answer.stderr);
    }
    let started = place.events().iter().any(|event| event["event"] == "job-started");
    assert!(!started, "nothing was begun, on the native platform neither");
}
