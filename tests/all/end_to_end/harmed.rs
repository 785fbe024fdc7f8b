//! Engines that come to harm while they build: killed, out of room, out of order.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Child;
use std::time::Duration;

use super::daemonless::a_killed_client_begins_again;
use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, runs_arm64, wait_for};
use super::hosts::{Hosts, TOLD_WITHIN, builders, moves_on, now, slowly};
use super::orphans::processes;
use super::own_engine::OwnEngine;
use super::own_ssh;
use crate::program::{Answer, Beside, Place, free_port, program, skip, tell, variable};

const FAMILY: &str = "name = \"harmed\"\nplatforms = [\"linux/amd64\"]\n";

/// A root and a leaf that takes a while, on an engine of their own with a disk of so many megabytes.
fn family(test: &str, megabytes: u32) -> Option<(Place, OwnEngine)> {
    let slow = "FROM root\nRUN sleep 8; echo leaf > /leaf\n";
    let mut place =
        Place::with(&[("polyarch.toml", FAMILY), ("root/Dockerfile", FOUNDATION), ("leaf/Dockerfile", slow)]);
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return None;
    }
    let engine = OwnEngine::on_disk(test, &mut place, megabytes)?;
    Some((place, engine))
}

/// Begin a build, and wait until the slow step of the leaf is at work.
fn in_the_middle(place: &Place, arguments: &[&str]) -> Child {
    let before = place.newest_run();
    let child = place.start(&[&["build"], arguments].concat());
    wait_for("the slow step", || {
        let run = place.newest_run().filter(|run| before.as_ref() != Some(run));
        let begun = run.is_some_and(|run| run.join("events.jsonl").exists());
        begun
            && place.events().iter().any(|event| {
                event["event"] == "job-step"
                    && event["step"].as_str().is_some_and(|step| step.contains("sleep"))
            })
    });
    child
}

fn count(place: &Place, event: &str, job: &str) -> usize {
    place.events().iter().filter(|one| one["event"] == event && one["job"] == job).count()
}

#[test]
fn f_g3_an_engine_that_is_killed_in_a_build_gets_the_job_again_when_it_is_back() {
    let test = "harmed::f_g3_an_engine_that_is_killed_in_a_build_gets_the_job_again_when_it_is_back";
    let Some((place, mut engine)) = family(test, 400) else { return };
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN {}; echo leaf > /leaf\n", slowly(&place)));
    let child = in_the_middle(&place, &[]);
    engine.kill();
    // Longer than three tries take that find nobody.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(count(&place, "job-kept", "leaf@linux/amd64"), 0, "no record of what did not end");
    engine.start();
    let answer = Answer::from(child.wait_with_output().expect("it ends")).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"), "{}", answer.stderr);
    assert_eq!(count(&place, "job-kept", "leaf@linux/amd64"), 1, "I-B7: one accepted result");
    assert_eq!(count(&place, "job-kept", "root@linux/amd64"), 1, "what is in the store is not built again");
    assert!(place.events().iter().any(|event| event["event"] == "builder-returned"), "{}", answer.stderr);
}

/// What an image holds under a path.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    kind: tar::EntryType,
    mode: u32,
    link: Option<String>,
    content: Vec<u8>,
}

/// All that the image of a job of the newest run holds, by path.
fn held(place: &Place, job: &str) -> BTreeMap<String, Held> {
    let blob = |digest: &serde_json::Value| {
        let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
        std::fs::read(place.store().join("blobs/sha256").join(hex)).expect("a blob")
    };
    let kept = place.events().into_iter().find(|event| event["event"] == "job-kept" && event["job"] == job);
    let manifest = blob(&kept.expect("an image of it")["image"]);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("a manifest");
    let mut found = BTreeMap::new();
    for layer in manifest["layers"].as_array().expect("layers") {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&*blob(&layer["digest"]))
            .read_to_end(&mut bytes)
            .expect("a whole layer");
        for entry in tar::Archive::new(&*bytes).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let link = entry.link_name().expect("a link").map(|link| link.display().to_string());
            let (kind, mode) = (entry.header().entry_type(), entry.header().mode().expect("a mode"));
            let mut content = Vec::new();
            let _ = entry.read_to_end(&mut content).expect("its content");
            found.insert(path, Held { kind, mode, link, content });
        }
    }
    found
}

