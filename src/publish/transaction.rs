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
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::diag::{Diagnostic, Kind, Result, count};
use crate::event::EventKind;
use crate::oci::{Digest, Error, ErrorKind, Repository};

use super::carry_out::problem;
use super::desk::{Clock, Desk, Page};
use super::generation::Generation;
use super::journal::{Brought, Entry, JOURNAL_VERSION, Journal, Listed, Move, State};
use super::moves::{Listener, Mover, Progress, Stuck, places};
use super::publication::Target;
use super::standing::{Open, Standing};

/// How long a publication that says nothing more is taken to be alive.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How often it is looked whether another publication has ended.
const LOOK: Duration = Duration::from_secs(1);
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
    pub(super) async fn carry(&self, begun: &Begun, mover: &Mover<'_>) -> Result<usize> {
        let stuck = match self.alive(mover.forward(&begun.entry.tags, &begun.places)).await? {
            Ok(moved) => return Ok(moved),
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
                self.end(&begun.entry, &State::Undone).await?;
                if left.is_empty() {
                    return Err(found.because("nothing is published: every tag is where it was").into());
                }
                let new = format!(
                    "the others are where they were; new, and not removable there: {}",
                    left.join(", ")
                );
                Err(incomplete(found.because(new), mover.progress, tags).into())
            }
            Err(kept) => {
                let found = self.unmoved(&stuck).because(format!("and {} was not put back", kept.reference));
                Err(incomplete(found.caused_by(&kept.error), mover.progress, tags).into())
            }
        }
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
        match self.carry(&begun, &mover).await {
            Ok(_) => self.end(&entry, &State::Done).await?,
            // It was put back, and the list says so.
            Err(_) if self.held().is_none() => {
                (self.listener)(EventKind::PublicationCompleted { id: entry.id, put_back: true });
                return Ok(None);
            }
            Err(problems) => return Err(problems),
        }
        (self.listener)(EventKind::PublicationCompleted { id: entry.id, put_back: false });
        Ok(None)
    }

    /// Does work while the journal is kept open, so that nobody takes it for dead. Who has stood still for long looks
    /// whether it is still his own before anything else is done.
    async fn alive<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        let mut due = self.lease_ends().saturating_sub(milliseconds(LEASE) * 2 / 3);
        loop {
            tokio::select! {
                biased;
                () = self.reached(due) => {}
                done = &mut work => return Ok(done),
            }
            due = match self.renew().await? {
                true => self.lease_ends().saturating_sub(milliseconds(LEASE) * 2 / 3),
                false => self.now() + milliseconds(LOOK) * 5,
            };
        }
    }

    /// Waits for a moment of the clock, which goes on while the machine sleeps.
    async fn reached(&self, moment: u64) {
        let left = Duration::from_millis(moment.saturating_sub(self.now()));
        let mut sleep = std::pin::pin!(tokio::time::sleep(left));
        std::future::poll_fn(|cx| match self.now() >= moment {
            true => Poll::Ready(()),
            false => sleep.as_mut().poll(cx),
        })
        .await;
    }

    /// Until when this publication is taken to be alive; for ever where it has no journal.
    fn lease_ends(&self) -> u64 {
        let held = self.held();
        let open = held.as_ref().and_then(|page| page.journal.open());
        open.map_or(u64::MAX, |(_, until_seconds)| until_seconds.saturating_mul(1_000))
    }

    /// Says that somebody is alive. `false` where that did not arrive; whether it is still his own is not known then.
    ///
    /// # Errors
    /// Where another has taken the publication over, or could have.
    async fn renew(&self) -> Result<bool> {
        let Some(page) = self.held().clone() else { return Ok(true) };
        let Some(id) = page.journal.open().map(|(open, _)| open.id.clone()) else { return Ok(true) };
        let journal = page.journal.with_state(&id, &self.open_state());
        let error = match self.desk.write(&page, journal).await {
            Ok(page) => {
                *self.held() = Some(page);
                return Ok(true);
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Moved {
            *self.held() = None;
            let found = Diagnostic::new(Kind::Incomplete, "another publication has taken this one over");
            return Err(found.caused_by(&error).hint("see what became of it: polyarch publications").into());
        }
        if self.now() >= self.lease_ends() {
            let found = Diagnostic::new(Kind::Incomplete, "the registry could not be told that this goes on");
            return Err(found.caused_by(&error).hint("run the same command again").into());
        }
        Ok(false)
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

    /// The name of this publication: another, where the same command has published here before.
    fn name(&self, page: &Page) -> String {
        let own = &self.publisher.id;
        let before = page.journal.listed.iter().filter(|listed| self.is_own(&listed.id)).count();
        if before == 0 { own.clone() } else { format!("{own}-{}", before + 1) }
    }

    /// Whether this command publishes, or has published, under a name.
    fn is_own(&self, id: &str) -> bool {
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
    async fn opened(&self, page: &Page, entry: &Entry, draft: &Draft) -> Result<Journal> {
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

    pub(super) async fn read_entry(&self, listed: &Listed) -> Result<Entry> {
        let read = self.desk.entry(listed).await;
        Ok(read.map_err(|error| problem(&format!("read the journal of {}", listed.id), self.target, error))?)
    }

    fn open_state(&self) -> State {
        let until_seconds = (self.now() / 1_000).saturating_add(LEASE.as_secs());
        State::Open { until_seconds, holder: self.publisher.holder.clone() }
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

    fn now(&self) -> u64 {
        (self.publisher.clock)()
    }

    fn held(&self) -> MutexGuard<'_, Option<Page>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unread(&self, error: Error) -> crate::diag::Problems {
        problem(&format!("read the publications of {}", self.desk.repository), self.target, error).into()
    }

    fn unwritten(&self, error: Error) -> crate::diag::Problems {
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
    let mut all = Diagnostic::new(
        Kind::Incomplete,
        "the publication is incomplete, and every tag points at whole content",
    )
    .because(format!("{done} of {tags} tags are where they should be"))
    .because(&problem.message);
    all.causes.extend(problem.causes);
    all.hints = problem.hints;
    all.hint("run the same command again: it does what is missing")
}
