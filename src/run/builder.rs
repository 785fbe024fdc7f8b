//! Builders: engines with their platforms and slots, and which of them takes a job.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::{Engine, EngineFacts, ImageStore, LEAST_ROOM, Room, StoreAddress};
use crate::family::{Emulation, Terms};
use crate::oci::Platform;

/// One engine at one address, with its slots.
#[derive(Clone)]
pub(crate) struct Builder {
    /// What it is called in events and records.
    pub(crate) name: String,
    /// The engine.
    pub(crate) engine: Arc<dyn Engine>,
    /// What it can do.
    pub(crate) facts: EngineFacts,
    /// Platforms that it could build for, natively or by emulation, and was not given.
    pub(crate) withheld: BTreeSet<Platform>,
    /// Where it finds the store of the run.
    pub(crate) store: StoreAddress,
    /// How many jobs it takes at once; at least 1.
    pub(crate) slots: usize,
    /// What else it has, such as `gpu`.
    pub(crate) labels: BTreeSet<String>,
    /// How much jobs may fill where it keeps images; `None` where that is not known and counts as enough.
    pub(crate) room: Option<Room>,
    /// How much jobs may fill there at most, however much is free, where somebody has said so.
    pub(crate) most: Option<u64>,
    /// How fast it is said to be, in percent; `None` is as fast as it has been.
    pub(crate) speed: Option<u32>,
    /// What it costs a minute, where that is said.
    pub(crate) price: Option<f64>,
}

/// How a builder fits a platform. Native is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// Its machine runs such programs itself.
    Native,
    /// Its machine emulates them.
    Emulated,
}

impl Builder {
    /// What to do where none of some builders has a platform.
    pub(crate) fn to_have(platform: &Platform, builders: &[Self]) -> String {
        match builders.iter().find(|builder| builder.withheld.contains(platform)) {
            Some(Self { name, .. }) => {
                format!("builder {name} could, and its `platforms` leave it out: add {platform} to them")
            }
            None => {
                "let the machine of a builder emulate it, there: sudo apt-get install qemu-user-static binfmt-support".to_owned()
            }
        }
    }

    /// How it fits a platform, if at all.
    pub(crate) fn fit(&self, platform: &Platform, emulation: Emulation) -> Option<Fit> {
        if self.facts.native.contains(platform) {
            return Some(Fit::Native);
        }
        (emulation.is_allowed() && self.facts.emulated.contains(platform)).then_some(Fit::Emulated)
    }
}

/// What to do where an engine that keeps images so has too little room.
pub(super) fn free_some(store: ImageStore) -> &'static str {
    match store {
        ImageStore::Classic | ImageStore::Containerd => {
            "see what fills it: docker system df; and free the cache of builds: docker builder prune"
        }
        ImageStore::Containers { .. } => {
            "see where it is: polyarch doctor; and free the cache of builds: buildah rmi --prune, or podman image prune"
        }
    }
}

/// How many bytes of disk a job wants.
pub(super) fn wanted(terms: &Terms) -> u64 {
    terms.disk_bytes.max(LEAST_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_docker_is_told_of_its_commands() {
        let of_containers = free_some(ImageStore::Containers { buildah: (1, 28) });
        assert!(of_containers.contains("podman image prune") && !of_containers.contains("docker"));
        for store in [ImageStore::Classic, ImageStore::Containerd] {
            assert!(free_some(store).contains("docker system df"));
        }
    }
}
