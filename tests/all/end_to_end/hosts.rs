//! Builders on other hosts, over ssh: network namespaces with their own address, ssh server and engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems, tags, wait_for};
use crate::program::{Answer, Place, skip, variable};

/// The hosts are few, and some tests take one of them away: one test at a time has them.
static HOSTS: Mutex<()> = Mutex::new(());

/// Two hosts, for one test.
pub(super) struct Hosts {
    folder: PathBuf,
    sockets: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Hosts {
    /// Have a place reach the hosts by its `ssh`; none, having said why, where they are not there.
    pub(super) fn reached_from(test: &str, place: &mut Place) -> Option<Self> {
        let (Some(folder), Some(sockets)) =
            (variable("POLYARCH_TEST_HOSTS"), variable("POLYARCH_TEST_HOSTS_RUN"))
        else {
            skip(test, "POLYARCH_TEST_HOSTS names no hosts");
            return None;
        };
        if !Engine::Containerd.equip(test, place) {
            return None;
        }
        let alone = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = Self { folder: folder.into(), sockets: sockets.into(), _alone: alone };
        let mut path = hosts.folder.join("bin").into_os_string();
        path.push(":");
        path.push(variable("POLYARCH_TEST_CONTAINERD_BIN").unwrap_or_default());
        path.push(":");
        path.push(variable("PATH").unwrap_or_default());
        place.set("PATH", path);
        // No engine of this machine is meant.
        place.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
        Some(hosts)
    }

    /// The address that the engine of a host is reached at by TLS.
    pub(super) fn engine(&self, host: &str) -> String {
        let text = std::fs::read(self.folder.join(host).with_extension("json")).expect("its configuration");
        let configuration: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        configuration["hosts"][1].as_str().expect("an address").to_owned()
    }

    /// The certificates of the client, or of a stranger.
    pub(super) fn certificates(&self, whose: &str) -> PathBuf {
        self.folder.join("tls").join(whose)
    }

    /// What a docker client says on a host.
    fn docker(&self, place: &Place, host: &str, arguments: &[&str]) -> String {
        let socket = format!("unix://{}", self.sockets.join(host).join("docker.sock").display());
        place.ask("docker", &[&["--host", &*socket], arguments].concat())
    }

    /// Every container and image name that a host has.
    pub(super) fn everything(&self, place: &Place, host: &str) -> String {
        let images = self.docker(
            place,
            host,
            &["image", "ls", "--digests", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}"],
        );
        let containers = self.docker(place, host, &["ps", "--all", "--format", "{{.ID}} {{.Names}}"]);
        images + &containers
    }
}

const TWO_HOSTS: &str = r#"
name = "hosts"
platforms = ["linux/amd64", "linux/386"]
tests = [{ run = "cat /made" }]

[image.root]
tags = [{ tag = "made-{0}", run = "cat /made", match = '^(well)' }]

[builder.west]
engine = "ssh://west"
platforms = ["linux/386"]
slots = 2

[builder.east]
engine = "ssh://east"
platforms = ["linux/amd64"]
"#;

fn family(test: &str, configuration: &str) -> Option<(Place, Hosts)> {
    let mut place = Place::with(&[
        ("polyarch.toml", configuration),
        ("root/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n")),
        ("leaf/Dockerfile", "FROM root\nRUN echo leaf >> /made\n"),
    ]);
    let hosts = Hosts::reached_from(test, &mut place)?;
    root_file_systems(test, &place, "root", &["amd64", "386"]).then_some((place, hosts))
}

/// Who built each job of the newest run.
pub(super) fn builders(place: &Place) -> BTreeMap<String, String> {
    let started = place.events().into_iter().filter(|event| event["event"] == "job-started");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    started.map(|event| (text(&event["job"]), text(&event["builder"]))).collect()
}

const ALL: &str = "root@linux/amd64 root@linux/386 leaf@linux/amd64 leaf@linux/386";

