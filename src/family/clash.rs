//! Find tags that two units would both publish.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::{CheckKind, Mirror, Recipe, TagPolicy, Unit};
use crate::config::FamilyFile;
use crate::diag::Diagnostic;

/// One problem for each pair of units that would publish the same tag, with one such tag as the example.
pub(super) fn clashes(
    recipes: &BTreeMap<Unit, Recipe>,
    mirrors: &BTreeMap<Unit, Mirror>,
    drafts: &BTreeMap<Unit, Draft<'_>>,
    tags: &TagPolicy,
    file: Option<&FamilyFile>,
) -> Vec<Diagnostic> {
    let mut made: BTreeMap<(&str, String), &Unit> = BTreeMap::new();
    let mut told: BTreeSet<(&Unit, &Unit)> = BTreeSet::new();
    let mut problems = Vec::new();
    for recipe in recipes.values() {
        for tag in public_tags(recipe, tags) {
            let Some(first) = made.insert((recipe.repository.as_str(), tag.clone()), &recipe.unit) else {
                continue;
            };
            if *first == recipe.unit || !told.insert((first, &recipe.unit)) {
                continue;
            }
            let message =
                format!("`{first}` and `{}` would both be {}:{tag}", recipe.unit, recipe.repository);
            let problem = Diagnostic::request(message).at(drafts[&recipe.unit].place(file));
            let hint = format!(
                "give one of them another name, or a `repository` of its own in `[image.{}]`",
                recipe.unit.image
            );
            problems.push(problem.hint(hint));
        }
    }
    for mirror in mirrors.values() {
        let taken = |tag: &&String| made.contains_key(&(mirror.repository.as_str(), (*tag).clone()));
        let Some(tag) = mirror.tags.iter().find(taken) else { continue };
        let first = made[&(mirror.repository.as_str(), tag.clone())];
        problems.push(mirror.at(file, mirror.clash(first, tag)));
    }
    problems
}

/// Every tag that a recipe makes, merged and by platform; what is not known before the build stays a name in braces,
/// which is the same name for all.
fn public_tags(recipe: &Recipe, tags: &TagPolicy) -> Vec<String> {
    let taggers = recipe.checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Tagger { template, .. } => Some(template),
        _ => None,
    });
    let merged = recipe.common_tags.iter().chain(taggers).map(|tag| format!("{}{tag}", recipe.tag_prefix()));
    let merged: BTreeSet<String> = merged.collect();
    let by_platform: Vec<String> = recipe
        .platforms
        .keys()
        .flat_map(|platform| merged.iter().map(move |tag| tags.platform_tag(platform, tag)))
        .collect();
    merged.into_iter().chain(by_platform).collect()
}
