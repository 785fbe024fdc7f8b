//! What the cache mounts of a job are called in the engine, so that none is shared across trust (TM10).
//!
//! Engines keep what a `RUN --mount=type=cache` has by its id alone, whoever builds, and for whatever platform. The ids in
//! the Dockerfile that is sent are those of a scope, a family, a platform and a refresh epoch, and BuildKit is told to put
//! the same before all others too, such as those in triggers of an image from outside. What an untrusted run leaves is for
//! the very same tree: whoever approves one has not seen what was pushed before it (F-U12).

use crate::oci::{Digest, Platform, Repository};
use crate::record::CacheName;

/// The variables that mean the same in all builds for a platform.
const OF_THE_PLATFORM: [&str; 8] = [
    "TARGETPLATFORM",
    "TARGETARCH",
    "TARGETOS",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDARCH",
    "BUILDOS",
    "BUILDVARIANT",
];

/// The cache mounts of a job.
#[derive(Clone, Debug)]
pub(super) struct OwnCaches {
    /// What all ids begin with. No other scope, family, platform or epoch has one that begins so.
    pub(super) space: String,
    /// What a variable in an id may depend on.
    variables: String,
    /// What all ids begin with, without the scope and the tree.
    shared: String,
    /// The tree that they are of alone, if so.
    tree: Option<Digest>,
}

impl OwnCaches {
    /// Those of a scope, a family, a platform and a refresh epoch, and of a tree where they are of that alone; `variables`
    /// is all that settles variables in ids.
    pub(super) fn new(
        scope: &Repository,
        tree: Option<&Digest>,
        family: &str,
        platform: &Platform,
        epoch: u64,
        variables: String,
    ) -> Self {
        let scope = scope.as_str().rsplit('/').next().unwrap_or_default();
        let family = Digest::of(family.as_bytes());
        let platform = platform.to_string().replace('/', "-");
        let shared = format!("{}.{platform}.{epoch}.", family.short());
        // All of its digest: whoever pushes a tree chooses what is in it, and may look for two that begin alike.
        let of_tree = tree.map_or_else(String::new, |tree| format!("{}.", tree.hex()));
        Self { space: format!("polyarch.{scope}.{of_tree}{shared}"), variables, shared, tree: tree.cloned() }
    }

    /// What the cache is called in the store.
    pub(super) fn in_store(&self, written: &str) -> CacheName {
        CacheName::new("mount", &format!("{}{}", self.shared, self.name(written)), self.tree.as_ref())
    }

    /// The id of a cache, given what is written as its id or target.
    pub(super) fn id(&self, written: &str) -> String {
        format!("{}{}", self.space, self.name(written))
    }

    /// What it is called beside others of the same scope, family, platform and epoch. Engines make names of files of ids, so
    /// that it has no character that could lead elsewhere, nor a variable that could become one.
    fn name(&self, written: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if written.chars().all(plain) && written.len() <= 40 {
            return written.to_owned();
        }
        let settled = OF_THE_PLATFORM.iter().fold(written.to_owned(), |text, name| {
            text.replace(&format!("${{{name}}}"), "").replace(&format!("${name}"), "")
        });
        // A value may be the base image's: what it is called then is for this image alone.
        let digest = match settled.contains('$') {
            true => Digest::of(format!("{written}\n{}", self.variables).as_bytes()),
            false => Digest::of(written.as_bytes()),
        };
        format!("_{}", digest.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        scope: &str,
        tree: &str,
        family: &str,
        architecture: &str,
        epoch: u64,
        variables: &str,
    ) -> OwnCaches {
        let scope = format!("scopes/{scope}").parse().expect("a scope");
        let platform = Platform::from_fields("linux", architecture, None);
        let tree = Some(Digest::of(tree.as_bytes())).filter(|_| !tree.is_empty());
        OwnCaches::new(&scope, tree.as_ref(), family, &platform, epoch, variables.to_owned())
    }

    #[test]
    fn tm10_no_two_scopes_trees_families_platforms_or_epochs_share_an_id() {
        let own = of("pr-1", "one", "f", "amd64", 0, "a");
        let others = [
            of("trusted", "", "f", "amd64", 0, "a"),
            of("pr-1", "one", "g", "amd64", 0, "a"),
            of("pr-1", "one", "f", "arm64", 0, "a"),
            of("pr-1", "one", "f", "amd64", 1, "a"),
            of("pr-1", "two", "f", "amd64", 0, "a"),
            of("pr-1", "", "f", "amd64", 0, "a"),
        ];
        for written in ["uv", "/root/.cache", "uv-$TARGETARCH", "../polyarch.trusted.x", "$X", ""] {
            let id = own.id(written);
            assert!(id.starts_with("polyarch.pr-1."), "{id}");
            assert!(others.iter().all(|other| other.id(written) != id && !id.starts_with(&other.space)));
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(id.chars().all(plain) && !id.contains(".."), "{id}");
        }
        assert_eq!(of("trusted", "", "f", "amd64", 3, "a").name("uv"), "uv");
    }

    #[test]
    fn images_of_a_family_share_a_cache_unless_variables_of_their_own_name_it() {
        let (one, two) = (of("pr-1", "one", "f", "amd64", 0, "a"), of("pr-1", "one", "f", "amd64", 0, "b"));
        for written in ["uv", "/root/.cache", "apt-$TARGETARCH", "apt-${TARGETPLATFORM}"] {
            assert_eq!(one.id(written), two.id(written));
        }
        assert_ne!(one.id("pip-$PYTHON"), two.id("pip-$PYTHON"));
        assert_ne!(one.id("apt-$TARGETARCH"), one.id("apt-$TARGETOS"));
    }
}
