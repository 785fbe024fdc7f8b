//! What must not get into a build, and what must not get out of it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::engines::{Engine, FOUNDATION, inspected, layers, root_file_systems};
use crate::program::{Answer, Place};

/// Names of images in an engine, which are removed with this.
struct Poison<'p>(&'p Place, [&'static str; 2]);

impl<'p> Poison<'p> {
    /// An image with a canary in it under each of the names.
    fn new(place: &'p Place, names: [&'static str; 2]) -> Self {
        std::fs::write(place.folder().join("canary"), "poison").expect("a canary");
        let folder = place.folder().to_str().expect("a path");
        let tar = place.folder().join("canary.tar");
        let tar = tar.to_str().expect("a path");
        place.ask("tar", &["-cf", tar, "-C", folder, "canary"]);
        for name in names {
            place.ask("docker", &["import", tar, name]);
        }
        Self(place, names)
    }
}

impl Drop for Poison<'_> {
    fn drop(&mut self) {
        for name in self.1 {
            let _ = self.0.program("docker").args(["image", "rm", "--force", name]).output();
        }
    }
}

fn poisoned(test: &str, engine: Engine, parent: &str, names: [&'static str; 2]) {
    let dockerfile = format!("FROM {parent}\nRUN test ! -e /canary && echo of the child > /word\n");
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"two\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n"),
        (&format!("{parent}/Dockerfile"), FOUNDATION),
        ("child/Dockerfile", &dockerfile),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, parent, &["amd64"]) {
        return;
    }
    let poison = Poison::new(&place, names);
    let _ = place.run(&["build", "--publish"]).well();
    drop(poison);
    let child = layers(&inspected(&place, "two/child:latest"), "linux/amd64");
    let parent = layers(&inspected(&place, &format!("two/{parent}:latest")), "linux/amd64");
    assert_eq!(child[..parent.len()], parent[..], "the child stands on the parent of this run");
}

#[test]
fn tm6_a_poisoned_local_tag_does_not_enter_the_build_on_the_classic_store() {
    let names = ["tm6-classic:latest", "two/tm6-classic:latest"];
    poisoned("trust::tm6_on_the_classic_store", Engine::Classic, "tm6-classic", names);
}

#[test]
fn tm6_a_poisoned_local_tag_does_not_enter_the_build_on_the_containerd_store() {
    let names = ["tm6-containerd:latest", "two/tm6-containerd:latest"];
    poisoned("trust::tm6_on_the_containerd_store", Engine::Containerd, "tm6-containerd", names);
}

/// Collects the command lines of all processes until it is stopped.
fn sample_processes(stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::SeqCst) {
            for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
                // A process may be gone before it is read.
                seen.extend(std::fs::read(entry.path().join("cmdline")).ok());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        seen
    })
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// The files below a folder that hold a text, as they are or unpacked by gzip.
fn holding(place: &Place, folder: &Path, canary: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in walkdir(folder) {
        let mut bytes = Vec::new();
        std::fs::File::open(&entry).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read a file");
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let unpacked = place.program("gzip").arg("-dc").arg(&entry).stderr(Stdio::null()).output();
            bytes.extend(unpacked.expect("run gzip").stdout);
        }
        if holds(&bytes, canary) {
            found.push(entry.display().to_string());
        }
    }
    found
}

