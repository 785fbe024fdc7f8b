//! Runs that are stopped in the middle: what they leave, and how the next one goes on.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use polyarch::oci::{Digest, Layout, Store as _};

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags, wait_for};
use crate::program::{Answer, Place, program, skip, tell, variable};

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
pub(super) fn unique() -> String {
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
    wait_for("the middle of the run", || {
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
pub(super) fn nothing_is_left_of(place: &Place, run: &Path) {
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

/// How a run is stopped: the signal, its exit code, and within how many seconds it must be gone with all that is of it.
/// The second time is F-P4: what a CI service lets pass before it kills.
const STOPPED: [(&str, i32, u64); 3] = [("-INT", 130, 10), ("-TERM", 143, 7), ("-HUP", 129, 10)];

fn interrupted(place: &Place, (signal, code, seconds): (&str, i32, u64)) {
    let (child, run) = in_the_middle(place);
    tag_of_a_build(place, &run);
    let begin = Instant::now();
    send(signal, &child);
    let answer = Answer::from(child.wait_with_output().expect("it ends")).ended(code);
    assert!(begin.elapsed() < Duration::from_secs(seconds), "{signal} took {:?}", begin.elapsed());
    assert!(answer.stderr.contains("goes on from here"), "{}", answer.stderr);
    nothing_is_left_of(place, &run);
    let last = place.events().pop().expect("events");
    assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &code.into()));
    goes_on(place);
}

fn killed(place: &Place, kill: impl FnOnce(&mut Child)) {
    let (mut child, run) = in_the_middle(place);
    tag_of_a_build(place, &run);
    // As of an engine that is killed together with the run while it pushes.
    let upload = format!("session-{:032x}-{}", 1, Digest::of(b"scopes/trusted").hex());
    std::fs::write(place.store().join("uploads").join(upload), "half a layer").expect("an upload");
    // Looked at while it lives: whoever else begins on this engine after it is dead sweeps what it has left.
    let repository = pulled_from(place, &run);
    assert_ne!(held(place, &repository), Vec::<String>::new(), "the image that it pulled for a test");
    kill(&mut child);
    let status = child.wait().expect("it is dead");
    assert_eq!(status.signal(), Some(9), "it is killed, so that it could not clean up");
    goes_on(place);
    nothing_is_left_of(place, &run);
    assert_eq!(held(place, &repository), Vec::<String>::new(), "no image pulled for a test");
}

#[test]
fn f_p2_i_x1_what_was_pulled_from_another_port_than_the_next_run_has_goes_too() {
    let test = "interrupted::f_p2_i_x1_what_was_pulled_from_another_port_than_the_next_run_has_goes_too";
    let (place, port, first) = loop {
        let Some(place) = family(test, Engine::Classic) else { return };
        // The first that a store is served at goes by the folder of it. Where somebody else has that, another place has another.
        let folder = place.folder().canonicalize().expect("a folder").join("store");
        let digest = Digest::of(folder.as_os_str().as_encoded_bytes());
        let port = 20_000 + u16::from_str_radix(&digest.hex()[..4], 16).expect("digits") % 20_000;
        if let Ok(first) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            break (place, port, first);
        }
    };
    killed(&place, |child| {
        let served = place.newest_run().expect("a run").join("served-at");
        let served = std::fs::read_to_string(served).expect("where the store is");
        assert!(!served.contains(&format!(":{port}/")), "{served}");
        child.kill().expect("kill it");
        drop(first);
    });
}

/// What an engine says of a container that is no run's.
fn foreign(place: &Place, container: &str) -> String {
    place.ask("docker", &["inspect", "--format", "{{.Id}} {{.Config.Image}} {{.Created}}", container])
}

/// Stop or kill a run in the middle, in turn; `POLYARCH_TEST_ROUNDS` says how often.
fn rounds(test: &str, engine: Engine) {
    let wanted = variable("POLYARCH_TEST_ROUNDS").and_then(|number| number.to_str()?.parse().ok());
    for round in 0..wanted.unwrap_or(STOPPED.len() + 1) {
        let Some(place) = family(test, engine) else { return };
        let (empty, name) =
            (place.folder().join("empty.tar"), format!("foreign-{}", unique().to_lowercase()));
        std::fs::write(&empty, [0; 1024]).expect("an archive");
        place.ask("docker", &["import", empty.to_str().expect("text"), &name]);
        place.ask("docker", &["create", "--name", &name, &name, "nothing"]);
        let before = foreign(&place, &name);
        match STOPPED.get(round % (STOPPED.len() + 1)) {
            Some(how) => interrupted(&place, *how),
            None => killed(&place, |child| child.kill().expect("kill it")),
        }
        assert_eq!(foreign(&place, &name), before, "I-X2");
        place.ask("docker", &["rm", &name]);
        place.ask("docker", &["image", "rm", &name]);
        tell(&format!("{test}: round {round}"));
    }
}

/// A registry on loopback that takes connections and never answers; hears of each.
fn silent_registry() -> (String, std::sync::mpsc::Receiver<std::net::TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
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
        let open = taken.recv_timeout(Duration::from_secs(300)).expect("the publication begins");
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
    let socket = place.folder().join("silent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let (sender, taken) = std::sync::mpsc::channel();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(sender.send(stream))));
    place.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let child = place.start(&["load", "root"]);
    let open = taken.recv_timeout(Duration::from_secs(300)).expect("the engine is asked");
    send("-INT", &child);
    let sent = Instant::now();
    let _ = Answer::from(child.wait_with_output().expect("it ends")).ended(130);
    assert!(sent.elapsed() < Duration::from_secs(60), "it took {:?}", sent.elapsed());
    drop(open);
}

#[test]
fn g14_f_p2_f_p3_f_p4_f_p5_nothing_is_left_of_a_run_that_was_stopped_or_killed_on_the_classic_store() {
    rounds("interrupted::g14_f_p2_f_p3_f_p4_f_p5_nothing_is_left…_on_the_classic_store", Engine::Classic);
}

#[test]
fn g14_f_p2_f_p3_f_p4_f_p5_nothing_is_left_of_a_run_that_was_stopped_or_killed_on_the_containerd_store() {
    rounds(
        "interrupted::g14_f_p2_f_p3_f_p4_f_p5_nothing_is_left…_on_the_containerd_store",
        Engine::Containerd,
    );
}

/// Groups of processes whose memory is limited, by version 1 of control groups.
const GROUPS: &str = "/sys/fs/cgroup/memory";

#[test]
fn f_p8_the_run_after_one_that_was_killed_for_want_of_memory_sweeps_too() {
    let test = "interrupted::f_p8_the_run_after_one_that_was_killed_for_want_of_memory_sweeps_too";
    let group = Path::new(GROUPS).join(format!("polyarch-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || !group.join("memory.limit_in_bytes").exists() {
        let _ = std::fs::remove_dir(&group);
        return skip(test, "there are no control groups (version 1) for memory that this user makes");
    }
    if let Some(place) = family(test, Engine::Classic) {
        killed(&place, |child| {
            // What it has stays where it was counted; what it wants from now on is too much.
            std::fs::write(group.join("memory.limit_in_bytes"), "65536").expect("a limit");
            std::fs::write(group.join("cgroup.procs"), child.id().to_string()).expect("it is in the group");
            wait_for("the end of the run", || child.try_wait().expect("a child").is_some());
        });
    }
    wait_for("the end of the group", || std::fs::remove_dir(&group).is_ok());
}
