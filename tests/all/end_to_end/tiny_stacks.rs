//! The example, whole: eleven images and variants for three platforms, on both kinds of image store; and its native part
//! by what has no daemon.
//!
//! The images are the example's own; of its checks, only those are here that show what the machine is, because
//! every check costs a container and `make demo` runs them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::engines::{Engine, inspected, layers, runs_arm64, tags};
use crate::program::{Answer, Place, program, skip, variable};

const CONFIGURATION: &str = r#"
name = "tiny-stacks"
platforms = ["linux/amd64", "linux/386", "linux/arm64"]
emulate = "allow"

[tags]
platform = "{platform}-{tag}"
names = { "linux/amd64" = "x86_64", "linux/386" = "i386", "linux/arm64" = "aarch64" }
common = ["latest"]

[image.tensorflow]
variants.cuda = { platforms = ["linux/amd64"] }

[image.julia]
platforms = ["linux/amd64"]

[image.base]
describe = [{ title = "Python Packages", bare = "python --version", run = "python --packages" }]

[image.r]
describe = [{ title = "R Packages", run = "cat /opt/r/packages" }]

[image.drift]
tests = [{ run = "id -un", stdout = "jovyan" }]
tags = [
    { tag = "tool-{0}", run = "tool --version", match = 'tool (\S+)' },
    { tag = "machine-{0}", run = "uname -m" },
]
"#;

const PLATFORMS: [&str; 3] = ["linux/386", "linux/amd64", "linux/arm64"];

/// Each image and what it stands on, the layers it begins with first.
const EDGES: [(&str, &[&str]); 10] = [
    ("base", &["foundation"]),
    ("minimal", &["base"]),
    ("scipy", &["minimal"]),
    ("r", &["minimal"]),
    ("julia", &["minimal"]),
    ("drift", &["minimal"]),
    ("datascience", &["scipy", "r"]),
    ("pyspark", &["scipy", "minimal"]),
    ("tensorflow", &["scipy"]),
    ("tensorflow:cuda", &["scipy"]),
];

