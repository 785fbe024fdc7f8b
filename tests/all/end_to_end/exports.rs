//! Exports, as those read them who they are for: both kinds of engines, Podman, skopeo.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::engines::{Engine, FOUNDATION, inspected, printed, root_file_systems, wait_for};
use crate::program::{Answer, Place, program, skip};

/// Loaded images have names of their own by test, since engines are shared.
fn configuration(name: &str) -> String {
    format!(
        "name = \"polyarch-test-export\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\ntests = [\"true\"]\n\
         [tags]\ncommon = [\"{name}\"]\n\
         [[export]]\nimages = [\"verdi\"]\nname = \"hysds-{{image}}-{{tag}}{{suffix}}.tar.gz\"\n"
    )
}

/// A built family: `base`, and `verdi` upon it, which prints a word.
fn built(test: &str, name: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", &configuration(name)),
        ("base/Dockerfile", FOUNDATION),
        (
            "verdi/Dockerfile",
            "FROM base\nARG TARGETARCH\nRUN echo verdi on $TARGETARCH > /word\nCMD [\"cat\", \"/word\"]\n",
        ),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "base", &["386", "amd64"]) {
        return None;
    }
    let _ = place.run(&["build"]).well();
    Some(place)
}

/// Export with these arguments into a folder; its path.
#[track_caller]
fn exported(place: &Place, folder: &str, arguments: &[&str]) -> PathBuf {
    let path = place.folder().join(folder);
    let to = path.display().to_string();
    let _ = place.run(&[&["export", "--to", &to], arguments].concat()).well();
    path
}

/// Load a file into the engine, run what it says that it loaded, and take it away again.
#[track_caller]
fn loads_and_runs(place: &Place, file: &Path, name: &str, word: &str) {
    let loaded = place.ask("docker", &["load", "-q", "-i", &file.display().to_string()]);
    assert_eq!(loaded, format!("Loaded image: {name}\n"), "{}", file.display());
    let platform = if word.ends_with("386") { "linux/386" } else { "linux/amd64" };
    let printed = printed(place, &[], &["--network", "none", "--platform", platform, name]);
    assert_eq!(printed, format!("{word}\n"), "{}", file.display());
    place.ask("docker", &["rmi", "-f", name]);
}

#[test]
fn the_classic_store_loads_and_runs_what_was_exported() {
    let test = "exports::the_classic_store_loads_and_runs_what_was_exported";
    let Some(place) = built(test, "classic", Engine::Classic) else { return };
    let name = "polyarch-test-export/verdi:classic";
    let folder = exported(&place, "gzip", &[]);
    loads_and_runs(&place, &folder.join("hysds-verdi-classic.tar.gz"), name, "verdi on amd64");
    loads_and_runs(&place, &folder.join("hysds-verdi-classic-386.tar.gz"), name, "verdi on 386");
    let folder = exported(&place, "plain", &["verdi", "--name", "{image}{suffix}.tar", "--tag", "v6"]);
    loads_and_runs(&place, &folder.join("verdi.tar"), "polyarch-test-export/verdi:v6", "verdi on amd64");
}

#[test]
fn the_containerd_store_loads_and_runs_what_was_exported() {
    let test = "exports::the_containerd_store_loads_and_runs_what_was_exported";
    let Some(place) = built(test, "containerd", Engine::Containerd) else { return };
    let name = "polyarch-test-export/verdi:containerd";
    let folder = exported(&place, "gzip", &[]);
    loads_and_runs(&place, &folder.join("hysds-verdi-containerd.tar.gz"), name, "verdi on amd64");
    for (at, arguments) in [
        ["--format", "docker", "--name", "{image}{suffix}.tar.zst"],
        ["--format", "oci", "--name", "{image}{suffix}.tar"],
        ["--format", "oci", "--name", "{image}{suffix}.tar.gz"],
    ]
    .iter()
    .enumerate()
    {
        let folder = exported(&place, &at.to_string(), &[&["verdi"], &arguments[..]].concat());
        let file = folder.join(arguments[3].replace("{image}", "verdi").replace("{suffix}", ""));
        loads_and_runs(&place, &file, name, "verdi on amd64");
    }
}

/// What skopeo prints, or `None`, having said why, where it is not there.
#[track_caller]
fn skopeo(test: &str, place: &Place, arguments: &[&str]) -> Option<String> {
    match place.program("skopeo").args(arguments).output() {
        Ok(output) => Some(Answer::from(output).well().stdout),
        Err(error) => {
            skip(test, &format!("no skopeo: {error}"));
            None
        }
    }
}

