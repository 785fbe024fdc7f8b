//! The tags of a scope, page by page.

use crate::oci::{Error, Repository, Tag};

use super::Records;

/// How many tags are asked for at once, and how many times.
pub(super) const PAGE: usize = 1000;
const PAGES: usize = 100;

impl Records {
    /// The tags of a scope that begin so; all of them where it is empty. A scope that is not there has none.
    ///
    /// A list goes on after a tag whether that is there or not (OCI Distribution 1.1, listing tags).
    ///
    /// # Errors
    /// Where the store fails, or `start` is the beginning of no tag.
    pub(super) async fn tags_from(&self, scope: &Repository, start: &str) -> Result<Vec<Tag>, Error> {
        let mut after = (!start.is_empty()).then(|| start.parse::<Tag>()).transpose()?;
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let page = match self.store.tags(scope, after.as_ref(), PAGE).await {
                Err(error) if error.is_not_found() => break,
                page => page?,
            };
            found.extend(page.iter().filter(|tag| tag.as_str().starts_with(start)).cloned());
            match page.last() {
                Some(last) if page.len() == PAGE && last.as_str().starts_with(start) => {
                    after = Some(last.clone())
                }
                _ => break,
            }
        }
        Ok(found)
    }
}