/// The example in a place, with its root file systems; `None`, having said why, where it cannot be built.
fn family(test: &str, engine: Engine) -> Option<Place> {
    let mut place = Place::new();
    let has_daemon = matches!(engine, Engine::Classic | Engine::Containerd);
    if !engine.equip(test, &mut place) || has_daemon && !runs_arm64(test) {
        return None;
    }
    if variable("POLYARCH_TEST_BUSYBOX").is_none() {
        skip(test, "no static busybox");
        return None;
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = top.join("examples/tiny-stacks/.");
    place.ask("cp", &["-r", example.to_str().expect("a path"), "."]);
    let rootfs = place.family().join("foundation/rootfs");
    let script =
        program(top.join("scripts/busybox").to_str().expect("a path")).arg("rootfs").arg(rootfs).output();
    let _ = Answer::from(script.expect("run scripts/busybox")).well();
    place.write("polyarch.toml", CONFIGURATION);
    Some(place)
}

fn builds_and_publishes(test: &str, engine: Engine) {
    let Some(place) = family(test, engine) else { return };
    let answer = place.run(&["build", "--publish"]).well();
    assert!(answer.stderr.contains("29 built"), "{}", answer.stderr);
    let events = place.events();
    let spans = spans(&events);
    assert_eq!(spans.len(), 29);
    children_wait_for_parents(&spans);
    work_overlaps(&spans);
    arm64_is_said_to_be_emulated(&events, &answer);
    indexes_are_as_declared(test, &place, &events);
    children_have_the_layers_of_their_parents(&place);
    programs_are_of_their_platform(&place);
    what_drifts_is_withheld(&place);
    manifests_say_what_is_in_images(&place);
    let again = place.run(&["build", "--publish"]).well();
    assert!(again.stderr.contains("nothing to build"), "{}", again.stderr);
    let verified = place.run(&["verify"]).well();
    assert!(verified.stdout.contains("equals the plan"), "{}", verified.stdout);
}

/// When each job began and ended.
fn spans(events: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let times = |kind: &str| -> BTreeMap<String, u64> {
        let of_kind = events.iter().filter(|event| event["event"] == kind);
        let job = |event: &Value| event["job"].as_str().expect("a job").to_owned();
        of_kind.map(|event| (job(event), event["at_milliseconds"].as_u64().expect("a time"))).collect()
    };
    let ended = times("job-ended");
    times("job-started").into_iter().map(|(job, at)| (job.clone(), (at, ended[&job]))).collect()
}

fn children_wait_for_parents(spans: &BTreeMap<String, (u64, u64)>) {
    for (job, (started, _)) in spans {
        let (unit, platform) = job.split_once('@').expect("a job has a platform");
        for parent in EDGES.iter().filter(|(child, _)| *child == unit).flat_map(|(_, parents)| *parents) {
            let (_, ended) = spans[&format!("{parent}@{platform}")];
            assert!(ended <= *started, "{job} began before {parent} had ended");
        }
    }
}

fn work_overlaps(spans: &BTreeMap<String, (u64, u64)>) {
    let overlap = |is_meant: &dyn Fn(&str, &str) -> bool| {
        spans.iter().any(|(one, first)| {
            let others = spans.iter().filter(|(other, _)| *other != one && is_meant(one, other));
            others.into_iter().any(|(_, second)| first.0 < second.1 && second.0 < first.1)
        })
    };
    fn unit(job: &str) -> &str {
        job.split('@').next().unwrap_or_default()
    }
    let siblings = ["scipy", "r", "julia", "drift"];
    assert!(overlap(&|one, other| unit(one) == unit(other)), "platforms of one image overlap in time");
    assert!(
        overlap(&|one, other| unit(one) != unit(other)
            && [one, other].iter().all(|job| siblings.contains(&unit(job)))),
        "siblings overlap in time"
    );
}

fn arm64_is_said_to_be_emulated(events: &[Value], answer: &Answer) {
    let starts = events.iter().filter(|event| event["event"] == "job-started");
    for start in starts.filter(|_| cfg!(target_arch = "x86_64")) {
        let job = start["job"].as_str().expect("a job");
        assert_eq!(start["emulated"], job.ends_with("arm64"), "{job}");
    }
    assert!(!cfg!(target_arch = "x86_64") || answer.stderr.contains("emulated)"), "{}", answer.stderr);
}

/// What skopeo reads of the served store: exactly the declared platforms, each with the configuration that the
/// engine named.
fn indexes_are_as_declared(test: &str, place: &Place, events: &[Value]) {
    let mut server = place.start(&["serve", "--listen", "127.0.0.1:0"]);
    let mut address = String::new();
    let mut output = std::io::BufReader::new(server.stdout.take().expect("its output"));
    std::io::BufRead::read_line(&mut output, &mut address).expect("serve says where");
    let raw = |reference: &str| -> Option<Value> {
        let source = format!("docker://{}/tiny-stacks/{reference}", address.trim());
        let mut skopeo = place.program("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false", &source]).stderr(Stdio::piped());
        match skopeo.output() {
            Ok(output) => Some(serde_json::from_str(&Answer::from(output).well().stdout).expect("JSON")),
            Err(error) => {
                skip(test, &format!("no skopeo: {error}"));
                None
            }
        }
    };
    for unit in EDGES.iter().map(|(child, _)| *child).chain(["foundation"]) {
        let (image, tag) = unit
            .split_once(':')
            .map_or((unit, "latest".to_owned()), |(image, variant)| (image, format!("{variant}-latest")));
        let Some(index) = raw(&format!("{image}:{tag}")) else { break };
        let mut found = BTreeSet::new();
        for descriptor in index["manifests"].as_array().expect("an index has manifests") {
            let platform = format!("linux/{}", descriptor["platform"]["architecture"].as_str().expect("one"));
            let manifest = raw(&format!("{image}@{}", descriptor["digest"].as_str().expect("a digest")));
            let kept = events
                .iter()
                .find(|event| event["event"] == "job-kept" && event["job"] == format!("{unit}@{platform}"));
            let named = &kept.expect("an event of the image")["config"];
            assert_eq!(&manifest.expect("skopeo is here")["config"]["digest"], named, "{unit}@{platform}");
            found.insert(platform);
        }
        let declared: &[&str] =
            if ["julia", "tensorflow:cuda"].contains(&unit) { &PLATFORMS[1..2] } else { &PLATFORMS };
        assert_eq!(found, declared.iter().map(|platform| (*platform).to_owned()).collect(), "{unit}");
    }
    server.kill().expect("stop the server");
    server.wait().expect("the server ends");
}

