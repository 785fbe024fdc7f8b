//! Runs that are stopped in the middle: what they leave, and how the next one goes on.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use polyarch::oci::{Layout, Store as _};

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags, wait_for};
use crate::program::{Answer, Place, program};

const CONFIGURATION: &str = r#"
name = "stopped"
platforms = ["linux/amd64"]

[image.checked]
tests = [{ run = "sleep 300" }]
"#;

/// A parent that is quickly built, a child in whose build a command sleeps and one in whose test it does.
fn family(test: &str, engine: Engine) -> Option<Place> {
    let slow = format!("FROM root\nRUN echo {} && sleep 300\n", unique());
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("slow/Dockerfile", &slow),
        ("checked/Dockerfile", "FROM root\nRUN echo of the test > /word\n"),
    ]);
    (engine.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"])).then_some(place)
}

/// A word that makes a step another than that of any test before, so that no engine shares it.
fn unique() -> String {
    format!("{}-{:?}", std::process::id(), Instant::now())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

/// Begin a run, and wait until one child is in its sleeping step and the other in its sleeping test.
fn in_the_middle(place: &Place) -> (Child, PathBuf) {
    let child = place.start(&["build", "--slots", "3"]);
    let is_in =
        |event: &serde_json::Value, job: &str, kind: &str| event["event"] == kind && event["job"] == job;
    wait_for("the middle of the run", Duration::from_secs(60), || {
        let Some(run) = place.newest_run().filter(|run| run.join("events.jsonl").exists()) else {
            return false;
        };
        let events = place.events();
        let sleeps =
            |event: &serde_json::Value| event["step"].as_str().is_some_and(|step| step.contains("sleep"));
        let built = events.iter().any(|event| is_in(event, "slow@linux/amd64", "job-step") && sleeps(event));
        let checked = events.iter().any(|event| is_in(event, "checked@linux/amd64", "job-kept"));
        built && checked && !containers(place, &run).is_empty()
    });
    let run = place.newest_run().expect("the run");
    (child, run)
}

fn name_of(run: &Path) -> String {
    run.file_name().expect("a run has a name").to_string_lossy().into_owned()
}

/// The repository of images that the run's containers are of, as the engine names it: the address of the store.
fn pulled_from(place: &Place, run: &Path) -> String {
    let image =
        place.ask("docker", &["inspect", "--format", "{{.Config.Image}}", containers(place, run).trim()]);
    image.split('@').next().expect("a repository").to_owned()
}

/// What the engine holds by digest of a repository.
fn held(place: &Place, repository: &str) -> Vec<String> {
    let format = "{{.Repository}}@{{.Digest}}";
    let names = place.ask("docker", &["image", "ls", "--digests", "--format", format]);
    names.lines().filter(|name| name.starts_with(&format!("{repository}@"))).map(str::to_owned).collect()
}

fn containers(place: &Place, run: &Path) -> String {
    let filter = format!("label=dev.polyarch.run={}", name_of(run));
    place.ask("docker", &["ps", "--all", "--quiet", "--filter", &filter])
}

#[track_caller]
fn nothing_is_left_of(place: &Place, run: &Path) {
    assert_eq!(containers(place, run), "", "no container");
    let names = place.ask("docker", &["image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"]);
    let build_tag = format!(":build-{}", name_of(run));
    assert!(!names.contains(&build_tag), "no name of an image: {names}");
    assert!(!run.join("tmp").exists(), "no temporary file");
    let tags: Vec<String> = tags(place, "scopes/trusted").into_keys().collect();
    assert!(!tags.iter().any(|tag| tag.starts_with("build-")), "no tag of a build in the store: {tags:?}");
    let uploads = std::fs::read_dir(place.store().join("uploads")).map_or(0, Iterator::count);
    assert_eq!(uploads, 0, "no upload that never ends");
}

/// Have the store hold what the engine pushed for a job of the run, at the moment when the run is stopped.
fn tag_of_a_build(place: &Place, run: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Layout::open(place.store()).expect("a store");
        let scope = "scopes/trusted".parse().expect("a repository");
        let records = store.tags(&scope, None, 1).await.expect("tags");
        let pointer = records.first().expect("the record of the parent").clone().into();
        let document = store.read_document(&scope, &pointer).await.expect("a record");
        let tag = format!("build-{}-9", name_of(run)).parse().expect("a tag");
        store.write_document(&scope, &document, &[tag]).await.expect("written");
    });
}

