//! Images that only try out what they stand on: what is published does not stand on them.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Build, Recipe, Unit};
use crate::config::FamilyFile;
use crate::diag::Diagnostic;

/// Images that are published and stand on some that are not.
pub(super) fn stood_upon(
    recipes: &BTreeMap<Unit, Recipe>,
    drafts: &BTreeMap<Unit, Draft<'_>>,
    file: Option<&FamilyFile>,
) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for recipe in recipes.values().filter(|recipe| !recipe.downstream) {
        let parents = recipe.platforms.values().flat_map(Build::parents);
        let is_downstream = |parent: &&Unit| recipes.get(*parent).is_some_and(|parent| parent.downstream);
        if let Some(parent) = { parents }.find(is_downstream) {
            let unit = &recipe.unit;
            let said = drafts.get(parent).and_then(Draft::downstream).zip(file);
            let problem = Diagnostic::request(format!("`{unit}` stands on `{parent}`, which is downstream"))
                .because("what is never published and may fail is nothing to stand on")
                .hint(format!("write `downstream = true` for `{unit}` too, or remove it from `{parent}`"));
            problems.push(match said {
                Some((said, file)) => problem.at(file.place(said)),
                None => problem,
            });
        }
    }
    problems
}