#[test]
fn f_g19_an_engine_whose_own_records_are_spoilt_is_told_and_reset_it_builds_the_same() {
    let test = "harmed::f_g19_an_engine_whose_own_records_are_spoilt_is_told_and_reset_it_builds_the_same";
    let Some((place, mut engine)) = family(test, 400) else { return };
    let tested = "tests = [{ run = \"cat /leaf\", stdout = \"leaf\" }]\n";
    place.write("polyarch.toml", &format!("{FAMILY}[image.leaf]\n{tested}"));
    place.write("leaf/Dockerfile", "FROM root\nRUN echo leaf > /leaf\n");
    let build = || {
        let answer = place.run(&["build", "--no-reuse"]).well();
        assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"), "{}", answer.stderr);
        place.log("root.linux-amd64").contains("CACHED")
    };
    build();
    let before = held(&place, "leaf@linux/amd64");
    let is_built = |(name, file): (&String, &Held)| name.ends_with("leaf") && file.content == b"leaf\n";
    assert!(before.iter().any(is_built), "{before:?}");
    assert!(build(), "what it has built is in its cache");
    engine.kill();
    let records = engine.data().join("buildkit");
    let files = std::fs::read_dir(&records).expect("its records").flatten().map(|entry| entry.path());
    let files: Vec<_> = files.filter(|file| file.extension().is_some_and(|kind| kind == "db")).collect();
    assert!(files.iter().any(|file| file.ends_with("cache.db")), "{files:?}");
    for file in files {
        std::fs::write(file, "no records").expect("a spoilt file");
    }
    engine.start();
    engine.ended();
    let answer = place.run(&["build", "--no-reuse"]).ended(3);
    for text in ["no Docker Engine answers", "hint: start it", "polyarch doctor"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
    assert!(builders(&place).is_empty());

    // As a newer BuildKit does of itself.
    std::fs::rename(&records, records.with_extension("bak")).expect("a reset");
    engine.start();
    engine.wait();
    assert!(!build(), "its cache is cold");
    let after = held(&place, "leaf@linux/amd64");
    let paths = |files: &BTreeMap<String, Held>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&after), paths(&before));
    let others: Vec<_> = before.keys().filter(|path| before[*path] != after[*path]).collect();
    assert!(others.is_empty(), "others than before: {others:?}");
}

/// The same family with the engine of its own, and another engine beside it.
fn with_another(test: &str, megabytes: u32) -> Option<(Place, OwnEngine)> {
    if !Engine::Classic.equip(test, &mut Place::new()) {
        return None;
    }
    let (place, engine) = family(test, megabytes)?;
    let other = variable("POLYARCH_TEST_CLASSIC")?.into_string().ok()?;
    place.write(
        "polyarch.toml",
        &format!(
            "{FAMILY}\n[builder.own]\nengine = \"{}\"\n\n[builder.spare]\nengine = \"{other}\"\nslots = 1\n",
            engine.host()
        ),
    );
    Some((place, engine))
}

/// A certificate of the hosts' authority for this machine, by which an engine of it is spoken to on a port.
fn over_tcp(place: &Place, hosts: &Hosts, port: u16) -> serde_json::Value {
    let make = "openssl req -newkey rsa:2048 -nodes -subj /CN=own -keyout own-key.pem -out own.csr && \
                echo subjectAltName=IP:127.0.0.1 >own.ext && \
                openssl x509 -req -in own.csr -CA \"$0/ca.pem\" -CAkey \"$0/ca-key.pem\" -set_serial 0x$(openssl rand -hex 8) \
                -days 2 -extfile own.ext -out own.pem";
    let authority = hosts.certificates("client").with_file_name("");
    let made = program("sh").args(["-c", make]).arg(&authority).current_dir(place.folder()).output();
    let made = made.expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| place.folder().join(name);
    serde_json::json!({
        "hosts": [format!("tcp://127.0.0.1:{port}")], "tlsverify": true, "tlscacert": authority.join("ca.pem"),
        "tlscert": file("own.pem"), "tlskey": file("own-key.pem"),
    })
}

