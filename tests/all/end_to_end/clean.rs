//! What `clean` removes where not every builder answers, and of commands that keep nothing in a store.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::engines::{Engine, wait_for};
use super::hosts::Hosts;
use super::own_engine::OwnEngine;
use crate::program::{Answer, Beside, Place, variable, write_program};

fn place(test: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"clean\"\nplatforms = [\"linux/amd64\"]\n"),
        ("a/Dockerfile", "FROM scratch\nLABEL a=b\n"),
    ]);
    Engine::Classic.equip(test, &mut place).then_some(place)
}

/// A place with an engine of its own: whoever else builds would remove there what runs have left.
fn alone(test: &str) -> Option<(Place, OwnEngine)> {
    let mut place = place(test)?;
    let engine = OwnEngine::on_disk(test, &mut place, 200)?;
    Some((place, engine))
}

/// The name of an image that a run has left which is over: no process of this boot has that number and start.
fn leave_an_image(place: &Place) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    leave_an_image_of(place, &boot[..8])
}

/// What tells the processes that are seen from here from others.
fn namespace() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").expect("a namespace");
    namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// The name of an image that a run of a boot has left, of a process that is not there.
fn leave_an_image_of(place: &Place, boot: &str) -> String {
    let run = format!("gone{}-{boot}n{}-1-1", std::process::id(), namespace());
    let (empty, name) = (place.folder().join("empty.tar"), format!("left:build-{run}-0"));
    std::fs::write(&empty, [0; 1024]).expect("an archive");
    place.ask("docker", &["import", empty.to_str().expect("text"), &name]);
    name
}

#[test]
fn one_builder_that_is_down_keeps_no_other_from_being_cleaned() {
    let test = "clean::one_builder_that_is_down_keeps_no_other_from_being_cleaned";
    let Some(place) = place(test) else { return };
    let left = leave_an_image(&place);
    let there = || place.ask("docker", &["image", "ls", "--quiet", &left]);
    let both = ["clean", "--builder", "up=docker", "--builder", "down=unix:///nowhere/docker.sock"];
    let answer = place.run(&both).ended(3);
    assert_eq!(there(), "", "{}{}", answer.stdout, answer.stderr);
    for text in ["no Docker Engine answers", "builder down"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
    let twins = place.run(&["clean", "--builder", "x=docker", "--builder", "y=docker"]).ended(2);
    assert!(twins.stderr.contains("builders x and y are one engine"), "{}", twins.stderr);
}

/// The name of a run of a process of this boot that is alive: this test.
fn living() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).expect("a start");
    format!("lives-{}n{}-{}-{start}", &boot[..8], namespace(), std::process::id())
}

