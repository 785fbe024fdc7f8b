//! A folder of Dockerfiles, read into a family.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use walkdir::WalkDir;

use crate::config::{self, BuilderSetting, CiSettings, FamilyFile, LimitSetting, SignSettings, StorePlace};
use crate::diag::{Diagnostic, Place, Result, Severity};
use crate::dockerfile::Dockerfile;
use crate::family::discover::{is_dockerfile, named_dockerfiles};
use crate::family::{Family, Found, JobId, Sources};
use crate::oci::{Digest, Platform};

use super::Context;

/// How deep folders are searched for Dockerfiles.
const DEPTH_LIMIT: usize = 16;
/// How large a Dockerfile may be, in bytes.
const DOCKERFILE_BYTES_LIMIT: u64 = 4 << 20;
/// The configuration file's usual name.
const CONFIGURATION: &str = "polyarch.toml";

/// A family, and the folder that it stands in.
pub(super) struct Workspace {
    /// The folder, absolute.
    pub(super) root: PathBuf,
    /// The family.
    pub(super) family: Family,
    /// The store that the configuration names.
    pub(super) store: Option<StorePlace>,
    /// The builders that the configuration names.
    pub(super) builders: BTreeMap<String, BuilderSetting>,
    /// How what is published is signed.
    pub(super) sign: SignSettings,
    /// What the pipelines of CI services are made of.
    pub(super) ci: CiSettings,
    /// The files that the family was read from, relative to the folder, and what stood in them.
    read: BTreeMap<PathBuf, Digest>,
    /// Its warnings were told.
    told: AtomicBool,
}

/// What a family is read for: a release, and build arguments.
type For = (Option<String>, BTreeMap<String, String>);

/// The families that a command has read: what one part of the command has read counts for all others.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<For, Arc<Workspace>>>);

impl Workspace {
    /// Read the family of the folder that the command line names.
    ///
    /// # Errors
    /// Where a file cannot be read or the family does not hold together; independent problems together.
    pub(super) fn read(context: &Context, arguments: &BTreeMap<String, String>) -> Result<Arc<Self>> {
        let workspace = Self::read_quietly(context, arguments)?;
        if workspace.told.swap(true, Ordering::Relaxed) {
            return Ok(workspace);
        }
        let wanted = |one: &&Diagnostic| !context.common.quiet || one.severity != Severity::Advice;
        for warning in workspace.family.warnings.iter().filter(wanted) {
            context.ui.warning(warning);
        }
        Ok(workspace)
    }

    /// The same, and its warnings are not told.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_quietly(context: &Context, arguments: &BTreeMap<String, String>) -> Result<Arc<Self>> {
        let key: For = (context.common.release.as_ref().map(ToString::to_string), arguments.clone());
        // Whoever held it has only put something in.
        let mut known = context.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = known.get(&key) {
            return Ok(workspace.clone());
        }
        let workspace = Arc::new(Self::read_anew(context, arguments)?);
        known.insert(key, workspace.clone());
        Ok(workspace)
    }

    fn read_anew(context: &Context, arguments: &BTreeMap<String, String>) -> Result<Self> {
        let root = root(&context.common.directory)?;
        let file = configuration(context, &root)?;
        let dockerfiles = dockerfiles(&root, file.as_ref())?;
        let read = dockerfiles.iter().map(|found| &found.path);
        let read = read.chain(file.as_ref().map(|file| &file.source.file)).cloned();
        let read = read.filter_map(|path| Some((path.clone(), digest(&root, &path)?))).collect();
        let store = file.as_ref().and_then(|file| file.store.as_ref()).map(|store| match &store.value {
            StorePlace::Folder(folder) => StorePlace::Folder(root.join(folder)),
            registry => registry.clone(),
        });
        let name =
            root.file_name().map_or_else(|| "family".to_owned(), |name| name.to_string_lossy().into_owned());
        let args = arguments.clone();
        let release = context.common.release.clone();
        let machine = machine()?;
        let sources = Sources { name, file, dockerfiles, args, root_image: None, release, machine };
        let family = Family::resolve(&sources)?;
        let (builders, sign, ci) =
            sources.file.map(|file| (file.builder, file.sign, file.ci)).unwrap_or_default();
        Ok(Self { root, family, store, builders, sign, ci, read, told: AtomicBool::new(false) })
    }

    /// The files that the family was read from, and what stood in them.
    pub(super) fn files(&self) -> &BTreeMap<PathBuf, Digest> {
        &self.read
    }

    /// The files of the family that are not what they were when they were read: F-C19. What was read counts.
    pub(super) fn changed(&self) -> Vec<Diagnostic> {
        let changed =
            self.read.iter().filter(|(path, before)| digest(&self.root, path).as_ref() != Some(*before));
        let told = changed.map(|(path, _)| {
            Diagnostic::warning(
                "the file changed while the run went on, which keeps to what it read at its start",
            )
            .at(Place::file(path))
            .hint("build what stands there now: polyarch build")
        });
        told.collect()
    }

    /// The jobs that names on the command line mean: `image`, `image:variant`, `image@platform`, `+image`.
    ///
    /// # Errors
    /// For each name that means nothing here.
    pub(super) fn select(&self, names: &[String], platforms: &[Platform]) -> Result<BTreeSet<JobId>> {
        select(&self.family, names, platforms)
    }
}

