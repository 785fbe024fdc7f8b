//! A registry in virtual time: it delays, fails, loses answers, refuses, restarts and collects its garbage, and each of
//! its changes is held against what must hold.
//!
//! A request is on its way by itself: it arrives though who sent it has crashed or stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::invariants::{Known, Shadow, Writer, now};
use super::journal::RESERVED_TAG;
use crate::dice::Dice;
use crate::oci::{
    BlobReader, Completeness, Condition, Descriptor, Digest, Document, Error, ErrorKind, Memory, Pointer,
    Repository, Store, Tag, Terms, Upload,
};

/// As old is garbage before it is taken away.
pub(super) const GRACE: Duration = Duration::from_secs(3_600);

/// What a registry does not take for a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// No tags at all.
    Tags,
    /// None that was not there.
    NewTags,
    /// Those whose name falls to it.
    SomeTags(usize),
    /// No tag goes.
    Removals,
    /// Nothing.
    Writes,
}

/// How a registry behaves.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// It keeps conditions on tags, and moves several at once.
    pub(super) conditions: bool,
    /// It takes documents whose content it does not have.
    pub(super) careless: bool,
    /// What is new is not shown to others at first.
    pub(super) settles: Duration,
    /// So many of a hundred requests or answers are lost.
    pub(super) loses: usize,
    /// So many of a hundred take long.
    pub(super) slow: usize,
    /// When it is down, in milliseconds.
    pub(super) down: Vec<Range<u64>>,
    /// What it refuses when, and how.
    pub(super) refuses: Vec<(Range<u64>, Refused, ErrorKind)>,
}

struct Inner {
    dice: Dice,
    habits: Habits,
    shadow: Shadow,
    /// When something was last written or found.
    touched: BTreeMap<(Repository, Digest), Instant>,
    /// Who has made something new, and when.
    new: BTreeMap<(Repository, String), (Instant, String)>,
    gone: BTreeSet<String>,
    trace: Option<Vec<String>>,
}

/// A registry, and who looks at it.
pub(super) struct World {
    pub(super) memory: Memory,
    pub(super) known: Arc<Known>,
    conditions: bool,
    began: Instant,
    inner: Mutex<Inner>,
}

impl World {
    pub(super) fn new(known: Arc<Known>, habits: Habits, dice: Dice, traced: bool) -> Arc<Self> {
        let conditions = habits.conditions;
        let inner = Inner {
            dice,
            habits,
            shadow: Shadow::new(conditions),
            touched: BTreeMap::new(),
            new: BTreeMap::new(),
            gone: BTreeSet::new(),
            trace: traced.then(Vec::new),
        };
        let (memory, began) = (Memory::new(), Instant::now());
        Arc::new(Self { memory, known, conditions, began, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since it all began.
    pub(super) fn milliseconds(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("not for ever")
    }

    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let at = self.milliseconds();
        if let Some(trace) = &mut self.inner().trace {
            trace.push(format!("{at:>9} {}", line()));
        }
    }

    /// Everything that happened.
    pub(super) fn trace(&self) -> String {
        self.inner().trace.iter().flatten().map(|line| format!("{line}\n")).collect()
    }

    pub(super) fn dice<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.inner().dice)
    }

    pub(super) fn shadow<T>(&self, look: impl FnOnce(&mut Shadow) -> T) -> T {
        let inner = &mut *self.inner();
        let before = inner.shadow.violations().len();
        let looked = look(&mut inner.shadow);
        let at = self.milliseconds();
        if let Some(trace) = &mut inner.trace {
            trace.extend(
                inner.shadow.violations()[before..].iter().map(|what| format!("{at:>9} ***** {what}")),
            );
        }
        looked
    }

    /// A process is no more.
    pub(super) fn gone(&self, name: &str) {
        self.inner().gone.insert(name.to_owned());
    }

    pub(super) fn is_gone(&self, name: &str) -> bool {
        self.inner().gone.contains(name)
    }

    /// No more troubles.
    pub(super) fn calm(&self) {
        let habits = &mut self.inner().habits;
        (habits.loses, habits.slow, habits.settles) = (0, 0, Duration::ZERO);
        (habits.down, habits.refuses) = (Vec::new(), Vec::new());
    }