#[test]
fn f_g3_f_g9_an_engine_over_tcp_that_is_killed_loses_its_job_to_another() {
    let test = "harmed::f_g3_f_g9_an_engine_over_tcp_that_is_killed_loses_its_job_to_another";
    let mut place = Place::with(&[("polyarch.toml", FAMILY), ("root/Dockerfile", FOUNDATION)]);
    let Some(hosts) = Hosts::reached_from(test, &mut place) else { return };
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let port = free_port();
    let more = over_tcp(&place, &hosts, port);
    let Some(engine) = OwnEngine::with(test, &mut place, 400, &more) else { return };
    let certificates = hosts.certificates("client").display().to_string();
    // The one that is named first gets the first job, and what stands on it.
    place.write(
        "polyarch.toml",
        &format!(
            "{FAMILY}\n[builder.a]\nengine = \"tcp://127.0.0.1:{port}\"\ncertificates = \"{certificates}\"\nslots = 1\n\n\
             [builder.b]\nengine = \"ssh://west\"\nslots = 1\n"
        ),
    );
    let engine = std::cell::RefCell::new(engine);
    let kill = |builder: &str| {
        assert_eq!(builder, "a");
        engine.borrow_mut().kill();
    };
    moves_on(test, &place, ["a", "b"], kill, |_| ());
}

/// A root, an engine of a test's own on a disk of so many megabytes, which is reached over ssh, and another host. The one
/// that is named first gets the first job, and what stands on it.
fn over_ssh(test: &str, megabytes: u32) -> Option<(Place, Hosts, OwnEngine, Beside)> {
    let configuration = format!(
        "{FAMILY}\n[builder.a]\nengine = \"ssh://own\"\nslots = 1\n\n[builder.b]\nengine = \"ssh://west\"\nslots = 1\n"
    );
    let mut place = Place::with(&[("polyarch.toml", &configuration), ("root/Dockerfile", FOUNDATION)]);
    let hosts = Hosts::reached_from(test, &mut place)?;
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return None;
    }
    let engine = OwnEngine::on_disk(test, &mut place, megabytes)?;
    let server = own_ssh::serve(&mut place, &hosts, None, &engine.socket(), "");
    Some((place, hosts, engine, server))
}

#[test]
fn f_g3_f_g9_an_engine_over_ssh_that_is_killed_loses_its_job_to_another() {
    let test = "harmed::f_g3_f_g9_an_engine_over_ssh_that_is_killed_loses_its_job_to_another";
    let Some((place, _hosts, engine, _server)) = over_ssh(test, 400) else { return };
    let engine = std::cell::RefCell::new(engine);
    let kill = |builder: &str| {
        assert_eq!(builder, "a");
        engine.borrow_mut().kill();
    };
    moves_on(test, &place, ["a", "b"], kill, |_| ());
}

/// Its socket is listened at all the same, and its process is there: it does nothing.
#[test]
fn f_g2_f_g9_an_engine_of_this_machine_that_is_frozen_is_lost_in_time() {
    let test = "harmed::f_g2_f_g9_an_engine_of_this_machine_that_is_frozen_is_lost_in_time";
    let Some((place, engine)) = family(test, 400) else { return };
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN {}; echo leaf > /leaf\n", slowly(&place)));
    let child = in_the_middle(&place, &[]);
    engine.signal("-STOP");
    let taken = now(&place);
    let lost = || place.events().into_iter().find(|event| event["event"] == "builder-lost");
    wait_for("its loss", || lost().is_some());
    engine.signal("-CONT");
    let told = lost().and_then(|event| event["at_milliseconds"].as_u64()).expect("a time") - taken;
    tell(&format!("{test}: told after {told} ms"));
    assert!(told <= TOLD_WITHIN, "told of the loss after {told} ms");
    let answer = Answer::from(child.wait_with_output().expect("it ends")).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"), "{}", answer.stderr);
    assert_eq!(count(&place, "job-kept", "leaf@linux/amd64"), 1, "I-B7: one accepted result");
}

