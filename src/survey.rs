//! Fill in the facts: what stands in the contexts, at the registries and in the store.

mod content;
mod context;
mod host;
mod links;
mod lookup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::join_all;

use crate::diag::{Diagnostic, Result, collect};
use crate::family::{Family, JobId, Recipe};
use crate::oci::{Error, Platform};
use crate::plan::{Facts, check_key, keys};
use crate::record::Records;

pub(crate) use lookup::Registries;

/// The facts of a family, and warnings that came up on the way.
///
/// # Errors
/// Where a context cannot be read or the store fails. A base that cannot be looked up is a fact.
pub(crate) async fn survey(
    family: &Family,
    root: &Path,
    registries: &Registries,
    records: &Records,
) -> Result<(Facts, Vec<Diagnostic>)> {
    let mut warnings = Vec::new();
    let mut facts = Facts::default();
    // Before anything is asked of a network: what is wrong here is told at once.
    let in_family: Vec<_> = family.recipes().map(|recipe| facts.triggered(recipe)).collect();
    let read = |(recipe, triggered)| context::read(root, recipe, triggered);
    let mut contexts = collect(family.recipes().zip(&in_family).map(read))?;
    facts.check_files = host::read(root, family)?;
    (facts.bases, facts.triggers, facts.mirrored) = lookup::bases(family, registries).await;
    for ((recipe, context), before) in family.recipes().zip(&mut contexts).zip(&in_family) {
        let triggered = facts.triggered(recipe);
        if triggered != *before {
            *context = context::read(root, recipe, &triggered)?;
        }
    }
    for (recipe, context) in family.recipes().zip(contexts) {
        facts.files.extend(context.files);
        warnings.extend(context.warnings);
        facts.ignores.extend(context.ignore.map(|(_, text)| (recipe.unit.clone(), text)));
    }
    facts.frontends = lookup::frontends(family, registries).await;
    let passed_over = read_records(family, records, &mut facts)
        .await
        .map_err(|error| Diagnostic::surroundings("read the records in the store").caused_by(&error))?;
    warnings.extend(passed_over);
    Ok((facts, warnings))
}

/// The files that the build of a job can read, as they stand now: what [`Facts::files`] holds of it from the survey.
/// `triggered` is what [`Facts::triggered`] says of the recipe.
///
/// # Errors
/// Where the context cannot be read, or changes meanwhile.
pub(crate) fn files(
    root: &Path,
    recipe: &Recipe,
    job: &JobId,
    triggered: &BTreeSet<Platform>,
) -> Result<BTreeMap<String, String>> {
    Ok(context::read(root, recipe, triggered)?.files.remove(job).unwrap_or_default())
}

/// The files of a unit's tests on this machine, as they stand now: what [`Facts::files_of_checks`] holds from the
/// survey.
///
/// # Errors
/// Where one that the configuration names is not there any more, and where one cannot be read.
pub(crate) fn files_of_checks(root: &Path, recipe: &Recipe) -> Result<BTreeMap<String, String>> {
    host::read_again(root, recipe)
}

/// The records under the keys that these facts give, and the latest of each job that has none. Returns warnings.
async fn read_records(
    family: &Family,
    records: &Records,
    facts: &mut Facts,
) -> Result<Vec<Diagnostic>, Error> {
    let keyed = keys(family, facts);
    let found = join_all(keyed.iter().map(async |(job, keyed)| {
        let image = records.image(&keyed.key).await?;
        let newest = if image.record.is_none() { records.newest(job).await? } else { None };
        let recipe = family.recipe(&job.unit);
        let checks = match recipe.zip(image.record.as_ref()) {
            Some((recipe, image)) => {
                let key = check_key(&image.image, recipe, facts.files_of_checks(&job.unit));
                Some(records.checks(&key).await?)
            }
            None => None,
        };
        Ok::<_, Error>((job, image, newest, checks))
    }))
    .await;
    let (mut newest, mut warnings) = (BTreeMap::new(), Vec::new());
    for found in found {
        let (job, image, latest, checks) = found?;
        facts.images.extend(image.record.map(|image| (image.key.clone(), image)));
        warnings.extend(image.passed_over);
        if let Some(checks) = checks {
            facts.checks.extend(checks.record.map(|checks| (checks.key.clone(), checks)));
            warnings.extend(checks.passed_over);
        }
        newest.extend(latest.map(|latest| (job.clone(), latest)));
    }
    facts.newest = newest;
    facts.durations = records.durations().await?;
    let images = facts.images.values().map(|record| record.image.clone()).collect();
    facts.missing = content::missing(records, images).await?;
    // Two images of the same inputs share a record.
    warnings.dedup();
    Ok(warnings)
}
