//! What tags and digests stand for at a target now.

use crate::diag::Diagnostic;
use crate::oci::{Digest, Error, Pointer, Repository, Store, Tag};

use super::mend::problem;
use super::publication::Target;

/// What a tag or digest stands for, if it is there.
pub(super) async fn digest_at(
    store: &dyn Store,
    repository: &Repository,
    pointer: impl Into<Pointer>,
) -> Result<Option<Digest>, Error> {
    Ok(store.resolve(repository, &pointer.into()).await?.map(|found| found.digest))
}

/// What a tag of a target points at, if it is there.
pub(super) async fn tag_at(
    target: Target<'_>,
    repository: &Repository,
    tag: &Tag,
) -> Result<Option<Digest>, Diagnostic> {
    let found = digest_at(target.store, repository, tag.clone()).await;
    found.map_err(|error| problem(&format!("read the tag {repository}:{tag}"), target.registry, &error))
}
