//! Tags from where they are to where they are to be: those of one document together, quickly, and back if one of them
//! is refused.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::event::EventKind;
use crate::oci::{Condition, Digest, Document, Error, ErrorKind, Pointer, Repository, Tag, Terms};

use super::journal::Move;
use super::look::digest_at;
use super::publication::Target;

/// How many requests about tags are under way at once.
pub(super) const AT_ONCE: usize = 16;

/// How far the tags have come, for whoever has to say so when it ends early.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A tag was begun to be moved.
    pub(super) begun: AtomicBool,
    /// So many are where they should be.
    pub(super) done: AtomicUsize,
}

/// What hears of every fact.
pub(super) type Listener<'a> = &'a (dyn Fn(EventKind) + Send + Sync);

/// Moves tags at a target.
pub(super) struct Mover<'a> {
    pub(super) target: Target<'a>,
    /// Documents that need not be read from the target.
    pub(super) documents: BTreeMap<Digest, Document>,
    pub(super) progress: &'a Progress,
    pub(super) listener: Listener<'a>,
    /// Tags that were to go away and that the registry does not let go, as `repository:tag`.
    pub(super) stay: Mutex<Vec<String>>,
}

/// Why tags are not where they should be.
#[derive(Debug)]
pub(super) struct Stuck {
    /// What was being moved, as `repository:tag`.
    pub(super) reference: String,
    /// Why it was not.
    pub(super) error: Error,
}

impl Stuck {
    /// Whether it will be refused again, so that waiting does not help.
    pub(super) fn is_final(&self) -> bool {
        self.error.kind() != ErrorKind::Passing
    }
}

/// Tags of one repository that go from one place to another together.
type Group = ((Repository, Option<Digest>, Option<Digest>), Vec<Tag>);

