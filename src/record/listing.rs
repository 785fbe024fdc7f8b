//! The tags of a scope, and the scopes of a store, page by page.

use std::collections::BTreeSet;

use crate::family::SCOPES;
use crate::oci::{Error, ErrorKind, Repository, Store, Tag};

use super::{Records, ScopeName};

/// How many tags, or repositories, are asked for at once, and how many times.
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

    /// The scopes that hold something, other than the trusted one: in the folder, and at the registry by its own list.
    ///
    /// # Errors
    /// Where the folder or the registry fails, and where that lists none of its repositories.
    pub(super) async fn other_scopes(&self) -> Result<BTreeSet<ScopeName>, Error> {
        let below: Repository = SCOPES.trim_end_matches('/').parse()?;
        let mut found = scopes_below(&*self.local, &below).await?;
        if let Some(far) = &self.far {
            let there = scopes_below(&*far.store, &far.repository(&below)?).await?;
            if !there.contains(&ScopeName::trusted())
                && !far.store.tags(far.trusted(), None, 1).await?.is_empty()
            {
                let what = "the registry lists none of the repositories that it has here";
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
            found.extend(there);
        }
        found.remove(&ScopeName::trusted());
        Ok(found)
    }
}

async fn scopes_below(store: &dyn Store, below: &Repository) -> Result<BTreeSet<ScopeName>, Error> {
    let (mut after, mut found) = (below.clone(), BTreeSet::new());
    for _ in 0..PAGES {
        let page = store.repositories(Some(&after), PAGE).await?;
        let names =
            page.iter().filter_map(|name| name.as_str().strip_prefix(below.as_str())?.strip_prefix('/'));
        found.extend(names.filter_map(|name| name.parse::<ScopeName>().ok()));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.clone(),
            _ => break,
        }
    }
    Ok(found)
}