fn walkdir(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => found.extend(walkdir(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn kept_secret(test: &str, engine: Engine) {
    const CANARY: &str = "canaryQXHZPTWKVJ";
    let used = "FROM root\nRUN --mount=type=secret,id=token grep -q canary /run/secrets/token && \
        cat /run/secrets/token && sha256sum /run/secrets/token > /proof\n";
    let configuration = r#"
name = "vault"
platforms = ["linux/amd64"]

[image.vault]
secrets = { token = { env = "VAULT_TOKEN" } }
tests = [{ run = "test -s /proof && test ! -s /run/secrets/token" }]
"#;
    let mut place = Place::with(&[
        ("polyarch.toml", configuration),
        ("root/Dockerfile", FOUNDATION),
        ("vault/Dockerfile", used),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    place.set("VAULT_TOKEN", CANARY);
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = sample_processes(stop.clone());
    let answer: Answer = place.run(&["build", "--publish", "--no-cache"]).well();
    stop.store(true, Ordering::SeqCst);
    let seen = sampler.join().expect("the sampler ends");
    assert!(seen.iter().any(|line| holds(line, "--secret")), "the build was seen at all");
    assert!(!seen.iter().any(|line| holds(line, CANARY)), "no command line holds it");
    assert!(!answer.stdout.contains(CANARY) && !answer.stderr.contains(CANARY), "it is not printed");
    assert_eq!(
        holding(&place, &place.store(), CANARY),
        Vec::<String>::new(),
        "no file of the store holds it"
    );
    let log = place.newest_run().expect("a run").join("logs");
    let logs: String = walkdir(&log).iter().map(|log| std::fs::read_to_string(log).expect("a log")).collect();
    assert!(logs.contains("***"), "where it was printed in the build, the log has stars: {logs}");
}

#[test]
fn tm18_a_secret_is_nowhere_but_in_its_step_on_the_classic_store() {
    kept_secret("trust::tm18_on_the_classic_store", Engine::Classic);
}

#[test]
fn tm18_a_secret_is_nowhere_but_in_its_step_on_the_containerd_store() {
    kept_secret("trust::tm18_on_the_containerd_store", Engine::Containerd);
}

/// An untrusted run leaves a canary in caches that its next push and the trusted build of the same Dockerfile mount, and do
/// not see.
fn cached(test: &str, engine: Engine) {
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"two\"\nplatforms = [\"linux/amd64\"]\n"),
        ("root/Dockerfile", FOUNDATION),
    ]);
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let own = place.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
    let build = |what: &str, scope: &str| {
        let mounts = format!(
            "RUN --mount=type=cache,id={own},target=/one \\\n  --mount=type=cache,target=/{own},sharing=locked \
             {what}; echo seen: $(ls /one /{own})\n"
        );
        place.write("child/Dockerfile", &format!("FROM root\n{mounts}"));
        let _ = place.run(&["build", "--scope", scope, "child"]).well();
        let log = place.log("child.linux-amd64");
        let seen =
            log.lines().filter_map(|line| line.split_once(" seen: /one:").or(line.split_once("seen: /one:")));
        let seen: Vec<String> = seen.map(|(_, seen)| seen.to_owned()).collect();
        assert_eq!(seen.len(), 1, "what it does was done by another: {log}");
        seen.concat()
    };
    let filled = build(&format!("touch /one/canary-a /{own}/canary-b"), "pr-1");
    assert!(filled.contains("canary-a") && filled.contains("canary-b"), "{filled}");
    // The first leaves the very step that the others do in the engine's cache of layers.
    for scope in ["pr-1", "pr-2", "trusted"] {
        let seen = build("echo honest", scope);
        assert!(!seen.contains("canary"), "{scope}: {seen}");
    }
    // What is trusted finds its own again.
    let filled = build(&format!("touch /one/canary-a /{own}/canary-b"), "trusted");
    let again = build("echo again", "trusted");
    for seen in [filled, again] {
        assert!(seen.contains("canary-a") && seen.contains("canary-b"), "{seen}");
    }
}

#[test]
fn tm10_caches_of_an_untrusted_run_are_not_seen_by_others_on_the_classic_store() {
    cached("trust::tm10_on_the_classic_store", Engine::Classic);
}

#[test]
fn tm10_caches_of_an_untrusted_run_are_not_seen_by_others_on_the_containerd_store() {
    cached("trust::tm10_on_the_containerd_store", Engine::Containerd);
}

#[test]
fn tm10_caches_of_an_untrusted_run_are_not_seen_by_others_of_buildah() {
    cached("trust::tm10_of_buildah", Engine::Buildah);
}
