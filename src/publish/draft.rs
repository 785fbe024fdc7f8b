//! What a publication is to do, as its journal says it once it is known where its tags are and what stands beside it.

use crate::diag::Result;
use crate::oci::Digest;

use super::desk::Page;
use super::journal::{Brought, Entry, JOURNAL_VERSION, Journal, Listed, Move};
use super::standing::{Open, Standing};
use super::transaction::Transaction;

/// What a publication is to do, before it is known where its tags are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// Its tags; where they were before is not said yet.
    pub(super) tags: Vec<Move>,
    /// What it brings.
    pub(super) images: Vec<Brought>,
    /// The publication that it takes back.
    pub(super) rolls_back: Option<String>,
}

impl Transaction<'_> {
    /// The name of this publication: another, where the same command has published here before.
    fn name(&self, page: &Page) -> String {
        let own = &self.publisher.id;
        let before = page.journal.listed.iter().filter(|listed| self.is_own(&listed.id)).count();
        if before == 0 { own.clone() } else { format!("{own}-{}", before + 1) }
    }

    /// Whether this command publishes, or has published, under a name.
    pub(super) fn is_own(&self, id: &str) -> bool {
        id.strip_prefix(&self.publisher.id).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The journal of this publication, beside what stands.
    pub(super) fn entry(
        &self,
        page: &Page,
        draft: &Draft,
        places: &[Option<Digest>],
        standing: &Standing,
    ) -> Entry {
        let tags = draft.tags.iter().zip(places);
        Entry {
            version: JOURNAL_VERSION,
            id: self.name(page),
            rolls_back: draft.rolls_back.clone(),
            generation: self.publisher.generation,
            begun_seconds: self.now() / 1_000,
            commit: self.publisher.commit.clone(),
            tags: tags.map(|(one, old)| Move { old: old.clone(), ..one.clone() }).collect(),
            images: draft.images.clone(),
            earlier: standing.beside(&draft.images),
        }
    }

    /// The list with this publication open in it, its journal brought.
    pub(super) async fn opened(&self, page: &Page, entry: &Entry, draft: &Draft) -> Result<Journal> {
        let bytes = entry.bytes().map_err(|error| self.unwritten(error))?;
        // Those that it only carries on from before are not counted.
        let listed = Listed { images: draft.images.len(), ..entry.listed(self.open_state(), &bytes) };
        self.desk.bring(page, bytes).await.map_err(|error| self.unwritten(error))?;
        Ok(page.journal.with(listed))
    }

    /// The list where nothing has to move. The newest publication has put every tag to where it is to be: that one
    /// stands at this generation too. Or what is to be taken back was taken back: as it is. `None` where there is more to
    /// say.
    pub(super) fn stands_again(&self, page: &Page, standing: &Standing, entry: &Entry) -> Option<Journal> {
        if entry.tags.iter().any(|one| one.old != one.new) {
            return None;
        }
        if let Some(back) = &entry.rolls_back {
            return page.journal.is_taken_back(back).then(|| page.journal.clone());
        }
        let before = standing.entries.first()?;
        let put = |one: &Move| {
            let same = |other: &&Move| other.repository == one.repository && other.tag == one.tag;
            before.tags.iter().find(same).is_some_and(|other| other.new == one.new)
        };
        let newest = page.journal.find(&before.id).filter(|_| entry.tags.iter().all(put))?.clone();
        let generation = newest.generation.max(self.publisher.generation);
        Some(page.journal.with(Listed { generation, ..newest }))
    }

    /// What stands beside this publication: not what it takes back.
    pub(super) async fn standing(&self, page: &Page, draft: &Draft) -> Result<Standing> {
        let page = match &draft.rolls_back {
            Some(back) => page.without(back),
            None => page.clone(),
        };
        let read = Standing::now(&self.desk, &page, Open::DoesNot).await;
        read.map_err(|error| self.unread(error))
    }
}
