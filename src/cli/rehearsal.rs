//! The publication of a run that is not trusted: all of it, into a registry that is thrown away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::diag::{Diagnostic, Result};
use crate::family::JobId;
use crate::oci::{Error, Layout};
use crate::publish::OWN;
use crate::record::Passed;

use super::plan::Planning;
use super::publish::{Wanted, publish_at};
use super::workshop::Target;
use super::{Context, Ended};

/// Say what would be published of the jobs that have passed, and do it in a registry in this folder: whatever would
/// fail in content, tags or their order fails here. Nothing is signed, and nothing reaches a mirror.
///
/// # Errors
/// As those of a publication.
pub(super) async fn rehearse(
    context: &Context,
    planning: &Planning,
    passed: BTreeMap<JobId, Passed>,
    folder: &Path,
) -> Result<Ended> {
    let name = planning.workspace.family.registry.clone().unwrap_or_else(|| OWN.to_owned());
    let folder = folder.join("registry");
    let open = || {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("rehearse in {}", folder.display())).caused_by(&error)
        };
        Layout::open(&folder).map(Arc::new).map_err(failed)
    };
    let target = Target { name: name.clone(), store: open()?, fresh: open()?, own: false };
    let wanted = Wanted {
        to: Some(name.clone()),
        dry_run: false,
        allow_rollback: false,
        sign_key: None,
        rehearsal: true,
    };
    let ended = publish_at(context, planning, passed, &wanted, &target, &|_| {}).await?;
    let scope = &planning.shelf.scope;
    context.ui.note(&format!("rehearsed in the scope `{scope}`: nothing was published to {name}"));
    Ok(ended)
}
