//! Keys: what a build depends on, and what it does not.
//!
//! An **image key** is the digest of these inputs, each by its name and value:
//!
//! | input | in the key | why |
//! |---|---|---|
//! | key format | `format` | another format is another key |
//! | Dockerfile | `dockerfile`, digest of the text | every instruction counts |
//! | `# syntax` frontend | `frontend`, its digest; without one nothing is reused | it reads the Dockerfile |
//! | target stage | `target` | it settles which stages count |
//! | files, folders and links that a `COPY`, `ADD` or bind mount can read, those behind links that it names too, and those of submodules as they are checked out; all where `ONBUILD` triggers run | `file:PATH`: type, mode, content or link target | nothing else of the context can reach the image |
//! | build arguments that reach the build | `arg:NAME` | an undeclared one changes nothing |
//! | labels | `label:NAME` | they stand in the configuration |
//! | platform | `platform` | another platform is another image |
//! | images of the family that it uses | `parent:UNIT`, their image keys | a parent that would be built anew makes its children new |
//! | images from outside | `base:REFERENCE`, their digests | a base that moved is another base |
//! | `ADD` of a repository | `remote:URL`, its commit, which names those of its submodules | a branch that moved is another source |
//! | `ADD` of another URL | `remote:URL`, its checksum, else the refresh epoch | what stands there can change unseen |
//! | refresh epoch | `epoch` | it asks for a build although nothing changed |
//! | compression | `compression` | it settles the layers' digests |
//!
//! A **check key** is the digest of the image's digest, of the checks' definitions, of the executables of other machines
//! that it is meant to have, and of the files that those checks which run on this machine read: what their commands
//! name, and what the configuration adds.
//!
//! In neither: secrets (they must be able to change), absolute paths, the host, the clock, owners and times of
//! files, this program's patch version, and the facts of a run: commit, date, run number, registry, tag names.

use std::collections::BTreeMap;

use crate::dockerfile::Source;
use crate::family::{Action, CheckKind, Piece, Recipe, TagSource, Unit, Use};
use crate::oci::{Algorithm, Digest, Hasher, Platform};
use crate::record::{EPOCH, Epochs};

use super::{Facts, Frontend};

/// The version of the format of keys.
const FORMAT: &str = "1";
/// The version of what is looked for in every image beside its own checks.
const MACHINES: &str = "machines 1";
/// How much of a command is said to a person, in characters.
const SAID_CHARACTERS: usize = 60;
/// How layers are compressed.
const COMPRESSION: &str = "gzip";

/// The inputs of a build by name: what its image key is the digest of.
pub(crate) type Inputs = BTreeMap<String, String>;

/// The inputs of one job. `parent_keys` has the image keys of the units it uses, on the same platform.
pub(super) fn inputs(
    recipe: &Recipe,
    platform: &Platform,
    facts: &Facts,
    epochs: &Epochs,
    parent_keys: &BTreeMap<&Unit, &Digest>,
) -> Inputs {
    let mut inputs = Inputs::new();
    let mut put = |name: String, value: String| inputs.insert(name, value);
    put("format".into(), FORMAT.into());
    put("compression".into(), COMPRESSION.into());
    put("platform".into(), platform.to_string());
    put("dockerfile".into(), Digest::of(recipe.text.as_bytes()).to_string());
    if let Some(target) = &recipe.target {
        put("target".into(), target.clone());
    }
    let Some(build) = recipe.platforms.get(platform) else { return inputs };
    for (name, value) in &recipe.args {
        put(format!("arg:{name}"), value.clone());
    }
    for (name, value) in &recipe.labels {
        put(format!("label:{name}"), value.clone());
    }
    for (written, meant) in &build.uses {
        match meant {
            Use::Family(unit) => {
                let key = parent_keys.get(unit).map_or_else(|| "unknown".to_owned(), ToString::to_string);
                put(format!("parent:{unit}"), key)
            }
            Use::Outside(_) => {
                let digest = facts.base(build, written, platform);
                put(
                    format!("base:{written}"),
                    digest.map_or_else(|| "unknown".to_owned(), ToString::to_string),
                )
            }
        };
    }
    let job = recipe.unit.on(platform);
    for (path, state) in facts.files.get(&job).into_iter().flatten() {
        put(format!("file:{path}"), state.clone());
    }
    if let Some(frontend) = facts.frontends.get(&recipe.unit) {
        put(
            "frontend".into(),
            match frontend {
                Frontend::Found { reference, .. } => reference.to_string(),
                Frontend::Unknown { written, .. } => written.text.clone(),
            },
        );
    }
    let epoch = epochs.get(&job).copied().unwrap_or_default();
    for source in &build.needs.sources {
        if let Source::Remote(remote) = source {
            let unknown = || format!("unknown, epoch {epoch}");
            let commit = || facts.commit(remote)?.ok();
            let value = remote.checksum.clone().or_else(commit).unwrap_or_else(unknown);
            put(format!("remote:{}", remote.shown()), value);
        }
    }
    if epoch > 0 {
        put(EPOCH.into(), epoch.to_string());
    }
    inputs
}

/// The key of inputs: the digest of each name and value with its length before it, in the order of the names.
pub(super) fn key_of(inputs: &Inputs) -> Digest {
    let parts = inputs.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    digest_of(parts)
}

