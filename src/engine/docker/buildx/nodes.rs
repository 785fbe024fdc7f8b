//! What `docker buildx inspect` says of a builder.

use std::collections::BTreeSet;

use crate::engine::emulation::{self, Emulated};
use crate::engine::version::numbers;
use crate::oci::Platform;

/// A builder: one BuildKit, or several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine::docker) struct Nodes {
    /// How buildx gets to it: `docker-container`, `remote`, `kubernetes`; `docker` is an engine's own.
    pub(super) driver: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Node {
    name: String,
    endpoint: String,
    status: String,
    version: String,
    /// Each with whether a person has written it.
    platforms: Vec<(Platform, bool)>,
}

impl Nodes {
    /// Read it: lines of a key at their beginning, a colon and a value. Each `Name` below `Nodes` begins another.
    pub(in crate::engine::docker) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let (_, nodes) = text.split_once("\nNodes:").unwrap_or((text, ""));
        found.driver = value(text, "Driver").to_owned();
        for line in nodes.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match (key, found.nodes.last_mut()) {
                ("Name", _) => found.nodes.push(Node { name: value.to_owned(), ..Node::default() }),
                ("Endpoint", Some(node)) => value.clone_into(&mut node.endpoint),
                ("Status", Some(node)) => value.clone_into(&mut node.status),
                ("BuildKit version" | "Buildkit", Some(node)) => value.clone_into(&mut node.version),
                ("Platforms", Some(node)) => node.platforms = platforms(value),
                _ => {}
            }
        }
        found
    }

    /// What tells each BuildKit from every other: what is at an address by that, and what buildx has made by the name of its
    /// node too, since one engine or cluster may have several.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        let is_found = self.driver == "remote";
        let id = |node: &Node| match is_found {
            true => format!("BuildKit at {}", node.endpoint.trim_end_matches('/')),
            false => format!("BuildKit {} at {}", node.name, node.endpoint.trim_end_matches('/')),
        };
        self.nodes.iter().filter(|node| !node.endpoint.is_empty()).map(id).collect()
    }

    /// How many of its nodes run.
    pub(super) fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_running()).count()
    }

    /// What is gone of what was there when the builder was looked at: all of it, or the last node that runs a platform
    /// itself, or in any way. A node less of several for a platform is no loss.
    pub(super) fn gone(&self, native: &BTreeSet<Platform>, emulated: &BTreeSet<Platform>) -> Option<String> {
        if self.running() == 0 {
            return Some("none of its nodes runs".to_owned());
        }
        let (now_native, now_emulated) = self.platforms();
        let in_no_way =
            |platform: &&Platform| !now_native.contains(*platform) && !now_emulated.contains(*platform);
        let gone = native.difference(&now_native).chain(emulated.iter().filter(in_no_way));
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        (!gone.is_empty()).then(|| format!("its nodes for {} do not run any more", gone.join(", ")))
    }

    /// The version of the first BuildKit that says it.
    pub(super) fn version(&self) -> &str {
        let mut versions = self.nodes.iter().map(|node| &*node.version);
        versions.find(|version| !version.is_empty()).unwrap_or("unknown")
    }

    /// The version of the oldest BuildKit of those that say theirs; empty where none does.
    pub(in crate::engine::docker) fn oldest_version(&self) -> &str {
        let versions = self.nodes.iter().map(|node| &*node.version);
        let known = versions.filter_map(|version| Some((numbers(version)?, version)));
        known.min().map_or("", |(_, version)| version)
    }

    /// What an engine's own BuildKit says that its machine emulates: it has tried each, in what containers see.
    pub(in crate::engine::docker) fn emulated(&self) -> Emulated {
        Emulated { platforms: self.platforms().1, ..Emulated::default() }
    }

    /// The platforms that people have written its nodes are for.
    pub(super) fn written(&self) -> BTreeSet<Platform> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        let written = running.flat_map(|node| &node.platforms).filter(|(_, is_written)| *is_written);
        written.map(|(platform, _)| platform.clone()).collect()
    }

    /// What its nodes run themselves, and what they emulate.
    ///
    /// BuildKit names its machine's own platform first, and tells nothing of the others. Where people have written which
    /// platforms a node is for, it is for those: whether its machine is one of them is asked apart.
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
    fn one_buildkit_is_known_by_its_address_or_by_the_name_of_what_buildx_made() {
        let of = |driver: &str, name: &str, endpoint: &str| {
            let text = format!("Name: x\nDriver: {driver}\n\nNodes:\nName: {name}\nEndpoint: {endpoint}\n");
            Nodes::read(&text).ids()
        };
        assert_eq!(of("remote", "a0", "tcp://10.0.0.1:1234"), of("remote", "b0", "tcp://10.0.0.1:1234/"));
        assert_ne!(of("remote", "a0", "tcp://10.0.0.1:1234"), of("remote", "a0", "tcp://10.0.0.2:1234"));
        let container = |name| of("docker-container", name, "unix:///var/run/docker.sock");
        assert_ne!(container("a0"), container("b0"));
        assert_eq!(container("a0"), container("a0"));
        assert_eq!(Nodes::read("").ids().len(), 0);
    }

    #[test]
    fn tm8_the_oldest_buildkit_of_those_that_say_what_they_are_is_judged() {
        let oldest = |versions: &[&str]| {
            let node = |version: &&str| format!("Name: x\nStatus: running\nBuildKit version: {version}\n");
            let nodes: String = versions.iter().map(node).collect();
            Nodes::read(&format!("Name: x\n\nNodes:\n{nodes}")).oldest_version().to_owned()
        };
        assert_eq!(oldest(&["v0.21.1", "v0.9.3", "v0.12.5"]), "v0.9.3");
        assert_eq!(oldest(&["v0.0.0+unknown", "v0.21.1", ""]), "v0.21.1");
        assert_eq!(oldest(&["v0.0.0+unknown", "unknown"]), "");
    }

    #[test]
    fn a_node_that_does_not_run_counts_for_nothing() {
        let two = text("running", "linux/amd64")
            + "Name: fleet1\nEndpoint: tcp://10.0.0.2:1234\nStatus: inactive\nPlatforms: linux/s390x\n";
        let nodes = Nodes::read(&two);
        assert_eq!((nodes.running(), &*names(&nodes.platforms().0)), (1, "linux/amd64"));
        assert_eq!(Nodes::read("").running(), 0);
    }

    #[test]
    fn f_g9_the_last_node_of_a_platform_is_missed() {
        let node = |status: &str, platforms: &str| {
            format!("Name: more\nEndpoint: tcp://10.0.0.2:1234\nStatus: {status}\nPlatforms: {platforms}\n")
        };
        let (amd64, arm64) = ("linux/amd64, linux/arm64", "linux/arm64*");
        let first = text("running", amd64);
        let told = |before: &str, now: &str| {
            let (native, emulated) = Nodes::read(before).platforms();
            Nodes::read(now).gone(&native, &emulated)
        };
        let both = first.clone() + &node("running", arm64);
        let one = first.clone() + &node("inactive", arm64);
        let lost = "its nodes for linux/arm64 do not run any more";
        assert_eq!(told(&both, &both), None);
        assert_eq!(told(&both, &one).as_deref(), Some(lost), "also where another one emulates it");
        assert_eq!(told(&both, &first).as_deref(), Some(lost));
        assert_eq!(told(&one, &one), None, "it was not there before");
        let three = both.clone() + &node("running", arm64);
        assert_eq!(told(&three, &both), None, "another one is left");
        let none = text("inactive", amd64) + &node("inactive", arm64);
        assert_eq!(told(&both, &none).as_deref(), Some("none of its nodes runs"));
        let other = text("running", "linux/s390x") + &node("running", "linux/amd64*");
        assert_eq!(told(&first, &other).as_deref(), Some(lost), "what was only emulated too");
    }
}
