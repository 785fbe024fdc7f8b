//! Read a unit's Dockerfile for each of its platforms, with the arguments that reach it.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::{SecretSource, Sources};
use crate::config::{FamilyFile, SecretSetting, Written};
use crate::diag::{Diagnostic, Result};
use crate::dockerfile::{BuildPlatform, Dockerfile, Needs, Request, is_proxy};
use crate::oci::Platform;

/// What was read of one unit.
pub(super) struct Read {
    pub(super) text: String,
    pub(super) file: Dockerfile,
    pub(super) platforms: BTreeMap<Platform, Needs>,
    pub(super) args: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, SecretSource>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads one unit.
pub(super) fn read(draft: &Draft<'_>, sources: &Sources) -> Result<Read> {
    // What is sent to an engine is made of it.
    let text = draft.text.strip_prefix('\u{feff}').unwrap_or(draft.text);
    let dockerfile = Dockerfile::parse(&draft.dockerfile, text)?;
    let given = arguments(draft, sources);
    let target = draft.said(|setting| setting.target.as_ref()).map(|target| target.value.as_str());
    let mut platforms = BTreeMap::new();
    for platform in draft.platforms(sources) {
        let for_platform = BuildPlatform {
            os: platform.os().to_owned(),
            architecture: platform.architecture().to_owned(),
            variant: platform.variant().map(str::to_owned),
        };
        let request = Request { platform: &for_platform, args: &given, target };
        let needs = dockerfile.needs(&request)?;
        platforms.insert(platform, needs);
    }
    let used: BTreeSet<&String> = platforms.values().flat_map(|needs| &needs.uses_args).collect();
    let reaches = |name: &String| {
        used.contains(name)
            || name.starts_with("BUILDKIT_")
            // These reach a build although no Dockerfile declares them.
            || is_proxy(name)
            || name.eq_ignore_ascii_case("SOURCE_DATE_EPOCH")
    };
    let args: BTreeMap<String, String> = given.into_iter().filter(|(name, _)| reaches(name)).collect();
    let (secrets, mut warnings) = secrets(draft, sources.file.as_ref(), &platforms);
    warnings.extend(unused_arguments(draft, sources.file.as_ref(), &args));
    Ok(Read { text: text.to_owned(), file: dockerfile, platforms, args, secrets, warnings })
}

/// Build arguments: the family's, the image's, the variant's, then those given by hand.
fn arguments(draft: &Draft<'_>, sources: &Sources) -> BTreeMap<String, String> {
    let family = sources.file.iter().map(|file| &file.args);
    let own = draft.settings.iter().map(|setting| &setting.args);
    let written = family.chain(own).flatten().map(|(name, value)| (name.clone(), value.value.clone()));
    written.chain(sources.args.clone()).collect()
}

/// Labels: the family's, the image's, the variant's.
pub(super) fn labels(draft: &Draft<'_>, file: Option<&FamilyFile>) -> BTreeMap<String, String> {
    let family = file.into_iter().map(|file| &file.labels);
    let own = draft.settings.iter().map(|setting| &setting.labels);
    family.chain(own).flatten().map(|(name, value)| (name.clone(), value.value.clone())).collect()
}

/// The secrets that the Dockerfile asks for, and what is odd about those given.
fn secrets(
    draft: &Draft<'_>,
    file: Option<&FamilyFile>,
    platforms: &BTreeMap<Platform, Needs>,
) -> (BTreeMap<String, SecretSource>, Vec<Diagnostic>) {
    let own: BTreeMap<&String, &SecretSetting> =
        draft.settings.iter().flat_map(|setting| &setting.secrets).collect();
    let asked: BTreeSet<&String> = platforms.values().flat_map(|needs| &needs.secrets).collect();
    let mut secrets = BTreeMap::new();
    let mut warnings = Vec::new();
    for id in &asked {
        match own.get(id).copied().or_else(|| file.and_then(|file| file.secrets.get(*id))) {
            Some(SecretSetting::Env(name)) => {
                drop(secrets.insert((*id).clone(), SecretSource::Environment(name.clone())))
            }
            Some(SecretSetting::File(path)) => {
                drop(secrets.insert((*id).clone(), SecretSource::File(path.path().to_owned())));
            }
            None => {
                let message =
                    format!("{} asks for the secret `{id}`, which nobody gives", draft.dockerfile.display());
                let name = id.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                let hint = format!(
                    "write `secrets = {{ {id} = {{ env = \"{name}\" }} }}` in `[image.{}]`",
                    draft.unit.image
                );
                warnings.push(Diagnostic::warning(message).hint(hint));
            }
        }
    }
    for id in own.keys().filter(|id| !asked.contains(*id)) {
        let message =
            format!("the secret `{id}` of `{}` is asked for by no line of its Dockerfile", draft.unit);
        warnings.push(Diagnostic::warning(message).at(draft.place(file)).hint("remove it"));
    }
    let wants_agent = platforms.values().any(|needs| needs.ssh);
    if wants_agent && !draft.settings.iter().any(|setting| !setting.ssh.is_empty()) {
        let message = format!("{} asks for an SSH agent, which nobody gives", draft.dockerfile.display());
        let hint = format!("write `ssh = [\"default\"]` in `[image.{}]`", draft.unit.image);
        warnings.push(Diagnostic::warning(message).hint(hint));
    }
    (secrets, warnings)
}

/// Arguments that are said of this very unit and that its Dockerfile does not declare.
fn unused_arguments(
    draft: &Draft<'_>,
    file: Option<&FamilyFile>,
    reaching: &BTreeMap<String, String>,
) -> Vec<Diagnostic> {
    // What is said of an image with variants may be meant for another of them; only its last table is judged.
    let last = draft.settings.last().filter(|setting| setting.variants.is_empty());
    let own: Vec<(&String, &Written<String>)> = last.into_iter().flat_map(|setting| &setting.args).collect();
    let unused =
        own.into_iter().filter(|(name, _)| !reaching.contains_key(*name)).filter_map(|(name, value)| {
            let message = format!("{} declares no `ARG {name}`", draft.dockerfile.display());
            let place = file?.place(value);
            Some(
                Diagnostic::warning(message)
                    .at(place)
                    .hint(format!("declare it by `ARG {name}`, or remove it")),
            )
        });
    unused.collect()
}