    /// Somebody else moves a tag to a document that is there.
    pub(super) fn meddle(&self, repository: &Repository, tag: &Tag, digest: &Digest) {
        let pointer = Pointer::Digest(digest.clone());
        if now(self.memory.resolve(repository, &pointer)).is_some() {
            let document = now(self.memory.read_document(repository, &pointer));
            let terms = Terms { content: Completeness::Sparse, ..Terms::default() };
            now(self.memory.write_document_on(repository, &document, std::slice::from_ref(tag), &terms));
            self.note(|| format!("somebody else moves {repository}:{tag} to {}", digest.short()));
            self.shadow(|shadow| shadow.meddle(repository, tag, digest));
        }
    }

    fn is_down(&self) -> bool {
        let at = self.milliseconds();
        self.inner().habits.down.iter().any(|down| down.contains(&at))
    }

    fn refusal(&self, change: &Change) -> Option<ErrorKind> {
        let at = self.milliseconds();
        let inner = self.inner();
        let refuses = inner.habits.refuses.iter().filter(|(when, ..)| when.contains(&at));
        let is_meant = |what: Refused| match (what, change) {
            (_, Change::Nothing) => false,
            (Refused::Writes, _) | (Refused::Removals, Change::Remove) => true,
            (Refused::Tags, Change::Tags(tags)) => !tags.is_empty(),
            (Refused::NewTags, Change::Tags(tags)) => tags.iter().any(|(_, is_new)| *is_new),
            (Refused::SomeTags(at), Change::Tags(tags)) => {
                tags.iter().any(|(tag, _)| tag.bytes().map(usize::from).sum::<usize>() % 5 == at)
            }
            _ => false,
        };
        refuses.clone().find(|(_, what, _)| is_meant(*what)).map(|(.., kind)| *kind)
    }

    fn touch(&self, repository: &Repository, digest: &Digest) {
        self.inner().touched.insert((repository.clone(), digest.clone()), Instant::now());
    }

    /// Whether something is so new that others do not see it: content, or a tag that is read back at once. Nobody can
    /// publish to a registry that hides from the next publisher where its tags are.
    fn hides(&self, repository: &Repository, pointer: &Pointer, seen: &Seen) -> bool {
        if !seen.fresh && matches!(pointer, Pointer::Tag(_)) {
            return false;
        }
        let inner = self.inner();
        let new = inner.new.get(&(repository.clone(), pointer.to_string()));
        new.is_some_and(|(since, maker)| *maker != seen.who() && since.elapsed() < inner.habits.settles)
    }

    fn made(&self, repository: &Repository, pointer: String, by: &str) {
        let mut inner = self.inner();
        let shown = pointer == RESERVED_TAG && !self.conditions;
        if !shown && !inner.habits.settles.is_zero() {
            inner.new.insert((repository.clone(), pointer), (Instant::now(), by.to_owned()));
        }
    }

    /// Takes away what no tag leads to, and no young document.
    pub(super) fn collect(&self) {
        let mut keep: BTreeSet<(Repository, Digest)> = BTreeSet::new();
        let mut roots: Vec<(Repository, Digest)> = Vec::new();
        for repository in now(self.memory.repositories(None, 100)) {
            for tag in now(self.memory.tags(&repository, None, 1000)) {
                let found = now(self.memory.resolve(&repository, &Pointer::Tag(tag)));
                roots.extend(found.map(|found| (repository.clone(), found.digest)));
            }
        }
        let touched = self.inner().touched.clone();
        let (young, old): (Vec<_>, Vec<_>) = touched.into_iter().partition(|(_, at)| at.elapsed() < GRACE);
        roots.extend(young.into_iter().map(|(key, _)| key));
        while let Some((repository, digest)) = roots.pop() {
            if !keep.insert((repository.clone(), digest.clone())) {
                continue;
            }
            if let Some(content) = self.known.get(&digest) {
                let blobs = content.blobs.iter().map(|blob| &blob.digest);
                roots.extend(
                    content.children.iter().chain(blobs).map(|one| (repository.clone(), one.clone())),
                );
            } else if now(self.memory.resolve(&repository, &Pointer::Digest(digest.clone()))).is_some()
                && let Ok(list) =
                    now(self.memory.read_document(&repository, &Pointer::Digest(digest))).manifest()
            {
                let blobs = std::iter::once(list.config).chain(list.layers);
                roots.extend(blobs.map(|blob| (repository.clone(), blob.digest)));
            }
        }
        let garbage: Vec<_> = old.into_iter().map(|(key, _)| key).filter(|key| !keep.contains(key)).collect();
        for (repository, digest) in garbage.iter().chain(&garbage) {
            use futures_util::FutureExt;
            let _ = self.memory.remove_document(repository, digest).now_or_never();
            let _ = self.memory.remove_blob(repository, digest).now_or_never();
        }
        self.note(|| format!("the collector takes {} away", garbage.len()));
        self.inner().touched.retain(|key, _| !garbage.contains(key));
        self.shadow(|shadow| shadow.all_content(&self.memory, &self.known));
    }
}

