//! The index of a folder of exports, `exports.json`: which platform's image is in which file, under every name that a
//! platform goes by.
//!
//! | field | what |
//! |---|---|
//! | `image`, `variant`, `tag`, `format`, `compression` | what an element of `exports` is about |
//! | `urls` | every alias of every platform, and its file, relative to the index |
//! | `url` | the file of linux/amd64, for readers of before there were others |
//! | `files` | by name: `platforms`, `sha256` in hex, `size` in bytes, `references` inside, `digests` of the images |

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::folder::Staged;
use crate::oci::{Digest, Platform};

/// The version of the format.
const VERSION: u32 = 1;
/// The platform of `url`.
const FIRST: &str = "linux/amd64";

/// An index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    exports: Vec<Export>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, exports: Vec::new() }
    }
}

/// One image, on as many platforms as were exported in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Export {
    #[serde(flatten)]
    about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    urls: BTreeMap<String, String>,
    files: BTreeMap<String, FileEntry>,
}

/// What an element is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct About {
    image: String,
    variant: Option<String>,
    tag: String,
    format: String,
    compression: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    platforms: Vec<Platform>,
    sha256: String,
    size: u64,
    references: Vec<String>,
    /// By platform.
    digests: BTreeMap<String, Digest>,
    /// A digest of all that its bytes depend on.
    made_of: Digest,
}

impl Index {
    /// Read one.
    ///
    /// # Errors
    /// With the reason, where it is none or of another version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Stamp {
            version: u32,
        }
        let stamp: Stamp = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match stamp.version {
            VERSION => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            other => Err(format!("it has version {other}, and this polyarch writes version {VERSION}")),
        }
    }

    /// The text of it.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Digest and size of a file that was made of the same.
    pub(super) fn known(&self, name: &str, made_of: &Digest) -> Option<(Digest, u64)> {
        let file = self.exports.iter().find_map(|export| export.files.get(name))?;
        let sha256 = format!("sha256:{}", file.sha256).parse().ok()?;
        (file.made_of == *made_of).then_some((sha256, file.size))
    }

    /// The index of these files, and of those of an older index that stand beside them.
    pub(super) fn of(staged: &[Staged], old: &Self, stands: impl Fn(&str, u64) -> bool) -> Self {
        let mut all: Vec<(About, String, FileEntry)> = staged.iter().map(element).collect();
        let new = |name: &str| staged.iter().any(|file| file.archive.name == name);
        for export in &old.exports {
            for (name, file) in &export.files {
                if !new(name) && stands(name, file.size) {
                    all.push((export.about.clone(), name.clone(), file.clone()));
                }
            }
        }
        all.sort_by(|left, right| (&left.0, &left.1).cmp(&(&right.0, &right.1)));
        let mut exports: Vec<Export> = Vec::new();
        for (about, name, file) in all {
            // Two files of one platform cannot stand under one name of it.
            let fits = |export: &&mut Export| {
                let held = |platform| export.files.values().any(|other| other.platforms.contains(platform));
                export.about == about && !file.platforms.iter().any(held)
            };
            match exports.iter_mut().find(fits) {
                Some(export) => export.add(name, file),
                None => {
                    let mut export =
                        Export { about, url: None, urls: BTreeMap::new(), files: BTreeMap::new() };
                    export.add(name, file);
                    exports.push(export);
                }
            }
        }
        Self { version: VERSION, exports }
    }
}

impl Export {
    fn add(&mut self, name: String, file: FileEntry) {
        for platform in &file.platforms {
            self.urls.extend(platform.aliases().into_iter().map(|alias| (alias, name.clone())));
            if platform.to_string() == FIRST {
                self.url = Some(name.clone());
            }
        }
        self.files.insert(name, file);
    }
}

fn element(staged: &Staged) -> (About, String, FileEntry) {
    let archive = &staged.archive;
    let about = About {
        image: archive.unit.image.to_string(),
        variant: archive.unit.variant.as_ref().map(ToString::to_string),
        tag: archive.tag.to_string(),
        format: archive.format.name().to_owned(),
        compression: archive.compression.name().to_owned(),
    };
    let images = archive.images.iter();
    let file = FileEntry {
        platforms: archive.images.keys().cloned().collect(),
        sha256: staged.sha256.hex().to_owned(),
        size: staged.size,
        references: archive.references.clone(),
        digests: images
            .map(|(platform, image)| (platform.to_string(), image.manifest.digest.clone()))
            .collect(),
        made_of: archive.made_of(),
    };
    (about, archive.name.clone(), file)
}