#[test]
fn f_p9_i_x2_containers_of_runs_that_crashed_go_at_the_next_start_and_no_others() {
    const CRASHED: usize = 25;
    let test = "clean::f_p9_i_x2_containers_of_runs_that_crashed_go_at_the_next_start_and_no_others";
    let Some((place, _engine)) = alone(test) else { return };
    let left = leave_an_image(&place);
    let crashed = run_of(&left);
    let create = |name: &str, label: &str| {
        let name = format!("f-p9-{name}-{}", std::process::id());
        place.ask("docker", &["create", "--name", &name, "--label", label, &left, "nothing"]);
        name
    };
    for number in 0..CRASHED {
        create(&format!("crashed-{number}"), &format!("dev.polyarch.run={crashed}"));
    }
    let foreign = [
        create("stranger", "some=label"),
        create("odd", "dev.polyarch.run=somebody"),
        create("living", &format!("dev.polyarch.run={}", living())),
    ];
    let names = || {
        let filter = format!("name=f-p9-.*-{}$", std::process::id());
        let names = place.ask("docker", &["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]);
        names.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names().len(), CRASHED + foreign.len());
    // The strangers stand on what a run has left, too.
    let answer = place.run(&["build"]);
    let stayed = names();
    for name in &stayed {
        place.ask("docker", &["rm", name]);
    }
    let _ = answer.well();
    let _ = place.run(&["clean", "--builder", "docker"]).well();
    assert_eq!(place.ask("docker", &["image", "ls", "--quiet", &left]), "", "nobody stands on it any more");
    assert_eq!(stayed, foreign.into(), "of the others none is touched, and no other stays");
}

#[test]
fn f_x3_runs_of_another_machine_behind_a_socket_of_this_one_are_not_over() {
    let test = "clean::f_x3_runs_of_another_machine_behind_a_socket_of_this_one_are_not_over";
    let Some(mut place) = place(test) else { return };
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    let (socket, far) = (place.folder().join("far.sock"), hosts.socket("west"));
    let mut ssh = place.program("ssh");
    let forward = format!("{}:{}", socket.display(), far.display());
    let led = Beside(ssh.args(["-N", "-L", &forward, "west"]).spawn().expect("ssh runs"));
    wait_for("the socket", || socket.exists());
    let (near, socket) = (format!("unix://{}", far.display()), format!("unix://{}", socket.display()));
    place.set("DOCKER_HOST", &near);
    // Of a machine, or a start of this one, that nothing here knows anything of.
    let left = leave_an_image_of(&place, "0f0f0f0f");
    let there = || !place.ask("docker", &["image", "ls", "--quiet", &left]).is_empty();
    let through = place.run(&["clean", "--builder", &socket]).well();
    let stays = there();
    let here = place.run(&["clean", "--builder", &near]).well();
    let goes = !there();
    drop(led);
    assert!(stays, "{}{}", through.stdout, through.stderr);
    assert!(goes, "here it can only be of a start before this one: {}{}", here.stdout, here.stderr);
}

/// The run that has left an image.
fn run_of(left: &str) -> &str {
    left.split_once(":build-").and_then(|(_, tag)| tag.rsplit_once('-')).expect("a run").0
}

/// Have the store know a run as one that was killed while it was at its builders: the machine that it was on, and below it
/// where those are.
fn killed_at_builders(place: &Place, left: &str, lines: &str) -> PathBuf {
    let folder = place.store().join("runs").join(run_of(left));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("lock"), "").expect("a lock that nobody holds");
    std::fs::write(folder.join("at-builders"), lines).expect("a file");
    folder.join("at-builders")
}

#[test]
fn f_p2_a_run_with_nothing_to_do_removes_what_one_that_was_killed_has_left() {
    let test = "clean::f_p2_a_run_with_nothing_to_do_removes_what_one_that_was_killed_has_left";
    let Some((place, engine)) = alone(test) else { return };
    let _ = place.run(&["build"]).well();
    let left = leave_an_image(&place);
    let there = || !place.ask("docker", &["image", "ls", "--quiet", &left]).is_empty();
    let idle = place.run(&["build"]).well();
    let stayed = there();
    let told =
        killed_at_builders(&place, &left, &format!("\n{}\nunix:///nowhere/docker.sock\n", engine.host()));
    let down = place.run(&["build", "--builder", "docker", "--builder", "down=unix:///nowhere/docker.sock"]);
    let (down_told, gone) = (told.exists(), !there());
    leave_an_image(&place);
    let again = place.run(&["build"]).well();
    assert!(gone && there(), "it is asked once: {}", again.stderr);
    assert!(stayed && idle.stderr.contains("nothing to build"), "no engine is asked for nothing");
    let down = down.well();
    for text in ["may have left something on a builder", "no Docker Engine answers", "polyarch clean"] {
        assert!(down.stderr.contains(text), "{text}: {}", down.stderr);
    }
    assert!(down_told, "it is tried again");
}

/// Have every client refuse one command, as an engine does that is harmed; the environment from before.
fn refusing(place: &mut Place, command: &str) -> OsString {
    let path = variable("PATH").expect("a search path");
    let mut folders = Vec::new();
    for client in
        std::env::split_paths(&path).map(|folder| folder.join("docker")).filter(|file| file.exists())
    {
        let folder = place.folder().join(format!("bin-{}", folders.len()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let refusal = "echo 'Error response from daemon: a bad index' >&2; exit 1";
        let client = client.display();
        let script =
            format!("#!/bin/sh\ncase \"$1\" in {command}) {refusal} ;; esac\nexec {client} \"$@\"\n");
        let file = folder.join("docker");
        write_program(&file, &script);
        folders.push(folder);
    }
    // The others that they call are found as before.
    folders.extend(std::env::split_paths(&path));
    place.set("PATH", std::env::join_paths(folders).expect("a search path"));
    path
}

#[test]
fn f_p2_a_builder_that_cannot_be_swept_builds_all_the_same_and_is_swept_later() {
    let test = "clean::f_p2_a_builder_that_cannot_be_swept_builds_all_the_same_and_is_swept_later";
    let Some((mut place, engine)) = alone(test) else { return };
    let left = leave_an_image(&place);
    let there = |place: &Place| !place.ask("docker", &["image", "ls", "--quiet", &left]).is_empty();
    let _ = place.run(&["plan"]).well();
    let told = killed_at_builders(&place, &left, &format!("\n{}\n", engine.host()));
    let path = refusing(&mut place, "ps");
    let answer = place.run(&["build", "--builder", "odd=docker"]).well();
    for text in ["may have left on builder odd stays for now", "a bad index", "polyarch clean"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
    assert!(answer.stderr.contains("1 built"), "{}", answer.stderr);
    assert!(there(&place) && told.exists(), "it is not forgotten");
    place.set("PATH", path);
    let _ = place.run(&["build", "--builder", "odd=docker"]).well();
    assert!(!there(&place) && !told.exists(), "what stayed goes");
}

#[test]
fn f_p2_what_a_run_that_was_killed_left_is_remembered_until_each_of_its_builders_was_swept() {
    let test =
        "clean::f_p2_what_a_run_that_was_killed_left_is_remembered_until_each_of_its_builders_was_swept";
    let Some(mut place) = place(test) else { return };
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    let sockets = ["west", "east"].map(|host| format!("unix://{}", hosts.socket(host).display()));
    let _ = place.run(&["build", "--builder", "ssh://west"]).well();
    let mut left = String::new();
    for socket in &sockets {
        place.set("DOCKER_HOST", socket);
        left = leave_an_image(&place);
    }
    let there = || {
        sockets
            .clone()
            .map(|host| !place.ask("docker", &["--host", &host, "image", "ls", "--quiet", &left]).is_empty())
    };
    let told = killed_at_builders(&place, &left, &format!("\n{}\n{}\n", sockets[0], sockets[1]));
    let mut seen = Vec::new();
    for builder in [&sockets[0], &sockets[0], &sockets[1]] {
        let answer = place.run(&["build", "--builder", builder]).well();
        assert!(answer.stderr.contains("nothing to build"), "{}", answer.stderr);
        seen.push((there(), told.exists()));
    }
    let expected = [([false, true], true), ([false, true], true), ([false, false], false)];
    assert_eq!(seen, expected, "what is on each, and whether the run is remembered");
}

#[test]
fn f_p2_what_a_run_before_this_machine_was_restarted_left_on_another_is_removed() {
    let test = "clean::f_p2_what_a_run_before_this_machine_was_restarted_left_on_another_is_removed";
    let Some(mut place) = place(test) else { return };
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    place.set("DOCKER_HOST", format!("unix://{}", hosts.socket("west").display()));
    let left = leave_an_image_of(&place, "1f1f1f1f");
    let there = || !place.ask("docker", &["image", "ls", "--quiet", &left]).is_empty();
    // What a run calls this machine is to be seen while it builds.
    let child = place.start(&["build", "--builder", "ssh://west"]);
    let mut machine = String::new();
    wait_for("the file of the run", || {
        let file = place.newest_run().map(|run| run.join("at-builders"));
        machine = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        !machine.is_empty()
    });
    let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
    let over_nothing = there();
    let mut seen = Vec::new();
    for machine in ["sha256:another", &machine] {
        killed_at_builders(&place, &left, machine);
        let _ = place.run(&["build", "--builder", "ssh://west"]).well();
        seen.push(there());
    }
    assert!(over_nothing, "I-X2: nothing is known of that run");
    assert_eq!(seen, [true, false], "I-X2: a run of another machine may go on");
}

#[test]
fn the_folder_of_a_doctor_that_was_killed_is_removed() {
    let test = "clean::the_folder_of_a_doctor_that_was_killed_is_removed";
    let Some(mut place) = place(test) else { return };
    let (folder, socket) = (place.folder().join("tmp"), place.folder().join("silent.sock"));
    std::fs::create_dir_all(folder.join("polyarch-doctor-of-somebody")).expect("a folder");
    place.set("TMPDIR", &folder);
    let silent = UnixListener::bind(&socket).expect("a socket");
    let names = || {
        let entries = std::fs::read_dir(&folder).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().into_string().expect("text"));
        names.filter(|name| name.starts_with("polyarch-")).collect::<Vec<_>>()
    };
    let mut child = place.start(&["doctor", "--builder", &format!("unix://{}", socket.display())]);
    wait_for("its folder", || names().len() > 1);
    child.kill().expect("kill it");
    child.wait().expect("it is dead");
    drop(silent);
    assert!(names().len() > 1, "what was killed could not clean up");
    let _ = place.run(&["clean", "--builder", "docker"]).well();
    assert_eq!(names(), ["polyarch-doctor-of-somebody"], "what no run of this user has made stays");
}
