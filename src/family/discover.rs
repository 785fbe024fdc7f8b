//! Find images in a list of Dockerfiles: a folder is an image, a folder below it a variant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{FamilyFile, Glob, Inside};
use crate::diag::{Diagnostic, Place};

/// A Dockerfile that was found, or that the configuration names.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its path, relative to the family's folder.
    pub(crate) path: PathBuf,
    /// What stands in it.
    pub(crate) text: String,
}

/// Whether a path, relative to the family's folder, is a Dockerfile that makes its folder an image: named exactly
/// so, and in no hidden folder.
pub(crate) fn is_dockerfile(path: &Path) -> bool {
    let hidden = |part: &std::ffi::OsStr| part.to_string_lossy().starts_with('.');
    path.file_name().is_some_and(|name| name == "Dockerfile") && !path.iter().any(hidden)
}

/// The Dockerfiles that a configuration names: they are to be read as well, whatever they are called. Of `found`, all
/// that may be meant; and those in folders that it names, which may be hidden or not be there at all.
pub(crate) fn named_dockerfiles(file: &FamilyFile, found: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut named = BTreeSet::new();
    for setting in file.image.values() {
        for one in std::iter::once(setting).chain(setting.variants.values()) {
            let Some(dockerfile) = given(one.dockerfile.as_ref().or(setting.dockerfile.as_ref())) else {
                continue;
            };
            named.extend(found.iter().filter(|path| path.ends_with(&dockerfile)).cloned());
            let folder = given(one.folder.as_ref().or(setting.folder.as_ref()));
            named.extend(folder.map(|folder| folder.join(&dockerfile)));
        }
    }
    named
}

/// The folder of an image that has no file called `Dockerfile`: the one of its name that has the file that is named.
pub(super) fn folder_by_file<'a>(
    image: &str,
    dockerfile: &Path,
    mut paths: impl Iterator<Item = &'a Path>,
) -> Option<PathBuf> {
    let last = image.rsplit('/').next().unwrap_or_default();
    paths.find_map(|path| {
        let folder =
            path.ends_with(dockerfile).then(|| path.ancestors().nth(dockerfile.iter().count()))??;
        (plain(&folder.file_name()?.to_string_lossy()) == last).then(|| folder.to_owned())
    })
}

/// A folder with a Dockerfile, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Discovered {
    pub(super) image: String,
    pub(super) variant: Option<String>,
    pub(super) folder: PathBuf,
}

/// Names every folder that has a Dockerfile and is asked for. Folders that fall together by case are problems.
pub(super) fn discover(
    name: &str,
    paths: &BTreeSet<&Path>,
    wanted: &[&Glob],
    problems: &mut Vec<Diagnostic>,
) -> Vec<Discovered> {
    let folders: BTreeSet<PathBuf> =
        paths.iter().filter(|path| is_dockerfile(path)).map(|path| folder_of(path)).collect();
    let top = |folder: &Path| {
        let above = folder.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        above.filter(|above| folders.contains(*above)).last().map(Path::to_owned)
    };
    let is_wanted =
        |folder: &Path| wanted.is_empty() || wanted.iter().any(|glob| glob.matches(&text(folder)));
    let images: BTreeSet<&PathBuf> = folders.iter().filter(|folder| top(folder).is_none()).collect();
    let names = image_names(name, &images, problems);
    let named = folders.iter().filter_map(|folder| {
        let image = top(folder).unwrap_or_else(|| folder.clone());
        let variant = folder.strip_prefix(&image).ok().map(text).filter(|rest| !rest.is_empty());
        let wanted = is_wanted(folder) || is_wanted(&image);
        let variant = variant.map(|rest| rest.replace('/', "-"));
        wanted.then(|| Discovered { image: names[&image].clone(), variant, folder: folder.clone() })
    });
    named.collect()
}

/// The last part of each folder; the whole path for those whose last parts are the same.
fn image_names(
    family: &str,
    folders: &BTreeSet<&PathBuf>,
    problems: &mut Vec<Diagnostic>,
) -> BTreeMap<PathBuf, String> {
    let written =
        |folder: &Path| folder.file_name().map_or_else(|| family.to_owned(), |n| n.to_string_lossy().into());
    let mut by_name: BTreeMap<String, Vec<&PathBuf>> = BTreeMap::new();
    for folder in folders {
        by_name.entry(plain(&written(folder))).or_default().push(folder);
    }
    let mut names = BTreeMap::new();
    for (name, same) in by_name {
        let alone = same.len() == 1;
        for (at, folder) in same.iter().enumerate() {
            let by_case = same[..at].iter().find(|other| {
                text(other) != text(folder) && text(other).to_lowercase() == text(folder).to_lowercase()
            });
            if let Some(other) = by_case {
                let (one, two) = (other.join("Dockerfile"), folder.join("Dockerfile"));
                let message =
                    format!("{} and {} would both be the image `{name}`", one.display(), two.display());
                problems.push(
                    Diagnostic::request(message).at(Place::file(two)).hint("rename one of the folders"),
                );
            }
            let whole: Vec<String> = folder.iter().map(|part| plain(&part.to_string_lossy())).collect();
            let mut qualified = if whole.is_empty() { name.clone() } else { whole.join("/") };
            if by_case.is_some() {
                // It is refused already; another name keeps it from being told a second time.
                write!(qualified, "-{at}").unwrap_or_default();
            }
            names.insert((*folder).clone(), if alone { name.clone() } else { qualified });
        }
    }
    names
}

/// A text as part of an image's name: lower case, and a dash for all that cannot stand there.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let kept = c.is_ascii_lowercase() || c.is_ascii_digit();
        let joins = matches!(c, '.' | '_') && plain.ends_with(|last: char| last.is_ascii_alphanumeric());
        match kept || joins {
            true => plain.push(c),
            false if plain.ends_with(['.', '_', '-']) => {}
            false => plain.push('-'),
        }
    }
    let plain = plain.trim_matches(['.', '_', '-']).replace("._", "-").replace("_.", "-");
    if plain.is_empty() { "image".to_owned() } else { plain }
}

/// The folder of a path; empty for the family's own.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("")).to_owned()
}

fn text(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The path that a setting gives, if it does.
pub(super) fn given(path: Option<&crate::config::Written<Inside>>) -> Option<PathBuf> {
    path.map(|path| path.value.path().to_owned())
}
