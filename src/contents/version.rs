//! The version of one package of an image, as a tag may have it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImagePackages, Manager, Package};

/// Why there is no one version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoVersion {
    /// The package is not there.
    Absent,
    /// It is there several times; each version, and a file that names it.
    Several(BTreeMap<String, String>),
}

impl ImagePackages {
    /// The version of a package, without its epoch.
    pub(crate) fn version(&self, manager: Manager, name: &str) -> Result<String, NoVersion> {
        let wanted = normal(manager, name);
        let is_it =
            |package: &Package| package.manager == manager && normal(manager, &package.name) == wanted;
        let found = self.packages.iter().filter(|(package, _)| is_it(package));
        let found: Vec<(&str, &String, usize)> = found
            .flat_map(|(package, files)| {
                files.iter().map(|file| (without_epoch(package), file, depth(manager, file)))
            })
            .collect();
        // What others have brought for themselves is not meant where it is there on its own too.
        let least = found.iter().map(|(.., depth)| *depth).min().ok_or(NoVersion::Absent)?;
        let meant = found.into_iter().filter(|(.., depth)| *depth == least);
        let versions: BTreeMap<String, String> =
            meant.map(|(version, file, _)| (version.to_owned(), file.clone())).collect();
        match versions.len() {
            1 => versions.into_keys().next().ok_or(NoVersion::Absent),
            _ => Err(NoVersion::Several(versions)),
        }
    }

    /// The names of the packages that a manager knows of.
    pub(crate) fn names(&self, manager: Manager) -> BTreeSet<&str> {
        let own = self.packages.keys().filter(|package| package.manager == manager);
        own.map(|package| package.name.as_str()).collect()
    }
}

/// A name as its manager compares it: for Python by the specification "Names and normalization".
fn normal(manager: Manager, name: &str) -> String {
    if manager != Manager::Pypi {
        return name.to_owned();
    }
    let lower = name.to_ascii_lowercase();
    lower.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn without_epoch(package: &Package) -> &str {
    let has_epochs = matches!(package.manager, Manager::Deb | Manager::Rpm);
    let plain = package.version.split_once(':').filter(|_| has_epochs);
    plain.map_or(package.version.as_str(), |(_, version)| version)
}

/// How many packages a package is within.
fn depth(manager: Manager, file: &str) -> usize {
    match manager {
        Manager::Npm => file.split('/').filter(|part| *part == "node_modules").count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::layer_of;

    #[test]
    fn the_version_of_a_package_is_told_by_its_name() {
        let status = "Package: vim\nStatus: install ok installed\nVersion: 2:9.1-3\n";
        let node = |version: &str| format!("{{\"name\":\"semver\",\"version\":\"{version}\"}}");
        let (own, within) = (node("7.1.0"), node("5.0.0"));
        let image = ImagePackages::of([&layer_of(&[
            ("var/lib/dpkg/status", status),
            ("py/Foo_Bar-1.dist-info/METADATA", "Name: Foo_Bar\nVersion: 1.2+cu126\n"),
            ("py/twice-1.dist-info/METADATA", "Name: twice\nVersion: 1\n"),
            ("other/twice-2.dist-info/METADATA", "Name: twice\nVersion: 2\n"),
            ("other/same-2.dist-info/METADATA", "Name: same\nVersion: 2\nLicense: MIT\n"),
            ("py/same-2.dist-info/METADATA", "Name: same\nVersion: 2\n"),
            ("usr/lib/node_modules/semver/package.json", &own),
            ("usr/lib/node_modules/npm/node_modules/semver/package.json", &within),
        ])]);
        for (manager, name, expected) in [
            (Manager::Deb, "vim", Ok("9.1-3")),
            (Manager::Pypi, "foo-bar", Ok("1.2+cu126")),
            (Manager::Pypi, "foo.__bar", Ok("1.2+cu126")),
            (Manager::Pypi, "same", Ok("2")),
            (Manager::Npm, "semver", Ok("7.1.0")),
            (Manager::Npm, "npm", Err(NoVersion::Absent)),
            (Manager::Deb, "foo-bar", Err(NoVersion::Absent)),
        ] {
            assert_eq!(image.version(manager, name), expected.map(str::to_owned), "{name}");
        }
        let several = image.version(Manager::Pypi, "twice").expect_err("two of them");
        assert!(matches!(&several, NoVersion::Several(all) if all.keys().eq(["1", "2"])), "{several:?}");
        assert_eq!(image.names(Manager::Pypi).len(), 3);
    }
}