/// On a small disk, wait until others have filled it.
const UNTIL_FILLED: &str = "for try in $(seq 900); do set -- $(df -Pm / | tail -n 1); \
    [ $2 -gt 1000 ] || [ $4 -lt 100 ] && break; sleep 0.2; done";

#[test]
fn f_g6_f_g13_a_disk_that_is_filled_in_a_build_over_ssh_is_named_and_the_job_goes_elsewhere() {
    let test =
        "harmed::f_g6_f_g13_a_disk_that_is_filled_in_a_build_over_ssh_is_named_and_the_job_goes_elsewhere";
    let Some((place, _hosts, engine, _server)) = over_ssh(test, 400) else { return };
    let filled = |arguments: &[&str]| {
        engine.leave(300);
        let word = arguments.len();
        let large = "dd if=/dev/zero of=/large bs=1M count=200";
        place.write("leaf/Dockerfile", &format!("FROM root\nRUN echo {word}; {UNTIL_FILLED}; {large}\n"));
        let child = in_the_middle(&place, arguments);
        // Others have filled it meanwhile.
        engine.leave(20);
        Answer::from(child.wait_with_output().expect("it ends"))
    };
    let answer = filled(&[]).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"), "{}", answer.stderr);
    let begun = place.events().into_iter().filter(|event| event["event"] == "job-started");
    let begun: Vec<_> = begun.map(|event| (event["job"].clone(), event["builder"].clone())).collect();
    assert!(begun.contains(&("leaf@linux/amd64".into(), "a".into())), "{begun:?}");
    assert_eq!(builders(&place)["leaf@linux/amd64"], "b", "{}", answer.stderr);
    assert_eq!(count(&place, "job-kept", "leaf@linux/amd64"), 1, "I-B7: one accepted result");

    let alone = filled(&["--no-reuse", "--builder", "a"]).ended(3);
    for text in ["No space left on device", "builder a has", &disk(&engine), "docker system df"] {
        assert!(alone.stderr.contains(text), "{text}: {}", alone.stderr);
    }
}

/// What names the disk of the engine.
fn disk(engine: &OwnEngine) -> String {
    format!(" in {} (/dev/loop", engine.data().display())
}

