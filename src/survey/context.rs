//! The files of a build context that its Dockerfile can read, and the state of each.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::diag::{Diagnostic, Place, Result};
use crate::dockerfile::Ignore;
use crate::family::{Build, JobId, Recipe};
use crate::oci::{Algorithm, Hasher};

/// How many files of one context are looked at before it is called a mistake.
const FILES_LIMIT: usize = 1_000_000;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 1 << 16;

/// What a context holds for the jobs of one recipe.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// For each job the files that its build can read.
    pub(super) files: BTreeMap<JobId, BTreeMap<String, String>>,
    /// The ignore file that counts.
    pub(super) ignore: Option<(PathBuf, String)>,
    /// Things passed over.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Read the context of a recipe.
///
/// # Errors
/// Where the folder or a file that counts cannot be read, or changes meanwhile.
pub(super) fn read(root: &Path, recipe: &Recipe) -> Result<Context> {
    let folder = root.join(&recipe.context);
    let mut context = Context { ignore: ignore_text(root, recipe)?, ..Context::default() };
    let ignore = match &context.ignore {
        Some((file, text)) => Ignore::parse(file, text)?,
        None => Ignore::default(),
    };
    let mut states = BTreeMap::<String, String>::new();
    let entries = entries(&folder, &recipe.context, &ignore)?;
    for (platform, build) in &recipe.platforms {
        let mut files = BTreeMap::new();
        for (path, metadata) in &entries {
            if metadata.is_dir() || !reads(build, path) || ignore.ignores(path) {
                continue;
            }
            let kind = metadata.file_type();
            if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
                if !states.contains_key(path) {
                    let shown = recipe.context.join(path);
                    let warning = Diagnostic::warning("passed over: neither file, folder nor link");
                    context.warnings.push(warning.at(Place::file(shown)));
                    states.insert(path.clone(), String::new());
                }
                continue;
            }
            let state = match states.get(path) {
                Some(state) => state.clone(),
                None => state_of(&folder.join(path), &recipe.context.join(path), metadata)?,
            };
            states.insert(path.clone(), state.clone());
            files.insert(path.clone(), state);
        }
        context.files.insert(recipe.unit.on(platform), files);
    }
    Ok(context)
}

/// Whether a build can read a file. What the triggers of a parent read is not known: it counts as everything.
fn reads(build: &Build, path: &str) -> bool {
    !build.triggers.is_empty() || build.needs.sources.iter().any(|source| source.covers(path))
}

/// The text of `<Dockerfile>.dockerignore`, else of the context's `.dockerignore`.
fn ignore_text(root: &Path, recipe: &Recipe) -> Result<Option<(PathBuf, String)>> {
    let mut own = recipe.dockerfile.clone().into_os_string();
    own.push(".dockerignore");
    for file in [PathBuf::from(own), recipe.context.join(".dockerignore")] {
        match std::fs::read(root.join(&file)) {
            Ok(bytes) => return Ok(Some((file, String::from_utf8_lossy(&bytes).into_owned()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&file, &error).into()),
        }
    }
    Ok(None)
}

/// Everything below a folder, by its path with `/` between the parts, in order.
fn entries(folder: &Path, shown: &Path, ignore: &Ignore) -> Result<Vec<(String, Metadata)>> {
    let mut found = Vec::new();
    let seen = |entry: &DirEntry| {
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        entry.depth() == 0 || !entry.file_type().is_dir() || !ignore.passes_over(&text_of(path))
    };
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().filter_entry(seen) {
        let entry = entry.map_err(|error| {
            let path = error.path().and_then(|path| path.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
            Diagnostic::request("read a file of the build context")
                .at(Place::file(shown.join(path)))
                .because(error)
        })?;
        if found.len() == FILES_LIMIT {
            let problem = format!("the build context has more than {FILES_LIMIT} files");
            return Err(Diagnostic::request(problem)
                .at(Place::file(shown))
                .hint("leave out what the build does not read, by a .dockerignore")
                .into());
        }
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_owned();
        let metadata = entry.metadata().map_err(|error| {
            Diagnostic::request("read a file of the build context")
                .at(Place::file(shown.join(&path)))
                .because(error)
        })?;
        found.push((text_of(&path), metadata));
    }
    Ok(found)
}

/// A path as text; bytes that are no UTF-8 stand as `\xNN`, so that two paths never look alike.
fn text_of(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path.as_os_str().as_bytes().escape_ascii().to_string(),
    }
}

/// Type, mode and content: what an image can see of a file. Times and owners are not of it.
fn state_of(file: &Path, shown: &Path, metadata: &Metadata) -> Result<String> {
    if metadata.is_symlink() {
        let target = std::fs::read_link(file).map_err(|error| unreadable(shown, &error))?;
        return Ok(format!("link {}", text_of(&target)));
    }
    for _ in 0..2 {
        let (digest, stands) = hashed(file).map_err(|error| unreadable(shown, &error))?;
        if stands {
            return Ok(format!("{:04o} {digest}", metadata.permissions().mode() & 0o7777));
        }
    }
    let problem = "the build context changed while it was read";
    Err(Diagnostic::request(problem)
        .at(Place::file(shown))
        .hint("wait until nothing writes to it, and run the same command again")
        .into())
}

/// The digest of a file, and whether the file stood still meanwhile (F-D12).
fn hashed(path: &Path) -> std::io::Result<(crate::oci::Digest, bool)> {
    let mut file = std::fs::File::open(path)?;
    let before = file.metadata()?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; PIECE];
    let mut read = 0;
    loop {
        match file.read(&mut piece)? {
            0 => break,
            bytes => {
                read += bytes as u64;
                hasher.update(&piece[..bytes]);
            }
        }
    }
    let after = file.metadata()?;
    let state = |metadata: &Metadata| {
        (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    Ok((hasher.finish(), state(&before) == state(&after) && read == after.len()))
}

fn unreadable(shown: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::request("read a file of the build context").at(Place::file(shown)).because(error)
}
