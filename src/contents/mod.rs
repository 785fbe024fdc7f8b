//! What is really in an image, read out of its layers without running it: what the databases of package managers say.
//!
//! Each layer is read once, as it comes out of the store, with nothing extracted; what is found is kept by the
//! layer's digest, since images of a family share most layers, and then stacked as an engine would stack the layers:
//! what an upper one writes over or takes away counts no more.
//!
//! | manager | where | read |
//! |---|---|---|
//! | dpkg | `var/lib/dpkg/status`, `var/lib/dpkg/status.d/` | yes |
//! | apk | `lib/apk/db/installed`, `usr/lib/apk/db/installed` | yes |
//! | rpm since 4.16 | `rpmdb.sqlite` | yes |
//! | rpm of SUSE; rpm before 4.16 | `Packages.db`; `Packages`, a Berkeley database | no: named in the result as not read |
//! | pip and others for Python | `*.dist-info/METADATA`, `*.egg-info` | yes |
//! | conda, mamba, micromamba | `conda-meta/*.json` | yes |
//! | R | `DESCRIPTION` with a field `Built` | yes |
//! | npm and its like | `node_modules/**/package.json` | yes |

mod conda;
mod debian;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod alpine;
mod hidden;
mod image;
mod layer;
mod machine;
mod node;
mod python;
mod r;
mod rpm;
mod sqlite;
mod tar;
mod version;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use image::{Cache, foreign};
pub(crate) use layer::ImagePackages;
#[cfg(test)]
pub(crate) use layer::LayerPackages;
pub(crate) use machine::{Foreign, Machine};
#[cfg(test)]
pub(crate) use tests::layer_of;
pub(crate) use version::NoVersion;

/// How long a text of a package may be, in characters.
const TEXT_LIMIT: usize = 512;

/// Which manager knows of a package: its type in package URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manager {
    /// dpkg.
    Deb,
    /// apk.
    Apk,
    /// rpm.
    Rpm,
    /// pip and whatever else installs for Python.
    Pypi,
    /// conda.
    Conda,
    /// R, whose packages come from CRAN.
    Cran,
    /// npm.
    Npm,
}

impl Manager {
    /// The type in package URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Pypi => "pypi",
            Self::Conda => "conda",
            Self::Cran => "cran",
            Self::Npm => "npm",
        }
    }
}

/// One installed package, as its manager describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Who knows of it.
    pub(crate) manager: Manager,
    /// Its name.
    pub(crate) name: String,
    /// Its version, whole: with epoch and release where there are some.
    pub(crate) version: String,
    /// What else tells it from others: `arch`, `build`, `channel`.
    pub(crate) qualifiers: BTreeMap<String, String>,
    /// The licence, in the words of the package.
    pub(crate) license: Option<String>,
    /// Who made the package.
    pub(crate) supplier: Option<String>,
    /// Its home page.
    pub(crate) homepage: Option<String>,
}

impl Package {
    /// A package of which only the name and the version are known; `None` where one is empty.
    fn new(manager: Manager, name: &str, version: &str) -> Option<Self> {
        let (name, version) = (tidy(name)?, tidy(version)?);
        let qualifiers = BTreeMap::new();
        Some(Self { manager, name, version, qualifiers, license: None, supplier: None, homepage: None })
    }

    /// The same with a qualifier, where it is not empty.
    fn with(mut self, key: &str, value: Option<&str>) -> Self {
        if let Some(value) = value.and_then(tidy) {
            self.qualifiers.insert(key.to_owned(), value);
        }
        self
    }
}

/// One line of printable text of bounded length; `None` where nothing is left.
fn tidy(text: &str) -> Option<String> {
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = plain.take(TEXT_LIMIT).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Fields of the form `Key: value`, as in mails: a line that begins with white space goes on with the one before.
fn fields(stanza: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in stanza.lines() {
        // What continues a field is of those that nobody asks for.
        if line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some((key, value)) = line.split_once(':') {
            found.entry(key.to_ascii_lowercase()).or_insert_with(|| value.trim().to_owned());
        }
    }
    found
}

/// What an operating system says of itself in `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct System {
    /// `ID`, as `debian`.
    pub(crate) id: Option<String>,
    /// `VERSION_ID`, as `13`.
    pub(crate) version: Option<String>,
}

impl System {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            tidy(found.trim_matches(['"', '\'']))
        };
        Self { id: value("ID"), version: value("VERSION_ID") }
    }
}

/// The packages of an image in a fixed order, each once, with the files that name them.
pub(crate) type Listed = BTreeMap<Package, BTreeSet<String>>;