/// What a request changes, as far as refusals go.
enum Change {
    Nothing,
    Content,
    Tags(Vec<(String, bool)>),
    Remove,
}

impl Change {
    fn is_of_list(&self) -> bool {
        matches!(self, Self::Tags(tags) if tags.iter().any(|(tag, _)| tag == RESERVED_TAG))
    }
}

/// When a process dies, stands still or is told to stop, by the number of its request.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// Requests are counted from the first that writes a list.
    pub(super) from_list: bool,
    /// Before or after that request was sent.
    pub(super) dies: Option<(usize, bool)>,
    pub(super) stands_still: Option<(usize, bool, Duration)>,
    pub(super) stops: Option<usize>,
}

/// Who publishes.
pub(super) struct Process {
    pub(super) name: String,
    script: Script,
    calls: AtomicUsize,
    /// The number of the first request that writes a list.
    listed: AtomicUsize,
    dead: AtomicBool,
    still: Mutex<Option<Duration>>,
    /// It is told to stop.
    pub(super) stopping: Notify,
    /// When he last wrote, and read, a list.
    wrote: Mutex<Instant>,
    read: Mutex<Instant>,
}

impl Process {
    pub(super) fn new(name: String, script: Script) -> Arc<Self> {
        let (wrote, read) = (Mutex::new(Instant::now()), Mutex::new(Instant::now()));
        let (calls, dead, still) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let listed = AtomicUsize::new(usize::MAX);
        Arc::new(Self { name, script, calls, listed, dead, still, stopping: Notify::new(), wrote, read })
    }

    /// The number of the next request; none where those are not counted yet.
    fn next(&self, change: &Change) -> Option<usize> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if change.is_of_list() {
            self.listed.fetch_min(call, Ordering::SeqCst);
        }
        let from = if self.script.from_list { self.listed.load(Ordering::SeqCst) } else { 0 };
        call.checked_sub(from)
    }

    async fn fares(&self, call: Option<usize>, is_sent: bool) {
        let Some(call) = call else { return };
        if self.script.dies == Some((call, is_sent)) {
            self.dead.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        if let Some((at, sent, how_long)) = self.script.stands_still
            && (at, sent) == (call, is_sent)
        {
            *self.still.lock().unwrap_or_else(PoisonError::into_inner) = Some(how_long);
            tokio::task::yield_now().await;
        }
    }

    fn writer(&self, sent: Instant, change: &Change, is_gone: bool) -> Writer {
        let since = |at: &Mutex<Instant>| at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        match change.is_of_list() {
            true => Writer::of_list(&self.name, since(&self.read)),
            false => Writer::of_tag(&self.name, sent.elapsed(), since(&self.wrote), is_gone),
        }
    }
}

fn touch(at: &Mutex<Instant>) {
    *at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// The work of a process: nothing of it goes on while it stands still, and nothing at all once it is dead.
pub(super) struct Alive<'a, T> {
    pub(super) work: Pin<Box<dyn Future<Output = T> + 'a>>,
    pub(super) process: Arc<Process>,
    pub(super) still: Option<Pin<Box<Sleep>>>,
}

impl<T> Future for Alive<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            if let Some(still) = &mut self.still {
                if still.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.still = None;
            }
            if let Poll::Ready(done) = self.work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if self.process.dead.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            let still = self.process.still.lock().unwrap_or_else(PoisonError::into_inner).take();
            match still {
                Some(how_long) => self.still = Some(Box::pin(sleep(how_long))),
                None => return Poll::Pending,
            }
        }
    }
}