fn send(signal: &str, child: &Child) {
    let status = program("kill").args([signal, &child.id().to_string()]).status().expect("run kill");
    assert!(status.success());
}

fn goes_on(place: &Place) {
    place.write("polyarch.toml", &CONFIGURATION.replace("300", "0"));
    place.write("slow/Dockerfile", "FROM root\nRUN true\n");
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(ended(place, "reused"), jobs("root@linux/amd64"), "what was kept is not built again");
    assert_eq!(ended(place, "checked"), jobs("checked@linux/amd64"), "what was built needs its check only");
    assert_eq!(ended(place, "built"), jobs("slow@linux/amd64"));
}

fn interrupted(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let (child, run) = in_the_middle(&place);
    tag_of_a_build(&place, &run);
    let begin = Instant::now();
    send("-INT", &child);
    let answer = Answer::from(child.wait_with_output().expect("it ends")).ended(130);
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    assert!(answer.stderr.contains("goes on from here"), "{}", answer.stderr);
    nothing_is_left_of(&place, &run);
    let last = place.events().pop().expect("events");
    assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &130.into()));
    goes_on(&place);
}

fn killed(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let (mut child, run) = in_the_middle(&place);
    tag_of_a_build(&place, &run);
    child.kill().expect("kill it");
    child.wait().expect("it is dead");
    assert_ne!(containers(&place, &run), "", "what was killed could not clean up");
    let repository = pulled_from(&place, &run);
    assert_ne!(held(&place, &repository), Vec::<String>::new(), "nor the image that it pulled for a test");
    goes_on(&place);
    nothing_is_left_of(&place, &run);
    assert_eq!(held(&place, &repository), Vec::<String>::new(), "no image pulled for a test");
}

/// A registry on loopback that takes connections and never answers; hears of each.
fn silent_registry() -> (String, std::sync::mpsc::Receiver<std::net::TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, taken) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = sender.send(stream);
        }
    });
    (address, taken)
}

#[test]
fn f_p3_a_publication_that_is_stopped_before_its_tags_changes_nothing() {
    let test = "interrupted::f_p3_a_publication_that_is_stopped_before_its_tags_changes_nothing";
    let mut place =
        Place::with(&[("polyarch.toml", "platforms = [\"linux/amd64\"]\n"), ("root/Dockerfile", FOUNDATION)]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let (registry, taken) = silent_registry();
    for command in [["build", "--publish", "--to", &registry].as_slice(), &["publish", "--to", &registry]] {
        let child = place.start(command);
        let open = taken.recv_timeout(Duration::from_secs(120)).expect("the publication begins");
        send("-INT", &child);
        let answer = Answer::from(child.wait_with_output().expect("it ends")).ended(130);
        assert!(answer.stderr.contains("goes on from here"), "{}", answer.stderr);
        drop((open, taken.try_iter().count()));
    }
    let last = place.events().pop().expect("events");
    assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &130.into()));
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64"), "what was built stands");
}

#[test]
fn f_p3_load_does_not_wait_for_a_silent_engine_once_it_is_stopped() {
    let test = "interrupted::f_p3_load_does_not_wait_for_a_silent_engine_once_it_is_stopped";
    let mut place =
        Place::with(&[("polyarch.toml", "platforms = [\"linux/amd64\"]\n"), ("root/Dockerfile", FOUNDATION)]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let _ = place.run(&["build"]).well();
    let (engine, taken) = silent_registry();
    place.set("DOCKER_HOST", format!("tcp://{engine}"));
    let child = place.start(&["load", "root"]);
    let open = taken.recv_timeout(Duration::from_secs(60)).expect("the engine is asked");
    send("-INT", &child);
    let sent = Instant::now();
    let _ = Answer::from(child.wait_with_output().expect("it ends")).ended(130);
    assert!(sent.elapsed() < Duration::from_secs(20), "it took {:?}", sent.elapsed());
    drop(open);
}

#[test]
fn sigint_leaves_nothing_on_the_classic_store() {
    interrupted("interrupted::sigint_leaves_nothing_on_the_classic_store", Engine::Classic);
}

#[test]
fn sigint_leaves_nothing_on_the_containerd_store() {
    interrupted("interrupted::sigint_leaves_nothing_on_the_containerd_store", Engine::Containerd);
}

#[test]
fn the_run_after_sigkill_sweeps_on_the_classic_store() {
    killed("interrupted::the_run_after_sigkill_sweeps_on_the_classic_store", Engine::Classic);
}
