//! What the machine of a node is, whatever a person has written of the node: asked by a build of nothing.
//!
//! `docker buildx inspect` shows what was written before what BuildKit says itself, and leaves out of that what was. But a
//! build is told the platform of the machine that it runs on, as `BUILDPLATFORM`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Buildx, Nodes};
use crate::diag::Diagnostic;
use crate::engine::docker::ANSWER_BYTES;
use crate::engine::emulation;
use crate::oci::Platform;

/// A folder that is named after the platform is all that is built.
const QUESTION: &str = "FROM scratch\nARG BUILDPLATFORM\nWORKDIR /polyarch-machine/$BUILDPLATFORM\n";
const ANSWER: &str = "polyarch-machine/";
/// How long a node may take to say it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the machines of nodes are not that somebody has written they are, and what to say of each. A node that does not
/// tell is believed.
pub(super) async fn mistaken(
    buildx: &Buildx,
    nodes: &Nodes,
) -> Result<(BTreeSet<Platform>, Vec<Diagnostic>), Diagnostic> {
    let (mut mistaken, mut told) = (BTreeSet::new(), Vec::new());
    for platform in nodes.written() {
        let Some(machine) = of_node(buildx, &platform).await?.filter(|machine| !runs(machine, &platform))
        else {
            continue;
        };
        told.push(emulates(&buildx.name, &platform, &machine));
        mistaken.insert(platform);
    }
    Ok((mistaken, told))
}

/// The platform of the machine that buildx has build for a platform.
async fn of_node(buildx: &Buildx, platform: &Platform) -> Result<Option<Platform>, Diagnostic> {
    let docker = &buildx.docker;
    let config = docker.config(None).await?;
    let output = docker
        .program(&docker.client().await?.path, &config, PATIENCE)
        .arguments(["buildx", "build", "--builder", &buildx.name, "--provenance=false", "--sbom=false"])
        .arguments(["--platform", &platform.to_string(), "--output", "type=tar,dest=-", "-"])
        .input(QUESTION)
        .capture(ANSWER_BYTES)
        .await?;
    Ok(output.ended.success().then(|| answer(&output.text())).flatten())
}

/// The platform that the innermost folder of an archive is named after.
fn answer(archive: &str) -> Option<Platform> {
    let names = archive.split('\0').filter_map(|name| name.strip_prefix(ANSWER));
    names.filter_map(|name| name.trim_end_matches('/').parse().ok()).next_back()
}

/// Whether a machine runs programs of a platform itself, as far as can be told from here: some that are arm64 run those of
/// 32 bits.
fn runs(machine: &Platform, platform: &Platform) -> bool {
    let is_arm = |one: &Platform| one.architecture().starts_with("arm");
    let is_same = |one: &Platform| (one.os(), one.architecture()) == (platform.os(), platform.architecture());
    emulation::native(machine.os(), machine.architecture()).iter().any(is_same)
        || (is_arm(machine) && is_arm(platform) && platform.architecture() == "arm")
}

fn emulates(name: &str, platform: &Platform, machine: &Platform) -> Diagnostic {
    Diagnostic::advice(format!("builder {name} of buildx runs {platform} by emulation, if at all"))
        .because(format!("its node for {platform} is a {machine} machine, whatever `--platform` said of it"))
        .hint(format!("let the node be for what it is: docker buildx rm {name}, then docker buildx create without `--platform {platform}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn the_innermost_folder_names_the_machine() {
        let archive = |folders: &[&str]| format!("{}\0 5", folders.join("\0 755\0"));
        let folders = ["polyarch-machine/", "polyarch-machine/linux/", "polyarch-machine/linux/arm/"];
        assert_eq!(answer(&archive(&folders)), Some(platform("linux/arm")));
        let deeper = [&folders[..], &["polyarch-machine/linux/arm/v7/"]].concat();
        assert_eq!(answer(&archive(&deeper)), Some(platform("linux/arm/v7")));
        assert_eq!(answer(&archive(&folders[..2])), None);
    }

    #[test]
    fn a_machine_runs_its_own_and_may_run_what_is_narrower() {
        for (machine, other, expected) in [
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64", "linux/386", true),
            ("linux/386", "linux/amd64", false),
            ("linux/arm64", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm64", false),
            ("linux/arm64", "linux/amd64", false),
            ("linux/amd64", "linux/arm64", false),
        ] {
            assert_eq!(runs(&platform(machine), &platform(other)), expected, "{machine} {other}");
        }
    }
}