fn children_have_the_layers_of_their_parents(place: &Place) {
    let read = |image: &str| inspected(place, &format!("tiny-stacks/{image}:latest"));
    for (child, parents) in EDGES.iter().filter(|(child, _)| !child.contains(':')) {
        let (own, parent) = (read(child), read(parents[0]));
        for image in own["images"].as_array().expect("images") {
            let platform = image["platform"].as_str().expect("a platform");
            let (own, parent) = (layers(&own, platform), layers(&parent, platform));
            assert!(own.len() > parent.len(), "{child} adds to {}", parents[0]);
            assert_eq!(own[..parent.len()], parent[..], "{child}@{platform} has its parent's very layers");
        }
    }
}

fn manifests_say_what_is_in_images(place: &Place) {
    let described = place.run(&["describe", "r@linux/arm64"]).well().stdout;
    let headings: Vec<&str> =
        described.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_end()).collect();
    assert_eq!(headings[1..], ["## Build Info", "## Python Packages", "## R Packages"]);
    assert!(headings[0].starts_with("# Build manifest for image: r:"), "{described}");
    assert!(
        described.contains("Python 3") && described.contains("`cat /opt/r/packages`:\n\n```text\n"),
        "{described}"
    );
}

/// The ELF machine of `/bin/busybox` in the image of each platform, and what `uname -m` said there.
fn programs_are_of_their_platform(place: &Place) {
    let foundation = inspected(place, "tiny-stacks/foundation:latest");
    for (platform, machine) in PLATFORMS.iter().zip([3_u16, 62, 183]) {
        let digest = &layers(&foundation, platform)[0];
        let blob = place.store().join("blobs").join(digest.replace(':', "/"));
        let mut tar = place.program("tar");
        let output = tar.arg("-xOzf").arg(blob).arg("bin/busybox").output().expect("run tar");
        assert!(output.status.success(), "{platform}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout[..4], *b"\x7fELF");
        assert_eq!(u16::from_le_bytes([output.stdout[18], output.stdout[19]]), machine, "{platform}");
    }
    let drift = tags(place, "tiny-stacks/drift");
    assert!(drift.contains_key("aarch64-machine-aarch64"), "{drift:?}");
}

fn what_drifts_is_withheld(place: &Place) {
    let drift = tags(place, "tiny-stacks/drift");
    for tag in ["latest", "x86_64-tool-1.2", "i386-tool-1.3", "aarch64-tool-1.3", "aarch64-latest"] {
        assert!(drift.contains_key(tag), "{tag} of {drift:?}");
    }
    for tag in ["tool-1.2", "tool-1.3"] {
        assert!(!drift.contains_key(tag), "{tag} of {drift:?}");
    }
}

/// The part of the example that is native here, by a program without a daemon.
fn builds_without_a_daemon(test: &str, engine: Engine, isolation: Option<&str>) {
    let Some(mut place) = family(test, engine) else { return };
    if !cfg!(target_arch = "x86_64") {
        return skip(test, "the machine is not native to both platforms");
    }
    place.write("polyarch.toml", &CONFIGURATION.replace(", \"linux/arm64\"]", "]"));
    isolation.into_iter().for_each(|isolation| place.set("BUILDAH_ISOLATION", isolation));
    let builder = format!("--builder={engine:?}").to_lowercase();
    let answer = place.run(&["build", "--publish", &builder]).well();
    assert!(answer.stderr.contains("20 built"), "{}", answer.stderr);
    let spans = spans(&place.events());
    children_wait_for_parents(&spans);
    work_overlaps(&spans);
    children_have_the_layers_of_their_parents(&place);
    let drift = tags(&place, "tiny-stacks/drift");
    for tag in ["latest", "x86_64-tool-1.2", "i386-tool-1.3"] {
        assert!(drift.contains_key(tag) && !drift.contains_key("tool-1.3"), "{tag} of {drift:?}");
    }
    let verified = place.run(&["verify"]).well();
    assert!(verified.stdout.contains("equals the plan"), "{}", verified.stdout);
}

#[test]
fn the_example_by_podman() {
    builds_without_a_daemon("tiny_stacks::the_example_by_podman", Engine::Podman, None);
}

#[test]
fn the_example_by_buildah_in_a_changed_root() {
    let test = "tiny_stacks::the_example_by_buildah_in_a_changed_root";
    builds_without_a_daemon(test, Engine::Buildah, Some("chroot"));
}

#[test]
fn the_example_on_the_classic_store() {
    builds_and_publishes("tiny_stacks::the_example_on_the_classic_store", Engine::Classic);
}

#[test]
fn the_example_on_the_containerd_store() {
    builds_and_publishes("tiny_stacks::the_example_on_the_containerd_store", Engine::Containerd);
}
