//! Fill in the facts: what stands in the contexts, at the registries and in the store.

mod content;
mod context;
mod host;
mod links;
mod lookup;
mod memo;
mod repositories;
#[cfg(test)]
mod tests;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::join_all;

use crate::diag::{Diagnostic, Result, collect};
use crate::family::{Family, JobId, Recipe};
use crate::oci::{Error, Platform};
use crate::plan::{Facts, Settled, check_key, keys};
use crate::record::{Found, Records};

pub(crate) use content::{lost, missing};
pub(crate) use lookup::Registries;
pub(crate) use memo::Memo;
pub(crate) use repositories::Repositories;
#[cfg(test)]
pub(crate) use repositories::Unreachable;

/// The facts of a family, and warnings that came up on the way.
///
/// # Errors
/// Where a context cannot be read or the store fails. A base that cannot be looked up is a fact.
pub(crate) async fn survey(
    family: &Family,
    root: &Path,
    (registries, repositories): (&Registries, &dyn Repositories),
    records: &Records,
    memo: &Memo,
    settled: &Settled,
) -> Result<(Facts, Vec<Diagnostic>)> {
    let mut warnings = Vec::new();
    let mut facts = Facts::default();
    // Before anything is asked of a network: what is wrong here is told at once.
    let in_family: Vec<_> = family.recipes().map(|recipe| facts.triggered(recipe)).collect();
    let read = |(recipe, triggered)| context::read(root, recipe, triggered, memo);
    let mut contexts = collect(family.recipes().zip(&in_family).map(read))?;
    facts.check_files = host::read(root, family, memo)?;
    let mut bases = lookup::bases(family, registries, &settled.looked_up).await;
    facts.mirrored = lookup::sources(family, &bases.digests);
    facts.looked_up.append(&mut bases.digests);
    (facts.bases, facts.triggers) = (bases.bases, bases.triggers);
    facts.commits = repositories::commits(family, repositories, &settled.commits).await;
    for ((recipe, context), before) in family.recipes().zip(&mut contexts).zip(&in_family) {
        let triggered = facts.triggered(recipe);
        if triggered != *before {
            *context = context::read(root, recipe, &triggered, memo)?;
        }
    }
    memo.keep();
    warnings.extend(triggers::unpinned(family, &facts));
    for (recipe, context) in family.recipes().zip(contexts) {
        facts.files.extend(context.files);
        warnings.extend(context.warnings);
        facts.ignores.extend(context.ignore.map(|(_, text)| (recipe.unit.clone(), text)));
    }
    facts.frontends = lookup::frontends(family, registries, &settled.looked_up).await;
    facts.looked_up.extend(lookup::pinned(&facts.frontends));
    let passed_over = read_records(family, records, &mut facts, settled)
        .await
        .map_err(|error| Diagnostic::of_store("read the records in the store", &error))?;
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
    // Whatever the memo says: this is asked when something may have changed meanwhile.
    Ok(context::read(root, recipe, triggered, &Memo::none())?.files.remove(job).unwrap_or_default())
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
    settled: &Settled,
) -> Result<Vec<Diagnostic>, Error> {
    facts.epochs = match &settled.epochs {
        Some(epochs) => epochs.clone(),
        None => records.epochs(family.jobs()).await?,
    };
    let keyed = keys(family, facts);
    let roll =
        records.roll(&keyed.iter().map(|(job, keyed)| (job.clone(), keyed.key.clone())).collect()).await?;
    let found = join_all(keyed.iter().map(async |(job, keyed)| {
        let listed = roll.get(&job.to_string());
        let image = match listed {
            Some(passed) => Found::of(passed.image.clone()),
            None => records.image(&keyed.key).await?,
        };
        let image = records.as_settled(image, &keyed.key, settled.images.get(&keyed.key)).await?;
        let newest = if image.record.is_none() { records.newest(job).await? } else { None };
        let recipe = family.recipe(&job.unit);
        let checks = match recipe.zip(image.record.as_ref()) {
            Some((recipe, image)) => {
                let key = check_key(&image.image, recipe, facts.files_of_checks(&job.unit));
                let listed = listed.filter(|passed| passed.checks.key == key);
                let found = match listed {
                    Some(passed) => Found::of(passed.checks.clone()),
                    None => records.checks(&key).await?,
                };
                Some((found, key))
            }
            None => None,
        };
        let is_untested = checks.as_ref().is_some_and(|(checks, _)| checks.record.is_none());
        let tested = if is_untested { records.tested(job).await? } else { None };
        Ok::<_, Error>((job, image, newest, checks, tested))
    }))
    .await;
    let mut newest = BTreeMap::new();
    let mut warnings = Vec::new();
    for found in found {
        let (job, image, latest, checks, tested) = found?;
        facts.tested.extend(tested.map(|tested| (job.clone(), tested)));
        facts.doubts.extend(image.doubt.map(|doubt| (keyed[job].key.clone(), doubt)));
        facts.images.extend(image.record.map(|image| (keyed[job].key.clone(), image)));
        warnings.extend(image.passed_over);
        if let Some((checks, key)) = checks {
            facts.doubts.extend(checks.doubt.map(|doubt| (key.clone(), doubt)));
            facts.checks.extend(checks.record.map(|checks| (key, checks)));
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
