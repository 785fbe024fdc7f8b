//! A run that is killed at each named moment (F-P1), and at any (F-P2): the next one goes on from there, and nothing half is
//! left.
//!
//! A named moment is when a file gets the name by which it counts, which strace waits for. What names there are a run before
//! has shown: keys and the digests of what the engine has built already are the same.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, RandomState};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags};
use super::interrupted::{nothing_is_left_of, unique};
use crate::program::{Place, program, skip, tell, variable};

const CONFIGURATION: &str =
    "name = \"crash\"\nplatforms = [\"linux/amd64\"]\ntests = [{ run = \"cat /made\" }]\n";

/// A moment of a run: what it does then to which file, and how its one job ends in the next run.
struct Moment {
    name: &'static str,
    call: &'static str,
    file: PathBuf,
    next: &'static str,
}

/// The moments of a run as the one that has been.
fn moments(place: &Place) -> Vec<Moment> {
    let repository = place.store().join("repositories/scopes/trusted");
    let tag = |start: &str| {
        let names = tags(place, "scopes/trusted").into_keys();
        let name = names.into_iter().find(|name| name.starts_with(start));
        repository.join("_tags").join(name.unwrap_or_else(|| panic!("no tag {start}")))
    };
    let events = place.events();
    let kept = events.iter().find(|event| event["event"] == "job-kept").expect("an image");
    let hex = |member: &str| kept[member].as_str().expect("a digest").replace("sha256:", "");
    let blob = |hex: &str| place.store().join("blobs/sha256").join(hex);
    let moment = |name, call, file, next| Moment { name, call, file, next };
    vec![
        moment("plan", "openat", place.family().join("root/Dockerfile"), "built"),
        moment("the store is made", "/^rename", place.store().join("store.json"), "built"),
        moment("ingest", "/^rename", blob(&hex("config")), "built"),
        moment("commit", "/^rename", blob(&hex("image")), "built"),
        moment("record of the image", "/^rename", tag("image-"), "built"),
        moment("record of the test", "/^rename", tag("checks-"), "checked"),
        moment("name of what has passed", "/^rename", tag("tested-"), "reused"),
        moment("end", "/^rename", tag("durations"), "reused"),
    ]
}

/// Begin a run, and have it killed at a moment.
fn killed_at(place: &Place, moment: &Moment) {
    let mut strace = place.program("strace");
    // With -D the run is our own child, and strace its grandchild. With --seccomp-bpf it would send no signal.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P"]).arg(&moment.file);
    strace.args(["-e", &format!("trace={}", moment.call)]);
    strace.args(["-e", &format!("inject={}:signal=KILL:when=1", moment.call)]);
    strace.arg(env!("CARGO_BIN_EXE_polyarch")).arg("build").env("POLYARCH_STORE", place.store());
    let status = strace.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("strace runs");
    assert_eq!(status.signal(), Some(9), "{}: {status}", moment.name);
}

/// The folders of the store in which something is only while a run goes on.
const FOLDERS: [&str; 3] = ["uploads", "leases", "claims"];

fn left_in(place: &Place, folder: &str) -> usize {
    std::fs::read_dir(place.store().join(folder)).map_or(0, Iterator::count)
}

/// One image, whose test looks at what its build has made; `false`, having said why, where it cannot be built.
fn family(test: &str) -> Option<Place> {
    let mut place = Place::with(&[("polyarch.toml", CONFIGURATION)]);
    change(&place);
    let is_there =
        Engine::Classic.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"]);
    is_there.then_some(place)
}

/// Make the image another than any before.
fn change(place: &Place) {
    place.write("root/Dockerfile", &format!("{FOUNDATION}RUN echo {} > /made\n", unique()));
}

/// The next run goes on from what runs before have done, says how its one job ended, and leaves nothing of them.
#[track_caller]
fn goes_on(place: &Place, killed: &[PathBuf], next: &[&str], when: &str) {
    let answer = place.run(&["build"]).well();
    let job = jobs("root@linux/amd64");
    assert!(next.iter().any(|how| ended(place, how) == job), "{when}: not {next:?}: {}", answer.stderr);
    killed.iter().for_each(|run| nothing_is_left_of(place, run));
    for folder in FOLDERS {
        assert_eq!(left_in(place, folder), 0, "{when}: {folder}");
    }
    let _ = place.run(&["gc", "--scrub"]).well();
    let again = place.run(&["build"]).well();
    assert!(again.stderr.contains("nothing to build"), "{when}: {}", again.stderr);
}

#[test]
fn f_p1_a_run_that_is_killed_at_any_named_moment_is_gone_on_with_by_the_next() {
    let test = "crash_points::f_p1_a_run_that_is_killed_at_any_named_moment_is_gone_on_with_by_the_next";
    let Some(place) = family(test) else { return };
    if program("strace").arg("-V").output().is_err() {
        return skip(test, "no strace");
    }
    let _ = place.run(&["build"]).well();
    for moment in moments(&place) {
        std::fs::remove_dir_all(place.store()).expect("the store goes");
        killed_at(&place, &moment);
        let left = FOLDERS.map(|folder| left_in(&place, folder));
        tell(&format!("{}: {left:?} of {FOLDERS:?} were left", moment.name));
        goes_on(&place, place.newest_run().as_slice(), &[moment.next], moment.name);
    }
}

/// The seed of moments, and how many rounds there are; `POLYARCH_TEST_SEED` and `POLYARCH_TEST_ROUNDS` say others.
fn seed_and_rounds() -> (u64, u64) {
    let said = |name: &str| variable(name).and_then(|number| number.to_str()?.parse().ok());
    let any = RandomState::new().hash_one(std::process::id()) % 1_000_000;
    (said("POLYARCH_TEST_SEED").unwrap_or(any), said("POLYARCH_TEST_ROUNDS").unwrap_or(6))
}

#[test]
fn f_p2_a_run_that_is_killed_at_any_time_is_gone_on_with_by_the_next() {
    let test = "crash_points::f_p2_a_run_that_is_killed_at_any_time_is_gone_on_with_by_the_next";
    let Some(place) = family(test) else { return };
    let begun = Instant::now();
    let _ = place.run(&["build"]).well();
    let whole = u64::try_from(begun.elapsed().as_millis()).expect("a short time");
    let (seed, rounds) = seed_and_rounds();
    tell(&format!("{test}: POLYARCH_TEST_SEED={seed}, {whole} ms as a whole"));
    for round in 0..rounds {
        change(&place);
        let dice = |what: &str| BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, round, what));
        let mut killed = Vec::new();
        // One is killed while it goes on from another, too.
        for number in ["first", "second"].iter().take(1 + (dice("how many") % 2) as usize) {
            let time = Duration::from_millis(dice(number) % whole);
            let mut child = place.start(&["build"]);
            std::thread::sleep(time);
            child.kill().expect("kill it");
            let status = child.wait().expect("it is dead");
            killed.extend(place.newest_run());
            tell(&format!("{test}: round {round}, killed after {time:?}: {status}"));
        }
        goes_on(&place, &killed, &["built", "checked", "reused"], &format!("round {round} of seed {seed}"));
    }
}