#[test]
fn f_g13_a_builder_with_a_full_disk_gets_no_job_and_without_another_nothing_is_built() {
    let test = "harmed::f_g13_a_builder_with_a_full_disk_gets_no_job_and_without_another_nothing_is_built";
    let Some((place, engine)) = with_another(test, 300) else { return };
    engine.leave(20);
    let _ = place.run(&["build"]).well();
    let all = builders(&place);
    assert!(all.len() == 2 && all.values().all(|builder| builder == "spare"), "{all:?}");
    let answer = place.run(&["build", "--no-reuse", "--builder", "own"]).ended(3);
    assert!(builders(&place).is_empty());
    let told = "no builder has room for root@linux/amd64, which wants 64.0 MB";
    for text in [told, "builder own has 2", &disk(&engine), "mounted on", "docker system df"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
}

#[test]
fn f_g13_a_job_waits_for_room_on_a_disk_that_was_filled_meanwhile() {
    let test = "harmed::f_g13_a_job_waits_for_room_on_a_disk_that_was_filled_meanwhile";
    let Some((place, engine)) = family(test, 300) else { return };
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN {UNTIL_FILLED}; echo leaf > /leaf\n"));
    place.write("last/Dockerfile", "FROM leaf\nRUN echo last > /last\n");
    let child = in_the_middle(&place, &[]);
    engine.leave(30);
    wait_for("the job that waits", || count(&place, "job-moved", "last@linux/amd64") > 0);
    engine.leave(150);
    let answer = Answer::from(child.wait_with_output().expect("it ends")).well();
    let told = "leaves local: last@linux/amd64 wants 64.0 MB, and there is";
    for text in [told, &disk(&engine)] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
}

#[test]
fn f_g6_a_disk_that_is_full_in_a_build_is_named_and_the_job_goes_elsewhere() {
    let test = "harmed::f_g6_a_disk_that_is_full_in_a_build_is_named_and_the_job_goes_elsewhere";
    let Some((place, engine)) = with_another(test, 200) else { return };
    let large = "FROM root\nRUN dd if=/dev/zero of=/large bs=1M count=250 && rm /large\n";
    place.write("leaf/Dockerfile", large);
    let answer = place.run(&["build", "--builder", "own"]).ended(3);
    for text in ["No space left on device", "builder own has", &disk(&engine), "docker system df"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
    // Both have a slot, and the one that has the parent goes first.
    let _ = place.run(&["build", "--no-reuse", "--builder", "own", "--builder", "spare"]).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"));
    assert_eq!(builders(&place)["leaf@linux/amd64"], "spare");
}

#[test]
fn f_g6_on_a_full_disk_what_is_ours_is_freed_and_the_build_passes() {
    let test = "harmed::f_g6_on_a_full_disk_what_is_ours_is_freed_and_the_build_passes";
    let Some((place, engine)) = family(test, 300) else { return };
    // Each but the first stands on what came from the store.
    let large = |name| format!("FROM root\nRUN dd if=/dev/zero of=/{name} bs=1M count=90\n");
    for name in ["leaf", "other", "third"] {
        place.write(&format!("{name}/Dockerfile"), &large(name));
    }
    let answer = place.run(&["build", "--slots", "1"]).well();
    assert_eq!(
        ended(&place, "built"),
        jobs("root@linux/amd64 leaf@linux/amd64 other@linux/amd64 third@linux/amd64"),
        "{}",
        answer.stderr
    );
    let retried = place.events().into_iter().filter(|event| event["event"] == "job-retried");
    let reasons: Vec<String> = retried.map(|event| event["reason"].to_string()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("freed: ")), "{reasons:?} {}", disk(&engine));
}

#[test]
fn f_g3_a_buildx_that_is_killed_in_a_build_begins_again() {
    let test = "harmed::f_g3_a_buildx_that_is_killed_in_a_build_begins_again";
    // No other process sleeps for as long.
    let sleep = format!("sleep 9.{}", std::process::id());
    let mut place = Place::with(&[
        ("polyarch.toml", FAMILY),
        ("only/Dockerfile", &format!("{FOUNDATION}RUN {sleep}; true\n")),
    ]);
    if !Engine::Containerd.equip(test, &mut place) || !root_file_systems(test, &place, "only", &["amd64"]) {
        return;
    }
    // The client that has started it ends with another code, and says nothing.
    a_killed_client_begins_again(&place, "here=docker", &sleep, "docker-buildx buildx build");
}

#[test]
fn f_g6_a_step_that_is_killed_fails_for_its_surroundings() {
    let test = "harmed::f_g6_a_step_that_is_killed_fails_for_its_surroundings";
    let mut place = Place::with(&[("polyarch.toml", FAMILY), ("root/Dockerfile", FOUNDATION)]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    place.write("leaf/Dockerfile", "FROM root\nRUN sh -c 'kill -9 $$; true'; exit $?\n");
    let answer = place.run(&["build"]).ended(3);
    for text in ["it was killed, which is mostly for a lack of memory", "dmesg", "--slots 1"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
}

#[test]
fn f_g13_a_disk_that_can_only_be_read_is_told_before_anything_is_built() {
    let test = "harmed::f_g13_a_disk_that_can_only_be_read_is_told_before_anything_is_built";
    let Some((place, engine)) = family(test, 300) else { return };
    engine.break_disk();
    let answer = place.run(&["build"]).ended(3);
    assert!(builders(&place).is_empty());
    let told = "builder local cannot keep images: it has a disk that can only be read";
    for text in [told, &disk(&engine), "mount -o remount,rw"] {
        assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
    }
}

#[test]
fn f_g13_a_builder_that_is_refused_for_its_own_state_is_left_out_where_the_others_do_all() {
    let test =
        "harmed::f_g13_a_builder_that_is_refused_for_its_own_state_is_left_out_where_the_others_do_all";
    let Some((place, mut engine)) = with_another(test, 300) else { return };
    place.write("leaf/Dockerfile", "FROM root\nRUN echo leaf > /leaf\n");
    let named = ["--builder", "own", "--builder", "spare"];
    let configuration =
        std::fs::read_to_string(place.family().join("polyarch.toml")).expect("what is written");
    // Nothing but what is wrong there: whoever is said to do a job alone is needed for it.
    let needed = configuration
        .replace("[builder.own]", "[image.leaf]\nneeds = [\"own\"]\n\n[builder.own]\nlabels = [\"own\"]");
    let is_left_out = |problem: &str| {
        let left_out = "it is left out: the other builders do all that there is to do";
        for (arguments, configuration, code) in [
            (&["build", "--no-reuse"][..], &configuration, 0),
            (&["plan", "--builders"], &configuration, 0),
            (&["build", "--no-reuse"], &needed, 3),
            (&[&["build", "--no-reuse"], &named[..]].concat(), &configuration, 3),
        ] {
            place.write("polyarch.toml", configuration);
            let answer = place.run(arguments).ended(code);
            assert!(answer.stderr.contains(problem), "{arguments:?}: {}", answer.stderr);
            assert_eq!(answer.stderr.contains(left_out), code == 0, "{arguments:?}: {}", answer.stderr);
            let all = builders(&place);
            let expected = if code == 0 { 2 } else { 0 };
            assert!(
                all.len() == expected && all.values().all(|one| one == "spare"),
                "{arguments:?}: {all:?}"
            );
        }
        place.write("polyarch.toml", &configuration);
    };
    engine.break_disk();
    is_left_out("builder own cannot keep images: it has a disk that can only be read");
    engine.kill();
    is_left_out("builder own");
}

#[test]
fn f_g13_an_engine_that_may_open_no_more_files_loses_its_jobs_to_another() {
    let test = "harmed::f_g13_an_engine_that_may_open_no_more_files_loses_its_jobs_to_another";
    let Some((place, engine)) = with_another(test, 300) else { return };
    place.write("leaf/Dockerfile", "FROM root\nRUN echo leaf > /leaf\n");
    engine.limit_files(6);
    let alone = place.run(&["build", "--builder", "own"]).ended(3);
    assert!(alone.stderr.contains("hint: "), "{}", alone.stderr);
    let _ = place.run(&["build"]).well();
    assert_eq!(ended(&place, "built"), jobs("root@linux/amd64 leaf@linux/amd64"));
}

#[test]
fn f_g18_an_engine_whose_socket_is_another_users_is_not_spoken_to() {
    let test = "harmed::f_g18_an_engine_whose_socket_is_another_users_is_not_spoken_to";
    let mut place = Place::with(&[("polyarch.toml", FAMILY), ("root/Dockerfile", "FROM scratch\n")]);
    if !Engine::Classic.equip(test, &mut place) {
        return;
    }
    let socket = place.folder().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    listener.set_nonblocking(true).expect("it does not wait");
    if std::os::unix::fs::chown(&socket, Some(4_321), None).is_err() {
        return skip(test, "only root gives a file away");
    }
    place.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    for command in [&["build"][..], &["doctor"]] {
        let answer = place.run(command).ended(3);
        for text in ["is not to be trusted", "it belongs to user 4321", "ls -l"] {
            assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
        }
        let asked = listener.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "nobody has asked it anything");
    }
}

#[test]
fn f_g8_an_emulator_that_hangs_ends_with_the_time_of_its_job() {
    let test = "harmed::f_g8_an_emulator_that_hangs_ends_with_the_time_of_its_job";
    let configuration = "name = \"harmed\"\nplatforms = [\"linux/arm64\"]\nemulate = \"allow\"\n\n\
                         [image.leaf]\ntime-limit = \"10s\"\n";
    let mut place = Place::with(&[("polyarch.toml", configuration), ("root/Dockerfile", FOUNDATION)]);
    if !Engine::Containerd.equip(test, &mut place)
        || !runs_arm64(test)
        || !root_file_systems(test, &place, "root", &["arm64"])
    {
        return;
    }
    let word = format!("hangs-{}", std::process::id());
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN while :; do : {word}; done\n"));
    let answer = place.run(&["build"]).ended(1);
    assert!(answer.stderr.contains("longer than"), "{}", answer.stderr);
    assert_eq!(ended(&place, "built"), jobs("root@linux/arm64"));
    wait_for("the end of the emulator", || !processes().iter().any(|line| line.contains(&word)));
}
