//! What one layer says of packages, and what the layers of an image say together.

use std::collections::BTreeMap;
use std::io::{Error, Result, Write};

use super::hidden::Hidden;
use super::tar::{Archive, Entry, EntryKind, Visitor};
use super::{Listed, Package, System, alpine, conda, debian, node, python, r, rpm};

/// How large a database file may be, in bytes, and how much of the description of a single package is read.
const DATABASE_LIMIT: u64 = 128 << 20;
const METADATA_LIMIT: u64 = 256 << 10;
/// How much a layer may say.
const FILES_LIMIT: usize = 200_000;
const PACKAGES_LIMIT: usize = 500_000;

/// A kind of file that says what is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database {
    Debian,
    Alpine,
    Rpm,
    RpmJournal,
    OtherRpm,
    Python,
    Conda,
    R,
    Node,
    System,
}

impl Database {
    /// What a file at this path is.
    fn at(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let last = folder.rsplit('/').next().unwrap_or_default();
        match (folder, name) {
            ("var/lib/dpkg", "status") => Some(Self::Debian),
            ("var/lib/dpkg/status.d", _) if !name.ends_with(".md5sums") => Some(Self::Debian),
            ("lib/apk/db" | "usr/lib/apk/db", "installed") => Some(Self::Alpine),
            ("var/lib/rpm" | "usr/lib/sysimage/rpm" | "usr/share/rpm", _) => match name {
                "rpmdb.sqlite" => Some(Self::Rpm),
                "rpmdb.sqlite-wal" => Some(Self::RpmJournal),
                "Packages" | "Packages.db" => Some(Self::OtherRpm),
                _ => None,
            },
            ("etc" | "usr/lib", "os-release") => Some(Self::System),
            (_, "METADATA") if last.ends_with(".dist-info") => Some(Self::Python),
            (_, "PKG-INFO") if last.ends_with(".egg-info") || last == "EGG-INFO" => Some(Self::Python),
            _ if name.ends_with(".egg-info") => Some(Self::Python),
            _ if last == "conda-meta" && name.ends_with(".json") => Some(Self::Conda),
            (_, "DESCRIPTION") if !last.is_empty() => Some(Self::R),
            (_, "package.json") if node::is_installed(folder) => Some(Self::Node),
            _ => None,
        }
    }

    fn limit(self) -> u64 {
        if self.is_read_in_part() { METADATA_LIMIT } else { DATABASE_LIMIT }
    }

    /// Whether the beginning says all that counts.
    fn is_read_in_part(self) -> bool {
        matches!(self, Self::Python | Self::R)
    }

    fn read(self, bytes: &[u8]) -> Facts {
        let text = || String::from_utf8_lossy(bytes);
        match self {
            Self::Debian => Facts::Packages(debian::packages(&text())),
            Self::Alpine => Facts::Packages(alpine::packages(&text())),
            Self::Python => Facts::Packages(python::package(&text()).into_iter().collect()),
            Self::Conda => Facts::Packages(conda::package(bytes).into_iter().collect()),
            Self::R => Facts::Packages(r::package(&text()).into_iter().collect()),
            Self::Node => Facts::Packages(node::package(bytes).into_iter().collect()),
            Self::System => Facts::System(System::parse(&text())),
            Self::Rpm => {
                rpm::packages(bytes).map_or_else(|why| Facts::Unread(why.to_owned()), Facts::Packages)
            }
            Self::RpmJournal if bytes.is_empty() => Facts::Packages(Vec::new()),
            Self::RpmJournal => {
                Facts::Unread("changes that the database beside it does not have yet".to_owned())
            }
            Self::OtherRpm => Facts::Unread("a database of rpm in a form that is not read here".to_owned()),
        }
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Facts {
    Packages(Vec<Package>),
    System(System),
    Unread(String),
}

/// What one layer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerPackages {
    files: BTreeMap<String, Facts>,
    hidden: Hidden,
    /// Bytes of its files.
    bytes: u64,
}

/// What all layers of an image say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImagePackages {
    /// Every package, and the files that name it.
    pub(crate) packages: Listed,
    /// The operating system.
    pub(crate) system: System,
    /// Databases that could not be read, and why.
    pub(crate) unread: BTreeMap<String, String>,
    /// Bytes of the files of all layers, those that an upper one hides too: what engines call the size of an image.
    pub(crate) bytes: u64,
}

