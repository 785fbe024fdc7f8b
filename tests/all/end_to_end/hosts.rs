//! Builders on other hosts, over ssh: network namespaces with their own address, ssh server and engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::engines::{Engine, FOUNDATION, ended, jobs, locked, printed, root_file_systems, tags, wait_for};
use super::lossy::{rule, widen};
use crate::program::{Answer, Place, program, skip, tell, variable};

/// Two hosts, for one test: they are few, and some tests take one of them away.
pub(super) struct Hosts {
    folder: PathBuf,
    sockets: PathBuf,
    /// Locked, so that no other test has them, in this process or another.
    _alone: File,
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
        let (folder, sockets) = (PathBuf::from(folder), PathBuf::from(sockets));
        let hosts = Self { _alone: locked(&folder.join("tests.lock")), folder, sockets };
        hosts.make_whole();
        place.set("PATH", hosts.search_path());
        // No engine of this machine is meant.
        place.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
        Some(hosts)
    }

    /// Give every host back what tests take away: its link, its packets, its running engine. A test that failed, or was
    /// killed, after it took them would fail all that come after it.
    fn make_whole(&self) {
        for host in ["west", "east", "north"] {
            let link = ["link", "set", &format!("pa-{host}"), "up"].map(str::to_owned);
            let _ = program("ip").args(link).output();
            widen(host);
            for (chain, way) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
                while rule("-D", &dropped(host, chain, way)) {}
            }
            if let Ok(process) = std::fs::read_to_string(self.sockets.join(host).join("dockerd.pid")) {
                let _ = program("kill").args(["-CONT", process.trim()]).output();
            }
        }
    }

    /// The address that the engine of a host is reached at by TLS.
    pub(super) fn engine(&self, host: &str) -> String {
        let text = std::fs::read(self.folder.join(host).with_extension("json")).expect("its configuration");
        let configuration: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        configuration["hosts"][1].as_str().expect("an address").to_owned()
    }

    /// The address of a host alone.
    pub(super) fn address(&self, host: &str) -> String {
        let engine = self.engine(host);
        engine.trim_start_matches("tcp://").split(':').next().expect("an address").to_owned()
    }

    /// Have a place reach the hosts by an `ssh` with these options before all others.
    pub(super) fn give_ssh(&self, place: &mut Place, options: &str) {
        let ssh = self.folder.join("bin/ssh");
        place.put_before("ssh", &format!("#!/bin/sh\nexec {} {options} \"$@\"\n", ssh.display()));
    }

    /// Where programs are looked for: an `ssh` that knows the hosts, and a client for their engines.
    fn search_path(&self) -> OsString {
        let mut path = self.folder.join("bin").into_os_string();
        path.push(":");
        path.push(variable("POLYARCH_TEST_CONTAINERD_BIN").unwrap_or_default());
        path.push(":");
        path.push(variable("PATH").unwrap_or_default());
        path
    }

    /// The configuration of ssh that knows the hosts.
    pub(super) fn ssh_configuration(&self) -> PathBuf {
        self.folder.join("ssh/config")
    }

    /// The socket of the engine of a host, where that is.
    pub(super) fn socket(&self, host: &str) -> PathBuf {
        self.sockets.join(host).join("docker.sock")
    }

    /// The certificates of the client, or of a stranger.
    pub(super) fn certificates(&self, whose: &str) -> PathBuf {
        self.folder.join("tls").join(whose)
    }

    /// What a docker client says on a host.
    fn docker(&self, place: &Place, host: &str, arguments: &[&str]) -> String {
        let socket = format!("unix://{}", self.socket(host).display());
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

    /// What a host has before a run.
    pub(super) fn before(&self, place: &Place, host: &str) -> Before {
        let of_runs = ["ps", "--all", "--filter", "label=dev.polyarch.run", "--format", "{{.ID}} {{.Names}}"];
        let of_runs = self.docker(place, host, &of_runs);
        let is_of_run = |line: &&str| {
            line.starts_with("127.0.0.1:")
                || line.starts_with("localhost:")
                || of_runs.lines().any(|one| one == *line)
        };
        let all = self.everything(place, host);
        let (of_runs, strangers) = all.lines().map(str::to_owned).partition(|line| is_of_run(&line.as_str()));
        Before { host: host.to_owned(), of_runs, strangers }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.make_whole();
    }
}

