//! What has changed between two images: packages, sizes and layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::contents::ImagePackages;
use crate::diag::{count, size};

/// The version of the format of changes.
pub(crate) const CHANGES_VERSION: u32 = 1;
/// How many packages of one image are named in a text.
const NAMED: usize = 40;

/// One of two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// Its manifest.
    pub(crate) digest: String,
    /// Its layers and their bytes as they are in a registry, the lowest first.
    pub(crate) layers: Vec<(String, u64)>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// The versions of each package, by manager and name.
    pub(crate) packages: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Side {
    /// An image with these layers, in which this was found.
    pub(crate) fn new(digest: String, layers: Vec<(String, u64)>, found: &ImagePackages) -> Self {
        let mut packages: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for package in found.packages.keys() {
            let name = (package.manager.name().to_owned(), package.name.clone());
            packages.entry(name).or_default().insert(package.version.clone());
        }
        Self { digest, layers, bytes: found.bytes, packages }
    }
}

/// What has changed of one image on one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// `image:variant@platform`.
    pub(crate) job: String,
    /// The manifest that stands where it is compared with; nothing where none does.
    pub(crate) before: Option<String>,
    /// The manifest of the image.
    pub(crate) after: String,
    /// Bytes of the files of both.
    pub(crate) bytes: [u64; 2],
    /// Layers that both have.
    pub(crate) layers_kept: usize,
    /// Layers that only the new one has, and their bytes as they are in a registry.
    pub(crate) layers_added: usize,
    /// Bytes of those.
    pub(crate) bytes_added: u64,
    /// Layers that only the old one has.
    pub(crate) layers_removed: usize,
    /// Packages of which there are other versions now.
    pub(crate) packages: Vec<PackageChange>,
}

/// What has changed of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PackageChange {
    /// `deb`, `apk`, `rpm`, `pypi`, `conda`, `cran` or `npm`.
    pub(crate) manager: String,
    /// Its name.
    pub(crate) name: String,
    /// The versions that were there; nothing where it is new.
    pub(crate) before: Vec<String>,
    /// The versions that are there; nothing where it has gone.
    pub(crate) after: Vec<String>,
}

impl Changes {
    /// What has changed of a job's image.
    pub(crate) fn between(job: &str, before: Option<&Side>, after: &Side) -> Self {
        let none = BTreeMap::new();
        let old = before.map_or(&none, |side| &side.packages);
        let names: BTreeSet<&(String, String)> = old.keys().chain(after.packages.keys()).collect();
        let versions = |of: &BTreeMap<(String, String), BTreeSet<String>>, name| -> Vec<String> {
            of.get(name).into_iter().flatten().cloned().collect()
        };
        let packages = names.into_iter().map(|name| PackageChange {
            manager: name.0.clone(),
            name: name.1.clone(),
            before: versions(old, name),
            after: versions(&after.packages, name),
        });
        let layers_of =
            |side: &Side| side.layers.iter().map(|(digest, _)| digest.clone()).collect::<BTreeSet<_>>();
        let (old_layers, new_layers) = (before.map(layers_of).unwrap_or_default(), layers_of(after));
        let added = after.layers.iter().filter(|(digest, _)| !old_layers.contains(digest));
        Self {
            job: job.to_owned(),
            before: before.map(|side| side.digest.clone()),
            after: after.digest.clone(),
            bytes: [before.map_or(0, |side| side.bytes), after.bytes],
            layers_kept: new_layers.intersection(&old_layers).count(),
            layers_added: added.clone().count(),
            bytes_added: added.map(|(_, bytes)| bytes).sum(),
            layers_removed: old_layers.difference(&new_layers).count(),
            packages: packages.filter(|change| change.before != change.after).collect(),
        }
    }

