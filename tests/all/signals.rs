//! SIGINT, SIGTERM and SIGHUP at every command, wherever it waits: the first ends it in order, the second at once.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::end_to_end::engines::wait_for;
use crate::program::{Answer, Place, program, write_program};

/// Each signal, the exit code that it leads to, and what is said.
const SIGNALS: [(&str, i32, &str); 3] = [
    ("-INT", 130, "stopped by SIGINT"),
    ("-TERM", 143, "stopped by SIGTERM"),
    ("-HUP", 129, "stopped by SIGHUP"),
];

const CONFIGURATION: &str = "platforms = [\"linux/amd64\"]\ntests = [\"true\"]\n";

/// A place with one image, whose temporary folder is its own.
fn one_image(text: &str) -> Place {
    let mut place = Place::with(&[("polyarch.toml", CONFIGURATION), ("a/Dockerfile", text)]);
    let folder = temporary(&place);
    std::fs::create_dir(&folder).unwrap();
    place.set("TMPDIR", folder);
    place
}

fn temporary(place: &Place) -> PathBuf {
    place.folder().join("tmp")
}

/// A `docker` that is this script after it has noted what it was asked, and its process, in the file `asked`.
fn engine(place: &mut Place, script: &str) {
    let bin = place.folder().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let file = bin.join("docker");
    let asked = asked(place);
    write_program(&file, &format!("#!/bin/sh\necho \"$$ $*\" >>{}\n{script}\n", asked.display()));
    place.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
}

fn asked(place: &Place) -> PathBuf {
    place.folder().join("asked")
}

/// A registry on loopback that takes connections and never answers; how many it has taken.
fn silent_registry() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            open.push(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, taken)
}

fn send(signal: &str, child: &Child) {
    assert!(program("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Send a signal to a command that waits, and see that it ends soon and leaves no file.
#[track_caller]
fn ends(place: &Place, child: Child, (signal, code, said): (&str, i32, &str)) -> Answer {
    let sent = Instant::now();
    send(signal, &child);
    let answer = Answer::from(child.wait_with_output().unwrap()).ended(code);
    assert!(sent.elapsed() < Duration::from_secs(60), "{:?}", sent.elapsed());
    assert!(answer.stderr.contains(said), "{}", answer.stderr);
    for run in std::fs::read_dir(place.store().join("runs")).into_iter().flatten() {
        assert!(!run.unwrap().path().join("tmp").exists(), "a temporary file is left");
    }
    assert_eq!(std::fs::read_dir(temporary(place)).unwrap().count(), 0, "a temporary file is left");
    answer
}

fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn f_p3_f_p5_every_command_that_waits_for_a_registry_hears_the_first_signal() {
    let (registry, taken) = silent_registry();
    let place = one_image(&format!("FROM {registry}/library/base:1\n"));
    for command in ["plan", "why a", "build", "publish", "verify", "load a", "export a"] {
        for expected in SIGNALS {
            let before = taken.load(Ordering::SeqCst);
            let child = place.start(&command.split(' ').collect::<Vec<_>>());
            wait_for(command, || taken.load(Ordering::SeqCst) > before);
            let answer = ends(&place, child, expected);
            assert_eq!(answer.stdout, "", "{command}");
        }
    }
}

#[test]
fn f_p3_f_p5_every_command_that_waits_for_an_engine_hears_the_first_signal() {
    let mut place = one_image("FROM scratch\n");
    engine(
        &mut place,
        "case \"$1\" in info) sleep 600;; --version) echo 'Docker version 20.10.24, build 1';; *) exit 1;; esac",
    );
    for command in ["build", "doctor"] {
        for expected in SIGNALS {
            let _ = std::fs::remove_file(asked(&place));
            let child = place.start(&[command]);
            let info = || {
                let asked = std::fs::read_to_string(asked(&place)).unwrap_or_default();
                let line = asked.lines().find(|line| line.contains(" info ")).map(str::to_owned);
                line.and_then(|line| Some(line.split_once(' ')?.0.to_owned()))
            };
            wait_for(command, || info().is_some());
            let _ = ends(&place, child, expected);
            let client = info().unwrap();
            wait_for("the client of the engine ends too", || !is_alive(&client));
            if command == "build" {
                let last = place.events().pop().unwrap();
                assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &expected.1.into()));
            }
        }
    }
}

/// A build that has begun and never ends, after which the engine does not even say what is left.
fn a_build_on_an_engine_that_hangs() -> (Place, Child) {
    let mut place = one_image("FROM scratch\n");
    let info = r#"{"ServerVersion":"20.10.24","OSType":"linux","Architecture":"x86_64","NCPU":2}"#;
    let built = place.folder().join("built");
    engine(
        &mut place,
        &format!(
            "case \"$1\" in --version) echo 'Docker version 20.10.24, build 1';; buildx) exit 1;; info) echo '{info}';;\n\
             build) touch {0}; sleep 600;; ps) test ! -e {0} || sleep 600;; esac",
            built.display()
        ),
    );
    let child = place.start(&["build"]);
    wait_for("the build begins", || built.exists());
    (place, child)
}

#[test]
fn f_p3_the_second_signal_ends_the_program_at_once() {
    let (place, child) = a_build_on_an_engine_that_hangs();
    let at_first = std::fs::read_to_string(asked(&place)).unwrap();
    std::fs::remove_file(asked(&place)).unwrap();
    send("-INT", &child);
    let sweeps = || std::fs::read_to_string(asked(&place)).is_ok_and(|asked| asked.contains(" ps "));
    wait_for("the first signal sweeps", sweeps);
    let sent = Instant::now();
    send("-INT", &child);
    let _ = Answer::from(child.wait_with_output().unwrap()).ended(130);
    assert!(sent.elapsed() < Duration::from_secs(60), "{:?}", sent.elapsed());
    let asked = std::fs::read_to_string(asked(&place)).unwrap() + &at_first;
    for client in asked.lines().filter_map(|line| line.split(' ').next()) {
        wait_for("what was started ends too", || !is_alive(client));
    }
}

#[test]
fn f_p3_the_first_signal_does_not_wait_for_an_engine_that_says_nothing_of_what_is_left() {
    let (place, child) = a_build_on_an_engine_that_hangs();
    let answer = ends(&place, child, SIGNALS[0]);
    assert!(answer.stderr.contains("clear away what this run left"), "{}", answer.stderr);
}