/// What registries may be asked: by the command line, else by the configuration, whose family need not hold together.
///
/// # Errors
/// Where there is a configuration that cannot be read.
pub(super) fn limits(context: &Context) -> Result<BTreeMap<String, LimitSetting>> {
    let file = configuration(context, &root(&context.common.directory)?)?;
    let mut limits = file.map(|file| file.limits).unwrap_or_default();
    // The last word counts: backwards, the first that is found.
    let mut said: BTreeMap<&String, LimitSetting> = BTreeMap::new();
    for (registry, limit) in context.common.limit.iter().rev() {
        let before = said.entry(registry).or_default();
        *before = before.or(*limit);
    }
    for (registry, limit) in said {
        let written = limits.entry(registry.clone()).or_default();
        *written = limit.or(*written);
    }
    Ok(limits)
}

/// How many jobs are named to somebody who has chosen none.
const OTHERS_TOLD: usize = 4;

fn select(family: &Family, names: &[String], platforms: &[Platform]) -> Result<BTreeSet<JobId>> {
    let mut problems = Vec::new();
    let known = family.platforms();
    for platform in platforms.iter().filter(|platform| !known.contains(platform)) {
        let all = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        problems.push(
            Diagnostic::request(format!("no image here is for {platform}")).hint(format!("choose of {all}")),
        );
    }
    let wanted = |job: &JobId| platforms.is_empty() || platforms.contains(&job.platform);
    let mut jobs = BTreeSet::new();
    for name in names {
        match named(family, name) {
            Ok(found) => jobs.extend(found.into_iter().filter(|job| wanted(job))),
            Err(problem) => problems.push(problem),
        }
    }
    if names.is_empty() && !platforms.is_empty() {
        jobs.extend(family.jobs().filter(|job| wanted(job)));
    }
    // No job at all would mean every one.
    if !names.is_empty() && jobs.is_empty() && problems.is_empty() {
        let of = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        let meant: BTreeSet<JobId> =
            names.iter().filter_map(|name| named(family, name).ok()).flatten().collect();
        let others: Vec<String> = meant.iter().take(OTHERS_TOLD).map(ToString::to_string).collect();
        problems.push(
            Diagnostic::request(format!("nothing is chosen: {} is not for {of}", names.join(" "))).hint(
                format!("name it with a platform that it is for, and choose no other: {}", others.join(" ")),
            ),
        );
    }
    crate::diag::Problems::check(problems)?;
    Ok(jobs)
}

/// The jobs that one name means.
fn named(family: &Family, name: &str) -> Result<Vec<JobId>, Diagnostic> {
    let (with_descendants, plain) = name.strip_prefix('+').map_or((false, name), |plain| (true, plain));
    let (plain, platform) = match plain.split_once('@') {
        Some((plain, platform)) => {
            let platform: Platform = platform
                .parse()
                .map_err(|error| Diagnostic::request(format!("read `{name}`")).caused_by(&error))?;
            (plain, Some(platform))
        }
        None => (plain, None),
    };
    // Files of exports call an image without a variant so.
    let of_default = plain.strip_suffix(":default");
    let is_default =
        |unit: &&crate::family::Unit| unit.variant.is_none() && of_default == Some(unit.image.as_str());
    let exact = |unit: &&crate::family::Unit| unit.to_string() == plain || is_default(unit);
    let of_image = |unit: &&crate::family::Unit| unit.image.as_str() == plain;
    let units: Vec<_> = family.recipes().map(|recipe| &recipe.unit).collect();
    // An image means its variants too: they are published together.
    let mut found: Vec<_> = match plain.contains(':') {
        true => units.iter().copied().filter(|unit| exact(unit)).collect(),
        false => units.iter().copied().filter(|unit| of_image(unit)).collect(),
    };
    if let Some(mirror) = family.mirrors.values().find(|mirror| mirror.unit.to_string() == plain) {
        let problem = Diagnostic::request(format!("`{plain}` is a mirror, and nothing of it is built"));
        return Err(problem
            .hint("publish it with the family: polyarch publish")
            .hint(format!("copy it alone: polyarch mirror {} REGISTRY/NAME", mirror.source)));
    }
    if found.is_empty() {
        let names: Vec<String> = units.iter().map(ToString::to_string).collect();
        let problem = Diagnostic::request(format!("there is no image `{plain}` here"));
        let near = crate::diag::did_you_mean(plain, names.iter().map(String::as_str));
        return Err(problem.hint(near.unwrap_or_else(|| "see what there is: polyarch plan".to_owned())));
    }
    if with_descendants {
        found = found.into_iter().flat_map(|unit| family.with_descendants(unit)).collect();
    }
    let jobs: Vec<JobId> = found
        .into_iter()
        .filter_map(|unit| family.recipe(unit))
        .flat_map(|recipe| recipe.platforms.keys().map(|platform| recipe.unit.on(platform)))
        .filter(|job| platform.as_ref().is_none_or(|platform| job.platform == *platform))
        .collect();
    match (jobs.is_empty(), platform) {
        (true, Some(platform)) => Err(Diagnostic::request(format!("`{plain}` is not built for {platform}"))
            .hint("see what there is: polyarch plan")),
        _ => Ok(jobs),
    }
}

