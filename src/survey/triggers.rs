//! Point at what the `ONBUILD` triggers of images fetch from addresses that may give something else tomorrow: law 2.
//! They run as they stand in the image, so that nothing in them can be settled.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Place};
use crate::dockerfile::{BuildPlatform, How, ImageUse, Remote, Request, Source, of_trigger};
use crate::family::{Build, Family, Use, unpinned_in_trigger};
use crate::oci::Platform;
use crate::plan::Facts;

/// One warning for each address that is fetched so by the builds of a family, at the `FROM` that brings it.
pub(super) fn unpinned(family: &Family, facts: &Facts) -> Vec<Diagnostic> {
    let mut found = BTreeMap::<(Place, String), Diagnostic>::new();
    for recipe in family.recipes() {
        for (platform, build) in &recipe.platforms {
            let from = build.needs.references.iter().filter(|used| matches!(used.how, How::From { .. }));
            for used in from {
                for remote in
                    left(family, facts, build, used, platform).iter().flat_map(|it| fetched(it, platform))
                {
                    let Some(problem) = unpinned_in_trigger(&remote, used, &recipe.unit) else { continue };
                    found.entry((used.place.clone(), remote.shown())).or_insert(problem);
                }
            }
        }
    }
    found.into_values().collect()
}

/// The triggers that an image leaves to a build that stands on it.
fn left<'a>(
    family: &'a Family,
    facts: &'a Facts,
    build: &'a Build,
    used: &ImageUse,
    platform: &Platform,
) -> &'a [String] {
    let triggers = match build.uses.get(&used.reference) {
        Some(Use::Family(parent)) => {
            let recipe = family.recipe(parent).and_then(|recipe| recipe.platforms.get(platform));
            recipe.map(|parent| &parent.needs.onbuild)
        }
        Some(Use::Outside(_)) => {
            facts.base(build, &used.reference, platform).and_then(|image| facts.triggers.get(image))
        }
        None => None,
    };
    triggers.map_or(&[], Vec::as_slice)
}

/// What a trigger fetches. The engine refuses one that is not understood.
fn fetched(trigger: &str, platform: &Platform) -> Vec<Remote> {
    let platform = BuildPlatform::from(platform);
    let request = Request { target: None, args: &BTreeMap::new(), platform: &platform };
    let needs = of_trigger(trigger).and_then(|file| file.needs(&request).ok());
    let sources = needs.into_iter().flat_map(|needs| needs.sources);
    let remotes = sources.filter_map(|source| match source {
        Source::Remote(remote) => Some(remote),
        Source::Context(_) => None,
    });
    remotes.collect()
}
