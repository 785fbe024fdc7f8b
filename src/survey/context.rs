//! The files of a build context that its Dockerfile can read, and the state of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::diag::{Diagnostic, Place, Result};
use crate::dockerfile::{Ignore, Source};
use crate::family::{Build, JobId, Recipe};
use crate::oci::{Algorithm, Digest, Hasher, Platform};

use super::links::Links;
use super::memo::Memo;

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

/// Read the context of a recipe, on whose `triggered` platforms `ONBUILD` triggers may read anything.
///
/// # Errors
/// Where the folder or a file that counts cannot be read, or changes meanwhile.
pub(super) fn read(
    root: &Path,
    recipe: &Recipe,
    triggered: &BTreeSet<Platform>,
    memo: &Memo,
) -> Result<Context> {
    let folder = root.join(&recipe.context);
    let mut context = Context { ignore: ignore_text(root, recipe)?, ..Context::default() };
    let ignore = match &context.ignore {
        Some((file, text)) => Ignore::parse(file, text)?,
        None => Ignore::default(),
    };
    // The walk is made once for all platforms, and not at all where no build reads the context.
    let entries = match !triggered.is_empty() || recipe.platforms.values().any(reads_any) {
        true => entries(&folder, &recipe.context, &ignore)?,
        false => Vec::new(),
    };
    let mut states = BTreeMap::<&str, Option<String>>::new();
    context.warnings = absent(recipe, &entries);
    let sent: Vec<&Entry> = entries.iter().filter(|entry| !ignore.ignores(&entry.name)).collect();
    let links = Links::new(&folder, &recipe.context, sent.iter().copied());
    for (platform, build) in &recipe.platforms {
        let mut files = BTreeMap::new();
        let behind = links.behind(build.needs.sources.iter().flat_map(Source::patterns))?;
        // What triggers read is not known: it counts as everything.
        let all = triggered.contains(platform);
        let read = |entry: &&&Entry| all || reads(build, &entry.name) || behind.reaches(&entry.name);
        for entry in sent.iter().filter(read) {
            let state = match states.get(entry.key.as_str()) {
                Some(state) => state.clone(),
                None => {
                    let (file, shown) = (folder.join(&entry.path), recipe.context.join(&entry.path));
                    state_of(&file, &shown, &entry.metadata, memo)?
                }
            };
            if state.is_none() && !states.contains_key(entry.key.as_str()) {
                let warning = Diagnostic::warning("passed over: neither file, folder nor link");
                context.warnings.push(warning.at(Place::file(recipe.context.join(&entry.path))));
            }
            states.insert(&entry.key, state.clone());
            files.extend(state.map(|state| (entry.key.clone(), state)));
        }
        context.files.insert(recipe.unit.on(platform), files);
    }
    Ok(context)
}

/// Whether the instructions of a Dockerfile read anything of the context.
fn reads_any(build: &Build) -> bool {
    let of_context = |source: &Source| matches!(source, Source::Context(_));
    build.needs.sources.iter().any(of_context)
}

