//! Clocks that disagree (F-G12).

use std::path::PathBuf;

use super::engines::{Engine, FOUNDATION, ended, jobs, root_file_systems};
use crate::program::{Place, skip};

/// The library by which a program sees another time; `None`, having said why, where it is not there.
pub(crate) fn library(test: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found =
        folders.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|file| file.exists());
    if found.is_none() {
        skip(test, "there is no libfaketime; run: sudo apt-get install faketime");
    }
    found
}

#[test]
fn f_g12_a_build_stands_whatever_the_clocks_say_and_a_clock_that_is_off_is_told_of() {
    let test = "clocks::f_g12_a_build_stands_whatever_the_clocks_say_and_a_clock_that_is_off_is_told_of";
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"clocks\"\nplatforms = [\"linux/amd64\"]\ntests = [\"true\"]\n"),
        ("root/Dockerfile", FOUNDATION),
    ]);
    let Some(library) = library(test) else { return };
    if !Engine::Classic.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    // It is this machine's clock that is off, so every builder's is, by as much the other way and the time until it answers.
    let table = [
        ("+36h", Some("1 day behind")),
        ("-36h", Some("1 day ahead of")),
        ("+5y", Some("days behind")),
        ("-5y", Some("days ahead of")),
        ("+450", Some("7 minutes behind")),
        ("+3m", None),
    ];
    for (skew, told) in table {
        place.set("LD_PRELOAD", &library);
        place.set("FAKETIME", skew);
        let answer = place.run(&["build", "--no-reuse", "--publish"]).well();
        assert_eq!(ended(&place, "built"), jobs("root@linux/amd64"), "{skew}");
        let is_told = answer.stderr.contains("warning: the clock of builder local is");
        assert_eq!(is_told, told.is_some(), "{skew}: {}", answer.stderr);
        assert!(answer.stderr.contains(told.unwrap_or_default()), "{skew}: {}", answer.stderr);
        place.set("LD_PRELOAD", "");
        let again = place.run(&["build", "--publish"]).well();
        assert!(again.stderr.contains("nothing to build"), "{skew}: {}", again.stderr);
    }
}
