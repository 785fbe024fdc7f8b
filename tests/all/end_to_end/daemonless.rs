//! Podman and Buildah, which have no daemon: what a Docker Engine does, they do, and leave as little behind.

use std::process::Command;

use super::engines::{Engine, FOUNDATION, ended, inspected, jobs, layers, root_file_systems, wait_for};
use super::orphans::processes;
use crate::client::registries::Registry;
use crate::program::{Answer, Place, program};

const CONFIGURATION: &str = r#"
name = "two"
platforms = ["linux/amd64", "linux/386"]

[tags]
common = ["latest"]

[image.parent]
tests = [{ run = "id -u", stdout = "0" }, { run = "sh -c \"ip -o link | grep -vc ' lo: ' || true\"", stdout = "0" }]
tags = [{ tag = "busybox-{0}", run = "busybox", match = 'BusyBox v(\S+)' }]
"#;

/// A parent and a child for two platforms, or `None`, having said why.
fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("parent/Dockerfile", &format!("{FOUNDATION}SHELL [\"/bin/sh\", \"-c\"]\nHEALTHCHECK CMD true\n")),
        ("child/Dockerfile", "FROM parent\nRUN echo of the child > /word\n"),
    ]);
    (engine.equip(test, &mut place) && root_file_systems(test, &place, "parent", &["amd64", "386"]))
        .then_some(place)
}

fn builder(engine: Engine) -> String {
    format!("--builder={engine:?}").to_lowercase()
}

