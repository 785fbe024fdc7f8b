//! One publication at a time: the list is read, a publication that was cut off is completed, the journal is written,
//! tags move, and it is said that they have.
//!
//! ```text
//! look ──▶ (content is brought) ──▶ begin ──▶ carry ──▶ (tags are read back) ──▶ end
//!  older? another one?             wait for, or complete, another; write the journal
//! ```
//!
//! Everything that the journal names was seen to be there before it was written, so whoever comes next completes it
//! without the store that it came from. What a registry refuses for good is put back instead.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::event::EventKind;
use crate::oci::{Digest, Error, ErrorKind, Repository};

use super::carry_out::problem;
use super::desk::{Clock, Desk, Page};
use super::draft::Draft;
use super::generation::Generation;
use super::journal::{Entry, Journal, Listed, Move, State};
use super::moves::{Listener, Mover, Progress, Stuck, places};
use super::publication::Target;

/// How often it is looked whether another publication has ended.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long the target is waited for when a publication ends early.
const LEAVING: Duration = Duration::from_secs(2);

/// Who publishes, and how new that is.
pub(crate) struct Publisher<'a> {
    /// The name of the publication.
    pub(crate) id: String,
    /// How new it is.
    pub(crate) generation: Generation,
    /// The commit of the family's files.
    pub(crate) commit: Option<String>,
    /// Tags may go back to an older publication.
    pub(crate) allow_older: bool,
    /// How long another publication is waited for.
    pub(crate) patience: Duration,
    /// The process that publishes, in words that another can tell to be gone.
    pub(crate) holder: String,
    /// Whether the process of those words is known to be gone.
    pub(crate) is_gone: &'a (dyn Fn(&str) -> bool + Send + Sync),
    /// The time.
    pub(crate) clock: Clock<'a>,
}

/// A publication that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// Its journal.
    pub(super) entry: Entry,
    /// Where its tags were when it began.
    pub(super) places: Vec<Option<Digest>>,
    /// The journal is written; it is not where no tag has to move.
    pub(super) is_written: bool,
}

/// Where its tags are in the end.
#[derive(Debug)]
pub(super) enum Carried {
    /// Where they were to be; so many had to move.
    Forward(usize),
    /// Where they were before, and the journal says so: this was refused.
    Back(Problems),
}

impl Carried {
    /// How many had to move.
    ///
    /// # Errors
    /// What was refused.
    pub(super) fn moved(self) -> Result<usize> {
        match self {
            Self::Forward(moved) => Ok(moved),
            Self::Back(refused) => Err(refused),
        }
    }
}

/// Publications at one target.
pub(super) struct Transaction<'a> {
    pub(super) desk: Desk<'a>,
    pub(super) target: Target<'a>,
    pub(super) publisher: &'a Publisher<'a>,
    pub(super) listener: Listener<'a>,
    /// The list as this publication has written it, while it is open.
    held: Mutex<Option<Page>>,
}

/// What refuses a publication once it is known where its tags are.
pub(super) type Policy<'a> = &'a (dyn Fn(&[Move]) -> Result<()> + Send + Sync);

