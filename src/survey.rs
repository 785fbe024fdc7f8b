//! Fill in the facts: what stands in the contexts, at the registries and in the store.

mod context;
mod links;
mod lookup;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::future::join_all;

use crate::diag::{Diagnostic, Result, collect};
use crate::family::{Family, JobId, Recipe};
use crate::oci::Error;
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
    let contexts = collect(family.recipes().map(|recipe| context::read(root, recipe)))?;
    for (recipe, context) in family.recipes().zip(contexts) {
        facts.files.extend(context.files);
        warnings.extend(context.warnings);
        facts.ignores.extend(context.ignore.map(|(_, text)| (recipe.unit.clone(), text)));
    }
    facts.bases = lookup::bases(family, registries).await;
    facts.frontends = lookup::frontends(family, registries).await;
    read_records(family, records, &mut facts)
        .await
        .map_err(|error| Diagnostic::surroundings("read the records in the store").caused_by(&error))?;
    Ok((facts, warnings))
}

/// The files that the build of a job can read, as they stand now: what [`Facts::files`] holds of it from the survey.
///
/// # Errors
/// Where the context cannot be read, or changes meanwhile.
pub(crate) fn files(root: &Path, recipe: &Recipe, job: &JobId) -> Result<BTreeMap<String, String>> {
    Ok(context::read(root, recipe)?.files.remove(job).unwrap_or_default())
}

/// The records under the keys that these facts give, and the latest of each job that has none.
async fn read_records(family: &Family, records: &Records, facts: &mut Facts) -> Result<(), Error> {
    let keyed = keys(family, facts);
    let found = join_all(keyed.iter().map(async |(job, keyed)| {
        let image = match records.image(&keyed.key).await? {
            // The record refers to its image, but a registry may have lost it: law 3, its content is present.
            Some(image)
                if records.store.resolve(&records.scope, &image.image.clone().into()).await?.is_some() =>
            {
                Some(image)
            }
            _ => None,
        };
        let newest = if image.is_none() { records.newest(job).await? } else { None };
        let recipe = family.recipe(&job.unit);
        let checks = match recipe.zip(image.as_ref()) {
            Some((recipe, image)) => records.checks(&check_key(&image.image, recipe)).await?,
            None => None,
        };
        Ok::<_, Error>((job, image, newest, checks))
    }))
    .await;
    let mut newest = BTreeMap::new();
    for found in found {
        let (job, image, latest, checks) = found?;
        facts.images.extend(image.map(|image| (image.key.clone(), image)));
        facts.checks.extend(checks.map(|checks| (checks.key.clone(), checks)));
        newest.extend(latest.map(|latest| (job.clone(), latest)));
    }
    facts.newest = newest;
    Ok(())
}