impl ImagePackages {
    /// Stacks layers, the lowest first.
    pub(crate) fn of<'a>(layers: impl IntoIterator<Item = &'a LayerPackages>) -> Self {
        let mut files: BTreeMap<&str, &Facts> = BTreeMap::new();
        let mut bytes = 0;
        for layer in layers {
            bytes = u64::saturating_add(bytes, layer.bytes);
            files.retain(|path, _| !layer.hidden.has(path));
            files.extend(layer.files.iter().map(|(path, facts)| (path.as_str(), facts)));
        }
        let mut all = Self { bytes, ..Self::default() };
        for (path, facts) in files {
            match facts {
                Facts::Packages(packages) => {
                    for package in packages {
                        all.packages.entry(package.clone()).or_default().insert(path.to_owned());
                    }
                }
                // `etc` comes before `usr`, and is what counts where both are files.
                Facts::System(system) if all.system == System::default() => all.system = system.clone(),
                Facts::System(_) => {}
                Facts::Unread(why) => drop(all.unread.insert(path.to_owned(), why.clone())),
            }
        }
        all
    }
}

/// Reads a layer that is not compressed: takes its bytes by [`Write`].
pub(super) struct Scan(Archive<Reader>);

impl Scan {
    pub(super) fn new() -> Self {
        Self(Archive::new(Reader::default()))
    }

    /// What was found, once all has come.
    pub(super) fn finish(self) -> Result<LayerPackages> {
        self.0.finish().map(|reader| reader.found)
    }
}

impl Write for Scan {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

#[derive(Default)]
struct Reader {
    found: LayerPackages,
    packages: usize,
    /// The file whose bytes come.
    open: Option<(String, Database, Vec<u8>)>,
}

impl Reader {
    fn keep(&mut self, path: String, facts: Facts) -> Result<()> {
        self.packages += if let Facts::Packages(packages) = &facts { packages.len() } else { 0 };
        self.found.files.insert(path, facts);
        match self.found.files.len() > FILES_LIMIT || self.packages > PACKAGES_LIMIT {
            true => Err(Error::other("the layer names more packages than any image has")),
            false => Ok(()),
        }
    }
}

impl Visitor for Reader {
    fn begin(&mut self, entry: Entry) -> Result<bool> {
        let Entry { path, kind, size } = entry;
        self.found.hidden.note(&path)?;
        if kind == EntryKind::File {
            self.found.bytes = self.found.bytes.saturating_add(size);
        }
        // Whatever is no folder takes the place of a folder, and the last entry of a name is the one that counts.
        if kind == EntryKind::Other {
            self.found.hidden.replace(&path);
            self.found.files.remove(&path);
            return Ok(false);
        }
        let Some(database) = Database::at(&path) else { return Ok(false) };
        match kind {
            EntryKind::Folder | EntryKind::Other => Ok(false),
            EntryKind::HardLink(target) => {
                let unread =
                    || Facts::Unread(format!("it is a link to {target}, which the layer has not shown"));
                let facts = self.found.files.get(&target).cloned().unwrap_or_else(unread);
                self.keep(path, facts).map(|()| false)
            }
            EntryKind::File if size > database.limit() && !database.is_read_in_part() => {
                let facts = Facts::Unread(format!("it has {size} bytes, more than {DATABASE_LIMIT}"));
                self.keep(path, facts).map(|()| false)
            }
            EntryKind::File => {
                self.open = Some((path, database, Vec::new()));
                Ok(true)
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, database, held)) = &mut self.open {
            let room = usize::try_from(database.limit()).unwrap_or(usize::MAX) - held.len();
            held.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.open.take() {
            Some((path, database, bytes)) => self.keep(path, database.read(&bytes)),
            None => Ok(()),
        }
    }
}