/// What refuses a publication by what the list says once nobody else publishes.
pub(super) type Recheck<'a> = &'a (dyn Fn(Page) -> BoxFuture<'a, Result<()>> + Send + Sync);

impl<'a> Transaction<'a> {
    pub(super) fn new(
        target: Target<'a>,
        home: &Repository,
        publisher: &'a Publisher<'a>,
        listener: Listener<'a>,
    ) -> Self {
        let desk = Desk { store: target.store, repository: home.clone() };
        Self { desk, target, publisher, listener, held: Mutex::new(None) }
    }

    /// Reads the list before anything is brought, and refuses what is older than what is published. A registry that
    /// lets nobody look at a repository which is not there yet has no list.
    pub(super) async fn look(&self, draft: &Draft) -> Result<Page> {
        let page = match self.desk.read().await {
            Err(error) if error.kind() == ErrorKind::Denied => Page::default(),
            read => read.map_err(|error| self.unread(error))?,
        };
        self.refuse_older(&page, draft).await?;
        Ok(page)
    }

    /// Begins: nobody else is publishing, what was cut off is completed, the journal is written.
    ///
    /// # Errors
    /// Where a policy refuses it, another publication does not end, or the target fails.
    pub(super) async fn begin(
        &self,
        page: Page,
        draft: &Draft,
        policy: Policy<'_>,
        recheck: Recheck<'_>,
    ) -> Result<Begun> {
        let (since, mut page) = (self.now(), page);
        loop {
            page = match self.alone(page, since).await? {
                Some(page) => page,
                None => self.desk.read().await.map_err(|error| self.unread(error))?,
            };
            if page.journal.open().is_some() {
                continue;
            }
            self.refuse_older(&page, draft).await?;
            recheck(page.clone()).await?;
            let places = places(self.target, &draft.tags).await.map_err(|stuck| self.unseen(stuck))?;
            let standing = self.standing(&page, draft).await?;
            let entry = self.entry(&page, draft, &places, &standing);
            policy(&entry.tags)?;
            let again = self.stands_again(&page, &standing, &entry);
            let (journal, is_written) = match again {
                Some(journal) => (journal, false),
                None => (self.opened(&page, &entry, draft).await?, true),
            };
            if !is_written && journal == page.journal {
                return Ok(Begun { entry, places, is_written });
            }
            match self.claim(&page, journal, is_written).await {
                Ok(()) => return Ok(Begun { entry, places, is_written }),
                // Another was faster: it is waited for.
                Err(error) if error.kind() == ErrorKind::Moved => {
                    self.out_of_patience(since)?;
                    page = self.desk.read().await.map_err(|error| self.unread(error))?;
                }
                Err(error) => return Err(self.unwritten(error)),
            }
        }
    }

    /// Writes the list, and holds it from before that: whoever is stopped meanwhile may have written it.
    async fn claim(&self, page: &Page, journal: Journal, holds: bool) -> Result<(), Error> {
        *self.held() = if holds { Some(Page::of(journal.clone())?) } else { None };
        let claimed = self.desk.claim(page, journal, self.publisher.clock).await;
        if claimed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Moved) {
            *self.held() = None;
        }
        claimed.map(drop)
    }

    /// Moves the tags while the journal says that somebody is alive. What is refused for good is put back.
    ///
    /// # Errors
    /// Of kind [`Kind::Incomplete`] where the same command goes on.
    pub(super) async fn carry(&self, begun: &Begun, mover: &Mover<'_>) -> Result<Carried> {
        let stuck = match self.alive(mover.forward(&begun.entry.tags, &begun.places)).await? {
            Ok(moved) => return Ok(Carried::Forward(moved)),
            Err(stuck) => stuck,
        };
        let tags = begun.entry.tags.len();
        if !stuck.is_final() {
            let found = self.unmoved(&stuck);
            return Err(incomplete(found, mover.progress, tags).into());
        }
        // Whoever has taken it over completes it.
        if !self.renew().await? {
            return Err(incomplete(self.unmoved(&stuck), mover.progress, tags).into());
        }
        match self.alive(mover.back(&begun.entry.tags)).await? {
            Ok(()) => {
                let (found, left) = (self.unmoved(&stuck), mover.left());
                let found = match left.is_empty() {
                    true => found.because("nothing is published: every tag is where it was"),
                    false => {
                        let left = left.join(", ");
                        let new =
                            format!("the others are where they were; new, and not removable there: {left}");
                        incomplete(found.because(new), mover.progress, tags)
                    }
                };
                match self.end(&begun.entry, &State::Undone).await {
                    Ok(()) => Ok(Carried::Back(found.into())),
                    Err(unsaid) => Err(self.unsaid(found, &unsaid).into()),
                }
            }
            Err(kept) => {
                let found = self.unmoved(&stuck).because(format!("and {} was not put back", kept.reference));
                Err(incomplete(found.caused_by(&kept.error), mover.progress, tags).into())
            }
        }
    }

    /// What was refused, and that the journal still stands open after it.
    fn unsaid(&self, mut refused: Diagnostic, unsaid: &Problems) -> Diagnostic {
        refused.kind = Kind::Incomplete;
        let why = unsaid.iter().flat_map(|one| &one.causes).map(String::as_str);
        let why = std::iter::once("and the journal could not say so").chain(why);
        why.fold(refused, Diagnostic::because).again()
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// Of kind [`Kind::Incomplete`] where another publication has begun meanwhile, or the target fails.
    pub(super) async fn end(&self, entry: &Entry, state: &State) -> Result<()> {
        let Some(page) = self.held().take() else { return Ok(()) };
        let mut journal = page.journal.with_state(&entry.id, state);
        if let (State::Done, Some(back)) = (state, &entry.rolls_back) {
            journal = journal.with_state(back, &State::RolledBack(entry.id.clone()));
        }
        let written = self.desk.write(&page, journal).await;
        written.map(drop).map_err(|error| {
            let found = match error.kind() {
                ErrorKind::Moved => {
                    Diagnostic::surroundings("another publication began before this one ended")
                        .caused_by(&error)
                }
                _ => problem("end the publication", self.target, error),
            };
            incomplete(found, &Progress::default(), entry.tags.len()).into()
        })
    }

    /// Says, where the journal is open, that nobody works on it any more, so that the next need not wait. A publication
    /// of which no tag has begun to move is none.
    pub(super) async fn leave(&self, progress: &Progress) {
        let Some(page) = self.held().take() else { return };
        let Some(id) = page.journal.open().map(|(open, _)| open.id.clone()) else { return };
        let untouched = self.is_own(&id) && !progress.begun.load(Ordering::SeqCst);
        let state = match untouched {
            true => State::Undone,
            false => State::Open { until_seconds: 0, holder: self.publisher.holder.clone() },
        };
        let journal = page.journal.with_state(&id, &state);
        // The next one waits until it is plain that nobody is alive, where this does not arrive.
        let _ = tokio::time::timeout(LEAVING, self.desk.write(&page, journal)).await;
    }

    /// Waits until nobody publishes, or completes what nobody works on. `None` where the list is to be read again.
    async fn alone(&self, page: Page, since: u64) -> Result<Option<Page>> {
        let Some((open, until)) = page.journal.open() else { return Ok(Some(page)) };
        if !self.is_alive(open, until) {
            let open = open.clone();
            return self.complete(page, &open).await;
        }
        self.out_of_patience(since)?;
        (self.listener)(EventKind::PublicationAwaited { id: open.id.clone() });
        tokio::time::sleep(LOOK).await;
        Ok(None)
    }

    /// Whether somebody may still work on an open publication.
    pub(super) fn is_alive(&self, open: &Listed, until_seconds: u64) -> bool {
        let holder = match &open.state {
            State::Open { holder, .. } => holder.as_str(),
            _ => "",
        };
        until_seconds > self.now() / 1_000 && !(self.publisher.is_gone)(holder)
    }

    /// Completes a publication that nobody works on any more.
    async fn complete(&self, page: Page, open: &Listed) -> Result<Option<Page>> {
        let entry = self.desk.entry(open).await.map_err(|error| {
            problem(
                &format!("read the journal of the publication {}, which was cut off,", open.id),
                self.target,
                error,
            )
        })?;
        let journal = page.journal.with_state(&open.id, &self.open_state());
        match self.claim(&page, journal, true).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Moved => return Ok(None),
            Err(error) => return Err(self.unwritten(error)),
        }
        let progress = Progress::default();
        progress.begun.store(true, Ordering::SeqCst);
        let quiet = |_| {};
        let mover = Mover {
            target: self.target,
            documents: Default::default(),
            progress: &progress,
            listener: &quiet,
            stay: Default::default(),
        };
        let found = mover.places(&entry.tags).await.map_err(|stuck| self.unseen(stuck))?;
        // A tag that somebody else has moved since is not ours any more.
        let ours =
            entry.tags.iter().zip(&found).filter(|(one, place)| one.old == **place || one.new == **place);
        let (moves, found): (Vec<Move>, Vec<_>) =
            ours.map(|(one, place)| (one.clone(), place.clone())).unzip();
        let begun = Begun { entry: Entry { tags: moves, ..entry.clone() }, places: found, is_written: true };
        let put_back = match self.carry(&begun, &mover).await {
            Ok(Carried::Forward(_)) => {
                self.end(&entry, &State::Done).await?;
                false
            }
            Ok(Carried::Back(_)) => true,
            // Yet another has taken it over.
            Err(_) if self.held().is_none() => return Ok(None),
            Err(problems) => return Err(problems),
        };
        (self.listener)(EventKind::PublicationCompleted { id: entry.id, put_back });
        Ok(None)
    }

    /// An older publication moves no tag that a newer one has moved.
    async fn refuse_older(&self, page: &Page, draft: &Draft) -> Result<()> {
        let Publisher { generation, allow_older, .. } = *self.publisher;
        if allow_older || generation >= page.journal.highest {
            return Ok(());
        }
        // Another, such as the same command at the same time, has done already what this one is to do.
        if draft.rolls_back.is_none() && self.stands(draft).await? {
            return Ok(());
        }
        for listed in &page.journal.listed {
            if listed.generation <= generation || listed.state == State::Undone {
                continue;
            }
            let entry = self.read_entry(listed).await?;
            let same = |one: &&Move| {
                draft.tags.iter().any(|own| own.repository == one.repository && own.tag == one.tag)
            };
            if let Some(newer) = entry.tags.iter().find(same) {
                let reference = format!("{}/{}:{}", self.target.registry, newer.repository, newer.tag);
                let what = format!("a newer publication, {}, has moved {reference}", listed.id);
                return Err(Diagnostic::new(Kind::Policy, what)
                    .because("this one is of an older commit, or was planned before it")
                    .hint("let tags go back: polyarch publish --allow-rollback")
                    .into());
            }
        }
        Ok(())
    }

    /// Whether every tag is where it is to be.
    async fn stands(&self, draft: &Draft) -> Result<bool> {
        let places = places(self.target, &draft.tags).await.map_err(|stuck| self.unseen(stuck))?;
        Ok(draft.tags.iter().zip(places).all(|(one, place)| one.new == place))
    }

    pub(super) async fn read_entry(&self, listed: &Listed) -> Result<Entry> {
        let read = self.desk.entry(listed).await;
        Ok(read.map_err(|error| problem(&format!("read the journal of {}", listed.id), self.target, error))?)
    }

    fn out_of_patience(&self, since: u64) -> Result<()> {
        let waited = Duration::from_millis(self.now().saturating_sub(since));
        if waited <= self.publisher.patience {
            return Ok(());
        }
        let what = format!(
            "another publication at {} has not ended in {}",
            self.target.registry,
            count(waited.as_secs() as usize, "second")
        );
        Err(Diagnostic::surroundings(what).hint("see which: polyarch publications").into())
    }

    pub(super) fn now(&self) -> u64 {
        (self.publisher.clock)()
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Option<Page>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unread(&self, error: Error) -> Problems {
        problem(&format!("read the publications of {}", self.desk.repository), self.target, error).into()
    }

    pub(super) fn unwritten(&self, error: Error) -> Problems {
        problem(&format!("write the journal to {}", self.desk.repository), self.target, error).into()
    }

    fn unseen(&self, stuck: Stuck) -> Diagnostic {
        problem(&format!("read the tag {}", stuck.reference), self.target, stuck.error)
    }

    fn unmoved(&self, stuck: &Stuck) -> Diagnostic {
        let doing = format!("move the tag {}", stuck.reference);
        super::carry_out::problem_of(&doing, self.target, &stuck.error)
    }
}

/// A publication that was stopped: nothing has happened until a tag has begun to move.
pub(super) fn stopped_after(stopped: Diagnostic, progress: &Progress, tags: usize) -> Diagnostic {
    match progress.begun.load(Ordering::SeqCst) {
        true => incomplete(stopped, progress, tags),
        false => stopped,
    }
}

/// A publication whose tags have begun to move and that is not over.
pub(super) fn incomplete(problem: Diagnostic, progress: &Progress, tags: usize) -> Diagnostic {
    let done = progress.done.load(Ordering::SeqCst);
    let what = "the publication is incomplete, and every tag points at whole content";
    Diagnostic::new(Kind::Incomplete, what)
        .because(format!("{done} of {tags} tags are where they should be"))
        .again()
        .because_of(&problem)
}

#[cfg(test)]
mod tests;
