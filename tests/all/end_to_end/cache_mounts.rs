//! Mounts of caches that go from machine to machine by the store.

use super::engines::{Engine, FOUNDATION, root_file_systems, tags};
use super::hosts::Hosts;
use crate::program::{Answer, Place, variable};

fn configuration(more: &str) -> String {
    format!("name = \"mounts\"\nplatforms = [\"linux/amd64\"]\ncache-mounts = \"1MB\"\n{more}")
}

fn place() -> Place {
    Place::with(&[("polyarch.toml", &configuration("")), ("root/Dockerfile", FOUNDATION)])
}

/// A word that no other test has said.
fn own(place: &Place) -> String {
    place.folder().file_name().expect("a name").to_string_lossy().replace('.', "")
}

/// Builds a leaf that lists its caches and then runs a command; what its log says.
fn built(place: &Place, command: &str, arguments: &[&str]) -> String {
    let answer = leaf(place, command, arguments).well();
    format!("{}\n{}", answer.stderr, log(place))
}

/// The same where the command fails.
fn fails(place: &Place, command: &str, arguments: &[&str]) -> String {
    let answer = leaf(place, command, arguments).ended(1);
    format!("{}\n{}", answer.stderr, log(place))
}

fn log(place: &Place) -> String {
    place.log("leaf.linux-amd64")
}

fn leaf(place: &Place, command: &str, arguments: &[&str]) -> Answer {
    let own = own(place);
    let mounts = format!(
        "--mount=type=cache,id={own},target=/c,uid=7 --mount=type=cache,sharing=locked,target=/d/{own}"
    );
    place.write("leaf/Dockerfile", &format!(
        "FROM root AS made\nRUN {mounts} ls -lA /c /d/{own}; {command}\nFROM scratch\nCOPY --from=made /bin/busybox /\n"
    ));
    place.run(&[&["build"], arguments].concat())
}

fn kept(place: &Place, scope: &str) -> usize {
    tags(place, &format!("scopes/{scope}")).keys().filter(|tag| tag.starts_with("mount-")).count()
}

fn on(engine: &str, more: &str) -> String {
    configuration(&format!("{more}[builder.one]\nengine = \"{engine}\"\n"))
}

#[test]
fn s3_6_a_cold_machine_finds_what_another_has_in_its_mounts_of_caches() {
    let test = "s3_6_a_cold_machine_finds_what_another_has_in_its_mounts_of_caches";
    let mut place = place();
    let Some(_hosts) = Hosts::reached_from(test, &mut place) else { return };
    if !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let here = variable("POLYARCH_TEST_CONTAINERD").expect("it was equipped");
    place.write("polyarch.toml", &on(&here.to_string_lossy(), ""));
    let log = built(
        &place,
        "for d in /d/*; do touch $d/plain-here; done; mkdir /c/deep && chown 7:7 /c/deep && echo of here >/c/deep/.hidden && ln -s deep /c/link",
        &[],
    );
    assert!(!log.contains("link ->"), "{log}");
    assert_eq!(kept(&place, "trusted"), 2, "one for each cache: {log}");

    place.write("polyarch.toml", &on("ssh://east", ""));
    let log = built(&place, "cat /c/link/.hidden; echo of east >/c/east", &[]);
    assert!(log.contains("link -> deep") && log.lines().any(|line| line.ends_with("of here")), "{log}");
    assert!(log.lines().any(|line| line.contains(" 7 ") && line.ends_with(" deep")), "whose it is: {log}");
    assert!(!log.contains(" .polyarch"), "{log}");
    assert!(log.lines().any(|line| line.ends_with("plain-here")), "of the second cache: {log}");

    // The first has its own still, and what is warm stays as it is.
    place.write("polyarch.toml", &on(&here.to_string_lossy(), ""));
    assert!(!built(&place, "echo again", &[]).lines().any(|line| line.ends_with(" east")));
    // A refresh begins with nothing, and keeps that under its epoch.
    assert!(!built(&place, "echo refreshed", &["--refresh", "leaf"]).contains("link ->"));
}

/// What pull requests have in caches nobody else sees, and they see what the trusted scope keeps.
fn tm10_kept(test: &str, engine: Engine) {
    let mut place = place();
    if !engine.equip(test, &mut place) || !root_file_systems(test, &place, "root", &["amd64"]) {
        return;
    }
    let _ = built(&place, "touch /c/trusted-1", &[]);
    let log = built(&place, "touch /c/evil-1", &["--scope", "pr-1"]);
    assert!(log.lines().any(|line| line.ends_with("trusted-1")), "{log}");
    assert_eq!((kept(&place, "pr-1"), kept(&place, "trusted")), (1, 1));
    // F-U12: nor does the next push, of which those of the push before are no more.
    let retried = "if [ -e /c/tried ]; then echo again; else touch /c/tried; false; fi";
    let failed = fails(&place, retried, &["--scope", "pr-1"]);
    assert!(failed.contains("trusted-1") && !failed.contains("evil-1"), "{failed}");
    assert_eq!(kept(&place, "pr-1"), 0);
    let log = built(&place, retried, &["--scope", "pr-1"]);
    assert!(log.lines().any(|line| line.ends_with(" again")), "a rerun of a tree has its own: {log}");
    assert_eq!(kept(&place, "pr-1"), 1);
    for scope in ["pr-2", "trusted"] {
        let log = built(&place, &format!("echo {scope}"), &["--scope", scope]);
        assert!(log.contains("trusted-1") && !log.contains("evil-1"), "{scope}: {log}");
    }

    // What cannot be read is a cold cache, and a warning.
    let found = tags(&place, "scopes/trusted");
    let digest = found.iter().find(|(tag, _)| tag.starts_with("mount-")).expect("a cache").1;
    let file = place.store().join("blobs").join(digest.replace(':', "/"));
    let whole = std::fs::read(&file).expect("a manifest");
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, "{}")).expect("broken");
    let log = built(&place, "echo cold", &["--scope", "pr-4"]);
    assert!(log.contains("it is cold, since it cannot be read") && !log.contains("trusted-1"), "{log}");
    // The store has put what is broken aside.
    std::fs::write(&file, whole).expect("mended");

    // A large one is not kept, and what was kept before stays.
    let log = built(&place, "dd if=/dev/urandom of=/c/large bs=1024 count=2000", &["--scope", "pr-3"]);
    assert!(log.contains("it is not kept: it has 2."), "{log}");
    assert_eq!(kept(&place, "pr-3"), 0);
    place.write("polyarch.toml", &configuration("cache-prune = \"rm -f /c/large\"\n"));
    let _ = built(&place, "echo pruned", &["--scope", "pr-3"]);
    assert_eq!(kept(&place, "pr-3"), 1);
}

#[test]
fn tm10_kept_caches_of_an_untrusted_run_are_its_own_on_the_classic_store() {
    tm10_kept("tm10_kept_on_the_classic_store", Engine::Classic);
}

#[test]
fn tm10_kept_caches_of_an_untrusted_run_are_its_own_on_the_containerd_store() {
    tm10_kept("tm10_kept_on_the_containerd_store", Engine::Containerd);
}
