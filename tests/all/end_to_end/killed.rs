//! Builds without a daemon that are killed at once with all that they have started, as where the power fails: nobody asks a
//! program to end, so that what it has made stays until the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::process::Child;
use std::time::Duration;

use super::engines::{Engine, FOUNDATION, root_file_systems, wait_for};
use super::orphans::processes;
use crate::program::{Place, program, tell, variable};

const CONFIGURATION: &str = r#"
name = "killed"
platforms = ["linux/amd64"]

[image.slow]
secrets = { key = { env = "POLYARCH_CANARY" } }
"#;

const SECRET: &str = "canary-5ec4e7-0f-4-k1ll3d-bu1ld";

/// Within how many milliseconds after the start a round may kill.
const SPAN: u64 = 8_000;

fn family(test: &str, engine: Engine, sleep: &str) -> Option<Place> {
    let steps: String = (0..4).map(|number| format!("RUN echo {number} > /{number}\n")).collect();
    let secret = "RUN --mount=type=secret,id=key cat /run/secrets/key > /dev/null";
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("slow/Dockerfile", &format!("FROM root\n{steps}{secret}; {sleep}\n")),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return None;
    }
    let temporary = place.folder().join("tmp");
    std::fs::create_dir(&temporary).expect("a folder");
    place.set("TMPDIR", temporary);
    place.set("POLYARCH_CANARY", SECRET);
    Some(place)
}

/// Each process and all that descend from it, by their parents.
fn descendants(of: u32) -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parents.extend(parent.and_then(|parent| Some((id, parent.parse::<u32>().ok()?))));
    }
    let mut found = BTreeSet::from([of]);
    loop {
        let more: Vec<u32> =
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(id, _)| *id).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

fn send(signal: &str, processes: &BTreeSet<u32>) {
    let ids = processes.iter().map(u32::to_string);
    // One that has ended meanwhile is no fault.
    program("kill").arg(signal).args(ids).output().expect("run kill");
}

/// Kill a run and what it has started, none of which sees the others end: all stand still before.
fn kill_all(mut child: Child) {
    let mut stopped = BTreeSet::new();
    loop {
        let found: BTreeSet<u32> = descendants(child.id()).difference(&stopped).copied().collect();
        if found.is_empty() {
            break;
        }
        send("-STOP", &found);
        stopped.extend(found);
    }
    send("-KILL", &stopped);
    child.wait().expect("it is dead");
    // A step is no child of ours, and ends a moment later.
    wait_for("the end of all", || {
        stopped.iter().all(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.is_empty() || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
        })
    });
}

/// All containers of the storage, whoever has made them.
fn containers(place: &Place) -> BTreeSet<String> {
    let ids = place.ask("buildah", &["containers", "--all", "--quiet", "--notruncate"]);
    ids.lines().map(str::to_owned).collect()
}

/// Whether it is written down of a container what it is: one that is killed before that tells nobody whose it is.
fn is_known(place: &Place, container: &str) -> bool {
    let folder = place.folder().join("storage/graph/vfs-containers").join(container);
    folder.join("userdata/buildah.json").exists()
}

/// A container of somebody else's, made of an image that the storage has.
fn container_on(place: &Place, image: &str) -> String {
    let name = place.ask("buildah", &["from", "--pull-never", image]);
    let id = place.ask("buildah", &["inspect", "--format", "{{.ContainerID}}", name.trim()]);
    id.trim().to_owned()
}

/// The names that images of the storage have.
fn names(place: &Place) -> BTreeSet<String> {
    let listed: serde_json::Value =
        serde_json::from_str(&place.ask("buildah", &["images", "--json"])).expect("JSON");
    let images = listed.as_array().into_iter().flatten();
    let names = images.filter_map(|image| image["names"].as_array()).flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The files of a place that have the value of the secret.
fn traces(place: &Place) -> String {
    let found =
        program("grep").args(["--recursive", "--files-with-matches", SECRET]).arg(place.folder()).output();
    String::from_utf8_lossy(&found.expect("grep runs").stdout).into_owned()
}

/// What is in the folder for what is for a moment, but for the caches of builds.
fn temporary(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.folder().join("tmp")).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "buildah-cache").collect()
}

fn rounds(test: &str, engine: Engine) {
    let builder = format!("--builder={engine:?}").to_lowercase();
    let wanted = variable("POLYARCH_TEST_ROUNDS").and_then(|number| number.to_str()?.parse().ok());
    for round in 0..wanted.unwrap_or(2_u64) {
        // No other process sleeps for as long.
        let sleep = format!("sleep {}.{}{round}", std::process::id(), engine as usize);
        let Some(place) = family(test, engine, &sleep) else { return };
        let is_slow = round % 2 == 0;
        if is_slow {
            // What the storage has not got any more is pulled, under a name.
            let _ = place.run(&["build", "root", &builder]).well();
            place.ask("buildah", &["rmi", "--all", "--force"]);
        }
        let mut strangers: BTreeSet<String> =
            ["scratch", "scratch"].map(|image| container_on(&place, image)).into();
        let child = place.start(&["build", &builder]);
        match is_slow {
            true => wait_for("the slow step", || processes().iter().any(|line| line.trim_end() == sleep)),
            false => {
                let milliseconds = RandomState::new().hash_one(round) % SPAN;
                tell(&format!("{test}: round {round}, killed after {milliseconds} ms"));
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
        }
        kill_all(child);
        let left: BTreeSet<String> = containers(&place).difference(&strangers).cloned().collect();
        let pulled: BTreeSet<String> = names(&place);
        if is_slow {
            assert!(!left.is_empty(), "what was killed could not clean up");
            assert_ne!(traces(&place), "", "nor the secret");
            assert_ne!(temporary(&place), Vec::<String>::new(), "nor what was for a moment");
            let image = pulled.iter().find(|name| name.contains('@')).expect("an image of the store");
            strangers.insert(container_on(&place, image));
        }
        place.write("slow/Dockerfile", "FROM root\nRUN true\n");
        let answer = place.run(&["build", &builder]).well();
        let is_judged = |container: &String| is_slow || is_known(&place, container);
        let kept: BTreeSet<String> = containers(&place).into_iter().filter(is_judged).collect();
        assert_eq!(kept, strangers, "I-X1, I-X2: {}", answer.stderr);
        assert_eq!(traces(&place), "", "TM18");
        let kept = if is_slow { pulled } else { BTreeSet::new() };
        assert_eq!(names(&place), kept, "a name stays where a stranger's container stands on it");
        if is_slow {
            assert_eq!(temporary(&place), Vec::<String>::new());
            place.ask("buildah", &["rm", "--all"]);
            let _ = place.run(&["clean", &builder]).well();
            assert_eq!(names(&place), BTreeSet::new());
        }
        tell(&format!("{test}: round {round}, {} left, temporary: {:?}", left.len(), temporary(&place)));
    }
}

#[test]
fn g14_i_x1_i_x2_tm18_what_is_ours_alone_goes_after_a_build_was_killed_with_podman() {
    rounds("killed::g14_i_x1_i_x2_tm18_what_is_ours…_with_podman", Engine::Podman);
}

#[test]
fn g14_i_x1_i_x2_tm18_what_is_ours_alone_goes_after_a_build_was_killed_with_buildah() {
    rounds("killed::g14_i_x1_i_x2_tm18_what_is_ours…_with_buildah", Engine::Buildah);
}