/// The digest of a file that was read whole before, and so is bounded.
fn digest(root: &Path, path: &Path) -> Option<Digest> {
    let limit = DOCKERFILE_BYTES_LIMIT.max(config::BYTES_LIMIT);
    read_bounded(&root.join(path), path, limit).ok().map(|bytes| Digest::of(&bytes))
}

fn root(directory: &Path) -> Result<PathBuf> {
    let problem = |why: String| {
        Diagnostic::request(format!("open the folder {}", directory.display()))
            .because(why)
            .hint("name the folder of the family: polyarch -C DIR plan")
    };
    let root = directory.canonicalize().map_err(|error| problem(error.to_string()))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(problem("it is no folder".to_owned()).into()),
    }
}

fn configuration(context: &Context, root: &Path) -> Result<Option<FamilyFile>> {
    let (path, asked) = match &context.common.config {
        Some(path) => (path.clone(), true),
        None => (root.join(CONFIGURATION), false),
    };
    // A name given on the command line counts from where one stands, or else from the family's folder.
    let path = if asked && !path.exists() && root.join(&path).exists() { root.join(&path) } else { path };
    let shown = path.strip_prefix(root).unwrap_or(&path).to_owned();
    if !asked && std::fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    let bytes = read_bounded(&path, &shown, config::BYTES_LIMIT)?;
    let text = Dockerfile::read_bytes(&shown, &bytes)?;
    FamilyFile::parse(&shown, &text).map(Some)
}

fn dockerfiles(root: &Path, file: Option<&FamilyFile>) -> Result<Vec<Found>> {
    let mut paths = Vec::new();
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    for entry in
        WalkDir::new(root).max_depth(DEPTH_LIMIT).sort_by_file_name().into_iter().filter_entry(visible)
    {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error
                    .path()
                    .and_then(|path| path.strip_prefix(root).ok())
                    .unwrap_or(Path::new("."))
                    .to_owned();
                problems
                    .push(Diagnostic::request("look for Dockerfiles").at(Place::file(path)).because(error));
                continue;
            }
        };
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
        if !entry.file_type().is_dir() {
            paths.push(path);
        }
    }
    let named = file.map(|file| named_dockerfiles(file, &paths)).unwrap_or_default();
    // Those in hidden folders were passed over; one that is not there is told of with the image that wants it.
    let passed_over = named.iter().filter(|path| !paths.contains(path) && root.join(path).is_file());
    paths.extend(passed_over.cloned().collect::<Vec<_>>());
    for path in paths {
        if !is_dockerfile(&path) && !named.contains(&path) {
            continue;
        }
        let text = read_bounded(&root.join(&path), &path, DOCKERFILE_BYTES_LIMIT)
            .and_then(|bytes| Dockerfile::read_bytes(&path, &bytes));
        match text {
            Ok(text) => found.push(Found { path, text }),
            Err(more) => problems.extend(more.iter().cloned()),
        }
    }
    crate::diag::Problems::check(problems)?;
    Ok(found)
}

/// The bytes of an ordinary file, which must not be larger than a limit: F-C1, F-C3.
fn read_bounded(path: &Path, shown: &Path, limit: u64) -> Result<Vec<u8>> {
    let problem = |why: String| {
        let problem =
            Diagnostic::request(format!("read {}", shown.display())).at(Place::file(shown)).because(why);
        problem.hint(format!("see what is there: ls -lL {}", shown.display()))
    };
    let metadata = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "no ordinary file" };
        return Err(problem(format!("it is {what}")).into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| problem(error.to_string()))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| problem(error.to_string()))?;
    match bytes.len() as u64 > limit {
        true => Err(problem(format!("it has more than {limit} bytes")).into()),
        false => Ok(bytes),
    }
}

/// The platform of this machine, as OCI names it.
fn machine() -> Result<Platform> {
    let text = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let text = text.replace("macos", "linux");
    text.parse().map_err(|error: crate::oci::Error| {
        Diagnostic::surroundings("name this machine's platform").caused_by(&error).into()
    })
}