/// F-C15: paths that an instruction reads and that are not in the context, so that the build will fail.
fn absent(recipe: &Recipe, entries: &[Entry]) -> Vec<Diagnostic> {
    let mut warnings = Vec::<Diagnostic>::new();
    let reads = recipe.platforms.values().flat_map(|build| &build.needs.sources);
    let reads = reads.filter_map(|source| match source {
        Source::Context(sources) => Some(sources),
        Source::Remote(_) => None,
    });
    for sources in reads {
        for (written, pattern) in sources.written.iter().zip(&sources.patterns) {
            // Patterns may match nothing, and where a link leads to nowhere the engine says so.
            let sure =
                !written.contains(['*', '?', '[', '$']) && !written.trim_matches(['/', '.']).is_empty();
            let leads = |link: &str| written.trim_start_matches(['/', '.']).starts_with(link);
            let found = |entry: &Entry| {
                pattern.covers(&entry.name) || entry.metadata.is_symlink() && leads(&entry.name)
            };
            if sure && !entries.iter().any(found) {
                let shown =
                    if recipe.context.as_os_str().is_empty() { Path::new(".") } else { &recipe.context };
                let message = format!(
                    "`{written}` is not in the build context {}, or hidden from it by its ignore file",
                    shown.display()
                );
                let warning = Diagnostic::warning(message).at(sources.place.clone());
                let warning = warning.hint(format!("see what is there: ls -lA {}", shown.display()));
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
    }
    warnings
}

/// Whether the instructions of a Dockerfile can read a file.
fn reads(build: &Build, path: &str) -> bool {
    build.needs.sources.iter().any(|source| source.covers(path))
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

/// Something below the folder of a context.
pub(super) struct Entry {
    /// Its path there.
    pub(super) path: PathBuf,
    /// The path as text with `/` between the parts, as patterns see it.
    pub(super) name: String,
    /// The path as the key names it, by which no two paths look alike.
    key: String,
    /// Of itself, not of what a link leads to.
    pub(super) metadata: Metadata,
}

/// Everything below a folder that is not ignored as a whole, in order.
pub(super) fn entries(folder: &Path, shown: &Path, ignore: &Ignore) -> Result<Vec<Entry>> {
    let below = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_owned();
    let walk = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
    let mut found = Vec::new();
    for entry in walk.filter_entry(|entry| {
        !(entry.file_type().is_dir()
            && entry.depth() > 0
            && ignore.passes_over(&text_of(&below(entry.path()))))
    }) {
        let entry = entry.map_err(|error| {
            let path = error.path().map_or_else(PathBuf::new, below);
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
        let path = below(entry.path());
        let metadata = entry.metadata().map_err(|error| {
            Diagnostic::request("read a file of the build context")
                .at(Place::file(shown.join(&path)))
                .because(error)
        })?;
        let name = text_of(&path);
        // No path of a walk begins with `./`, so that this is free for those that are no UTF-8.
        let key = if path.to_str().is_some() { name.clone() } else { format!("./{name}") };
        found.push(Entry { path, name, key, metadata });
    }
    Ok(found)
}

/// A path as text; the bytes of one that is no UTF-8 stand as `\xNN`.
fn text_of(path: &Path) -> String {
    path.to_str().map_or_else(|| escaped(path), str::to_owned)
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Type, mode and content: what an image can see of it. Times and owners are not of it. None where it is
/// neither file, folder nor link.
pub(super) fn state_of(
    file: &Path,
    shown: &Path,
    metadata: &Metadata,
    memo: &Memo,
) -> Result<Option<String>> {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_symlink() {
        let target = std::fs::read_link(file).map_err(|error| unreadable(shown, &error))?;
        return Ok(Some(format!("link {}", escaped(&target))));
    }
    if metadata.is_dir() {
        return Ok(Some(format!("folder {mode:04o}")));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    if let Some(digest) = memo.recall(metadata) {
        return Ok(Some(format!("{mode:04o} {digest}")));
    }
    for _ in 0..2 {
        let (digest, stood) = hashed(file).map_err(|error| unreadable(shown, &error))?;
        if let Some(metadata) = stood {
            memo.remember(&metadata, &digest);
            return Ok(Some(format!("{mode:04o} {digest}")));
        }
    }
    let problem = "the build context changed while it was read";
    Err(Diagnostic::request(problem)
        .at(Place::file(shown))
        .hint("wait until nothing writes to it, and run the same command again")
        .into())
}

/// The digest of a file, and what is known of the file where it stood still meanwhile (F-D12).
fn hashed(path: &Path) -> std::io::Result<(Digest, Option<Metadata>)> {
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
    let stood = state(&before) == state(&after) && read == after.len();
    Ok((hasher.finish(), stood.then_some(after)))
}

pub(super) fn unreadable(shown: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::request("read a file of the build context").at(Place::file(shown)).because(error)
}
