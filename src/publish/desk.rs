//! The place where the journals of a target are kept, and who may write there: one publication at a time.
//!
//! Where the target keeps conditions on tags, the reserved tag is moved only from where it was read, and of two who
//! want to begin one is refused. Elsewhere whoever has written waits longer than another could have needed between
//! reading and writing, and reads again: if it is still his own, he has begun. That holds as long as nobody's write is
//! delayed for longer than that; the specification offers nothing better.

use std::time::Duration;

use bytes::Bytes;

use crate::oci::{
    Condition, Descriptor, Digest, Document, Error, ErrorKind, Memory, Origin, Pointer, Repository, Store,
    Tag, Terms,
};

use super::journal::{EMPTY, ENTRY_BYTES, Entry, Journal, Listed, RESERVED_TAG, State};

/// At least so long is waited before the list is read again.
const SETTLING: Duration = Duration::from_millis(100);
/// So many times as long as reading and writing took.
const SLOWER: u32 = 3;
/// After so long the list is written again, where it is not known whether it was.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];

/// Milliseconds since 1970-01-01 UTC.
pub(crate) type Clock<'a> = &'a (dyn Fn() -> u64 + Send + Sync);

/// The list of publications of a target.
#[derive(Clone)]
pub(super) struct Desk<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) repository: Repository,
}

/// The list as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// What it says.
    pub(crate) journal: Journal,
    /// The document that says it; none where there is no list yet.
    pub(super) head: Option<Digest>,
}

impl Page {
    /// The list as it stands once it is written.
    pub(super) fn of(journal: Journal) -> Result<Self, Error> {
        let head = Some(journal.document()?.digest().clone());
        Ok(Self { journal, head })
    }

    /// The same once a publication is taken back.
    pub(super) fn without(&self, id: &str) -> Self {
        let journal = self.journal.with_state(id, &State::RolledBack(String::new()));
        Self { journal, head: self.head.clone() }
    }
}

impl Desk<'_> {
    fn tag() -> Tag {
        RESERVED_TAG.parse().expect("the reserved name is a tag")
    }

    /// Reads the list.
    ///
    /// # Errors
    /// Where the target fails, or what stands there is no list.
    pub(super) async fn read(&self) -> Result<Page, Error> {
        match self.store.read_document(&self.repository, &Pointer::Tag(Self::tag())).await {
            Ok(document) => {
                Ok(Page { journal: Journal::parse(&document)?, head: Some(document.digest().clone()) })
            }
            Err(error) if error.is_not_found() => Ok(Page::default()),
            Err(error) => Err(error),
        }
    }

    /// Reads one journal.
    ///
    /// # Errors
    /// Where the target fails or has lost it.
    pub(super) async fn entry(&self, listed: &Listed) -> Result<Entry, Error> {
        let Some(digest) = &listed.digest else {
            return Err(Error::new(ErrorKind::NotFound, format!("find the journal of {}", listed.id)));
        };
        let reader = self.store.read_blob(&self.repository, digest, None).await?;
        Entry::parse(&reader.collect(digest, ENTRY_BYTES).await?)
    }

    /// Brings the bytes of a journal, which nothing names yet.
    pub(super) async fn bring(&self, page: &Page, entry: Bytes) -> Result<(), Error> {
        let empty = page.head.is_none().then(|| Bytes::from_static(EMPTY));
        for bytes in [Some(entry), empty].into_iter().flatten() {
            let memory = Memory::new();
            let blob = Descriptor::of("", &bytes);
            memory.write_blob(&self.repository, bytes).await?;
            let origin = Origin { store: &memory, repository: &self.repository };
            self.store.take_blob(&self.repository, &blob, None, &origin).await?;
        }
        Ok(())
    }

    /// Writes the list, unless another has since it was read. Where the target keeps no conditions that is looked at
    /// just before each try. Where an answer is lost it is looked at what stands there.
    ///
    /// # Errors
    /// `Moved` where another has.
    pub(super) async fn write(&self, page: &Page, journal: Journal) -> Result<Page, Error> {
        let document = journal.document()?;
        let written = Page { journal, head: Some(document.digest().clone()) };
        let condition = page.head.clone().map_or(Condition::Missing, |head| Condition::OneOf(vec![head]));
        let mut pauses = AGAIN.iter();
        let mut found = None;
        loop {
            let is_kept = self.store.keeps_conditions();
            if !is_kept && found.is_none() {
                found = Some(self.read().await?.head);
            }
            if found.take().is_some_and(|head| head != page.head) {
                return Err(taken());
            }
            let terms = Terms { tags: condition.clone(), once: !is_kept, ..Terms::default() };
            let lost = match self.put(&document, &terms).await {
                Ok(()) => return Ok(written),
                Err(error) if error.kind() == ErrorKind::Passing => error,
                Err(error) => return Err(error),
            };
            let Ok(stands) = self.read().await else { return Err(lost) };
            if stands.head == written.head {
                return Ok(written);
            }
            let Some(pause) = pauses.next() else { return Err(lost) };
            tokio::time::sleep(*pause).await;
            found = if is_kept { Some(stands.head) } else { None };
        }
    }

    /// Writes the list where that is the beginning of a publication: nobody else begins one at the same time.
    ///
    /// # Errors
    /// `Moved` where another has begun.
    pub(super) async fn claim(&self, page: &Page, journal: Journal, clock: Clock<'_>) -> Result<Page, Error> {
        let since = clock();
        let written = self.write(page, journal).await?;
        if !self.store.keeps_conditions() {
            let took = Duration::from_millis(clock().saturating_sub(since));
            tokio::time::sleep(SETTLING.max(took * SLOWER)).await;
            if self.read().await?.head != written.head {
                return Err(taken());
            }
        }
        Ok(written)
    }

    async fn put(&self, document: &Document, terms: &Terms) -> Result<(), Error> {
        self.store.write_document_on(&self.repository, document, &[Self::tag()], terms).await
    }
}

fn taken() -> Error {
    Error::new(ErrorKind::Moved, "write the list of publications: another has written it meanwhile")
}
