//! What is about the copies of a publication, such as signatures and SBOMs by others: it goes along with their content,
//! before the journal is written and any tag of an image moves, so that who verifies them finds it at once.

use crate::diag::Result;
use crate::event::EventKind;
use crate::oci::{Document, Error, ErrorKind, Repository, Store};

use super::carry_out::{bring_document, has_document, problem};
use super::look::tag_at;
use super::moves::Listener;
use super::publication::{Publication, Source, Step, Target};

impl Publication {
    /// Attaches what is about copies, one after the other: a registry without referrers has a list of them, which two
    /// must not write at once. A tag of cosign's that is there and elsewhere stays: somebody signed the copy there.
    pub(super) async fn bring_about(
        &self,
        source: &Source<'_>,
        target: Target<'_>,
        listener: Listener<'_>,
    ) -> Result<()> {
        for step in &self.about {
            match step {
                Step::Blob { .. } => {}
                Step::Document { repository, document } => {
                    let found = is_attached(target.store, repository, document).await;
                    let doing = || format!("see what is attached in {repository}");
                    if !found.map_err(|error| problem(&doing(), target, error))? {
                        // It is written though it may be there: the list may lack it.
                        bring_document(step, source, target, &|_, _| true).await?;
                    }
                }
                Step::Tag { repository, tag, document } => match tag_at(target, repository, tag).await? {
                    None => {
                        let tags = std::slice::from_ref(tag);
                        let written = target.store.write_document(repository, document, tags).await;
                        let doing = || format!("write the tag {repository}:{tag}");
                        written.map_err(|error| problem(&doing(), target, error))?;
                    }
                    Some(found) if found == *document.digest() => {}
                    Some(_) => listener(EventKind::TagWithheld {
                        reference: format!("{}/{repository}:{tag}", target.registry),
                        reason: "it is another than at the source".to_owned(),
                    }),
                },
            }
        }
        Ok(())
    }
}

/// Whether a document is there, and is listed where it is about another.
pub(super) async fn is_attached(
    store: &dyn Store,
    repository: &Repository,
    document: &Document,
) -> Result<bool, Error> {
    let there = has_document(store, repository, document).await?;
    let subject = match document.is_index() {
        true => document.index()?.subject,
        false => document.manifest()?.subject,
    };
    let Some(subject) = subject.filter(|_| there) else { return Ok(there) };
    match store.referrers(repository, &subject.digest).await {
        Ok(listed) => Ok(listed.iter().any(|one| one.digest == *document.digest())),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(true),
        Err(error) => Err(error),
    }
}
