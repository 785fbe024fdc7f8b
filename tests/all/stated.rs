//! What `--builder` says of a builder beside what polyarch.toml says, and what its engine says itself.

use crate::floors::{place, says};
use crate::program::write_program;

#[test]
fn what_is_said_of_a_builder_on_the_command_line_is_as_if_it_stood_in_the_file() {
    let place = place();
    says(&place, "28.5.2", "v1.3.3");
    let family = "name = \"one\"\nplatforms = [\"linux/amd64\"]\n[image.one]\nneeds = [\"big\"]\n";
    let arm = "[builder.arm]\nengine = \"docker\"\n";
    let more =
        "platforms = [\"linux/amd64\"]\nslots = 3\nlabels = [\"gpu\", \"big\"]\ndisk = \"9GB\"\nspeed = 50\n";
    let said = "platforms=linux/amd64,slots=3,labels=gpu+big,disk=9GB,speed=50";
    let looked_at = |file: &str, builder: &str| {
        place.write("polyarch.toml", file);
        let plan = place.run(&["plan", "--builders", "--builder", builder, "--format", "json"]).well();
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
        let doctor = place.run(&["doctor", "--builder", builder]).well().stdout;
        // How much is free there changes by itself.
        let steady = doctor.split_inclusive('\n').filter(|line| !line.starts_with("ok    store "));
        (plan["builders"].to_string(), steady.collect::<String>())
    };
    let of_file = looked_at(&format!("{family}{arm}{more}"), "arm");
    for told in ["3 slots", "labels: big, gpu", "native: linux/amd64\n"] {
        assert!(of_file.1.contains(told), "{told}: {}", of_file.1);
    }
    assert_eq!(looked_at(family, &format!("arm=docker,{said}")), of_file);
    assert_eq!(looked_at(&format!("{family}{arm}slots = 9\n"), &format!("arm,{said}")), of_file);

    let unlabelled = place.run(&["plan", "--builders", "--builder", "arm=docker,labels=gpu"]).ended(3);
    assert!(unlabelled.stderr.contains("needs: big"), "{}", unlabelled.stderr);
    for (builder, problem) in [
        ("docker,labels", "`labels` is no `name=value`"),
        ("docker,slots=0", "`slots` is not between 1 and 1024"),
        ("docker,count=2", "`count` is said of no builder that there is"),
        ("docker,platforms=linux/s390x", "builder docker does not run linux/s390x"),
    ] {
        let refused = place.run(&["plan", "--builders", "--builder", builder]);
        assert!(matches!(refused.code, Some(2 | 3)) && refused.stderr.contains(problem), "{refused:?}");
    }
}

/// A client for several engines, each of which says of itself what stands in a file of its name.
const OF_SEVERAL: &str = r#"#!/bin/sh
engine="${DOCKER_HOST##*/}"
case "$*" in
"--version"*) echo "Docker version 28.5.2, build 0" ;;
"buildx version") echo "github.com/docker/buildx v0.29.1 0" ;;
"info"*) cat "${0%/*}/${engine%.sock}" ;;
"version"*) echo 28.5.2 ;;
*) exit 1 ;;
esac
"#;

#[test]
fn what_an_engine_is_found_to_have_is_listed_and_what_needs_it_goes_there() {
    let place = place();
    write_program(&place.folder().join("docker"), OF_SEVERAL);
    let family = |needs: &str, other: &str| {
        let mut text = "name = \"one\"\nplatforms = [\"linux/amd64\"]\n".to_owned();
        for engine in ["plain", other] {
            // The plain one is named first, and gets whatever both can do.
            let name = if engine == "plain" { "a" } else { "b" };
            text += &format!("[builder.{name}]\nengine = \"unix:///nowhere/{engine}.sock\"\n");
        }
        place.write("polyarch.toml", &format!("{text}[image.one]\nneeds = [{needs}]\n"));
    };
    let started_on = || {
        // No engine is there that could build it.
        let answer = place.run(&["build", "--no-reuse"]);
        assert!(matches!(answer.code, Some(1 | 3)), "{answer:?}");
        let events = place.events().into_iter().filter(|event| event["event"] == "job-started");
        events.map(|event| event["builder"].as_str().expect("a builder").to_owned()).collect::<Vec<_>>()
    };
    let gib = |number: u64| number << 30;
    let runtime = format!("\"MemTotal\":{},\"Runtimes\":{{\"runc\":{{}},\"nvidia\":{{}}}}", gib(16));
    let cdi = format!(
        "\"MemTotal\":{},\"Runtimes\":{{\"runc\":{{}}}},\"DiscoveredDevices\":\
         [{{\"Source\":\"cdi\",\"ID\":\"vendor.example/net=0\"}},{{\"Source\":\"cdi\",\"ID\":\"nvidia.com/gpu=0\"}}]",
        gib(4)
    );
    let plain = format!("\"MemTotal\":{},\"Runtimes\":{{\"runc\":{{}}}}", gib(2));
    for (name, has) in [("runtime", &runtime), ("cdi", &cdi), ("plain", &plain)] {
        let info = format!(
            "{{\"ServerVersion\":\"28.5.2\",\"OSType\":\"linux\",\"Architecture\":\"x86_64\",\"NCPU\":2,\"ID\":\"{name}\",\
             \"Name\":\"{name}\",\"RuncCommit\":{{\"ID\":\"v1.3.3\"}},{has}}}"
        );
        std::fs::write(place.folder().join(name), info).expect("what it says");
    }
    for (other, labels, needs) in [
        ("runtime", "gpu, memory-1, memory-16, memory-2, memory-4, memory-8", "\"gpu\", \"memory-16\""),
        ("cdi", "gpu, memory-1, memory-2, memory-4", "\"gpu\""),
    ] {
        family("", other);
        let doctor = place.run(&["doctor"]).well().stdout;
        let of_each = ["labels: memory-1, memory-2\n", &format!("labels: {labels}\n")];
        for told in of_each {
            assert_eq!(doctor.matches(told).count(), 1, "{told}: {doctor}");
        }
        let nothing_needed = started_on();
        assert_eq!(nothing_needed.first().map(String::as_str), Some("a"), "{nothing_needed:?}");
        family(needs, other);
        let started = started_on();
        assert!(!started.is_empty() && started.iter().all(|builder| builder == "b"), "{other}: {started:?}");
    }
    family("\"memory-16\"", "cdi");
    let refused = place.run(&["plan", "--builders"]).ended(3);
    assert!(refused.stderr.contains("needs: memory-16"), "{}", refused.stderr);
}