#[test]
fn two_hosts_build_a_platform_each_and_nothing_is_left_on_them() {
    let test = "two_hosts_build_a_platform_each_and_nothing_is_left_on_them";
    let Some((place, hosts)) = family(test, TWO_HOSTS) else { return };
    let before = ["west", "east"].map(|host| hosts.everything(&place, host));
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(ended(&place, "built"), jobs(ALL));
    for (job, builder) in builders(&place) {
        let native = if job.ends_with("/386") { "west" } else { "east" };
        assert_eq!(builder, native, "{job}");
    }
    let published = tags(&place, "hosts/leaf");
    assert!(published.keys().any(|tag| tag.contains("made-well")), "{published:?}");
    assert_eq!(["west", "east"].map(|host| hosts.everything(&place, host)), before, "I-X1, I-X2");
    let again = place.run(&["build"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
}

#[test]
fn tm6_a_poisoned_name_on_a_host_does_not_enter_a_build() {
    let test = "tm6_a_poisoned_name_on_a_host_does_not_enter_a_build";
    let Some((place, hosts)) = family(test, TWO_HOSTS) else { return };
    let folder = place.folder().join("poison");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("canary"), "poison").expect("a canary");
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY canary /made\n").expect("a Dockerfile");
    let names = ["root", "root:latest", "docker.io/library/root:latest"];
    let folder = folder.to_string_lossy();
    let mut arguments = vec!["build"];
    arguments.extend(names.iter().flat_map(|name| ["--tag", name]));
    arguments.push(&folder);
    for host in ["west", "east"] {
        hosts.docker(&place, host, &arguments);
    }
    let built = place.run(&["build"]);
    for host in ["west", "east"] {
        assert!(hosts.everything(&place, host).contains("root:latest"), "I-X2: the stranger's name stays");
        hosts.docker(&place, host, &["image", "rm", "root:latest"]);
    }
    let _ = built.well();
    let log = place.newest_run().expect("a run").join("logs/leaf.linux-amd64.log");
    let log = std::fs::read_to_string(log).expect("the log of the leaf");
    assert!(log.contains("well") && !log.contains("poison"), "{log}");
}

#[test]
fn builders_that_cannot_serve_are_told_before_anything_is_built() {
    let test = "builders_that_cannot_serve_are_told_before_anything_is_built";
    let Some((place, _hosts)) = family(test, "platforms = [\"linux/amd64\"]\n") else { return };
    let closed = "closed=ssh://closed-west:2222";
    let table: [(&[&str], i32, &str, &str); 7] = [
        (&["ssh://stranger-west"], 3, "cannot be reached", "ssh-copy-id"),
        (&["ssh://nowhere.invalid"], 3, "cannot be reached", "ssh -- nowhere.invalid true"),
        (&[closed], 3, "lets nobody forward a port", "AllowTcpForwarding yes"),
        (
            &["a=ssh://west", "b=ssh://root@west"],
            2,
            "builders a and b are one engine",
            "leave one of the two out",
        ),
        (&["context:nowhere"], 2, "docker has no context `nowhere`", "docker context ls"),
        (&["dokcer"], 2, "`dokcer` is no engine known here", "did you mean `docker`?"),
        (&["unix:///nowhere/docker.sock"], 3, "no Docker Engine answers", "polyarch doctor"),
    ];
    for (builders, code, problem, hint) in table {
        let mut arguments = vec!["build"];
        arguments.extend(builders.iter().flat_map(|builder| ["--builder", builder]));
        let answer = place.run(&arguments).ended(code);
        assert!(answer.stderr.contains(problem), "{builders:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(hint), "{builders:?}: {}", answer.stderr);
        assert!(builders_of_none(&place), "{builders:?}");
    }
    let lacking = TWO_HOSTS.replace("platforms = [\"linux/386\"]", "platforms = [\"windows/amd64\"]");
    place.write("polyarch.toml", &lacking);
    let answer = place.run(&["build"]).ended(3);
    assert!(answer.stderr.contains("builder west does not run windows/amd64"), "{}", answer.stderr);
}

fn builders_of_none(place: &Place) -> bool {
    builders(place).is_empty()
}

#[test]
fn doctor_tells_what_each_host_is() {
    let test = "doctor_tells_what_each_host_is";
    let Some((place, _hosts)) = family(test, TWO_HOSTS) else { return };
    let answer = place.run(&["doctor"]).well();
    for line in [
        "ok    west: docker at ssh://west, 20.10",
        "ok    east: docker at ssh://east, 26.1",
        " free",
        "linux/386: native on west",
    ] {
        assert!(answer.stdout.contains(line), "{line}: {}", answer.stdout);
    }
}

/// A family whose leaf takes a while to build, on two hosts that both run its platform.
const EITHER_HOST: &str = r#"
name = "lost"
platforms = ["linux/amd64"]
tests = [{ run = "cat /made" }]

[builder.west]
engine = "ssh://west"
slots = 1

[builder.east]
engine = "ssh://east"
slots = 1
"#;

/// Begin a build, and wait until the slow step of the leaf is at work; the builder that has it.
fn in_the_middle(place: &Place) -> (Child, String) {
    let child = place.start(&["build"]);
    let mut found = None;
    wait_for("the slow step", Duration::from_secs(60), || {
        if !place.newest_run().is_some_and(|run| run.join("events.jsonl").exists()) {
            return false;
        }
        let sleeps = |event: &serde_json::Value| {
            event["event"] == "job-step" && event["step"].as_str().is_some_and(|step| step.contains("sleep"))
        };
        let sleeping = place.events().iter().any(sleeps);
        found = builders(place).remove("leaf@linux/amd64").filter(|_| sleeping);
        found.is_some()
    });
    (child, found.expect("a builder"))
}

/// Take the host away on which the leaf is being built, and see the other one end the work.
fn taken_away(test: &str, take: impl Fn(&Hosts, &Place, &str), give_back: impl Fn(&Hosts, &Place, &str)) {
    let Some((place, hosts)) = family(test, EITHER_HOST) else { return };
    let word = format!("{test}-{}", std::process::id());
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN echo {word}; sleep 8; echo leaf >> /made\n"));
    let (child, builder) = in_the_middle(&place);
    take(&hosts, &place, &builder);
    let ended: Answer = child.wait_with_output().expect("it ends").into();
    give_back(&hosts, &place, &builder);
    let _ = ended.well();
    let events = place.events();
    let at = |name: &str| {
        let event = events.iter().find(|event| event["event"] == name);
        event.unwrap_or_else(|| panic!("{name}: {events:#?}"))["at_milliseconds"].as_u64().expect("a time")
    };
    assert!(at("job-moved") >= at("builder-lost"));
    let other = if builder == "west" { "east" } else { "west" };
    assert_eq!(builders(&place)["leaf@linux/amd64"], other);
    let kept =
        events.iter().filter(|event| event["event"] == "job-kept" && event["job"] == "leaf@linux/amd64");
    assert_eq!(kept.count(), 1, "I-B7: one accepted result");
}

fn link(_: &Hosts, place: &Place, host: &str, state: &str) {
    place.ask("ip", &["link", "set", &format!("pa-{host}"), state]);
}

#[test]
fn f_g9_f_n2_a_host_that_is_cut_off_loses_its_job_to_the_other() {
    taken_away(
        "f_g9_f_n2_a_host_that_is_cut_off_loses_its_job_to_the_other",
        |hosts, place, host| link(hosts, place, host, "down"),
        |hosts, place, host| link(hosts, place, host, "up"),
    );
}

#[test]
fn f_g2_an_engine_that_is_frozen_loses_its_job_to_another() {
    let signal = |hosts: &Hosts, place: &Place, host: &str, signal: &str| {
        let process =
            std::fs::read_to_string(hosts.sockets.join(host).join("dockerd.pid")).expect("a process");
        place.ask("kill", &[signal, process.trim()]);
    };
    taken_away(
        "f_g2_an_engine_that_is_frozen_loses_its_job_to_another",
        |hosts, place, host| signal(hosts, place, host, "-STOP"),
        |hosts, place, host| signal(hosts, place, host, "-CONT"),
    );
}
