//! The tags that engines push to while they build. A job takes its own away; these are of jobs that could not.

use crate::engine::{Deed, RunId};
use crate::oci::{Error, Tag};
use crate::record::Records;

use super::job::passing_over_absence;

/// What stands before all of them, and sorts just before them.
const PREFIX: &str = "build-";
/// How many tags are asked for at once.
const PAGE: usize = 1000;
/// How many times; the next run goes on with what is left.
const PAGES: usize = 1000;

/// Remove the tags of the builds of these runs from the scope, a million at most; how many there were.
///
/// # Errors
/// Where the store fails. One that lets nobody remove tags keeps them.
pub(crate) async fn sweep_tags(records: &Records, is_meant: impl Fn(&RunId) -> bool) -> Result<usize, Error> {
    find_tags(records, is_meant, Deed::Remove).await
}

/// How many [`sweep_tags`] would remove.
///
/// # Errors
/// Where the store fails.
pub(crate) async fn count_tags(records: &Records, is_meant: impl Fn(&RunId) -> bool) -> Result<usize, Error> {
    find_tags(records, is_meant, Deed::Name).await
}

async fn find_tags(records: &Records, is_meant: impl Fn(&RunId) -> bool, deed: Deed) -> Result<usize, Error> {
    let mut found = 0;
    let mut after: Tag = PREFIX.parse()?;
    for _ in 0..PAGES {
        let page = records.store.tags(&records.scope, Some(&after), PAGE).await?;
        let ours = page.iter().take_while(|tag| tag.as_str().starts_with(PREFIX));
        let meant = |tag: &&Tag| RunId::of_build_tag(tag.as_str()).is_some_and(|run| is_meant(&run));
        for tag in ours.filter(meant) {
            if deed == Deed::Remove {
                records.store.remove_tag(&records.scope, tag).await.or_else(passing_over_absence)?;
            }
            found += 1;
        }
        match page.last() {
            Some(last) if page.len() == PAGE && last.as_str().starts_with(PREFIX) => after = last.clone(),
            _ => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Document, ImageIndex, Memory};

    #[tokio::test]
    async fn f_g5_the_tags_of_builds_that_are_over_go_and_no_others() {
        let records = Records::new(Arc::new(Memory::new()), "scopes/trusted".parse().expect("a scope"));
        let index = ImageIndex::new(Vec::new());
        let (over, alive) = (RunId("a-1234-5-6".to_owned()), RunId("b-1234-7-8".to_owned()));
        let kept =
            ["a", "build-", "build-number", "builder-1", "image-1"].map(|tag| tag.parse().expect("a tag"));
        let mut tags: Vec<Tag> = kept.to_vec();
        tags.extend((0..2 * PAGE).map(|number| over.build_tag(number).expect("a tag")));
        tags.push(alive.build_tag(1).expect("a tag"));
        records
            .store
            .write_document(&records.scope, &Document::of_index(&index), &tags)
            .await
            .expect("written");
        assert_eq!(count_tags(&records, |run| *run == over).await.expect("counted"), 2 * PAGE);
        let removed = sweep_tags(&records, |run| *run == over).await.expect("swept");
        assert_eq!(removed, 2 * PAGE);
        let left = records.store.tags(&records.scope, None, 10).await.expect("tags");
        let left: Vec<&str> = left.iter().map(Tag::as_str).collect();
        assert_eq!(left, ["a", "build-", "build-b-1234-7-8-1", "build-number", "builder-1", "image-1"]);
    }
}
