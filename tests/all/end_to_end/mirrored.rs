//! A family that stands on a mirror of its own: built upon what is mirrored, and published with it.

use super::engines::{Engine, FOUNDATION, inspected, layers, root_file_systems};
use crate::client::registries::Registry;
use crate::program::Place;

const UPSTREAM: &str = "name = \"upstream\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n";

fn built_upon_a_mirror(test: &str, engine: Engine) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let from = runtime.block_on(Registry::ours());
    let mut upstream = Place::with(&[("polyarch.toml", UPSTREAM), ("base/Dockerfile", FOUNDATION)]);
    if !engine.equip(test, &mut upstream) || !root_file_systems(test, &upstream, "base", &["386", "amd64"]) {
        return;
    }
    let _ = upstream.run(&["build", "--publish", "--to", &from.address]).well();
    let source = format!("{}/upstream/base:latest", from.address);
    let digest = |place: &Place, name: &str| inspected(place, name)["digest"].clone();

    let config =
        format!("name = \"own\"\nplatforms = [\"linux/amd64\"]\n[image.base]\nmirror = \"{source}\"\n");
    let mut place = Place::with(&[
        ("polyarch.toml", &config),
        ("leaf/Dockerfile", "FROM own/base\nRUN echo of the leaf > /word\n"),
    ]);
    assert!(engine.equip(test, &mut place));
    let answer = place.run(&["build", "--publish"]).well();
    assert!(answer.stderr.contains("1 built"), "{}", answer.stderr);
    let (base, leaf) = (inspected(&place, "own/base:latest"), inspected(&place, "own/leaf:latest"));
    assert_eq!(base["digest"], digest(&upstream, &source), "the copy has the digest of its source");
    assert_eq!(base["images"].as_array().map(Vec::len), Some(2), "all platforms");
    let below = layers(&base, "linux/amd64");
    assert_eq!(
        layers(&leaf, "linux/amd64")[..below.len()],
        below[..],
        "the leaf has the mirror's very layers"
    );

    // Chosen alone, the leaf takes the mirror along that it stands on; a new image elsewhere is a new base.
    upstream.write("base/word", "new\n");
    upstream.write("base/Dockerfile", &format!("{FOUNDATION}COPY word /new\n"));
    let _ = upstream.run(&["build", "--publish", "--to", &from.address]).well();
    let answer = place.run(&["build", "leaf", "--publish"]).well();
    assert!(answer.stderr.contains("1 built"), "{}", answer.stderr);
    assert_eq!(digest(&place, "own/base:latest"), digest(&upstream, &source));
    assert_ne!(digest(&place, "own/base:latest"), base["digest"]);
}

#[test]
fn on_the_classic_store() {
    built_upon_a_mirror("mirrored::on_the_classic_store", Engine::Classic);
}

#[test]
fn on_the_containerd_store() {
    built_upon_a_mirror("mirrored::on_the_containerd_store", Engine::Containerd);
}
