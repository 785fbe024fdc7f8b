//! What `docker buildx inspect` says of a builder.

use std::collections::BTreeSet;

use crate::engine::emulation;
use crate::oci::Platform;

/// A builder: one BuildKit, or several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    /// How buildx gets to it: `docker-container`, `remote`, `kubernetes`; `docker` is an engine's own.
    pub(super) driver: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Node {
    status: String,
    version: String,
    /// Each with whether a person has written it.
    platforms: Vec<(Platform, bool)>,
}

impl Nodes {
    /// Read it: lines of a key at their beginning, a colon and a value. Each `Name` below `Nodes` begins another.
    pub(super) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let (_, nodes) = text.split_once("\nNodes:").unwrap_or((text, ""));
        found.driver = value(text, "Driver").to_owned();
        for line in nodes.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match (key, found.nodes.last_mut()) {
                ("Name", _) => found.nodes.push(Node::default()),
                ("Status", Some(node)) => value.clone_into(&mut node.status),
                ("BuildKit version" | "Buildkit", Some(node)) => value.clone_into(&mut node.version),
                ("Platforms", Some(node)) => node.platforms = platforms(value),
                _ => {}
            }
        }
        found
    }

    /// How many of its nodes run.
    pub(super) fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_running()).count()
    }

    /// The version of the first BuildKit that says it.
    pub(super) fn version(&self) -> &str {
        let mut versions = self.nodes.iter().map(|node| &*node.version);
        versions.find(|version| !version.is_empty()).unwrap_or("unknown")
    }

    /// What its nodes run themselves, and what they emulate.
    ///
    /// BuildKit names its machine's own platform first, and tells nothing of the others. Where people have written which
    /// platforms a node is for, it is for those.
    pub(super) fn platforms(&self) -> (BTreeSet<Platform>, BTreeSet<Platform>) {
        let (mut native, mut all) = (BTreeSet::new(), BTreeSet::new());
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let written = node.platforms.iter().filter(|(_, is_written)| *is_written).count();
            for (own, _) in node.platforms.iter().take(written.max(1)) {
                native.extend(emulation::native(own.os(), own.architecture()));
            }
            all.extend(node.platforms.iter().map(|(platform, _)| platform.clone()));
        }
        let is_own = |platform: &Platform| {
            let architecture = |one: &Platform| (one.os().to_owned(), one.architecture().to_owned());
            native.iter().any(|own| own.variant().is_none() && architecture(own) == architecture(platform))
        };
        let (own, emulated) =
            all.into_iter().partition(|platform| native.contains(platform) || is_own(platform));
        (own, emulated)
    }
}

impl Node {
    fn is_running(&self) -> bool {
        self.status == "running"
    }
}

fn value<'t>(text: &'t str, key: &str) -> &'t str {
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    values.map(str::trim).next().unwrap_or_default()
}

/// `linux/arm64*, linux/amd64, linux/amd64/v2 (+3)`: what this program has no name for is left out.
fn platforms(text: &str) -> Vec<(Platform, bool)> {
    let names = text.split(',').filter_map(|name| name.split_whitespace().next());
    names.filter_map(|name| Some((name.trim_end_matches('*').parse().ok()?, name.ends_with('*')))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: &str, platforms: &str) -> String {
        format!(
            "Name:          fleet\nDriver:        kubernetes\nLast Activity: 2026-11-21 15:49:19 +0000 UTC\n\nNodes:\nName:             fleet0\nEndpoint:         tcp://10.0.0.1:1234\nStatus:           {status}\nBuildKit version: v0.21.1\nPlatforms:        {platforms}\nLabels:\n org.mobyproject.buildkit.worker.network: host\nGC Policy rule#0:\n All:            false\n"
        )
    }

    fn names(platforms: &BTreeSet<Platform>) -> String {
        platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn its_machines_own_platform_is_told_from_what_it_emulates() {
        let table = [
            ("linux/amd64, linux/amd64/v2, linux/arm64, linux/386", "linux/386 linux/amd64", "linux/arm64"),
            ("linux/amd64*, linux/amd64/v2, linux/arm64", "linux/amd64", "linux/arm64"),
            ("linux/arm64*, linux/arm/v7, linux/amd64", "linux/arm64", "linux/amd64 linux/arm/v7"),
            ("linux/arm64*, linux/amd64*, linux/386", "linux/386 linux/amd64 linux/arm64", ""),
            ("linux/arm64", "linux/arm64", ""),
            ("linux/arm64*", "linux/arm64", ""),
            ("linux/arm64, linux/arm/v7, linux/arm/v6", "linux/arm64", "linux/arm/v6 linux/arm/v7"),
            ("linux/amd64 (+3), linux/arm64", "linux/amd64", "linux/arm64"),
        ];
        for (platforms, native, emulated) in table {
            let nodes = Nodes::read(&text("running", platforms));
            let (own, others) = nodes.platforms();
            let variants = "linux/amd64/v2".parse::<Platform>().unwrap();
            let own = own.into_iter().filter(|platform| *platform != variants).collect();
            assert_eq!((&*names(&own), &*names(&others)), (native, emulated), "{platforms}");
            assert_eq!((&*nodes.driver, nodes.version(), nodes.running()), ("kubernetes", "v0.21.1", 1));
        }
    }

    #[test]
    fn a_node_that_does_not_run_counts_for_nothing() {
        let two = text("running", "linux/amd64")
            + "Name: fleet1\nEndpoint: tcp://10.0.0.2:1234\nStatus: inactive\nPlatforms: linux/s390x\n";
        let nodes = Nodes::read(&two);
        assert_eq!((nodes.running(), &*names(&nodes.platforms().0)), (1, "linux/amd64"));
        assert_eq!(Nodes::read("").running(), 0);
    }
}