/// What a program of the storage says.
#[track_caller]
fn said(place: &Place, tool: &str, arguments: &[&str]) -> String {
    let mut command: Command = program(tool);
    command.env("CONTAINERS_STORAGE_CONF", place.folder().join("storage/storage.conf"));
    let output = command.args(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Nothing is left but the cache of builds: no container, and no image with a name.
#[track_caller]
fn nothing_is_left(place: &Place, engine: Engine) {
    match engine {
        Engine::Podman => {
            assert_eq!(said(place, "podman", &["ps", "--all", "--external", "--quiet"]), "");
            let names = said(place, "podman", &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
            assert!(names.lines().all(|name| name == "<none>:<none>"), "{names}");
        }
        _ => {
            assert_eq!(said(place, "buildah", &["containers", "--quiet"]), "");
            let names = said(place, "buildah", &["images", "--format", "{{.Name}}:{{.Tag}}"]);
            assert!(names.lines().all(|name| name == "<none>:<none>"), "{names}");
        }
    }
}

fn published_and_read_back(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let answer = place.run(&["build", "--publish", &builder(engine)]).well();
    assert!(answer.stderr.contains("4 built"), "{}", answer.stderr);
    let parent = inspected(&place, "two/parent:latest");
    let child = inspected(&place, "two/child:latest");
    for (number, platform) in ["linux/386", "linux/amd64"].iter().enumerate() {
        let [parent, child] = [&parent, &child].map(|image| &image["images"][number]);
        assert_eq!(parent["platform"], *platform);
        let layers = |image: &serde_json::Value| image["layers"].as_array().expect("layers").clone();
        assert_eq!(layers(child)[..layers(parent).len()], layers(parent)[..], "its parent's very layers");
    }
    nothing_is_left(&place, engine);
    let again = place.run(&["build", "--publish", &builder(engine)]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    let described = place.run(&["doctor", &builder(engine)]);
    assert!(described.stdout.contains("builds by Buildah 1."), "{}", described.stdout);
    assert!(described.stdout.contains("note  checks run by"), "{}", described.stdout);
}

#[test]
fn podman_builds_checks_and_publishes() {
    published_and_read_back("daemonless::podman_builds_checks_and_publishes", Engine::Podman);
}

#[test]
fn buildah_builds_checks_and_publishes() {
    published_and_read_back("daemonless::buildah_builds_checks_and_publishes", Engine::Buildah);
}

/// F-G17: what one engine has built, another one reuses.
#[test]
fn f_g17_the_same_key_is_built_once_whichever_engine_there_is() {
    let test = "daemonless::f_g17_the_same_key_is_built_once_whichever_engine_there_is";
    let Some(mut place) = family(test, Engine::Buildah) else { return };
    if !Engine::Classic.equip(test, &mut place) {
        return;
    }
    let _ = place.run(&["build", "--builder=docker", "--platform=linux/amd64"]).well();
    let before = jobs("parent@linux/amd64 child@linux/amd64");
    assert_eq!(ended(&place, "built"), before);
    let _ = place.run(&["build", "--builder=buildah"]).well();
    assert_eq!(ended(&place, "reused"), before, "one truth");
    assert_eq!(ended(&place, "built"), jobs("parent@linux/386 child@linux/386"));
}

/// TM6: what somebody has left in the storage under the name of a base, or of a parent, is not what is built upon.
fn a_poisoned_name_is_not_built_upon(test: &str, engine: Engine) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let from = runtime.as_ref().expect("a runtime").block_on(Registry::ours());
    let amd64 = |name: &str| {
        format!("name = \"{name}\"\nplatforms = [\"linux/amd64\"]\n[tags]\ncommon = [\"latest\"]\n")
    };
    let mut upstream = Place::with(&[
        ("polyarch.toml", &*amd64("upstream")),
        ("base/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n")),
    ]);
    if !engine.equip(test, &mut upstream) || !root_file_systems(test, &upstream, "base", &["amd64"]) {
        return;
    }
    let _ = upstream.run(&["build", &builder(engine), "--publish", "--to", &from.address]).well();
    let base = format!("{}/upstream/base:latest", from.address);
    let built_upon = "RUN test ! -e /canary && cat /made\n";
    let mut place = Place::with(&[
        ("polyarch.toml", &*amd64("two")),
        ("parent/Dockerfile", &format!("FROM {base}\n{built_upon}")),
        ("child/Dockerfile", &format!("FROM parent\n{built_upon}COPY --from={base} /made /copied\n")),
    ]);
    assert!(engine.equip(test, &mut place));
    let poison = place.folder().join("poison");
    std::fs::create_dir_all(&poison).expect("a folder");
    std::fs::write(poison.join("canary"), "poison").expect("a canary");
    // It has what an honest one has, so that a build upon it goes on as far as the canary.
    let base_rootfs = upstream.family().join("base/rootfs/amd64");
    place
        .ask("cp", &["-a", &base_rootfs.display().to_string(), &poison.join("rootfs").display().to_string()]);
    let evil = "FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nCOPY canary /canary\nCOPY canary /made\n";
    std::fs::write(poison.join("Dockerfile"), evil).expect("a Dockerfile");
    let names =
        [&*base, "localhost/parent:latest", "docker.io/library/parent:latest", "localhost/two/parent:latest"];
    let (tool, folder) = (format!("{engine:?}").to_lowercase(), poison.display().to_string());
    for name in names {
        said(&place, &tool, &["build", "--tag", name, &folder]);
    }
    let _ = place.run(&["build", &builder(engine), "--publish"]).well();
    let left = said(&place, &tool, &["images", "--format", "{{.ID}}", &base]);
    assert_ne!(left.trim(), "", "I-X2: the stranger's name stays");
    let layers = |place: &Place, name: &str| layers(&inspected(place, name), "linux/amd64");
    let (child, base) = (layers(&place, "two/child:latest"), layers(&upstream, &base));
    assert_eq!(child[..base.len()], base[..], "the child stands on the base that the registry has");
    for image in ["parent", "child"] {
        let log = place.log(&format!("{image}.linux-amd64"));
        assert!(log.contains("well") && !log.contains("poison"), "{image}: {log}");
    }
}

#[test]
fn tm6_a_poisoned_name_in_the_storage_of_podman_is_not_built_upon() {
    let test = "daemonless::tm6_a_poisoned_name_in_the_storage_of_podman_is_not_built_upon";
    a_poisoned_name_is_not_built_upon(test, Engine::Podman);
}

#[test]
fn tm6_a_poisoned_name_in_the_storage_of_buildah_is_not_built_upon() {
    let test = "daemonless::tm6_a_poisoned_name_in_the_storage_of_buildah_is_not_built_upon";
    a_poisoned_name_is_not_built_upon(test, Engine::Buildah);
}

const ALONE: &str = "name = \"one\"\nplatforms = [\"linux/amd64\"]\n";

/// One image that stands on a busybox, with more lines of its Dockerfile.
fn alone(test: &str, engine: Engine, configuration: &str, more: &str) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", &format!("{ALONE}{configuration}")),
        ("only/Dockerfile", &format!("{FOUNDATION}{more}")),
    ]);
    (engine.equip(test, &mut place) && root_file_systems(test, &place, "only", &["amd64"])).then_some(place)
}