/// The key of a recipe's checks upon an image, where their `files` are in these states.
pub(crate) fn check_key(image: &Digest, recipe: &Recipe, files: &BTreeMap<String, String>) -> Digest {
    let mut parts = vec!["checks".to_owned(), FORMAT.to_owned(), image.to_string()];
    // As below, these words are no beginning of a definition.
    parts.push(MACHINES.to_owned());
    parts.extend(recipe.foreign.iter().flat_map(|pattern| ["foreign".to_owned(), pattern.to_string()]));
    for check in &recipe.checks {
        parts.push(check.time_limit_seconds.to_string());
        match &check.kind {
            CheckKind::Test { action, stdout } => {
                let (place, run) = match action {
                    Action::Image(run) => ("image", run),
                    Action::Host { run, .. } => ("host", run),
                };
                parts.extend(["test".to_owned(), place.to_owned(), run.clone()]);
                parts.push(stdout.as_ref().map_or_else(|| "-".to_owned(), |text| format!("+{text}")));
            }
            CheckKind::Tagger { template, source } => {
                parts.extend(["tagger".to_owned(), template.clone()]);
                match source {
                    TagSource::Run { run, pattern } => {
                        let pattern =
                            pattern.as_ref().map_or_else(|| "-".to_owned(), |text| format!("+{text}"));
                        parts.extend(["run".to_owned(), run.clone(), pattern]);
                    }
                    TagSource::Package { package, pattern } => {
                        let pattern =
                            pattern.as_ref().map_or_else(|| "-".to_owned(), |text| format!("+{text}"));
                        parts.extend(["package".to_owned(), package.to_string(), pattern]);
                    }
                    TagSource::OsRelease(key) => parts.extend(["os-release".to_owned(), key.clone()]),
                }
            }
            CheckKind::Description { title, pieces } => {
                parts.extend(["description".to_owned(), title.clone()]);
                let how = |piece: &Piece| if piece.bare { "bare" } else { "with its command" };
                parts.extend(pieces.iter().flat_map(|piece| [how(piece).to_owned(), piece.run.clone()]));
            }
        }
    }
    // No definition begins with this word: it begins with a number.
    parts.extend(files.iter().flat_map(|(path, state)| ["file".to_owned(), path.clone(), state.clone()]));
    digest_of(parts.iter().map(String::as_str))
}

/// What a recipe's checks are, by names for a person, where their `files` are in these states: what a check key is the
/// digest of beside the image. Nothing stands on it.
pub(crate) fn check_inputs(recipe: &Recipe, files: &BTreeMap<String, String>) -> Inputs {
    let mut inputs = Inputs::new();
    for check in &recipe.checks {
        let (name, how) = match &check.kind {
            CheckKind::Test { action, stdout } => {
                let (place, run) = match action {
                    Action::Image(run) => ("in the image", run),
                    Action::Host { run, .. } => ("on this machine", run),
                };
                let stdout = stdout.as_ref().map(|text| format!(", stdout `{text}`")).unwrap_or_default();
                (format!("test:{}", first_line(run)), format!("{place}{}{stdout}", rest(run)))
            }
            CheckKind::Tagger { template, source } => {
                let how = match source {
                    TagSource::Run { run, pattern } => {
                        let pattern = pattern.as_ref().map(|text| format!(", match `{text}`"));
                        format!("of `{}`{}{}", first_line(run), rest(run), pattern.unwrap_or_default())
                    }
                    TagSource::Package { package, pattern } => {
                        let pattern = pattern.as_ref().map(|text| format!(", match `{text}`"));
                        format!("of the package {package}{}", pattern.unwrap_or_default())
                    }
                    TagSource::OsRelease(key) => format!("of {key} in /etc/os-release"),
                };
                (format!("tag:{template}"), how)
            }
            CheckKind::Description { title, pieces } => {
                let told = pieces.iter().map(|Piece { run, bare }| {
                    let how = if *bare { ", bare" } else { "" };
                    format!("of `{}`{}{how}", first_line(run), rest(run))
                });
                (format!("description:{title}"), told.collect::<Vec<_>>().join(", "))
            }
        };
        let how = format!("{how}, {} s", check.time_limit_seconds);
        let before = inputs.remove(&name).map(|before| before + "; ").unwrap_or_default();
        inputs.insert(name, before + &how);
    }
    inputs.extend(files.iter().map(|(path, state)| (format!("file:{path}"), state.clone())));
    let meant =
        recipe.foreign.iter().map(|pattern| (format!("foreign:{pattern}"), "meant to be there".to_owned()));
    inputs.extend(meant);
    inputs
}

/// The beginning of a command, by which a person knows it.
fn first_line(run: &str) -> String {
    run.lines().next().unwrap_or_default().chars().take(SAID_CHARACTERS).collect()
}

/// What stands for the rest of a command where it is longer.
fn rest(run: &str) -> String {
    match first_line(run) == run {
        true => String::new(),
        false => format!(", all of it {}", Digest::of(run.as_bytes())),
    }
}

pub(super) fn digest_of<'a>(parts: impl Iterator<Item = &'a str>) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}
