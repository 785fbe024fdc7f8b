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

#[test]
fn certificates_for_engines_elsewhere_do_not_hinder_one_of_this_machine() {
    let shell = "docker image inspect $POLYARCH_IMAGE > /dev/null && test -n \"$DOCKER_HOST\"";
    let test = format!("tests = [{{ host = {shell:?} }}]\n");
    let mut place = place(&format!("name = \"near\"\nplatforms = [\"linux/amd64\"]\n{test}"));
    let test = "refusals::certificates_for_engines_elsewhere_do_not_hinder_one_of_this_machine";
    if !Engine::Classic.equip(test, &mut place) {
        return;
    }
    place.set("DOCKER_TLS_VERIFY", "1");
    place.set("DOCKER_CERT_PATH", "/nowhere");
    let _ = place.run(&["build"]).well();
}

#[test]
fn f_g16_a_builder_is_called_by_a_name_that_no_line_obeys() {
    let plain = "name = \"named\"\nplatforms = [\"linux/amd64\"]\n";
    let mut place = place(plain);
    place.set("GITHUB_ACTIONS", "true");
    let long = format!("{}=docker", "x".repeat(65));
    for argument in ["=docker", "x\n::error::y=docker", "a b=docker", &long] {
        let answer = place.run(&["plan", "--builders", "--builder", argument]).ended(2);
        assert!(answer.stderr.contains("is no name of a builder"), "{argument:?}: {}", answer.stderr);
        assert!(answer.stderr.contains("1 to 64 letters"), "{argument:?}: {}", answer.stderr);
    }
    let _ = place.run(&["plan", "--builder", "unix:///x\n::error::y"]).ended(2);
    for key in [r#""""#, r#""x\n::error::y""#, r#""a b""#] {
        place.write("polyarch.toml", &format!("{plain}[builder.{key}]\nengine = \"docker\"\n"));
        let answer = place.run(&["plan", "--builders"]).ended(2);
        for told in ["polyarch.toml:3:", "is no name of a builder", "1 to 64 letters"] {
            assert!(answer.stderr.contains(told), "{key}: {}", answer.stderr);
        }
        assert!(!answer.stdout.contains("::error"), "{}", answer.stdout);
    }
}
