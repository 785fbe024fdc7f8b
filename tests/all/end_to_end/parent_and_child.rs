//! The first thing that ever worked: a parent and a child, built, tested, tagged, joined, published, read back.

use super::engines::{Engine, FOUNDATION, inspected, root_file_systems};
use crate::program::{Place, program, skip};

const CONFIGURATION: &str = r#"
name = "two"
platforms = ["linux/amd64"]

[tags]
common = ["latest"]

[image.parent]
tests = [{ run = "id -u", stdout = "0" }]
tags = [{ tag = "busybox-{0}", run = "busybox", match = 'BusyBox v(\S+)' }]
"#;

/// A parent and a child for amd64, or `None`, having said why.
fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::with(&[
        ("polyarch.toml", CONFIGURATION),
        ("parent/Dockerfile", FOUNDATION),
        ("child/Dockerfile", "FROM parent\nRUN echo of the child > /word\n"),
    ]);
    (engine.equip(test, &mut place) && root_file_systems(test, &place, "parent", &["amd64"])).then_some(place)
}

fn published_and_read_back(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let answer = place.run(&["build", "--publish"]).well();
    assert!(answer.stderr.contains("2 built"), "{}", answer.stderr);
    let parent = inspected(&place, "two/parent:latest");
    let child = inspected(&place, "two/child:latest");
    let layers = |image: &serde_json::Value| image["images"][0]["layers"].as_array().expect("layers").clone();
    assert_eq!(
        layers(&child)[..layers(&parent).len()],
        layers(&parent)[..],
        "the child has its parent's very layers"
    );
    let config = |job: &str| {
        let kept =
            place.events().into_iter().find(|event| event["event"] == "job-kept" && event["job"] == job);
        kept.expect("an event of the image")["config"].clone()
    };
    assert_eq!(
        child["images"][0]["config"],
        config("child@linux/amd64"),
        "the configuration is the engine's"
    );

    let again = place.run(&["build", "--publish"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    read_by_skopeo(test, &place);
}

fn read_by_skopeo(test: &str, place: &Place) {
    let layout = format!("oci:{}:two/child:latest", place.store().display());
    match program("skopeo").args(["inspect", "--raw", &layout]).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let index: serde_json::Value = serde_json::from_slice(&output.stdout).expect("an index is JSON");
            assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
            assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
            assert_eq!(index["manifests"][0]["platform"]["architecture"], "amd64");
        }
        Err(error) => skip(test, &format!("no skopeo: {error}")),
    }
}

#[test]
fn on_the_classic_store() {
    published_and_read_back("parent_and_child::on_the_classic_store", Engine::Classic);
}

#[test]
fn on_the_containerd_store() {
    published_and_read_back("parent_and_child::on_the_containerd_store", Engine::Containerd);
}