/// I-T3: a step that mounts files is done again where they have changed, which Buildah's cache does not look at.
fn files_that_are_mounted_count(test: &str, engine: Engine) {
    let mount = "RUN --mount=type=bind,source=word,target=/word cat /word | busybox tee /made\n";
    let Some(place) = alone(test, engine, "", mount) else { return };
    for word in ["first", "second"] {
        place.write("only/word", &format!("the {word} word\n"));
        let _ = place.run(&["build", &builder(engine)]).well();
        assert_eq!(ended(&place, "built"), jobs("only@linux/amd64"));
        let log = place.log("only.linux-amd64");
        assert!(log.contains(&format!("the {word} word")), "{log}");
    }
}

#[test]
fn i_t3_files_that_a_step_mounts_count_in_podman() {
    files_that_are_mounted_count("daemonless::i_t3_files_that_a_step_mounts_count_in_podman", Engine::Podman);
}

#[test]
fn i_t3_files_that_a_step_mounts_count_in_buildah() {
    files_that_are_mounted_count(
        "daemonless::i_t3_files_that_a_step_mounts_count_in_buildah",
        Engine::Buildah,
    );
}

/// S3 row 27: the steps of what a run has built, checked and built upon are the cache of the next one.
fn the_next_run_has_the_steps_of_the_one_before(test: &str, engine: Engine) {
    let tests = "tests = [{ run = \"test -e /kept\" }]\n";
    let Some(place) = alone(test, engine, tests, "RUN echo kept > /kept\n") else { return };
    let cached = |image: &str| {
        let _ = place.run(&["build", &builder(engine)]).well();
        nothing_is_left(&place, engine);
        let log = place.log(&format!("{image}.linux-amd64"));
        log.lines().filter(|line| line.contains("Using cache")).count()
    };
    let leaf = |word: &str| {
        place.write(
            "leaf/Dockerfile",
            &format!("FROM only\nRUN echo {test} > /own\nRUN echo {word} > /word\n"),
        );
    };
    leaf("first");
    assert_eq!(cached("leaf"), 0, "nobody has done any of it");
    leaf("second");
    assert_eq!(cached("leaf"), 1, "all but the last step");
    place.write("only/Dockerfile", &format!("{FOUNDATION}RUN echo kept > /kept\nRUN echo {test} > /more\n"));
    assert_eq!(cached("only"), 5, "all but the last step");
}

#[test]
fn s3_27_the_next_run_has_the_steps_of_the_one_before_in_podman() {
    let test = "daemonless::s3_27_the_next_run_has_the_steps_of_the_one_before_in_podman";
    the_next_run_has_the_steps_of_the_one_before(test, Engine::Podman);
}

#[test]
fn s3_27_the_next_run_has_the_steps_of_the_one_before_in_buildah() {
    let test = "daemonless::s3_27_the_next_run_has_the_steps_of_the_one_before_in_buildah";
    the_next_run_has_the_steps_of_the_one_before(test, Engine::Buildah);
}

