//! A build that failed and passes when it is tried once more: what may pass by itself, and what a cache spoilt.

use std::time::{Duration, UNIX_EPOCH};

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

/// A second by the clock in which nothing was built yet, once it has come.
fn next_second() -> u64 {
    let now = || UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    let next = now() + 1;
    while now() < next {
        std::thread::sleep(Duration::from_millis(50));
    }
    next
}

fn passes_without_the_cache(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let builder = match engine {
        Engine::Podman | Engine::Buildah => Some(format!("--builder={engine:?}").to_lowercase()),
        Engine::Classic | Engine::Containerd => None,
    };
    // What was listed, packages say, is of no use to a step that wants a newer list.
    let build = |settings: &str, word: &str, since: u64| {
        place.write("polyarch.toml", &format!("{FAMILY}[image.leaf]\n{settings}"));
        let listed = format!("RUN date +%s > /listed; echo {test}-{}\n", std::process::id());
        let used = format!("RUN echo {word}; test $(cat /listed) -ge {since}\n");
        place.write("leaf/Dockerfile", &format!("FROM root\n{listed}{used}"));
        place.run(&["build"].into_iter().chain(builder.as_deref()).collect::<Vec<_>>())
    };
    let _ = build("", "first", 0).well();
    let since = next_second();

    let spoilt = build("", "second", since).ended(1);
    assert_eq!(retries(&place), [false; 0], "nobody has asked for it: {}", spoilt.stderr);
    let mended = build("retry-without-cache = true\n", "second", since).well();
    assert_eq!(ended(&place, "built"), jobs("leaf@linux/amd64"), "{}", mended.stderr);
    assert_eq!(retries(&place), [true], "{}", mended.stderr);

    // What fails by itself is tried once more, and no oftener.
    let failed = build("retry-without-cache = true\n", "third; exit 1", since).ended(1);
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

#[test]
fn s3_30_a_build_that_a_cache_spoilt_passes_without_it_in_podman() {
    passes_without_the_cache("second_try-podman", Engine::Podman);
}

#[test]
fn s3_30_a_build_that_a_cache_spoilt_passes_without_it_in_buildah() {
    passes_without_the_cache("second_try-buildah", Engine::Buildah);
}
