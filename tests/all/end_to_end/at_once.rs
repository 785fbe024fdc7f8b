//! Several runs of one family at once, over one folder and one engine (F-X1).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use super::engines::{Engine, FOUNDATION, root_file_systems, wait_for};
use crate::program::{Answer, Place, program, tell};

const CONFIGURATION: &str = "name = \"together\"\nplatforms = [\"linux/amd64\"]\n\
    tests = [{ run = \"test -e /bin/busybox\" }]\n";

/// A command that prints another word each time that it is run, whatever an engine shares.
const COUNTED: &str = "cat /proc/sys/kernel/random/uuid | tee /word && sleep";

/// A root, a parent whose build takes so many seconds, and two leaves.
fn family(test: &str, seconds: u64) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("root/Dockerfile", FOUNDATION),
        ("parent/Dockerfile", &format!("FROM root\nRUN {COUNTED} {seconds}\n")),
        ("left/Dockerfile", &format!("FROM parent\nRUN echo left && {COUNTED} 1\n")),
        ("right/Dockerfile", &format!("FROM parent\nRUN echo right && {COUNTED} 1\n")),
    ]);
    (Engine::Classic.equip(test, &mut place) && root_file_systems(test, &place, "root", &["amd64"]))
        .then_some(place)
}

/// Begin a run in which the engine reuses nothing.
fn begin(place: &Place) -> Child {
    place.start(&["build", "--no-cache", "--slots", "2"])
}

/// The folder of the run of a process, once there is one.
fn run_of(place: &Place, process: u32) -> Option<PathBuf> {
    let runs = std::fs::read_dir(place.store().join("runs")).ok()?.flatten();
    runs.map(|run| run.path()).find(|run| run.to_string_lossy().contains(&format!("-{process}-")))
}

/// What happened so far in the run of a process.
fn events(place: &Place, process: u32) -> Vec<Value> {
    let log = run_of(place, process).map(|run| run.join("events.jsonl"));
    let text = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The jobs of the events that are so, sorted.
fn jobs_of<'a>(events: impl IntoIterator<Item = &'a Value>, is_so: impl Fn(&Value) -> bool) -> Vec<String> {
    let jobs = events.into_iter().filter(|event| is_so(event)).filter_map(|event| event["job"].as_str());
    let mut jobs: Vec<String> = jobs.map(|job| job.trim_end_matches("@linux/amd64").to_owned()).collect();
    jobs.sort();
    jobs
}

fn is_built(event: &Value) -> bool {
    event["event"] == "job-ended" && event["outcome"]["outcome"] == "built"
}

fn is_reused(event: &Value) -> bool {
    event["event"] == "job-reused"
}

fn awaits(event: &Value) -> bool {
    event["event"] == "job-awaits"
}

/// Which words the builds of a job have printed, in the runs of all processes; and in how many of them it was built.
fn words(place: &Place, processes: &[u32], job: &str) -> (BTreeSet<String>, usize) {
    let logs = processes.iter().filter_map(|process| run_of(place, *process));
    let logs =
        logs.filter_map(|run| std::fs::read_to_string(run.join(format!("logs/{job}.linux-amd64.log"))).ok());
    let logs: Vec<String> = logs.collect();
    let is_word = |word: &&str| word.len() == 36 && word.matches('-').count() == 4;
    let words = logs.iter().flat_map(|log| log.split_whitespace()).filter(is_word);
    (words.map(str::to_owned).collect(), logs.len())
}

/// Wait until a process says so of the parent.
fn wait_until(place: &Place, process: &Child, what: &str, is_so: impl Fn(&Value) -> bool) {
    wait_for(what, || {
        events(place, process.id()).iter().any(|event| event["job"] == "parent@linux/amd64" && is_so(event))
    });
}

fn sleeps(event: &Value) -> bool {
    event["step"].as_str().is_some_and(|step| step.contains("sleep"))
}

#[test]
fn f_x1_runs_that_go_at_once_build_each_key_once() {
    let test = "at_once::f_x1_runs_that_go_at_once";
    for number in [2, 8] {
        let Some(place) = family(test, 6) else { return };
        let children: Vec<Child> = (0..number).map(|_| begin(&place)).collect();
        let processes: Vec<u32> = children.iter().map(Child::id).collect();
        for child in children {
            let _ = Answer::from(child.wait_with_output().expect("it ends")).well();
        }
        let events: Vec<Value> = processes.iter().flat_map(|process| events(&place, *process)).collect();
        let waited = jobs_of(&events, awaits).len();
        tell(&format!("{number} runs: waited {waited} times, built {:?}", jobs_of(&events, is_built)));
        assert_eq!(jobs_of(&events, is_built), ["left", "parent", "right", "root"], "{number} runs");
        assert_eq!(jobs_of(&events, is_reused).len(), 4 * (number - 1), "{number} runs");
        assert_eq!(jobs_of(&events, |event| event["event"] == "check-ended").len(), 4, "{number} runs");
        assert!(waited > 0, "{number} runs were not at work at once");
        for job in ["parent", "left", "right"] {
            let (words, logs) = words(&place, &processes, job);
            assert_eq!((words.len(), logs), (1, 1), "how often {job} was made by {number} runs: {words:?}");
        }
    }
}

#[test]
fn f_x1_where_a_run_is_killed_the_one_that_waits_for_it_builds() {
    let Some(place) = family("at_once::f_x1_where_a_run_is_killed", 60) else { return };
    let mut killed = begin(&place);
    wait_until(&place, &killed, "the middle of the build", sleeps);
    let (waiting, stopped) = (begin(&place), begin(&place));
    let says = |event: &Value| {
        let run = event["run"].as_str().unwrap_or_default();
        awaits(event) && run.contains(&format!("-{}-", killed.id()))
    };
    wait_until(&place, &waiting, "a run that waits, and says for whom", says);
    wait_until(&place, &stopped, "another run that waits", awaits);

    let status = program("kill").args(["-INT", &stopped.id().to_string()]).status().expect("run kill");
    assert!(status.success());
    let stopped = Answer::from(stopped.wait_with_output().expect("it ends")).ended(130);
    let is_over = |event: &Value| event["event"] == "job-ended" && event["job"] == "parent@linux/amd64";
    assert!(
        !events(&place, killed.id()).iter().any(is_over),
        "who waits stops at once, and not when that is built"
    );
    assert!(stopped.stderr.contains("which builds the same"), "{}", stopped.stderr);

    assert!(!events(&place, waiting.id()).iter().any(sleeps), "it has built meanwhile");
    killed.kill().expect("kill it");
    let _ = killed.wait();
    let process = waiting.id();
    let _ = Answer::from(waiting.wait_with_output().expect("it ends")).well();
    let events = events(&place, process);
    assert_eq!(jobs_of(&events, is_built), ["left", "parent", "right"]);
    assert_eq!(jobs_of(&events, is_reused), ["root"]);
    let left = std::fs::read_dir(place.store().join("claims")).expect("claims").count();
    assert_eq!(left, 0, "what the killed run held went with the next that had it");
}