fn failures_are_told(test: &str, engine: Engine) {
    let Some(place) = alone(test, engine, "", "RUN echo 'connection refused'; exit 7\n") else { return };
    let answer = place.run(&["build", &builder(engine)]);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    let step = "step [6/6] RUN echo 'connection refused'; exit 7 failed";
    assert!(answer.stderr.contains(step), "{}", answer.stderr);
    assert!(answer.stderr.contains("exit status 7"), "{}", answer.stderr);
    assert!(answer.stderr.contains("caused by: connection refused"), "{}", answer.stderr);
    let retried = place.events().iter().filter(|event| event["event"] == "job-retried").count();
    assert_eq!(retried, 0, "what a command prints is no failure of a network");
    nothing_is_left(&place, engine);

    place.write("only/Dockerfile", FOUNDATION);
    let tests = "[image.only]\ntests = [{ run = \"sh -c 'echo of the test; echo oh >&2; exit 5'\" }]\n";
    place.write("polyarch.toml", &format!("{ALONE}{tests}"));
    let answer = place.run(&["build", &builder(engine)]);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("ended with exit code 5"), "{}", answer.stderr);
    assert!(answer.stderr.contains("caused by: of the test"), "{}", answer.stderr);
    assert!(!answer.stderr.contains("exit status 5"), "{}", answer.stderr);

    let tests = "[image.only]\ntests = [{ run = \"sleep 60\", time-limit = \"2s\" }]\n";
    place.write("polyarch.toml", &format!("{ALONE}{tests}"));
    let answer = place.run(&["build", &builder(engine)]);
    assert!(answer.stderr.contains("took longer than 2 s"), "{}", answer.stderr);
    nothing_is_left(&place, engine);
}

#[test]
fn podman_tells_failures() {
    failures_are_told("daemonless::podman_tells_failures", Engine::Podman);
}

#[test]
fn buildah_tells_failures() {
    failures_are_told("daemonless::buildah_tells_failures", Engine::Buildah);
}

/// TM18: a secret is used, and is nowhere afterwards.
#[test]
fn tm18_a_secret_leaves_no_trace() {
    let test = "daemonless::tm18_a_secret_leaves_no_trace";
    const SECRET: &str = "canary-71c0ffee-5ec4e7";
    for engine in [Engine::Podman, Engine::Buildah] {
        let more = "RUN --mount=type=secret,id=key cat /run/secrets/key; wc -c < /run/secrets/key > /sum\n";
        let secrets = "[image.only]\nsecrets = { key = { env = \"POLYARCH_CANARY\" } }\n";
        let Some(mut place) = alone(test, engine, secrets, more) else { return };
        place.set("POLYARCH_CANARY", SECRET);
        let _ = place.run(&["build", &builder(engine)]).well();
        let found = program("grep")
            .args(["--recursive", "--files-with-matches", SECRET])
            .arg(place.folder())
            .output();
        let found = found.expect("grep runs");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{engine:?}");
        nothing_is_left(&place, engine);
    }
}

/// What Buildah does not understand is refused before anything is built, with the line.
#[test]
fn newer_forms_are_refused_in_the_plan() {
    let test = "daemonless::newer_forms_are_refused_in_the_plan";
    let more = "COPY --link rootfs /x\n";
    let Some(place) = alone(test, Engine::Buildah, "", more) else { return };
    let version = said(&place, "buildah", &["--version"]);
    if !version.contains(" 1.28.") {
        return crate::program::skip(test, &format!("not the version that was tried: {version}"));
    }
    let answer = place.run(&["build", "--builder=buildah"]);
    assert_eq!(answer.code, Some(3), "{}", answer.stderr);
    assert!(answer.stderr.contains("only/Dockerfile:6"), "{}", answer.stderr);
    assert!(answer.stderr.contains("does not understand COPY --link"), "{}", answer.stderr);
    place.write("only/Dockerfile", &format!("# syntax=registry.example/own:1\n{FOUNDATION}"));
    let answer = place.run(&["build", "--builder=buildah"]);
    assert!(answer.stderr.contains("what the frontend registry.example/own:1 reads"), "{}", answer.stderr);
}

