//! TM8: engines that a Dockerfile may break out of, by what a client that is a script says of them.

use expect_test::expect;

use crate::program::{Place, write_program};

const CLIENT: &str = r#"#!/bin/sh
case "$*" in
"--version"*) echo "Docker version 28.2.2, build 0" ;;
"buildx version") echo "github.com/docker/buildx $(cat "${0%/*}/buildx") 0" ;;
"buildx inspect"*) cat "${0%/*}/nodes" ;;
"info"*) cat "${0%/*}/info" ;;
"version"*) echo 28.2.2 ;;
*) exit 1 ;;
esac
"#;

/// A place whose docker client speaks for an engine that is not there.
pub(crate) fn place() -> Place {
    let mut place = Place::with(&[
        ("polyarch.toml", "name = \"one\"\nplatforms = [\"linux/amd64\"]\n"),
        ("one/Dockerfile", "FROM scratch\nLABEL a=b\n"),
    ]);
    let client = place.folder().join("docker");
    write_program(&client, CLIENT);
    std::fs::write(place.folder().join("buildx"), "v0.29.1").expect("its buildx");
    place.set("PATH", format!("{}:/usr/bin:/bin", place.folder().display()));
    place.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    place.set("POLYARCH_EPHEMERAL", "");
    place
}

/// What the engine says of its version, and of that of its runc.
pub(crate) fn says(place: &Place, engine: &str, runc: &str) {
    let info = format!(
        "{{\"ServerVersion\":\"{engine}\",\"OSType\":\"linux\",\"Architecture\":\"x86_64\",\"NCPU\":2,\"ID\":\"X\",\
         \"Name\":\"x\",\"RuncCommit\":{{\"ID\":\"{runc}\"}}}}"
    );
    std::fs::write(place.folder().join("info"), info).expect("what it says");
}

#[test]
fn tm8_doctor_tells_what_versions_have_known_holes() {
    let place = place();
    let versions = [
        ("20.10.24+dfsg1", "1.1.5+ds1-1+deb12u1"),
        ("20.10.24+dfsg1", "1.1.5+ds1-1"),
        ("24.0.7", "v1.1.11-0-g4bccb38"),
        ("24.0.9", "v1.1.12-0-g51d5e946"),
        ("25.0.1", "v1.1.12-0-g51d5e946"),
        ("25.0.2", "1.1.7-0ubuntu1~22.04.2"),
        ("26.1.5+dfsg1", "1.2.7"),
        ("28.5.1", "v1.3.0-0-g4ca628d1"),
        ("28.5.2", "v1.3.3-0-gd842d771"),
        ("29.0.0", "1.3.3-0ubuntu1~24.04.2"),
        ("29.1.0", "1.4.0"),
        ("dev", ""),
    ];
    let mut told = String::new();
    for (engine, runc) in versions {
        says(&place, engine, runc);
        let answer = place.run(&["doctor"]);
        assert!(answer.stdout.contains(&format!("unix:///nowhere/docker.sock, {engine}, ")), "{answer:?}");
        told += &format!("{engine}, {runc}\n");
        let mut is_hole = false;
        for line in answer.stdout.lines() {
            is_hole = line.contains(" has holes ") || is_hole && line.starts_with("  ");
            told += &if is_hole { format!("  {line}\n") } else { String::new() };
        }
    }
    expect![[r#"
        20.10.24+dfsg1, 1.1.5+ds1-1+deb12u1
          note  Docker Engine 20.10.24+dfsg1 has holes that its makers have mended since
                CVE-2024-23651, CVE-2024-23652, CVE-2024-23653 and CVE-2024-24557
                update it where it runs: sudo apt-get update && sudo apt-get install docker.io; or Docker's own packages: https://docs.docker.com/engine/install/
          note  runc 1.1.5+ds1-1+deb12u1 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        20.10.24+dfsg1, 1.1.5+ds1-1
          note  Docker Engine 20.10.24+dfsg1 has holes that its makers have mended since
                CVE-2024-23651, CVE-2024-23652, CVE-2024-23653 and CVE-2024-24557
                update it where it runs: sudo apt-get update && sudo apt-get install docker.io; or Docker's own packages: https://docs.docker.com/engine/install/
          note  runc 1.1.5+ds1-1 has holes that its makers have mended since
                CVE-2024-21626; CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        24.0.7, v1.1.11-0-g4bccb38
          note  Docker Engine 24.0.7 has holes that its makers have mended since
                CVE-2024-23651, CVE-2024-23652, CVE-2024-23653 and CVE-2024-24557
                update it where it runs: sudo apt-get update && sudo apt-get install docker.io; or Docker's own packages: https://docs.docker.com/engine/install/
          note  runc v1.1.11-0-g4bccb38 has holes that its makers have mended since
                CVE-2024-21626; CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        24.0.9, v1.1.12-0-g51d5e946
          note  runc v1.1.12-0-g51d5e946 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        25.0.1, v1.1.12-0-g51d5e946
          note  Docker Engine 25.0.1 has holes that its makers have mended since
                CVE-2024-23651, CVE-2024-23652, CVE-2024-23653 and CVE-2024-24557
                update it where it runs: sudo apt-get update && sudo apt-get install docker.io; or Docker's own packages: https://docs.docker.com/engine/install/
          note  runc v1.1.12-0-g51d5e946 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        25.0.2, 1.1.7-0ubuntu1~22.04.2
          note  runc 1.1.7-0ubuntu1~22.04.2 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        26.1.5+dfsg1, 1.2.7
          note  runc 1.2.7 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        28.5.1, v1.3.0-0-g4ca628d1
          note  runc v1.3.0-0-g4ca628d1 has holes that its makers have mended since
                CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
                update it where it runs: sudo apt-get update && sudo apt-get install runc; or Docker's own containerd.io
        28.5.2, v1.3.3-0-gd842d771
        29.0.0, 1.3.3-0ubuntu1~24.04.2
        29.1.0, 1.4.0
        dev, 
    "#]]
    .assert_eq(&told);
}

#[test]
fn tm8_what_nobody_trusts_is_not_built_where_it_may_break_out() {
    let mut place = place();
    says(&place, "20.10.24+dfsg1", "1.1.5+ds1-1+deb12u1");
    let trusted = place.run(&["plan", "--builders"]).well();
    assert!(trusted.stderr.contains("a Dockerfile may break out of builder local"), "{}", trusted.stderr);
    let refused = |place: &Place, more: &[&str]| {
        let answer = place.run(&[&["plan", "--builders", "--scope", "pr-1"], more].concat()).ended(4);
        assert!(answer.stderr.contains("builder local is refused: nobody trusts"), "{}", answer.stderr);
        assert!(answer.stderr.contains("CVE-2024-24557"), "{}", answer.stderr);
        assert!(answer.stderr.contains("--ephemeral docker"), "{}", answer.stderr);
    };
    refused(&place, &[]);
    refused(&place, &["--ephemeral", "buildah"]);
    let _ = place.run(&["build", "--scope", "pr-1"]).ended(4);
    // The tree cannot say what the machine is.
    place.write("polyarch.toml", "platforms = [\"linux/amd64\"]\n[builder.x]\nephemeral = true\n");
    let _ = place.run(&["plan", "--builders", "--scope", "pr-1"]).ended(2);
    place.write("polyarch.toml", "platforms = [\"linux/amd64\"]\n");
    let said = place.run(&["plan", "--builders", "--scope", "pr-1", "--ephemeral", "docker"]).well();
    assert!(!said.stderr.contains("break out"), "{}", said.stderr);
    place.set("POLYARCH_EPHEMERAL", "buildah, docker");
    let _ = place.run(&["plan", "--builders", "--scope", "pr-1"]).well();
    place.set("POLYARCH_EPHEMERAL", "dokcer");
    let wrong = place.run(&["plan", "--builders", "--scope", "pr-1"]).ended(2);
    assert!(wrong.stderr.contains("POLYARCH_EPHEMERAL: `dokcer` is no engine"), "{}", wrong.stderr);
    place.set("POLYARCH_EPHEMERAL", "");
    says(&place, "28.5.2", "v1.3.3-0-gd842d771");
    let _ = place.run(&["plan", "--builders", "--scope", "pr-1"]).well();
}

#[test]
fn tm8_the_oldest_buildkit_of_a_builder_counts_and_machines_of_github_are_thrown_away() {
    let mut place = place();
    says(&place, "20.10.24+dfsg1", "1.1.5+ds1-1+deb12u1");
    let node = |name: &str, version: &str| {
        format!(
            "Name: {name}\nEndpoint: tcp://{name}:1\nStatus: running\nBuildKit version: {version}\nPlatforms: linux/amd64\n"
        )
    };
    let nodes =
        format!("Name: fleet\nDriver: remote\n\nNodes:\n{}{}", node("a", "v0.28.1"), node("b", "v0.11.6"));
    std::fs::write(place.folder().join("nodes"), nodes).expect("nodes");
    let on_fleet = ["plan", "--scope", "pr-1", "--builder", "buildx:fleet"];
    let refused = place.run(&on_fleet).ended(4);
    assert!(refused.stderr.contains("BuildKit v0.11.6 has holes"), "{}", refused.stderr);
    let _ = place.run(&[&on_fleet[..], &["--ephemeral", "buildx:fleet"]].concat()).well();
    place.set("GITHUB_ACTIONS", "true");
    place.set("RUNNER_ENVIRONMENT", "self-hosted");
    place.set("PATH", format!("{}:/usr/bin:/bin", place.folder().display()));
    let on_docker = ["plan", "--builder", "docker", "--scope", "pr-1"];
    let _ = place.run(&on_docker).ended(4);
    place.set("RUNNER_ENVIRONMENT", "github-hosted");
    let _ = place.run(&on_docker).ended(4);
    // That of the machine itself is thrown away with it, and no other.
    place.set("DOCKER_HOST", "");
    let _ = place.run(&on_docker).well();
}

#[test]
fn what_is_too_old_to_be_fed_is_refused_before_anything_is_built() {
    let place = place();
    says(&place, "28.5.2", "v1.3.3");
    let table = [
        ("v0.10.6", "v0.29.1", Some("error: BuildKit v0.10.6 is too old: 0.11 or newer is needed")),
        ("v0.28.1", "v0.9.1", Some("error: buildx 0.9.1 is too old: 0.10 or newer is needed")),
        ("v0.11.0", "v0.10.0", None),
        ("v0.0.0+unknown", "v0.0.0+unknown", None),
    ];
    for (buildkit, buildx, problem) in table {
        let nodes = format!(
            "Name: fleet\nDriver: remote\n\nNodes:\nName: a\nEndpoint: tcp://a:1\nStatus: running\nBuildKit version: {buildkit}\nPlatforms: linux/amd64\n"
        );
        std::fs::write(place.folder().join("nodes"), nodes).expect("nodes");
        std::fs::write(place.folder().join("buildx"), buildx).expect("its buildx");
        let fleet = ["--builder", "fleet=buildx:fleet"];
        let plan = place.run(&[&["plan", "--builders"], &fleet[..]].concat());
        let doctor = place.run(&[&["doctor"], &fleet[..]].concat());
        let Some(problem) = problem else {
            let _ = (plan.well(), doctor.well());
            continue;
        };
        let build = place.run(&[&["build"], &fleet[..]].concat()).ended(3);
        assert!(plan.code == Some(3) && plan.stderr.contains(problem), "{plan:?}");
        assert!(build.stderr.contains(problem) && build.stderr.contains("builder fleet"), "{build:?}");
        assert!(doctor.stdout.contains(problem.trim_start_matches("error: ")), "{doctor:?}");
    }
    // An engine that reaches nothing: what it keeps in containerd is fed so, and no other.
    std::fs::write(place.folder().join("buildx"), "v0.9.1").expect("its buildx");
    let _ = place.run(&["plan", "--builders", "--builder", "docker"]).well();
    let info = std::fs::read_to_string(place.folder().join("info")).expect("what it says");
    let containerd = ",\"DriverStatus\":[[\"driver-type\",\"io.containerd.snapshotter.v1\"]]}";
    std::fs::write(place.folder().join("info"), info.trim_end_matches('}').to_owned() + "}" + containerd)
        .expect("what it says");
    let refused = place.run(&["plan", "--builders", "--builder", "docker"]).ended(3);
    assert!(refused.stderr.contains("buildx 0.9.1 is too old"), "{}", refused.stderr);
}

#[test]
fn tm8_the_buildkit_in_an_engine_counts_where_the_engine_says_its_version() {
    let place = place();
    says(&place, "29.1.0", "1.4.0");
    for (version, is_told) in [("v0.28.0", true), ("v0.28.1", false), ("v0.0.0+unknown", false)] {
        let nodes = format!(
            "Name: default\nDriver: docker\n\nNodes:\nName: default\nEndpoint: default\nStatus: running\nBuildKit version: {version}\nPlatforms: linux/amd64\n"
        );
        std::fs::write(place.folder().join("nodes"), nodes).expect("nodes");
        let answer = place.run(&["doctor"]);
        for text in ["the BuildKit of Docker Engine v0.28.0 has holes", "CVE-2026-33747 and CVE-2026-33748"] {
            assert_eq!(answer.stdout.contains(text), is_told, "{version}: {}", answer.stdout);
        }
    }
}

#[test]
fn tm8_a_builder_with_holes_is_left_out_where_others_do_all_that_there_is_to_do() {
    let place = place();
    says(&place, "20.10.24+dfsg1", "1.1.5+ds1-1+deb12u1");
    let nodes = |platform: &str| {
        let nodes = format!(
            "Name: fleet\nDriver: remote\n\nNodes:\nName: a\nEndpoint: tcp://a:1\nStatus: running\nBuildKit version: v0.28.1\nPlatforms: {platform}\n"
        );
        std::fs::write(place.folder().join("nodes"), nodes).expect("nodes");
    };
    let both =
        ["plan", "--builders", "--scope", "pr-1", "--builder", "old=docker", "--builder", "new=buildx:fleet"];
    nodes("linux/amd64");
    let left_out = place.run(&both).well();
    for text in ["warning: builder old is refused", "it is left out", "CVE-2024-24557", "--ephemeral docker"]
    {
        assert!(left_out.stderr.contains(text), "{text}: {}", left_out.stderr);
    }
    assert!(left_out.stdout.contains("new: ") && !left_out.stdout.contains("old: "), "{}", left_out.stdout);
    nodes("linux/s390x");
    let refused = place.run(&both).ended(4);
    assert!(refused.stderr.contains("error: builder old is refused"), "{}", refused.stderr);
}

#[test]
fn a_buildah_that_is_too_old_is_refused_before_anything_is_built() {
    const OLD: &str = r#"#!/bin/sh
case "$*" in
*--version) echo "${0##*/} version $(cat "${0%/*}/version") (image-spec 1.0.2)" ;;
*info*) cat "${0%/*}/info" ;;
*) echo "$*" >> "${0%/*}/asked"; exit 1 ;;
esac
"#;
    let mut place = place();
    let old = place.folder().join("old");
    std::fs::create_dir(&old).expect("a folder");
    place.set("PATH", format!("{}:/usr/bin:/bin", old.display()));
    let host = "\"cpus\":2,\"arch\":\"amd64\"";
    let table = [
        ("buildah", "1.27.4", format!("{{\"host\":{{{host}}},\"store\":{{}}}}"), "Buildah 1.27"),
        // It has a Buildah of its own within it.
        (
            "podman",
            "4.2.1",
            format!("{{\"host\":{{{host},\"buildahVersion\":\"1.27.0\"}},\"store\":{{}}}}"),
            "Buildah 1.27",
        ),
        ("buildah", "of somebody", format!("{{\"host\":{{{host}}},\"store\":{{}}}}"), "Buildah 0.0"),
    ];
    for (tool, version, info, builds_by) in table {
        write_program(&old.join(tool), OLD);
        std::fs::write(old.join("version"), version).expect("its version");
        std::fs::write(old.join("info"), info).expect("what it says of itself");
        let answer = place.run(&["build", "--builder", tool]).ended(3);
        let version = version.split(' ').next().expect("a word");
        for text in [
            &format!("{tool} {version} is too old"),
            &format!("it builds by {builds_by}; 1.28 or newer is needed"),
            "hint: update it: sudo apt-get update && sudo apt-get install buildah podman",
        ] {
            assert!(answer.stderr.contains(text), "{text}: {}", answer.stderr);
        }
        let asked = std::fs::read_to_string(old.join("asked")).unwrap_or_default();
        assert_eq!(asked, "", "nothing is tried, and nothing built");
    }
}
