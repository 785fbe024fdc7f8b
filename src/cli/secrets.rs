//! Secrets of builds: who gives them, in files of the run alone, and in nothing that is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Place, Result};
use crate::family::{JobId, Recipe, SecretSource, Unit};
use crate::plan::{Decision, Plan};

use super::Context;
use super::workspace::Workspace;

/// The shortest value that is looked for in arguments and labels, in bytes: shorter ones stand there by chance.
const VALUE_BYTES: usize = 6;

/// The files of secrets, by unit and id.
pub(super) type Files = BTreeMap<(Unit, String), PathBuf>;

/// Secrets that a recipe's Dockerfile asks for and nobody gives: F-C18.
pub(super) fn missing(context: &Context, recipe: &Recipe, root: &Path) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    if withholds(context) {
        return problems;
    }
    let asked: BTreeSet<&String> = recipe.platforms.values().flat_map(|build| &build.needs.secrets).collect();
    for id in asked {
        let place = recipe.platforms.values().find_map(|build| build.needs.required_secrets.get(id));
        let variable = id.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let problem = match recipe.secrets.get(id) {
            Some(SecretSource::Environment(name)) if context.environment.value(name).is_none() => {
                let state = if context.environment.text(name).is_some() { "is empty" } else { "is not set" };
                let message = format!("secret `{id}` of `{}`: the variable {name} {state}", recipe.unit);
                Diagnostic::request(message).hint(format!("set it: export {name}=…"))
            }
            Some(SecretSource::File(file)) if !root.join(file).is_file() => {
                let message =
                    format!("secret `{id}` of `{}`: there is no file {}", recipe.unit, file.display());
                Diagnostic::request(message).hint(format!("write it: (umask 077; cat > {})", file.display()))
            }
            None if place.is_some() => {
                let message =
                    format!("the secret `{id}` is required by `{}`, and nobody gives it", recipe.unit);
                let setting = format!("secrets = {{ {id} = {{ env = \"{variable}\" }} }}");
                Diagnostic::request(message)
                    .hint(format!("write `{setting}` in `[image.{}]`", recipe.unit.image))
            }
            _ => continue,
        };
        problems.push(match place {
            Some(place) => problem.at(place.clone()),
            None => problem,
        });
    }
    problems
}

/// The secrets that a recipe's Dockerfile cannot do without, in an untrusted run, which is given none: TM2.
pub(super) fn withheld(context: &Context, recipe: &Recipe) -> Vec<Diagnostic> {
    let required: BTreeMap<&String, &Place> =
        recipe.platforms.values().flat_map(|build| &build.needs.required_secrets).collect();
    let withheld = required.into_iter().filter(|_| withholds(context)).map(|(id, place)| {
        let problem = format!("the secret `{id}` of `{}` is not given in an untrusted run", recipe.unit);
        Diagnostic::new(Kind::Policy, problem)
            .at(place.clone())
            .hint("let the build do without it: --mount=type=secret,required=false")
    });
    withheld.collect()
}

/// Whether builds are given no secrets, and no ssh agents: whoever wrote what an untrusted run builds could read them, and ask
/// those.
pub(super) fn withholds(context: &Context) -> bool {
    !context.common.scope.is_trusted() && stands(Defence::SecretsWithheld)
}

/// Each secret of the jobs that are built, but for those that cannot be, in a file of its own that only this user can
/// read, as long as the run lasts: TM18.
///
/// # Errors
/// Where one cannot be had.
pub(super) fn files(
    context: &Context,
    workspace: &Workspace,
    plan: &Plan,
    unfit: &BTreeMap<JobId, Diagnostic>,
    scratch: &Path,
) -> Result<Files> {
    let built = { plan.jobs.iter() }
        .filter(|(job, planned)| matches!(planned.decision, Decision::Build(_)) && !unfit.contains_key(job));
    let mut files = Files::new();
    if withholds(context) {
        return Ok(files);
    }
    for (JobId { unit, platform }, _) in built {
        let Some(recipe) = workspace.family.recipe(unit) else { continue };
        let Some(build) = recipe.platforms.get(platform) else { continue };
        for (id, source) in recipe.secrets.iter().filter(|(id, _)| build.needs.secrets.contains(*id)) {
            let key = (unit.clone(), id.clone());
            if !files.contains_key(&key) {
                let number = files.len();
                files.insert(
                    key,
                    file(
                        context,
                        &workspace.root,
                        recipe,
                        id,
                        source,
                        &scratch.join(format!("secret-{number}")),
                    )?,
                );
            }
        }
    }
    Ok(files)
}

fn file(
    context: &Context,
    root: &Path,
    recipe: &Recipe,
    id: &str,
    source: &SecretSource,
    file: &Path,
) -> Result<PathBuf> {
    let name = match source {
        SecretSource::File(file) => return Ok(root.join(file)),
        SecretSource::Environment(name) => name,
    };
    let value = context.environment.value(name).ok_or_else(|| {
        Diagnostic::request(format!("secret `{id}` of {}: the environment has no {name}", recipe.unit))
            .hint(format!("set it: export {name}=…"))
    })?;
    write_private(file, value.as_encoded_bytes()).map_err(|error| {
        Diagnostic::surroundings(format!("keep secret `{id}` for the run")).caused_by(&error)
    })?;
    Ok(file.to_owned())
}

/// Arguments and labels that hold the value of a secret of their image, which anyone can read there: F-C17.
pub(super) fn exposed(context: &Context, recipe: &Recipe, root: &Path) -> Vec<Diagnostic> {
    let values: Vec<Vec<u8>> =
        recipe.secrets.values().filter_map(|source| value(context, root, source)).collect();
    let holds = |text: &str| {
        let long = values.iter().filter(|value| value.len() >= VALUE_BYTES);
        { long }.any(|value| text.as_bytes().windows(value.len()).any(|part| part == value.as_slice()))
    };
    let arguments = recipe.args.iter().map(|(name, value)| ("build argument", name, value));
    let labels = recipe.labels.iter().map(|(name, value)| ("label", name, value));
    let exposed = arguments.chain(labels).filter(|(_, _, value)| holds(value)).map(|(what, name, _)| {
        Diagnostic::new(
            Kind::Policy,
            format!("the {what} {name} of `{}` holds the value of a secret", recipe.unit),
        )
        .because("whoever has the image can read it")
        .hint("mount it where it is needed: RUN --mount=type=secret,id=…")
    });
    exposed.collect()
}

/// The value of a secret without the end of its last line, where it can be had.
fn value(context: &Context, root: &Path, source: &SecretSource) -> Option<Vec<u8>> {
    let value = match source {
        SecretSource::Environment(name) => context.environment.value(name)?.into_encoded_bytes(),
        SecretSource::File(file) => std::fs::read(root.join(file)).ok()?,
    };
    Some(value.trim_ascii_end().to_vec())
}

/// The values of secrets, which are blotted out of everything that is logged or shown.
pub(super) fn values(files: &Files) -> Vec<Vec<u8>> {
    let read = files.values().filter_map(|file| std::fs::read(file).ok());
    read.flat_map(|value| value.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect()
}

fn write_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(bytes)
}