/// Buildah's cache does not tell platforms apart where there is no base: the image must be of the right one all the same.
#[test]
fn f_g4_an_image_without_a_base_is_of_the_platform_that_was_asked_for() {
    let test = "daemonless::f_g4_an_image_without_a_base_is_of_the_platform_that_was_asked_for";
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"data\"\nplatforms = [\"linux/amd64\", \"linux/386\"]\n"),
        ("only/Dockerfile", "FROM scratch\nCOPY word /word\n"),
        ("only/word", "the same for all\n"),
    ]);
    if !Engine::Buildah.equip(test, &mut place) {
        return;
    }
    for platform in ["linux/amd64", "linux/386"] {
        let _ = place.run(&["build", "--builder=buildah", "--platform", platform]).well();
        assert_eq!(ended(&place, "built"), jobs(&format!("only@{platform}")));
    }
}

/// F-G3: a client that somebody kills, such as a system out of memory, is no failure of what it was at. It begins with these
/// words, and has the folder of the place after them.
pub(super) fn a_killed_client_begins_again(place: &Place, builder: &str, sleep: &str, client: &str) {
    let child = place.start(&["build", "--builder", builder]);
    wait_for("the slow step", || processes().iter().any(|line| line.trim_end() == sleep));
    // What it has started itself is not called as it was.
    let client = format!("^[^ ]*{client} .*{}", place.folder().display());
    let killed = program("pkill").args(["-KILL", "--full", &client]).status();
    assert!(killed.expect("run pkill").success(), "{:?}", processes());
    let answer = Answer::from(child.wait_with_output().expect("it ends")).well();
    assert_eq!(ended(place, "built"), jobs("only@linux/amd64"), "{}", answer.stderr);
    let again = ["job-retried", "job-moved"];
    let told: Vec<_> =
        place.events().into_iter().filter(|event| again.iter().any(|one| event["event"] == *one)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["reason"].to_string().contains("was killed"), "{told:?}: {}", answer.stderr);
}

#[test]
fn f_g3_a_buildah_that_is_killed_in_a_build_begins_again() {
    let test = "daemonless::f_g3_a_buildah_that_is_killed_in_a_build_begins_again";
    // No other process sleeps for as long.
    let sleep = format!("sleep 8.{}", std::process::id());
    let Some(place) = alone(test, Engine::Buildah, "", &format!("RUN {sleep}; true\n")) else { return };
    a_killed_client_begins_again(&place, "buildah", &sleep, "buildah bud");
    nothing_is_left(&place, Engine::Buildah);
}

/// F-G2: a platform that takes longer may have more time, and that of the others is theirs.
#[test]
fn f_g2_each_platform_has_the_time_that_is_its_own() {
    let test = "daemonless::f_g2_each_platform_has_the_time_that_is_its_own";
    let mut place = Place::with(&[
        (
            "polyarch.toml",
            "name = \"two\"\nplatforms = [\"linux/amd64\", \"linux/386\"]\n[image.only]\ntime-limit = \"2m\"\n\
             on.\"linux/386\" = { time-limit = \"5s\" }\n",
        ),
        ("only/Dockerfile", &format!("{FOUNDATION}RUN sleep 6\n")),
    ]);
    if !Engine::Buildah.equip(test, &mut place) || !root_file_systems(test, &place, "only", &["amd64", "386"])
    {
        return;
    }
    let answer = place.run(&["build", "--builder=buildah"]).ended(1);
    assert_eq!(ended(&place, "built"), jobs("only@linux/amd64"), "{}", answer.stderr);
    assert_eq!(ended(&place, "failed"), jobs("only@linux/386"));
    assert!(answer.stderr.contains("it took longer than 5 s"), "{}", answer.stderr);
}
