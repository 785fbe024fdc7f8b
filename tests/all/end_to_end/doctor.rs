//! What `doctor` says of builders is what a build says of them.

use super::engines::{Engine, runs_arm64};
use crate::program::Place;

fn family(configuration: &str) -> Place {
    Place::with(&[
        ("polyarch.toml", configuration),
        ("a/Dockerfile", "FROM scratch\nCOPY word /word\n"),
        ("a/word", "one\n"),
        ("b/Dockerfile", "FROM a\nCOPY word /other\n"),
        ("b/word", "two\n"),
    ])
}

#[test]
fn whether_emulation_is_allowed_is_asked_of_each_image() {
    let test = "doctor::whether_emulation_is_allowed_is_asked_of_each_image";
    let foreign = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let (a, b) = ("[image.a]\nemulate = \"allow\"\n", "[image.b]\non.\"{}\" = { emulate = \"always\" }\n");
    let both = format!("{a}{}", b.replace("{}", foreign));
    let table = [
        ("", Some("images refuse that")),
        ("emulate = \"allow\"\n", None),
        ("emulate = \"always\"\n", None),
        (a, Some("an image refuses that")),
        (&both, None),
    ];
    for (setting, refused) in table {
        let mut place = family(&format!("platforms = [\"{foreign}\"]\n{setting}"));
        if !Engine::Classic.equip(test, &mut place) || !runs_arm64(test) {
            return;
        }
        let answer = place.run(&["doctor"]).ended(if refused.is_some() { 3 } else { 0 });
        let told = match refused {
            Some(refused) => format!("lack  {foreign} is only emulated, on local, and {refused}"),
            None => format!("ok    {foreign}: emulated on local"),
        };
        assert!(answer.stdout.contains(&told), "{setting}: {}", answer.stdout);
    }
}

#[test]
fn what_images_want_beside_a_platform_is_told_by_doctor_as_by_a_build() {
    let test = "doctor::what_images_want_beside_a_platform_is_told_by_doctor_as_by_a_build";
    let native = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let gpu = "[builder.here]\nengine = \"docker\"\nlabels = [\"gpu\"]\n";
    let small = "[builder.here]\nengine = \"docker\"\ndisk = \"1GB\"\n";
    let always = format!("[image.a]\nplatforms = [\"{native}\", \"windows/amd64\"]\nemulate = \"always\"\n");
    let table = [
        (
            "[image.a]\nneeds = [\"gpu\"]\n".to_owned(),
            Some("has the labels that a@"),
            "`labels` of [builder.X]",
        ),
        (format!("[image.a]\nneeds = [\"gpu\"]\n{gpu}"), None, ""),
        (
            format!("[image.a]\ndisk = \"30GB\"\n{small}"),
            Some("no builder has room for a@"),
            "docker system df",
        ),
        (always, Some("no builder runs all platforms of a"), "qemu-user-static"),
    ];
    for (setting, lacking, hint) in table {
        let mut place = family(&format!("platforms = [\"{native}\"]\n{setting}"));
        if !Engine::Classic.equip(test, &mut place) {
            return;
        }
        let answer = place.run(&["doctor"]).ended(if lacking.is_some() { 3 } else { 0 });
        let told = lacking.is_none_or(|told| answer.stdout.contains(told) && answer.stderr.contains(hint));
        assert!(told, "{setting}: {} {}", answer.stdout, answer.stderr);
    }
}

#[test]
fn builders_that_are_one_are_told_by_doctor_and_build() {
    let test = "doctor::builders_that_are_one_are_told_by_doctor_and_build";
    let mut place = family("platforms = [\"linux/amd64\"]\n");
    if !Engine::Classic.equip(test, &mut place) {
        return;
    }
    let same = ["--builder", "x=docker", "--builder", "y=docker"];
    let twice = ["--builder", "x=docker", "--builder", "x=ssh://nowhere.invalid"];
    let again = ["--builder", "x=docker", "--builder", "x=docker"];
    for command in ["doctor", "build"] {
        let answer = place.run(&[&[command], &same[..]].concat()).ended(2);
        assert!(answer.stderr.contains("builders x and y are one engine"), "{}", answer.stderr);
        for twice in [&twice, &again] {
            let answer = place.run(&[&[command], &twice[..]].concat()).ended(2);
            assert!(answer.stderr.contains("--builder says twice what x is"), "{}", answer.stderr);
        }
    }
    // Names are looked at where no builder is.
    let _ = place.run(&["build"]).well();
    let unknown = ["--builder", "nowhere"];
    for command in [&["build"][..], &["build", "--dry-run"]] {
        for (builders, told) in [(&twice[..], "says twice what x is"), (&unknown, "`nowhere` is no engine")] {
            let answer = place.run(&[command, builders].concat()).ended(2);
            assert!(answer.stderr.contains(told), "{}", answer.stderr);
        }
    }
}
