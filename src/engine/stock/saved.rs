//! Take in an image that an engine has saved: an archive of `docker save`, whose layers are not compressed.
//!
//! What the image stands on keeps the descriptors that it has in the store, wherever a layer holds the same files;
//! such a layer is not even read. The others are compressed here, always in the same way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use super::Stock;
use crate::diag::Diagnostic;
use crate::engine::{BuildOrder, Built};
use crate::oci::{
    Algorithm, Descriptor, Digest, Document, Error, ErrorKind, Hasher, ImageConfiguration, Manifest,
    Measured, MediaType, Repository,
};

/// How many links lead to a file of an archive at most.
const LINKS: usize = 8;
/// A layer is compressed in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The descriptor of each layer of the images that a build stands on, by what it holds.
type Known = BTreeMap<String, Descriptor>;

/// One entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

/// A layer of the new image.
enum Layer {
    /// The store has it.
    Known(Descriptor),
    /// It stands in a file, compressed.
    Packed(Descriptor, PathBuf),
}

impl Stock {
    /// Take an image that an engine has built and saved into the store, under the tag of the order.
    ///
    /// # Errors
    /// Where the archive has not the image of that configuration, a layer is not what the configuration says, or disk or
    /// store fails.
    pub(in crate::engine) async fn take_saved(
        &self,
        order: &BuildOrder,
        archive: &Path,
        config: &Digest,
    ) -> Result<Built, Diagnostic> {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("take in what the engine saved of {}", order.title))
                .caused_by(&error)
                .hint("look at the engine: polyarch doctor")
        };
        let scope = &order.store.repository;
        let known = self.known(order).await.map_err(failed)?;
        let (file, image, folder) = (archive.to_owned(), config.clone(), order.scratch.clone());
        let reading = tokio::task::spawn_blocking(move || unpack(&file, &image, &known, &folder));
        let read = reading.await.map_err(|error| Error::io("read the archive", io::Error::other(error)));
        let (text, layers) = read.and_then(|read| read).map_err(failed)?;
        let config = Descriptor::new(MediaType::CONFIG, config.clone(), text.len() as u64);
        let keeping = async {
            self.store.write_blob(scope, text.into()).await?;
            let mut descriptors = Vec::new();
            for layer in layers {
                descriptors.push(self.keep(scope, layer).await?);
            }
            let document = Document::of_manifest(&Manifest::new(config.clone(), descriptors));
            self.store.write_document(scope, &document, std::slice::from_ref(&order.tag)).await
        };
        keeping.await.map_err(failed)?;
        Ok(Built { config: config.digest })
    }

    /// The layers of all that a build stands on or copies from.
    async fn known(&self, order: &BuildOrder) -> Result<Known, Error> {
        let scope = &order.store.repository;
        let mut known = Known::new();
        for image in &order.images {
            let manifest = self.store.read_document(scope, &image.clone().into()).await?.manifest()?;
            let configuration = ImageConfiguration::read(&*self.store, scope, &manifest.config).await?;
            let layers = configuration.layers().map(str::to_owned).zip(manifest.layers);
            known.extend(layers);
        }
        Ok(known)
    }

    async fn keep(&self, scope: &Repository, layer: Layer) -> Result<Descriptor, Error> {
        match layer {
            Layer::Known(layer) => Ok(layer),
            Layer::Packed(layer, file) => {
                self.take_file(scope, &file, &layer).await?;
                // What cannot be removed goes with the build.
                let _ = std::fs::remove_file(file);
                Ok(layer)
            }
        }
    }
}

