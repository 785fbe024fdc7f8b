//! Commands whose words nobody reads to the end (F-P5): `polyarch build | head -1`, a stream that is closed, a disk that is full.

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use super::interrupted::nothing_is_left_of;
use crate::program::{Answer, Place};

/// What a shell ends with that runs the program so.
fn shell(place: &Place, line: &str) -> Answer {
    let mut shell = place.program("bash");
    shell.args(["-c", &line.replace("polyarch", env!("CARGO_BIN_EXE_polyarch"))]);
    shell.env("POLYARCH_STORE", place.store()).output().expect("a shell").into()
}

/// The end of a line that ends as what stands before its pipe.
const FIRST_LINE: &str = " | head -n 1; exit ${PIPESTATUS[0]}";

#[test]
fn f_p5_a_reader_that_goes_away_changes_nothing_of_a_run() {
    let test = "unread::f_p5_a_reader_that_goes_away_changes_nothing_of_a_run";
    let mut place =
        Place::with(&[("polyarch.toml", "platforms = [\"linux/amd64\"]\n"), ("root/Dockerfile", FOUNDATION)]);
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let runs = [
        ("true", format!("polyarch build 2>&1{FIRST_LINE}"), 0),
        ("echo out", format!("polyarch build{FIRST_LINE}"), 0),
        ("echo both", "polyarch build >&- 2>&-".to_owned(), 0),
        ("echo full", "polyarch build 2>/dev/full".to_owned(), 0),
        ("false", format!("polyarch build 2>&1{FIRST_LINE}"), 1),
    ];
    for (command, line, code) in runs {
        place.write("leaf/Dockerfile", &format!("FROM root\nRUN {command}\n"));
        let answer = shell(&place, &line).ended(code);
        assert!(!answer.stdout.contains("panic") && !answer.stderr.contains("panic"), "{line}: {answer:?}");
        let outcome = if code == 0 { "built" } else { "failed" };
        assert!(ended(&place, outcome).contains("leaf@linux/amd64"), "{line}: {:?}", place.events());
        let last = place.events().pop().expect("events");
        assert_eq!((&last["event"], &last["exit_code"]), (&"run-ended".into(), &code.into()), "{line}");
        nothing_is_left_of(&place, &place.newest_run().expect("a run"));
    }
    place.write("leaf/Dockerfile", "FROM root\nRUN echo full\n");
    let _ = place.run(&["build"]).well();
    assert_eq!(ended(&place, "reused"), jobs("root@linux/amd64 leaf@linux/amd64"), "it was kept");
}

#[test]
fn f_p5_data_that_nobody_reads_is_no_failure_and_data_that_finds_no_room_is_one() {
    let place = Place::with(&[
        ("polyarch.toml", "platforms = [\"linux/amd64\"]\n"),
        ("root/Dockerfile", "FROM scratch\n"),
    ]);
    let lines = [
        // The reader has gone for certain: it takes nothing, and is waited for.
        ("{ sleep 1; polyarch plan; } | true; exit ${PIPESTATUS[0]}", 0),
        ("{ sleep 1; polyarch plan --format json; } | true; exit ${PIPESTATUS[0]}", 0),
        ("{ sleep 1; polyarch --help; } | true; exit ${PIPESTATUS[0]}", 0),
        ("{ sleep 1; polyarch why nothing 2>&1; } | true; exit ${PIPESTATUS[0]}", 2),
        ("polyarch plan >&-", 0),
        ("polyarch plan >/dev/full", 3),
    ];
    for (line, code) in lines {
        let answer = shell(&place, line).ended(code);
        let why = if code == 3 { "cannot write to standard output" } else { "" };
        assert!(answer.stderr.contains(why) && !answer.stderr.contains("panic"), "{line}: {answer:?}");
    }
}
