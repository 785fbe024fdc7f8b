//! Point at what an `ADD` or a `RUN` fetches from an address that may give something else tomorrow: law 2.

use std::collections::BTreeMap;

use super::{Recipe, Unit};
use crate::diag::{Diagnostic, Place};
use crate::dockerfile::{ImageUse, Remote, RemoteKind, Source};

const CHANGING: &str = "what stands there can change, and the image that was built is reused all the same";

/// One warning for each `ADD` of a file without `--checksum`, or of a repository whose name only the build knows: what
/// other names point at is looked up.
pub(super) fn unpinned(recipes: &BTreeMap<Unit, Recipe>) -> Vec<Diagnostic> {
    let mut found = BTreeMap::<(&Place, &String), Diagnostic>::new();
    for recipe in recipes.values() {
        let sources = recipe.platforms.values().flat_map(|build| &build.needs.sources);
        for source in sources {
            if let Source::Remote(remote) = source
                && !is_pinned(remote)
            {
                found.entry((&remote.place, &remote.location)).or_insert_with(|| told(remote, &recipe.unit));
            }
        }
    }
    found.into_values().collect()
}

/// One warning for each `RUN` that fetches what nothing checks, in images that do not get too old by themselves.
pub(super) fn unchecked(recipes: &BTreeMap<Unit, Recipe>) -> Vec<Diagnostic> {
    let ageless = recipes.values().filter(|recipe| recipe.fresh_for_seconds.is_none());
    let mut found = BTreeMap::<&Place, Diagnostic>::new();
    for fetch in ageless.flat_map(|recipe| recipe.platforms.values()).flat_map(|build| &build.needs.fetches) {
        found.entry(&fetch.place).or_insert_with(|| {
            let problem = format!("`RUN` fetches {}, and nothing checks it", fetch.location);
            let problem = Diagnostic::warning(problem).at(fetch.place.clone());
            problem.because(CHANGING).hint("check it in the same step: `sha256sum --check`").hint(
                "or have the image built anew once it is older, in polyarch.toml: `fresh-for = \"48h\"`",
            )
        });
    }
    found.into_values().collect()
}

/// The same of what an `ONBUILD` trigger of an image fetches, in whose address nothing is settled.
pub(crate) fn unpinned_in_trigger(remote: &Remote, used: &ImageUse, unit: &Unit) -> Option<Diagnostic> {
    let is_pinned = remote.checksum.is_some() || remote.names_commit();
    let (lacks, pin) = advice(remote);
    let problem =
        Diagnostic::warning(format!("`ONBUILD ADD {}` of {} has {lacks}", remote.shown(), used.reference));
    (!is_pinned)
        .then(|| changing(problem.at(used.place.clone()), format!("{pin}, where that is built"), unit))
}

fn is_pinned(remote: &Remote) -> bool {
    let is_looked_up = || remote.git().is_some() || remote.names_commit();
    remote.checksum.is_some() || (remote.kind == RemoteKind::Git && is_looked_up())
}

fn told(remote: &Remote, unit: &Unit) -> Diagnostic {
    let (location, (lacks, pin)) = (remote.shown(), advice(remote));
    let pin = match remote.kind {
        RemoteKind::Url if !location.contains(['$', '\'']) => {
            format!("{pin}, with what this prints: curl -fsSL '{location}' | sha256sum")
        }
        _ => pin,
    };
    let problem = Diagnostic::warning(format!("`ADD {location}` has {lacks}"));
    changing(problem.at(remote.place.clone()), pin, unit)
}

/// What an address lacks, and what to write.
fn advice(remote: &Remote) -> (&'static str, String) {
    match remote.kind {
        RemoteKind::Url => ("no checksum", format!("write `ADD --checksum=sha256:… {}`", remote.shown())),
        RemoteKind::Git => ("no commit", "write the whole commit behind the address: `#COMMIT`".to_owned()),
    }
}

fn changing(problem: Diagnostic, pin: String, unit: &Unit) -> Diagnostic {
    problem
        .because(CHANGING)
        .hint(pin)
        .hint(format!("or build it anew when that changed: polyarch build --no-reuse {unit}"))
}