/// The configuration's bytes, and the layers.
fn unpack(
    file: &Path,
    config: &Digest,
    known: &Known,
    folder: &Path,
) -> Result<(Vec<u8>, Vec<Layer>), Error> {
    let invalid = |what: String| Error::new(ErrorKind::Invalid, what);
    let mut archive = Archive::open(file).map_err(|error| Error::io("read the archive", error))?;
    let listed = archive.text("manifest.json", Document::BYTES_LIMIT as u64)?;
    let listed: Vec<Listed> = serde_json::from_slice(&listed)
        .map_err(|error| invalid("read manifest.json of the archive".to_owned()).because(error))?;
    let [image] = listed.as_slice() else {
        return Err(invalid(format!(
            "the archive has {} where one was asked for",
            crate::diag::count(listed.len(), "image")
        )));
    };
    let text = archive.text(&image.config, ImageConfiguration::BYTES_LIMIT)?;
    if Digest::of(&text) != *config {
        let what = format!("the archive has configuration {} and not {config}", Digest::of(&text));
        return Err(Error::new(ErrorKind::Mismatch, what));
    }
    let configuration: ImageConfiguration = serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("read image configuration {config}")).because(error))?;
    let contents: Vec<&str> = configuration.layers().collect();
    if contents.len() != image.layers.len() {
        let (said, found) = (contents.len(), image.layers.len());
        return Err(invalid(format!("configuration {config} has {said} layers, and the archive {found}")));
    }
    let mut layers = Vec::new();
    for (number, (content, path)) in contents.into_iter().zip(&image.layers).enumerate() {
        layers.push(match known.get(content) {
            Some(layer) => Layer::Known(layer.clone()),
            None => {
                let content: Digest = content.parse()?;
                archive.pack(path, &content, folder.join(format!("layer-{number}")))?
            }
        });
    }
    Ok((text, layers))
}

/// A file of an archive, by where its bytes stand in it.
#[derive(Clone, Debug)]
enum Entry {
    Bytes { begin: u64, size: u64 },
    Link(PathBuf),
}

/// An archive whose files are read in any order.
struct Archive {
    file: BufReader<File>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Archive {
    fn open(path: &Path) -> io::Result<Self> {
        let mut archive = tar::Archive::new(BufReader::new(File::open(path)?));
        let mut entries = BTreeMap::new();
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            let target = entry.link_name()?.map(|target| target.into_owned());
            let found = match (entry.header().entry_type(), target) {
                (kind, Some(target)) if kind.is_symlink() => {
                    Entry::Link(path.parent().unwrap_or(Path::new("")).join(target))
                }
                (kind, Some(target)) if kind.is_hard_link() => Entry::Link(target),
                (kind, _) if kind.is_file() => {
                    Entry::Bytes { begin: entry.raw_file_position(), size: entry.size() }
                }
                _ => continue,
            };
            entries.insert(plain(&path), found);
        }
        Ok(Self { file: BufReader::new(File::open(path)?), entries })
    }

    /// The bytes of a file, behind links.
    fn read(&mut self, path: &str) -> Result<io::Take<&mut BufReader<File>>, Error> {
        let mut at = plain(Path::new(path));
        for _ in 0..LINKS {
            match self.entries.get(&at) {
                Some(Entry::Link(target)) => at = plain(target),
                Some(Entry::Bytes { begin, size }) => {
                    let sought = self.file.seek(SeekFrom::Start(*begin));
                    sought.map_err(|error| Error::io(format!("read {path} of the archive"), error))?;
                    return Ok(Read::by_ref(&mut self.file).take(*size));
                }
                None => break,
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("the archive has no file {path}")))
    }

    /// A small file.
    fn text(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let reader = self.read(path)?;
        if reader.limit() > limit {
            return Err(Error::new(ErrorKind::TooLarge, format!("{path} has more than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        let read = { reader }.read_to_end(&mut bytes);
        read.map_err(|error| Error::io(format!("read {path} of the archive"), error))?;
        Ok(bytes)
    }

    /// Compress a layer into a file, if it holds what it should.
    fn pack(&mut self, path: &str, content: &Digest, to: PathBuf) -> Result<Layer, Error> {
        let reader = self.read(path)?;
        let failed = |error| Error::io(format!("compress {path} of the archive"), error);
        let (found, packed, size) = compress(reader, content.algorithm(), &to).map_err(failed)?;
        if found != *content {
            let what = format!("layer {path} holds {found} and not {content}");
            return Err(Error::new(ErrorKind::Mismatch, what));
        }
        Ok(Layer::Packed(Descriptor::new(MediaType::LAYER_GZIP, packed, size), to))
    }
}

/// The digest of what was read, and digest and size of the file that it was compressed into.
fn compress(mut reader: impl Read, algorithm: Algorithm, to: &Path) -> io::Result<(Digest, Digest, u64)> {
    let out = Measured::new(BufWriter::new(File::create(to)?));
    let mut gzip = GzEncoder::new(out, Compression::default());
    let mut content = Hasher::new(algorithm);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match reader.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        content.update(&piece[..read]);
        io::Write::write_all(&mut gzip, &piece[..read])?;
    }
    let (out, packed, size) = gzip.finish()?.finish();
    out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((content.finish(), packed, size))
}

/// A path without `.` and, as far as there is something to leave, without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
        plain
    })
}