/// The rule by which no packet comes to a host (`INPUT`, `-i`), or from it (`OUTPUT`, `-o`).
fn dropped(host: &str, chain: &str, way: &str) -> [String; 6] {
    [&*format!("--net=/run/netns/polyarch-{host}"), chain, way, "eth0", "-j", "DROP"].map(str::to_owned)
}

/// What a host had before a run, line by line.
pub(super) struct Before {
    host: String,
    /// Of runs that were cut off, which whoever comes next may sweep.
    of_runs: BTreeSet<String>,
    strangers: BTreeSet<String>,
}

impl Before {
    /// Nothing has come since, and of what is no run's nothing has gone.
    #[track_caller]
    pub(super) fn still_stands(&self, place: &Place, hosts: &Hosts) {
        let now = hosts.everything(place, &self.host);
        let now: BTreeSet<String> = now.lines().map(str::to_owned).collect();
        let strangers: BTreeSet<String> = now.difference(&self.of_runs).cloned().collect();
        assert_eq!(strangers, self.strangers, "I-X1, I-X2: {}", self.host);
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
    let before = ["west", "east"].map(|host| hosts.before(&place, host));
    let _ = place.run(&["build", "--publish"]).well();
    assert_eq!(ended(&place, "built"), jobs(ALL));
    for (job, builder) in builders(&place) {
        let native = if job.ends_with("/386") { "west" } else { "east" };
        assert_eq!(builder, native, "{job}");
    }
    let published = tags(&place, "hosts/leaf");
    assert!(published.keys().any(|tag| tag.contains("made-well")), "{published:?}");
    before.iter().for_each(|before| before.still_stands(&place, &hosts));
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
    let log = place.log("leaf.linux-amd64");
    assert!(log.contains("well") && !log.contains("poison"), "{log}");
}

#[test]
fn builders_that_cannot_serve_are_told_before_anything_is_built() {
    let test = "builders_that_cannot_serve_are_told_before_anything_is_built";
    let Some((place, _hosts)) = family(test, "platforms = [\"linux/amd64\"]\n") else { return };
    let table: [(&[&str], i32, &str, &str); 6] = [
        (&["ssh://stranger-west"], 3, "cannot be reached", "ssh-copy-id"),
        (&["ssh://nowhere.invalid"], 3, "cannot be reached", "ssh -- nowhere.invalid true"),
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

#[test]
fn an_image_is_loaded_into_the_engine_of_the_builder_that_is_named() {
    let test = "an_image_is_loaded_into_the_engine_of_the_builder_that_is_named";
    let Some((place, hosts)) = family(test, TWO_HOSTS) else { return };
    let _ = place.run(&["build", "root@linux/amd64"]).well();
    let name = format!("polyarch.local/loaded-{}:1", std::process::id());
    let before = hosts.before(&place, "west");
    let loaded = place.run(&["load", "root@linux/amd64", "--builder", "east", "--name", &name]).well();
    let socket = format!("unix://{}", hosts.socket("east").display());
    let there = printed(&place, &["--host", &socket], &["--network", "none", &name, "cat", "/made"]);
    hosts.docker(&place, "east", &["image", "rm", &name]);
    assert_eq!((there.trim(), &*loaded.stdout), ("well", &*format!("{name}\n")), "{}", loaded.stderr);
    before.still_stands(&place, &hosts);
}

#[test]
fn an_ssh_server_as_it_comes_serves_more_jobs_at_once_than_it_lets_a_connection_have_sessions() {
    let test = "an_ssh_server_as_it_comes_serves_more_jobs_at_once_than_it_lets_a_connection_have_sessions";
    let mut many = "name = \"many\"\nplatforms = [\"linux/amd64\"]\n".to_owned();
    for number in 1..12 {
        // Much disk, so that the host is asked for its room before each job.
        many.push_str(&format!("[image.leaf{number}]\ndisk = \"3GB\"\n"));
    }
    let Some((place, hosts)) = family(test, &many) else { return };
    for number in 1..12 {
        place.write(&format!("leaf{number}/Dockerfile"), &format!("FROM root\nRUN echo {number} >> /made\n"));
    }
    // At the second, where nothing is forwarded, the client of the engine has sessions of its own.
    for (builder, server) in [("ssh://west", "sshd-west-22"), ("ssh://closed-east", "sshd-east-2222")] {
        let server = hosts.folder.join("ssh").join(server);
        let server = std::fs::read_to_string(server).expect("its configuration");
        assert!(!server.contains("MaxSessions") && !server.contains("MaxStartups"), "{server}");
        let builder = format!("one={builder}");
        let answer = place.run(&["build", "--no-reuse", "--builder", &builder, "--slots", "12"]).well();
        assert_eq!(ended(&place, "built").len(), 13, "{}", answer.stderr);
        let events = place.events();
        let happened = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!([happened("job-retried"), happened("job-moved"), happened("builder-lost")], [0; 3]);
    }
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
pub(super) fn in_the_middle(place: &Place, arguments: &[&str]) -> (Child, String) {
    let child = place.start(arguments);
    (child, at_the_slow_step(place))
}

/// Wait until the slow step of the leaf is at work; the builder that has it.
fn at_the_slow_step(place: &Place) -> String {
    let mut found = None;
    wait_for("the slow step", || {
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
    found.expect("a builder")
}

/// How many milliseconds it may take to tell of a loss, as the log of events has it.
pub(super) const TOLD_WITHIN: u64 = 20_000;
/// And from then until the job has begun elsewhere.
const MOVED_WITHIN: u64 = 5_000;

/// The time in milliseconds, as in the log of events.
pub(super) fn now(place: &Place) -> u64 {
    place.ask("date", &["+%s%3N"]).trim().parse().expect("a time")
}

/// A command that is at work for a while, which a test has to do it harm. Whoever begins it again is at work as long as is left
/// of that, and 8 s at the least.
pub(super) fn slowly(place: &Place) -> String {
    let until = now(place) / 1_000 + 45;
    format!("sleep 8; until [ $(date +%s) -ge {until} ]; do sleep 1; done")
}

/// Take the builder away on which the leaf is being built, and see that the other one ends the work.
pub(super) fn moves_on(
    test: &str,
    place: &Place,
    both: [&str; 2],
    take: impl FnOnce(&str),
    give_back: impl FnOnce(&str),
) {
    let word = format!("{}-{}", test.rsplit(':').next().unwrap_or_default(), std::process::id());
    let slowly = slowly(place);
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN echo {word}; {slowly}; echo leaf >> /made\n"));
    let (child, builder) = in_the_middle(place, &["build"]);
    take(&builder);
    let taken = now(place);
    let ended: Answer = child.wait_with_output().expect("it ends").into();
    give_back(&builder);
    let _ = ended.well();
    let events = place.events();
    let at = |which: &dyn Fn(&serde_json::Value) -> bool| {
        let event = events.iter().find(|event| which(event));
        event.unwrap_or_else(|| panic!("{events:#?}"))["at_milliseconds"].as_u64().expect("a time")
    };
    let lost = at(&|event| event["event"] == "builder-lost");
    assert!(at(&|event| event["event"] == "job-moved") >= lost);
    let other = if builder == both[0] { both[1] } else { both[0] };
    let again = at(&|event| {
        event["event"] == "job-started" && event["job"] == "leaf@linux/amd64" && event["builder"] == other
    });
    let (told, moved) = (lost.saturating_sub(taken), again.saturating_sub(lost));
    tell(&format!("{test}: told after {told} ms, begun elsewhere {moved} ms later"));
    assert!(told <= TOLD_WITHIN, "told of the loss after {told} ms");
    assert!(moved <= MOVED_WITHIN, "begun elsewhere {moved} ms after the loss was told");
    assert_eq!(builders(place)["leaf@linux/amd64"], other);
    let kept =
        events.iter().filter(|event| event["event"] == "job-kept" && event["job"] == "leaf@linux/amd64");
    assert_eq!(kept.count(), 1, "I-B7: one accepted result");
}

/// Take the host away on which the leaf is being built.
fn taken_away(
    test: &str,
    configuration: impl Fn(&Hosts) -> String,
    take: impl Fn(&Hosts, &Place, &str),
    give_back: impl Fn(&Hosts, &Place, &str),
) {
    let Some((place, hosts)) = family(test, EITHER_HOST) else { return };
    place.write("polyarch.toml", &configuration(&hosts));
    let (take, give_back) =
        (|host: &str| take(&hosts, &place, host), |host: &str| give_back(&hosts, &place, host));
    moves_on(test, &place, ["west", "east"], take, give_back);
}

fn over_ssh(_: &Hosts) -> String {
    EITHER_HOST.to_owned()
}

fn over_closed_ssh(_: &Hosts) -> String {
    EITHER_HOST.replace("ssh://", "ssh://closed-")
}

fn over_tcp(hosts: &Hosts) -> String {
    let certificates = hosts.certificates("client");
    let of = |host: &str| format!("{}\"\ncertificates = \"{}", hosts.engine(host), certificates.display());
    let west = EITHER_HOST.replace("ssh://west", &of("west"));
    west.replace("ssh://east", &of("east"))
}

pub(super) fn link(_: &Hosts, place: &Place, host: &str, state: &str) {
    place.ask("ip", &["link", "set", &format!("pa-{host}"), state]);
}

#[test]
fn f_g9_f_n2_a_host_that_is_cut_off_loses_its_job_to_the_other() {
    taken_away(
        "f_g9_f_n2_a_host_that_is_cut_off_loses_its_job_to_the_other",
        over_ssh,
        |hosts, place, host| link(hosts, place, host, "down"),
        |hosts, place, host| link(hosts, place, host, "up"),
    );
}

#[test]
fn f_g9_f_n2_an_engine_over_tcp_that_is_cut_off_loses_its_job_to_the_other() {
    taken_away(
        "f_g9_f_n2_an_engine_over_tcp_that_is_cut_off_loses_its_job_to_the_other",
        over_tcp,
        |hosts, place, host| link(hosts, place, host, "down"),
        |hosts, place, host| link(hosts, place, host, "up"),
    );
}

#[test]
fn f_n1_a_name_that_stops_resolving_takes_no_builder_away_that_is_reached() {
    let test = "f_n1_a_name_that_stops_resolving_takes_no_builder_away_that_is_reached";
    let Some((mut place, hosts)) = family(test, EITHER_HOST) else { return };
    let (address, names) = (hosts.address("west"), place.folder().join("hosts"));
    hosts.give_ssh(&mut place, &format!("-o HostName=builder.test -o HostKeyAlias={address}"));
    // Names as this file has them, for this process alone.
    let started = || {
        let mut named = place.program("unshare");
        named.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(&names);
        named.arg(env!("CARGO_BIN_EXE_polyarch")).args(["build", "--builder", "west"]);
        named.env("POLYARCH_STORE", place.store()).stdout(Stdio::piped()).stderr(Stdio::piped());
        named.spawn().expect("unshare runs")
    };
    std::fs::write(&names, format!("{address} builder.test\n")).expect("names");
    let word = format!("{test}-{}", std::process::id());
    // Long enough to be asked for several signs of life.
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN echo {word}; sleep 20; echo leaf >> /made\n"));
    let child = started();
    at_the_slow_step(&place);
    std::fs::write(&names, "").expect("no names");
    let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
    let lost = place.events().iter().filter(|event| event["event"] == "builder-lost").count();
    assert_eq!((lost, ended(&place, "built")), (0, jobs("root@linux/amd64 leaf@linux/amd64")));

    place.write("leaf/Dockerfile", "FROM root\nRUN echo other >> /made\n");
    let begun = now(&place);
    let answer = Answer::from(started().wait_with_output().expect("it ends")).ended(3);
    let took = now(&place) - begun;
    assert!(answer.stderr.contains("builder.test"), "{}", answer.stderr);
    tell(&format!("{test}: a name that is not there is told after {took} ms"));
    assert!(took <= TOLD_WITHIN, "told after {took} ms");
}

/// A host to which, or from which, no packet comes; the other way they pass.
fn one_way(test: &str, configuration: impl Fn(&Hosts) -> String, chain: &str) {
    let way = if chain == "INPUT" { "-i" } else { "-o" };
    let set = |how: &str, host: &str| {
        assert!(rule(how, &dropped(host, chain, way)), "iptables drops packets");
    };
    taken_away(test, configuration, |_, _, host| set("-A", host), |_, _, host| set("-D", host));
}

#[test]
fn f_n2_a_host_that_hears_nothing_loses_its_job_to_the_other() {
    one_way("f_n2_a_host_that_hears_nothing_loses_its_job_to_the_other", over_ssh, "INPUT");
}

#[test]
fn f_n2_a_host_that_is_not_heard_loses_its_job_to_the_other() {
    one_way("f_n2_a_host_that_is_not_heard_loses_its_job_to_the_other", over_ssh, "OUTPUT");
}

#[test]
fn f_n2_an_engine_over_tcp_that_hears_nothing_loses_its_job_to_the_other() {
    one_way("f_n2_an_engine_over_tcp_that_hears_nothing_loses_its_job_to_the_other", over_tcp, "INPUT");
}

#[test]
fn f_n2_an_engine_over_tcp_that_is_not_heard_loses_its_job_to_the_other() {
    one_way("f_n2_an_engine_over_tcp_that_is_not_heard_loses_its_job_to_the_other", over_tcp, "OUTPUT");
}

#[test]
fn f_g10_i_b7_a_host_that_comes_back_while_another_has_its_job_gives_no_second_result() {
    let test = "f_g10_i_b7_a_host_that_comes_back_while_another_has_its_job_gives_no_second_result";
    let Some((place, hosts)) = family(test, EITHER_HOST) else { return };
    let word = format!("{test}-{}", std::process::id());
    // Longer than it takes to see the loss, and the return.
    place.write("leaf/Dockerfile", &format!("FROM root\nRUN echo {word}; sleep 45; echo leaf >> /made\n"));
    let (child, builder) = in_the_middle(&place, &["build"]);
    link(&hosts, &place, &builder, "down");
    let happened = |name: &str| place.events().iter().any(|event| event["event"] == name);
    wait_for("the loss", || happened("builder-lost"));
    link(&hosts, &place, &builder, "up");
    wait_for("the return", || happened("builder-returned"));
    let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
    let kept = place.events().into_iter().filter(|event| event["event"] == "job-kept");
    let kept: Vec<_> = kept.map(|event| event["job"].as_str().expect("a job").to_owned()).collect();
    assert_eq!(kept, ["root@linux/amd64", "leaf@linux/amd64"], "I-B7: one accepted result");
    assert_ne!(builders(&place)["leaf@linux/amd64"], builder);
    let left: Vec<_> =
        tags(&place, "scopes/trusted").into_keys().filter(|tag| tag.starts_with("build-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn f_g11_what_a_host_has_done_for_a_run_that_was_killed_is_gone_on_from() {
    let test = "f_g11_what_a_host_has_done_for_a_run_that_was_killed_is_gone_on_from";
    let Some((place, hosts)) = family(test, EITHER_HOST) else { return };
    let word = format!("{test}-{}", std::process::id());
    place.write(
        "leaf/Dockerfile",
        &format!("FROM root\nRUN echo {word} > /step\nRUN {}; echo leaf >> /made\n", slowly(&place)),
    );
    let before = ["west", "east"].map(|host| hosts.before(&place, host));
    let (mut child, builder) = in_the_middle(&place, &["build"]);
    child.kill().expect("it is killed");
    child.wait().expect("it is dead");
    let _ = place.run(&["build", "--builder", &builder]).well();
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64"), "what is in the store is not built again");
    assert_eq!(ended(&place, "built"), jobs("leaf@linux/amd64"));
    let log = place.log("leaf.linux-amd64");
    assert!(log.contains("CACHED"), "the step that had ended is in the engine's cache: {log}");
    before.iter().for_each(|before| before.still_stands(&place, &hosts));
}

#[test]
fn f_g2_an_engine_that_is_frozen_loses_its_job_to_another() {
    let test = "f_g2_an_engine_that_is_frozen_loses_its_job_to_another";
    taken_away(test, over_ssh, freeze, thaw);
}

#[test]
fn f_g2_an_engine_that_is_frozen_behind_a_server_that_forwards_nothing_loses_its_job_to_another() {
    let test = "f_g2_an_engine_that_is_frozen_behind_a_server_that_forwards_nothing_loses_its_job_to_another";
    taken_away(test, over_closed_ssh, freeze, |hosts, place, host| {
        // By its name alone: those of this machine are called by their path.
        let asking = || place.program("pgrep").args(["-f", "^docker version"]).output().expect("pgrep runs");
        wait_for("those that asked to end", || asking().stdout.is_empty());
        thaw(hosts, place, host);
    });
}

fn freeze(hosts: &Hosts, place: &Place, host: &str) {
    signal(hosts, place, host, "-STOP");
}

fn thaw(hosts: &Hosts, place: &Place, host: &str) {
    signal(hosts, place, host, "-CONT");
}

fn signal(hosts: &Hosts, place: &Place, host: &str, signal: &str) {
    let process = std::fs::read_to_string(hosts.sockets.join(host).join("dockerd.pid")).expect("a process");
    place.ask("kill", &[signal, process.trim()]);
}

#[test]
fn a_test_on_this_machine_finds_its_image_on_the_host_that_has_it() {
    let test = "a_test_on_this_machine_finds_its_image_on_the_host_that_has_it";
    let hosted = "tests = [{ host = \"docker run --rm --network none $POLYARCH_IMAGE cat /made\", stdout = \"well\" }]";
    let configuration = TWO_HOSTS.replace("tests = [{ run = \"cat /made\" }]", hosted);
    let Some((place, hosts)) = family(test, &configuration) else { return };
    let before = ["west", "east"].map(|host| hosts.before(&place, host));
    let _ = place.run(&["build"]).well();
    before.iter().for_each(|before| before.still_stands(&place, &hosts));
    // Over TCP, with certificates, and over an ssh server that forwards nothing.
    let over_tcp = format!(
        "\n[builder.tcp]\nengine = \"{}\"\ncertificates = \"{}\"\n",
        hosts.engine("east"),
        hosts.certificates("client").display()
    );
    place.write("polyarch.toml", &(configuration + &over_tcp));
    for builder in ["tcp", "closed=ssh://closed-east"] {
        let platform = ["--platform", "linux/amd64", "--builder", builder];
        let _ = place.run(&[&["build", "--no-reuse"], &platform[..]].concat()).well();
    }
}

#[test]
fn a_build_that_does_not_begin_leaves_no_sockets() {
    let test = "a_build_that_does_not_begin_leaves_no_sockets";
    let Some((place, _hosts)) = family(test, TWO_HOSTS) else { return };
    for (other, code) in [("b=context:nowhere", 2), ("b=unix:///nowhere/docker.sock", 3)] {
        let _ = place.run(&["build", "--builder", "a=ssh://west", "--builder", other]).ended(code);
        let run = place.newest_run().expect("a run");
        let name = format!("polyarch-{}", run.file_name().expect("its name").to_string_lossy());
        assert!(!std::path::Path::new("/tmp").join(&name).exists(), "{other}: {name}");
    }
}
