//! A build that failed and passes when it is tried once more: what may pass by itself, and what a cache spoilt.

use std::time::Duration;

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use crate::program::Place;

const FAMILY: &str = "name = \"again\"\nplatforms = [\"linux/amd64\"]\ntests = [{ run = \"cat /made\" }]\n";

fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", FAMILY),
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo {test} > /made\n")),
    ]);
    (engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"])).then_some(place)
}

/// Whether each retry of the newest run was without the engine's cache.
fn retries(place: &Place) -> Vec<bool> {
    let retried = place.events().into_iter().filter(|event| event["event"] == "job-retried");
    retried.map(|event| event["without_cache"] == true).collect()
}

#[test]
fn f_g3_f_g20_a_build_that_is_cut_off_passes_when_it_is_tried_again() {
    let test = "second_try::f_g3_f_g20_a_build_that_is_cut_off_passes_when_it_is_tried_again";
    let Some(mut place) = family(test, Engine::Containerd) else { return };
    let docker = place.ask("sh", &["-c", "command -v docker"]);
    let failed = place.folder().join("failed");
    // The first build alone loses its engine.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' build '*) if mkdir '{}' 2>/dev/null; then\n\
         echo 'ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF' >&2\n\
         exit 1\nfi;; esac\nexec {} \"$@\"\n",
        failed.display(),
        docker.trim()
    );
    place.put_before("docker", &script);
    let answer = place.run(&["build"]).well();
    assert!(failed.exists(), "the first build was cut off");
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64"), "{}", answer.stderr);
    assert_eq!(retries(&place), [false], "once, and with the cache: {}", answer.stderr);
}

/// How many seconds a list of packages, say, is good for.
const GOOD_FOR: u64 = 4;

fn passes_without_the_cache(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let build = |settings: &str, word: &str| {
        place.write("polyarch.toml", &format!("{FAMILY}[image.leaf]\n{settings}"));
        let listed = format!("RUN date +%s > /listed; echo {test}-{}\n", std::process::id());
        let used = format!("RUN echo {word}; test $(($(date +%s) - $(cat /listed))) -lt {GOOD_FOR}\n");
        place.write("leaf/Dockerfile", &format!("FROM root\n{listed}{used}"));
        place.run(&["build"])
    };
    let _ = build("", "first").well();
    std::thread::sleep(Duration::from_secs(GOOD_FOR + 1));

    let spoilt = build("", "second").ended(1);
    assert_eq!(retries(&place), [false; 0], "nobody has asked for it: {}", spoilt.stderr);
    let mended = build("retry-without-cache = true\n", "second").well();
    assert_eq!(ended(&place, "built"), jobs("leaf@linux/amd64"), "{}", mended.stderr);
    assert_eq!(retries(&place), [true], "{}", mended.stderr);

    // What fails by itself is tried once more, and no oftener.
    let failed = build("retry-without-cache = true\n", "third; exit 1").ended(1);
    assert_eq!(retries(&place), [true], "{}", failed.stderr);
}

#[test]
fn s3_30_a_build_that_a_cache_spoilt_passes_without_it_on_the_classic_store() {
    passes_without_the_cache("second_try-classic", Engine::Classic);
}

#[test]
fn s3_30_a_build_that_a_cache_spoilt_passes_without_it_on_the_containerd_store() {
    passes_without_the_cache("second_try-containerd", Engine::Containerd);
}
