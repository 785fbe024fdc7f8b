//! The feature that lets tests switch defences off: no release has it.

use crate::program::program;

const REFUSED: &str = "the feature `defences-off` is for tests: a release is not built with it";
const FEATURE: [&str; 2] = ["--cfg", "feature=\"defences-off\""];

/// What the compiler says of the defences alone, built so; `Ok` where it takes them.
fn compiled(release: bool, options: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    std::fs::create_dir(folder.path().join("defence")).unwrap();
    for name in ["defence.rs", "defence/off.rs"] {
        std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("lib.rs"), "mod defence;\n").unwrap();
    let checked = format!("debug-assertions={}", if release { "off" } else { "on" });
    let answer = program("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
            "-A",
            "unused",
            "-C",
            &checked,
        ])
        .args(options)
        .arg("lib.rs")
        .current_dir(folder.path())
        .output()
        .unwrap();
    match answer.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8(answer.stderr).unwrap()),
    }
}

#[test]
fn a_release_is_not_built_with_defences_that_can_be_switched_off() {
    let refused = compiled(true, &FEATURE).unwrap_err();
    assert!(refused.contains(REFUSED), "{refused}");
    // That is all that is amiss: neither the feature nor a release is refused alone.
    assert_eq!(compiled(false, &FEATURE), Ok(()));
    assert_eq!(compiled(true, &[]), Ok(()));
    // And the profile of a release does not pass for one of tests.
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(!manifest.contains("debug-assertions"), "a profile sets them");
}
