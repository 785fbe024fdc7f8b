//! Point at what an `ADD` fetches from an address that may give something else tomorrow: law 2.

use std::collections::BTreeMap;

use super::{Recipe, Unit};
use crate::diag::{Diagnostic, Place};
use crate::dockerfile::{Remote, RemoteKind, Source, is_commit};

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

fn is_pinned(remote: &Remote) -> bool {
    let names_commit = || {
        let fragment = remote.location.split_once('#').map_or("", |(_, fragment)| fragment);
        is_commit(fragment.split(':').next().unwrap_or_default())
    };
    let is_looked_up = || remote.git().is_some() || names_commit();
    remote.checksum.is_some() || (remote.kind == RemoteKind::Git && is_looked_up())
}

fn told(remote: &Remote, unit: &Unit) -> Diagnostic {
    let location = remote.shown();
    let (lacks, pin) = match remote.kind {
        RemoteKind::Url => ("no checksum", format!("write `ADD --checksum=sha256:… {location}`")),
        RemoteKind::Git => ("no commit", "write the whole commit behind the address: `#COMMIT`".to_owned()),
    };
    let pin = match remote.kind {
        RemoteKind::Url if !location.contains(['$', '\'']) => {
            format!("{pin}, with what this prints: curl -fsSL '{location}' | sha256sum")
        }
        _ => pin,
    };
    Diagnostic::warning(format!("`ADD {location}` has {lacks}"))
        .at(remote.place.clone())
        .because("what stands there can change, and the image that was built is reused all the same")
        .hint(pin)
        .hint(format!("or build it anew when that changed: polyarch build --no-reuse {unit}"))
}
