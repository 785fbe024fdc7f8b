//! Read all content and see whether it still has its digests; what has not is set aside (F-S1).

use std::fs::{self, File};
use std::io::{ErrorKind as Io, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::folders::{self, Folders};
use super::keep;
use super::shelf::file_name;
use crate::oci::{Algorithm, Digest, Error, Hasher};

const PIECE_BYTES: usize = 1 << 20;

/// What was found by reading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many files were read.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The content that was broken and lies in `quarantine/` now, as if it had never been there.
    pub broken: Vec<Digest>,
    /// Names among the content that are no digests, and are not ours.
    pub foreign: Vec<String>,
}

/// Read all content.
pub(super) fn scrub(folders: &Folders) -> Result<Scrubbed, Error> {
    folders.writable()?;
    let mut scrubbed = Scrubbed::default();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let folder = folders.blobs(algorithm);
        if !folders.is_there(&folder)? {
            continue;
        }
        for name in folders::names(&folder)? {
            match format!("{}:{name}", algorithm.name()).parse::<Digest>() {
                Ok(digest) => look(folders, digest, &mut scrubbed)?,
                Err(_) => scrubbed.foreign.push(format!("{}/{name}", algorithm.name())),
            }
        }
    }
    Ok(scrubbed)
}

fn look(folders: &Folders, digest: Digest, scrubbed: &mut Scrubbed) -> Result<(), Error> {
    let path = folders.blob(&digest);
    // Removed since it was listed.
    let Some(mut file) = folders::open(&path)? else { return Ok(()) };
    let (found, bytes) = hash(&mut file, digest.algorithm())
        .map_err(|error| Error::io(format!("read `{}`", path.display()), error))?;
    scrubbed.files += 1;
    scrubbed.bytes += bytes;
    if found != digest && set_aside(folders, &digest, &file)? {
        scrubbed.broken.push(digest);
    }
    Ok(())
}

fn hash(file: &mut File, algorithm: Algorithm) -> std::io::Result<(Digest, u64)> {
    let (mut hasher, mut piece, mut bytes) = (Hasher::new(algorithm), vec![0; PIECE_BYTES], 0);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((hasher.finish(), bytes)),
            Ok(count) => {
                hasher.update(&piece[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == Io::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Move content whose bytes are broken out of the way, unless whole content took its place meanwhile. It is then
/// absent: whoever has it can push it again.
pub(super) fn set_aside(folders: &Folders, digest: &Digest, broken: &File) -> Result<bool, Error> {
    folders.writable()?;
    let folder = folders.quarantine();
    folders.ensure(&folder)?;
    let path = folders.blob(digest);
    let _alone = keep::alone(folders)?;
    if !is_same(&path, broken)? {
        return Ok(false);
    }
    folders.rename(&path, &folder.join(file_name(digest)))?;
    folders.sync_folder(&folder)?;
    folders.sync_folder(path.parent().unwrap_or(&path))?;
    Ok(true)
}

fn is_same(path: &Path, open: &File) -> Result<bool, Error> {
    let failed = |error| Error::io(format!("look at `{}`", path.display()), error);
    let open = open.metadata().map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