#[test]
fn skopeo_and_podman_read_both_formats_and_digests_stay() {
    let test = "exports::skopeo_and_podman_read_both_formats_and_digests_stay";
    let Some(place) = built(test, "others", Engine::Classic) else { return };
    let _ = place.run(&["publish"]).well();
    let published = inspected(&place, "polyarch-test-export/verdi:others");
    let oci =
        exported(&place, "oci", &["verdi", "--format", "oci", "--name", "{image}.tar"]).join("verdi.tar");
    let docker = exported(&place, "docker", &["verdi", "--name", "{image}{suffix}.tar"]).join("verdi.tar");

    let source = format!("oci-archive:{}:others", oci.display());
    let Some(raw) = skopeo(test, &place, &["inspect", "--raw", &source]) else { return };
    let index: Value = serde_json::from_str(&raw).expect("an index is JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        polyarch::oci::Digest::of(raw.as_bytes()).to_string(),
        published["digest"].as_str().expect("a digest"),
        "the index of all platforms is the one that is published"
    );
    let copy = format!("dir:{}", place.folder().join("copy").display());
    skopeo(test, &place, &["copy", "-q", "--all", &source, &copy]).expect("it is there");

    let source = format!("docker-archive:{}:polyarch-test-export/verdi:others", docker.display());
    let config = skopeo(test, &place, &["inspect", "--config", "--raw", &source]).expect("it is there");
    let image = published["images"]
        .as_array()
        .expect("images")
        .iter()
        .find(|image| image["platform"] == "linux/amd64");
    assert_eq!(
        polyarch::oci::Digest::of(config.as_bytes()).to_string(),
        image.expect("an image")["config"].as_str().expect("a digest"),
        "the configuration is the engine's, byte for byte"
    );
    podman_loads(test, &place, &[&oci, &docker]);
}

fn podman_loads(test: &str, place: &Place, files: &[&Path]) {
    let storage = |name: &str| place.folder().join(name).display().to_string();
    let (root, run) = (storage("podman"), storage("podman-run"));
    let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
    let podman = |arguments: &[&str]| place.program("podman").args(own).args(arguments).output();
    if let Err(error) = podman(&["--version"]) {
        return skip(test, &format!("no podman: {error}"));
    }
    for file in files {
        let loaded = podman(&["load", "-q", "-i", &file.display().to_string()]).expect("run podman");
        let loaded = Answer::from(loaded).well().stdout;
        assert!(loaded.contains("polyarch-test-export/verdi:others"), "{loaded}");
    }
}

#[test]
fn a_full_disk_an_unwritable_folder_and_a_signal_leave_nothing() {
    let test = "exports::a_full_disk_an_unwritable_folder_and_a_signal_leave_nothing";
    let Some(place) = built(test, "nothing", Engine::Classic) else { return };
    let refused = place.run(&["export", "--to", "/proc/polyarch"]).ended(3);
    assert!(refused.stderr.contains("/proc/polyarch"), "{}", refused.stderr);

    let small = place.folder().join("small");
    std::fs::create_dir(&small).expect("a mount point");
    let script = "mount -t tmpfs -o size=600k none \"$1\" || exit 99; \
        \"$0\" export --to \"$1/to\"; code=$?; find \"$1\" -mindepth 1; exit $code";
    let mut unshare = place.program("unshare");
    unshare.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_polyarch")]).arg(&small);
    unshare.env("POLYARCH_STORE", place.store());
    match unshare.output().map(Answer::from) {
        Ok(answer) if answer.code == Some(3) => {
            assert_eq!(answer.stdout, "", "nothing is left: {}", answer.stderr);
            assert!(answer.stderr.contains("df -h"), "{}", answer.stderr);
        }
        Ok(answer) if answer.code == Some(99) || answer.stderr.contains("unshare") => {
            skip(test, "no namespace with a file system of its own can be made");
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn f_p3_a_signal_ends_an_export_and_nothing_is_left() {
    let test = "exports::f_p3_a_signal_ends_an_export_and_nothing_is_left";
    let mut place = Place::with(&[
        (
            "polyarch.toml",
            "name = \"polyarch-test-export\"\nplatforms = [\"linux/amd64\"]\ntests = [\"true\"]\n",
        ),
        ("a/Dockerfile", &format!("{FOUNDATION}RUN dd if=/dev/urandom of=/noise bs=1M count=192\n")),
    ]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "a", &["amd64"]) {
        return;
    }
    let _ = place.run(&["build"]).well();
    let folder = place.folder().join("to");
    let stopped = || {
        let mut child = place.start(&["export", "a", "--to", &folder.display().to_string()]);
        wait_for("a file that is not whole", || {
            let parts = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let is_begun = parts.filter_map(|part| part.metadata().ok()).any(|part| part.len() > 0);
            is_begun || child.try_wait().expect("its state").is_some()
        });
        let _ = program("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status();
        Answer::from(child.wait_with_output().expect("it ends"))
    };
    let mut answer = stopped();
    // One that had ended by then was faster than the test.
    for _ in 0..10 {
        if answer.code != Some(0) {
            break;
        }
        std::fs::remove_dir_all(&folder).expect("nothing is there");
        answer = stopped();
    }
    let answer = answer.ended(130);
    assert!(answer.stderr.contains("stopped by SIGINT"), "{}", answer.stderr);
    assert!(!folder.exists(), "{:?}", std::fs::read_dir(&folder).map(Iterator::count));
}
