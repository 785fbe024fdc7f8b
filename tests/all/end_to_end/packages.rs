//! Taggers that read versions of packages in layers, of images that have no shell.

use super::engines::{Engine, tags};
use crate::program::Place;

const STATUS: &str = "Package: tool\nStatus: install ok installed\nVersion: 1:2.7.1-3\n";
const CONFIGURATION: &str = r#"
name = "family"
[tags]
common = ["latest"]
[image.base]
tags = [
    { tag = "tool-{0}", package = "dpkg:tool" },
    { tag = "tool-{0}.{1}", package = "dpkg:tool", match = '(\d+)\.(\d+)' },
]
"#;

fn versions_are_read_without_running_anything(test: &str, engine: Engine) {
    let mut place = Place::with(&[
        ("base/Dockerfile", "FROM scratch\nCOPY status /var/lib/dpkg/status\n"),
        ("base/status", STATUS),
        ("child/Dockerfile", "FROM base\nCOPY node_modules /srv/node_modules\n"),
        ("child/node_modules/@scope/a/package.json", r#"{"name":"@scope/a","version":"4.2.0"}"#),
        ("polyarch.toml", CONFIGURATION),
    ]);
    if !engine.equip(test, &mut place) {
        return;
    }
    let own = "[image.child]\ntags = [{ tag = \"a-{0}\", package = \"npm:@scope/a\" }]\n";
    place.write("polyarch.toml", &format!("{CONFIGURATION}{own}"));
    let _ = place.run(&["build", "--publish"]).well();
    for (image, expected) in
        [("base", &["tool-2.7", "tool-2.7.1-3"][..]), ("child", &["a-4.2.0", "tool-2.7"])]
    {
        let found = tags(&place, &format!("family/{image}"));
        assert!(expected.iter().all(|tag| found.contains_key(*tag)), "{image}: {found:?}");
    }

    let missing = own.replace("npm:@scope/a", "npm:@scope/b");
    place.write("polyarch.toml", &format!("{CONFIGURATION}{missing}"));
    let told = place.run(&["build"]).ended(1).stderr;
    let problem = ": tagger `a-{0}` found no package `npm:@scope/b`";
    assert!(told.contains("child@linux/") && told.contains(problem) && told.contains("@scope/a"), "{told}");
}

#[test]
fn versions_are_read_without_running_anything_classic() {
    versions_are_read_without_running_anything(
        "versions_are_read_without_running_anything_classic",
        Engine::Classic,
    );
}

#[test]
fn versions_are_read_without_running_anything_podman() {
    versions_are_read_without_running_anything(
        "versions_are_read_without_running_anything_podman",
        Engine::Podman,
    );
}