/// A registry as a process sees it.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
    /// It is the client that reads back what was written.
    pub(super) fresh: bool,
}

fn lost() -> Error {
    Error::new(ErrorKind::Passing, "ask the registry")
}

impl Seen {
    fn who(&self) -> String {
        format!("{}{}", self.process.name, if self.fresh { " (fresh)" } else { "" })
    }

    async fn call<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> String + Send + 'static,
        change: Change,
        act: impl FnOnce(&World, &Writer) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let call = self.process.next(&change);
        if call.is_some() && self.process.script.stops == call {
            self.process.stopping.notify_one();
        }
        self.process.fares(call, false).await;
        let (there, back, loses) = {
            let inner = &mut *self.world.inner();
            let (dice, habits) = (&mut inner.dice, &inner.habits);
            let mut pause = || match dice.percent(habits.slow) {
                true if dice.percent(10) => dice.milliseconds(20_000),
                true => dice.milliseconds(1_000),
                false => dice.milliseconds(5),
            };
            let (there, back) = (pause(), pause());
            (there, back, dice.percent(habits.loses).then(|| dice.percent(50)))
        };
        let (world, process, who) = (Arc::clone(&self.world), Arc::clone(&self.process), self.who());
        let sent = Instant::now();
        let landing = tokio::spawn(async move {
            sleep(there).await;
            let done = if world.is_down() || loses == Some(false) {
                Err(lost())
            } else if let Some(kind) = world.refusal(&change) {
                Err(Error::new(kind, "the registry answered 400"))
            } else {
                let is_gone = world.is_gone(&process.name);
                act(&world, &process.writer(sent, &change, is_gone))
            };
            let is_lost = loses == Some(true);
            world.note(|| {
                let how = match &done {
                    Ok(_) => "done".to_owned(),
                    Err(error) => format!("{:?}", error.kind()),
                };
                format!("{who:<14} {} {how}{}", what(), if is_lost { ", answer lost" } else { "" })
            });
            sleep(back).await;
            if is_lost { Err(lost()) } else { done }
        });
        self.process.fares(call, true).await;
        landing.await.expect("the registry does not panic")
    }

    async fn write(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: Terms,
    ) -> Result<(), Error> {
        let (repository, document, tags) = (repository.clone(), document.clone(), tags.to_vec());
        let who = self.who();
        let memory = &self.world.memory;
        let is_new = |tag: &Tag| now(memory.resolve(&repository, &Pointer::Tag(tag.clone()))).is_none();
        let change = match tags.is_empty() {
            true => Change::Content,
            false => Change::Tags(tags.iter().map(|tag| (tag.to_string(), is_new(tag))).collect()),
        };
        let (process, named) = (Arc::clone(&self.process), (repository.clone(), tags.clone()));
        let digest = document.digest().clone();
        let what = move || format!("writes {} as {:?} in {}", digest.short(), named.1, named.0);
        let act = move |world: &World, writer: &Writer| {
            use futures_util::FutureExt;
            let memory = &world.memory;
            let digest = document.digest();
            let there = |pointer: Pointer| now(memory.resolve(&repository, &pointer)).is_some();
            let mut new = Vec::new();
            if !there(Pointer::Digest(digest.clone())) {
                new.push(digest.to_string());
            }
            new.extend(tags.iter().filter(|tag| !there(Pointer::Tag((*tag).clone()))).map(Tag::to_string));
            let written = memory.write_document_on(&repository, &document, &tags, &terms);
            written.now_or_never().expect("memory does not wait")?;
            new.into_iter().for_each(|pointer| world.made(&repository, pointer, &who));
            world.touch(&repository, digest);
            for tag in &tags {
                if tag.as_str() == RESERVED_TAG {
                    world
                        .shadow(|shadow| shadow.list((memory, &world.known), &repository, &document, writer));
                    touch(&process.wrote);
                    touch(&process.read);
                } else {
                    let place = (&repository, tag);
                    world.shadow(|shadow| shadow.tag((memory, &world.known), place, Some(digest), writer));
                }
            }
            Ok(())
        };
        self.call(what, change, act).await
    }
}