    /// For a person.
    pub(crate) fn to_text(&self) -> String {
        let mut text = self.job.clone();
        let _ = match &self.before {
            Some(before) if *before == self.after => return format!("{text}  nothing: {before}\n"),
            Some(before) => writeln!(text, "  {before} -> {}", self.after),
            None => writeln!(text, "  new: {}", self.after),
        };
        let [before, after] = self.bytes;
        let difference = match after.checked_sub(before) {
            Some(more) => format!("+{}", size(more)),
            None => format!("-{}", size(before - after)),
        };
        let _ = writeln!(text, "  size     {} -> {} ({difference})", size(before), size(after));
        let (kept, added, removed) = (self.layers_kept, self.layers_added, self.layers_removed);
        let _ = writeln!(
            text,
            "  layers   {kept} kept, {added} added ({}), {removed} removed",
            size(self.bytes_added)
        );
        for change in self.packages.iter().take(NAMED) {
            let PackageChange { manager, name, before, after } = change;
            let (before, after) = (before.join(" "), after.join(" "));
            let _ = match (before.is_empty(), after.is_empty()) {
                (true, _) => writeln!(text, "  added    {name} {after} ({manager})"),
                (_, true) => writeln!(text, "  removed  {name} {before} ({manager})"),
                _ => writeln!(text, "  changed  {name} {before} -> {after} ({manager})"),
            };
        }
        let more = self.packages.len().saturating_sub(NAMED);
        if more > 0 {
            let _ = writeln!(text, "  and {}", count(more, "more package"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(digest: &str, layers: &[(&str, u64)], bytes: u64, packages: &[(&str, &str)]) -> Side {
        let mut all: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for (name, version) in packages {
            all.entry(("deb".to_owned(), (*name).to_owned())).or_default().insert((*version).to_owned());
        }
        let layers = layers.iter().map(|(digest, bytes)| ((*digest).to_owned(), *bytes)).collect();
        Side { digest: digest.to_owned(), layers, bytes, packages: all }
    }

    #[test]
    fn packages_sizes_and_layers_are_told_apart() {
        let before = side(
            "sha256:aa",
            &[("base", 10), ("old", 20)],
            2_000_000,
            &[("bash", "5.2-1"), ("wget", "1.2"), ("same", "1"), ("two", "1")],
        );
        let after = side(
            "sha256:bb",
            &[("base", 10), ("new", 2_500_000)],
            1_500_000,
            &[("bash", "5.2-2"), ("curl", "8"), ("same", "1"), ("two", "1"), ("two", "2")],
        );
        expect_test::expect![[r#"
            a@linux/amd64  sha256:aa -> sha256:bb
              size     2.0 MB -> 1.5 MB (-500.0 kB)
              layers   1 kept, 1 added (2.5 MB), 1 removed
              changed  bash 5.2-1 -> 5.2-2 (deb)
              added    curl 8 (deb)
              changed  two 1 -> 1 2 (deb)
              removed  wget 1.2 (deb)
        "#]]
        .assert_eq(&Changes::between("a@linux/amd64", Some(&before), &after).to_text());
    }

    #[test]
    fn what_is_new_or_the_same_is_said_to_be() {
        let image = side("sha256:aa", &[("base", 10)], 2_000, &[("bash", "5")]);
        let same = Changes::between("a@linux/amd64", Some(&image), &image);
        assert_eq!(same.to_text(), "a@linux/amd64  nothing: sha256:aa\n");
        let new = Changes::between("a@linux/amd64", None, &image).to_text();
        assert!(
            new.starts_with("a@linux/amd64  new: sha256:aa\n") && new.contains("added    bash 5 (deb)"),
            "{new}"
        );
        let many: Vec<(String, &str)> = (0..NAMED + 3).map(|at| (format!("p{at:03}"), "1")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, version)| (name.as_str(), *version)).collect();
        let text = Changes::between("a", None, &side("b", &[], 0, &many)).to_text();
        assert!(text.ends_with("  and 3 more packages\n"), "{text}");
    }
}