impl Mover<'_> {
    /// Where the tags of a publication point now, in their order.
    pub(super) async fn places(&self, moves: &[Move]) -> Result<Vec<Option<Digest>>, Stuck> {
        places(self.target, moves).await
    }

    /// Moves every tag to its new place from where it was found, and gives the number of those that had to move. The
    /// first that cannot be moved ends it: what was begun is carried to its end, and nothing more is begun.
    pub(super) async fn forward(&self, moves: &[Move], places: &[Option<Digest>]) -> Result<usize, Stuck> {
        let (stand, go): (Vec<_>, Vec<_>) =
            moves.iter().zip(places).partition(|(one, place)| one.new == **place);
        for (one, _) in stand {
            self.tell(&one.repository, &one.tag, one.new.as_ref(), false);
        }
        let wanted = go.iter().map(|(one, place)| ((*one).clone(), (*place).clone()));
        let wanted: Vec<Move> = wanted.map(|(one, old)| Move { old, ..one }).collect();
        self.carry(&wanted).await?;
        Ok(wanted.len())
    }

    /// Puts back every tag that stands at its new place; one that was not there before is taken away.
    pub(super) async fn back(&self, moves: &[Move]) -> Result<(), Stuck> {
        let places = self.places(moves).await?;
        let moved = moves.iter().zip(places).filter(|(one, place)| one.new == *place && one.old != one.new);
        let wanted: Vec<Move> = moved
            .map(|(one, _)| Move { old: one.new.clone(), new: one.old.clone(), ..one.clone() })
            .collect();
        self.carry(&wanted).await
    }

    /// Moves tags phase by phase. Those that were somewhere go first: they can be put back everywhere, and of a new one
    /// not every registry lets itself be rid. Manifests go before indexes: docker-registry rewrites a manifest's link
    /// in place with each of its tags, and refuses a tag of an index that names it at that moment.
    async fn carry(&self, wanted: &[Move]) -> Result<(), Stuck> {
        let mut groups: BTreeMap<(Repository, Option<Digest>, Option<Digest>), Vec<Tag>> = BTreeMap::new();
        for one in wanted {
            let key = (one.repository.clone(), one.old.clone(), one.new.clone());
            groups.entry(key).or_default().push(one.tag.clone());
        }
        let mut phases: [Vec<(Group, Option<Document>)>; 5] = Default::default();
        for ((repository, old, new), tags) in groups {
            let document = match &new {
                None => None,
                Some(digest) => Some(self.document(&repository, digest, &tags).await?),
            };
            let is_index = document.as_ref().is_some_and(Document::is_index);
            let phase = match (&old, &new) {
                (_, None) => 4,
                (Some(_), _) => usize::from(is_index),
                (None, _) => 2 + usize::from(is_index),
            };
            phases[phase].push((((repository, old, new), tags), document));
        }
        let failed: Mutex<Option<Stuck>> = Mutex::new(None);
        for phase in phases {
            let work: Vec<_> = { phase.into_iter() }
                .map(|(group, document)| self.carry_group(group, document, &failed))
                .collect();
            stream::iter(work).for_each_concurrent(AT_ONCE, |work| work).await;
        }
        match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(stuck) => Err(stuck),
            None => Ok(()),
        }
    }

    async fn carry_group(&self, group: Group, document: Option<Document>, failed: &Mutex<Option<Stuck>>) {
        let ((repository, old, new), tags) = group;
        let locked = || failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if locked().is_some() {
            return;
        }
        self.progress.begun.store(true, Ordering::SeqCst);
        let carried = match &document {
            Some(document) => self.point(&repository, document, &tags, old.as_ref()).await,
            None => self.remove(&repository, &tags).await,
        };
        if let Err(stuck) = carried {
            locked().get_or_insert(stuck);
            return;
        }
        for tag in tags {
            self.tell(&repository, &tag, new.as_ref(), true);
        }
    }

    async fn point(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        old: Option<&Digest>,
    ) -> Result<(), Stuck> {
        let condition = old.map_or(Condition::Missing, |old| Condition::OneOf(vec![old.clone()]));
        let terms = Terms { tags: condition, ..Terms::default() };
        let written = self.target.store.write_document_on(repository, document, tags, &terms).await;
        written.map_err(|error| Stuck { reference: named(repository, tags), error })
    }

    /// Takes tags away. Not every registry lets that be done: what it refuses for good stays, and is named.
    async fn remove(&self, repository: &Repository, tags: &[Tag]) -> Result<(), Stuck> {
        for tag in tags {
            let reference = format!("{repository}:{tag}");
            match self.target.store.remove_tag(repository, tag).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) if error.kind() == ErrorKind::Passing => return Err(Stuck { reference, error }),
                Err(_) => self.stay.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(reference),
            }
        }
        Ok(())
    }

    /// The tags that stay although they were to go.
    pub(super) fn left(&self) -> Vec<String> {
        self.stay.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn document(
        &self,
        repository: &Repository,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<Document, Stuck> {
        if let Some(document) = self.documents.get(digest) {
            return Ok(document.clone());
        }
        let read = self.target.store.read_document(repository, &Pointer::Digest(digest.clone())).await;
        read.map_err(|error| Stuck { reference: named(repository, tags), error })
    }

    fn tell(&self, repository: &Repository, tag: &Tag, new: Option<&Digest>, moved: bool) {
        self.progress.done.fetch_add(1, Ordering::SeqCst);
        let reference = format!("{}/{repository}:{tag}", self.target.registry);
        (self.listener)(match new {
            Some(digest) => EventKind::TagPublished { reference, digest: digest.to_string(), moved },
            None if self.left().contains(&format!("{repository}:{tag}")) => return,
            None => EventKind::TagRemoved { reference },
        });
    }
}

/// Where tags point now, in their order.
pub(super) async fn places(target: Target<'_>, moves: &[Move]) -> Result<Vec<Option<Digest>>, Stuck> {
    let looks: Vec<_> = moves.iter().map(|one| place(target, one)).collect();
    stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

async fn place(target: Target<'_>, one: &Move) -> Result<Option<Digest>, Stuck> {
    let found = digest_at(target.store, &one.repository, one.tag.clone()).await;
    found.map_err(|error| Stuck { reference: format!("{}:{}", one.repository, one.tag), error })
}

fn named(repository: &Repository, tags: &[Tag]) -> String {
    match tags {
        [first, rest @ ..] if !rest.is_empty() => format!("{repository}:{first} and {} more", rest.len()),
        [first, ..] => format!("{repository}:{first}"),
        [] => repository.to_string(),
    }
}