#[async_trait]
impl Store for Seen {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let act = move |world: &World, _: &Writer| {
            let size = now(world.memory.blob_size(&repository, &digest));
            if size.is_some() {
                world.touch(&repository, &digest);
            }
            Ok(size)
        };
        self.call(|| "asks for a blob".to_owned(), Change::Nothing, act).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let act = move |world: &World, _: &Writer| {
            use futures_util::FutureExt;
            let read = world.memory.read_blob(&repository, &digest, range);
            read.now_or_never().expect("memory does not wait")
        };
        self.call(|| "reads a blob".to_owned(), Change::Nothing, act).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(SeenUpload { seen: self.clone(), repository: repository.clone(), bytes: Vec::new() }))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        let (repository, digest, from) = (repository.clone(), digest.clone(), from.clone());
        let act = move |world: &World, _: &Writer| {
            world.touch(&repository, &digest);
            Ok(now(world.memory.mount_blob(&repository, &digest, &from)))
        };
        self.call(|| "mounts a blob".to_owned(), Change::Content, act).await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        let (repository, pointer, seen) = (repository.clone(), pointer.clone(), self.clone());
        let what = {
            let at = format!("{repository}:{pointer}");
            move || format!("looks at {at}")
        };
        let act = move |world: &World, _: &Writer| {
            if world.hides(&repository, &pointer, &seen) {
                return Ok(None);
            }
            let found = now(world.memory.resolve(&repository, &pointer));
            if let Some(found) = &found {
                world.touch(&repository, &found.digest);
            }
            Ok(found)
        };
        self.call(what, Change::Nothing, act).await
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        let (repository, pointer, seen) = (repository.clone(), pointer.clone(), self.clone());
        let process = Arc::clone(&self.process);
        let what = {
            let at = format!("{repository}:{pointer}");
            move || format!("reads {at}")
        };
        let act = move |world: &World, _: &Writer| {
            use futures_util::FutureExt;
            if pointer.to_string() == RESERVED_TAG {
                touch(&process.read);
            }
            if world.hides(&repository, &pointer, &seen) {
                return Err(Error::new(ErrorKind::NotFound, "it is not shown yet"));
            }
            let read = world.memory.read_document(&repository, &pointer);
            let document = read.now_or_never().expect("memory does not wait")?;
            world.touch(&repository, document.digest());
            Ok(document)
        };
        self.call(what, Change::Nothing, act).await
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        let careless = self.world.inner().habits.careless;
        let content = if careless { Completeness::Sparse } else { terms.content };
        if self.world.conditions || tags.is_empty() {
            return self.write(repository, document, tags, Terms { content, ..terms.clone() }).await;
        }
        for tag in tags {
            let terms = Terms { tags: Condition::Any, content, ..terms.clone() };
            self.write(repository, document, std::slice::from_ref(tag), terms).await?;
        }
        Ok(())
    }

    fn keeps_conditions(&self) -> bool {
        self.world.conditions
    }

    async fn tags(&self, _: &Repository, _: Option<&Tag>, _: usize) -> Result<Vec<Tag>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "list tags"))
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        let (repository, tag) = (repository.clone(), tag.clone());
        let what = {
            let at = format!("{repository}:{tag}");
            move || format!("removes {at}")
        };
        let act = move |world: &World, writer: &Writer| {
            use futures_util::FutureExt;
            let removed = world.memory.remove_tag(&repository, &tag);
            removed.now_or_never().expect("memory does not wait")?;
            let place = (&repository, &tag);
            world.shadow(|shadow| shadow.tag((&world.memory, &world.known), place, None, writer));
            Ok(())
        };
        self.call(what, Change::Remove, act).await
    }

    async fn repositories(&self, _: Option<&Repository>, _: usize) -> Result<Vec<Repository>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "list repositories"))
    }
}

struct SeenUpload {
    seen: Seen,
    repository: Repository,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for SeenUpload {
    fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> Result<(), Error> {
        let Self { seen, repository, bytes } = *self;
        let digest = digest.clone();
        let act = move |world: &World, _: &Writer| {
            let written = now(world.memory.write_blob(&repository, bytes.into()));
            world.touch(&repository, &written);
            Ok(())
        };
        seen.call(move || format!("sends {}", digest.short()), Change::Content, act).await
    }
}

mod tests;
