//! What must hold at a registry after every change of it, whoever made it.
//!
//! The rule that most others follow from: a public tag moves only as the one open journal of its home says, from the
//! place named there to the new one, or back. Where a registry passes over conditions, a change that was under way for
//! longer than the others wait, or that comes from a publisher that was silent for longer than its lease, and a tag that
//! one moves who is gone meanwhile, may break that: it is counted, and is the only exception.

mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt;

use super::generation::Generation;
use super::journal::{Entry, Journal, KEPT, Move, RESERVED_TAG, State};
use super::lease::LEASE;
use crate::oci::{Descriptor, Digest, Document, Memory, Platform, Pointer, Repository, Store, Tag};

/// As long as the others wait at least until they begin.
const WAITED: Duration = Duration::from_millis(100);
/// As much less than a lease may seem to have passed, by clocks that differ.
const SKEW: Duration = Duration::from_secs(12);

/// Tags with what they are to point at.
pub(super) type Places = BTreeMap<(Repository, Tag), Digest>;

/// What is known of a document by those who made it.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Configuration and layers.
    pub(super) blobs: Vec<Descriptor>,
    /// The manifests of an index.
    pub(super) children: Vec<Digest>,
    /// The manifests that it was built from.
    pub(super) parents: Vec<Digest>,
    /// Declared platforms that an index does not have.
    pub(super) lacking: Vec<Platform>,
    /// The platform that an image was built and tested for.
    pub(super) tested: Option<Platform>,
}

/// Every document that is ever published.
pub(super) type Known = BTreeMap<Digest, Content>;

/// Who made a change.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) name: String,
    /// More time passed than the others wait: since he read the list that he writes, or since he sent the request for a
    /// tag, or said that he is alive. Or he is gone, and the others do not wait at all.
    pub(super) is_late: bool,
}

impl Writer {
    /// Who writes a list that he has read so long ago.
    pub(super) fn of_list(name: &str, read: Duration) -> Self {
        Self { name: name.to_owned(), is_late: read >= WAITED }
    }

    /// Who moves a tag by a request that was under way for so long, and was not heard of for so long, or is gone.
    pub(super) fn of_tag(name: &str, under_way: Duration, silent: Duration, is_gone: bool) -> Self {
        let is_late = is_gone || under_way >= WAITED || silent + SKEW >= LEASE;
        Self { name: name.to_owned(), is_late }
    }
}

/// What a publication may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    pub(super) places: Places,
    /// Manifests that it brings itself.
    pub(super) brings: BTreeSet<Digest>,
    pub(super) older: bool,
    pub(super) immutable: BTreeSet<(Repository, Tag)>,
}

/// Where a tag is.
#[derive(Clone, Debug, Default)]
struct Place {
    digest: Option<Digest>,
    generation: Generation,
    /// What it was before the open publication moved it.
    before: Generation,
}

/// A publication as its home has it.
#[derive(Clone, Debug)]
struct Written {
    entry: Entry,
    state: State,
    /// One of its tags has moved.
    moved: bool,
}

/// What is believed of a registry, by its changes alone.
#[derive(Default)]
pub(super) struct Shadow {
    /// Whether the registry keeps conditions.
    conditions: bool,
    places: BTreeMap<(Repository, Tag), Place>,
    lists: BTreeMap<Repository, Journal>,
    written: BTreeMap<(Repository, String), Written>,
    allowed: BTreeMap<String, Allowed>,
    /// Tags that somebody else has moved.
    foreign: BTreeSet<(Repository, Tag)>,
    /// Immutable tags that were published.
    fixed: BTreeSet<(Repository, Tag)>,
    /// Indexes whose entries were looked at, by what they join.
    joined: BTreeMap<BTreeSet<Digest>, Digest>,
    violations: Vec<String>,
    /// What the limit of registries without conditions has let through.
    limit: Option<String>,
}

impl Shadow {
    /// Nothing is there yet.
    pub(super) fn new(conditions: bool) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// What does not hold.
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// What a late request has broken, where the registry has no conditions.
    pub(super) fn limit(&self) -> Option<&str> {
        self.limit.as_deref()
    }

    /// How many publications have ended so.
    pub(super) fn ended(&self, state: &State) -> usize {
        self.written.values().filter(|one| one.state == *state).count()
    }

    /// How many publications were taken back.
    pub(super) fn taken_back(&self) -> usize {
        self.written.values().filter(|one| matches!(one.state, State::RolledBack(_))).count()
    }

    /// Somebody is going to publish.
    pub(super) fn allow(&mut self, id: &str, allowed: Allowed) {
        self.allowed.insert(id.to_owned(), allowed);
    }

    /// Somebody else moves a tag.
    pub(super) fn meddle(&mut self, repository: &Repository, tag: &Tag, digest: &Digest) {
        let key = (repository.clone(), tag.clone());
        self.places.entry(key.clone()).or_default().digest = Some(digest.clone());
        self.foreign.insert(key);
    }

    /// What a publication may do; one command may publish several times.
    fn allowed(&self, id: &str) -> Option<&Allowed> {
        self.allowed.get(id.split('-').next().unwrap_or(id))
    }

    fn broken(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Something that only a late request may break, and only where there are no conditions.
    fn broken_by(&mut self, writer: &Writer, what: String) {
        if self.limit.is_some() {
            return;
        }
        let late = writer.is_late;
        match !self.conditions && late {
            true => self.limit = Some(what),
            false => self.violations.push(format!("{}: {what}", writer.name)),
        }
    }

    /// The list of publications was written.
    pub(super) fn list(
        &mut self,
        (memory, known): (&Memory, &Known),
        home: &Repository,
        document: &Document,
        writer: &Writer,
    ) {
        let now = match Journal::parse(document) {
            Ok(journal) => journal,
            Err(error) => return self.broken(format!("the list of {home} cannot be read: {error}")),
        };
        let before = self.lists.insert(home.clone(), now.clone()).unwrap_or_default();
        if now.listed.iter().filter(|one| matches!(one.state, State::Open { .. })).count() > 1 {
            self.broken_by(writer, format!("TM19: two publications of {home} are open"));
        }
        let mut overtaken = false;
        for lost in &before.listed {
            let is_there = now.listed.iter().any(|one| one.id == lost.id);
            let key = (home.clone(), lost.id.clone());
            // Of two who begin at once one is overwritten before it has begun; he reads that.
            let unborn = !self.conditions && self.written.get(&key).is_some_and(|one| !one.moved);
            if !is_there && unborn && matches!(lost.state, State::Open { .. }) {
                self.written.remove(&key);
                overtaken = true;
            } else if !is_there && before.listed.len() < KEPT {
                self.broken_by(writer, format!("I-P5: the journal of {} is lost", lost.id));
            }
        }
        if now.highest < before.highest && !overtaken {
            self.broken_by(writer, format!("I-P4: the generation of {home} goes back to {}", now.highest));
        }
        for listed in &now.listed {
            let key = (home.clone(), listed.id.clone());
            let Some(was) = self.written.get(&key).cloned() else {
                let entry = listed.digest.as_ref().and_then(|digest| entry(memory, home, digest));
                match entry {
                    Some(entry) => self.begun(home, entry, &listed.state, writer),
                    None => self.broken(format!("I-P2: the journal of {} is not there", listed.id)),
                }
                continue;
            };
            if was.state != listed.state {
                self.changed(home, &was, &listed.state, writer);
            }
            if let Some(one) = self.written.get_mut(&key) {
                one.state = listed.state.clone();
            }
            if was.state != listed.state && matches!(listed.state, State::RolledBack(_)) {
                self.carries_no_child(known, &was.entry.id, writer);
            }
        }
        self.content_of_list(memory, home, document);
    }

    /// A journal stands in the list for the first time.
    fn begun(&mut self, home: &Repository, entry: Entry, state: &State, writer: &Writer) {
        if !matches!(state, State::Open { .. }) {
            self.broken_by(writer, format!("{} is listed for the first time as {state:?}", entry.id));
        }
        let Some(allowed) = self.allowed(&entry.id).cloned() else {
            return self.broken(format!("nobody publishes as {}", entry.id));
        };
        for one in &entry.tags {
            let key = (one.repository.clone(), one.tag.clone());
            let is_planned = match &entry.rolls_back {
                None => allowed.places.get(&key) == one.new.as_ref(),
                Some(back) => self.goes_back(&(home.clone(), back.clone()), one),
            };
            if !is_planned {
                self.broken(format!("I-P9: {} moves {}:{}", entry.id, one.repository, one.tag));
            }
            let place = self.places.entry(key.clone()).or_default();
            place.before = place.generation;
            let found = place.digest.clone();
            if found != one.old && !self.foreign.contains(&key) {
                let what = format!("{} says that {}:{} is elsewhere", entry.id, one.repository, one.tag);
                self.broken_by(writer, what);
            }
        }
        let key = (home.clone(), entry.id.clone());
        self.written.insert(key, Written { entry, state: state.clone(), moved: false });
    }

    /// A publication is in another state.
    fn changed(&mut self, home: &Repository, was: &Written, state: &State, writer: &Writer) {
        let id = &was.entry.id;
        // What a registry did not let go may go later, by another.
        if let (State::Done | State::RolledBack(_), State::RolledBack(by)) = (&was.state, state) {
            let back = self.written.get(&(home.clone(), by.clone()));
            if !back.is_some_and(|one| one.state == State::Done && one.entry.rolls_back.as_ref() == Some(id))
            {
                self.broken_by(writer, format!("I-P5: {id} is {state:?}, which has not ended"));
            }
            return;
        }
        if !matches!(was.state, State::Open { .. }) {
            return self.broken_by(writer, format!("{id} was {:?} and is {state:?}", was.state));
        }
        if matches!(state, State::Open { .. }) {
            return;
        }
        for one in &was.entry.tags {
            let key = (one.repository.clone(), one.tag.clone());
            let stands = self.places.get(&key).and_then(|place| place.digest.clone());
            let wanted = if *state == State::Undone { &one.old } else { &one.new };
            // A new tag that the registry does not let go is named, and stays: nobody has published it.
            let stays = match state {
                State::Undone => one.old.is_none() && stands == one.new,
                _ => one.new.is_none() && stands == one.old,
            };
            if stays {
                self.foreign.insert(key.clone());
            }
            if stands != *wanted && !stays && !self.foreign.contains(&key) {
                let law = if *state == State::Undone { "I-P5" } else { "I-P10" };
                let found = stands.map_or_else(|| "nowhere".to_owned(), |found| found.short().to_string());
                let what =
                    format!("{law}: {id} is {state:?}, and {}:{} points {found}", one.repository, one.tag);
                self.broken_by(writer, what);
            }
            let immutable = self.allowed(id).is_some_and(|allowed| allowed.immutable.contains(&key));
            if *state == State::Done && immutable && !self.foreign.contains(&key) {
                self.fixed.insert(key);
            }
        }
    }

    /// Whether a publication has moved a tag, and this takes it back.
    fn goes_back(&self, back: &(Repository, String), one: &Move) -> bool {
        let tags = self.written.get(back).map(|back| &back.entry.tags);
        let same = |other: &&Move| other.repository == one.repository && other.tag == one.tag;
        tags.into_iter()
            .flatten()
            .find(same)
            .is_some_and(|moved| moved.old == one.new && moved.new != one.new)
    }

    /// What was taken back leaves no child behind, but under tags of its own that stay.
    fn carries_no_child(&mut self, known: &Known, id: &str, writer: &Writer) {
        let own: BTreeSet<_> = { self.written.values() }
            .filter(|one| one.entry.id == *id)
            .flat_map(|one| one.entry.tags.iter().map(|one| (one.repository.clone(), one.tag.clone())))
            .collect();
        let others: Vec<(String, Digest)> = { self.places.iter() }
            .filter(|(key, _)| !own.contains(key) && !self.foreign.contains(key))
            .filter_map(|((repository, tag), place)| {
                Some((format!("{repository}:{tag}"), place.digest.clone()?))
            })
            .collect();
        for (name, digest) in others {
            self.stands_on_published(known, &digest, &name, writer);
        }
    }

    /// A public tag was written or taken away.
    pub(super) fn tag(
        &mut self,
        (memory, known): (&Memory, &Known),
        (repository, tag): (&Repository, &Tag),
        new: Option<&Digest>,
        writer: &Writer,
    ) {
        let key = (repository.clone(), tag.clone());
        let name = format!("{repository}:{tag}");
        let place = self.places.get(&key).cloned().unwrap_or_default();
        if let Some(digest) = new {
            self.content(memory, known, repository, digest, &name);
        }
        if place.digest.as_ref() == new || self.foreign.contains(&key) {
            self.places.entry(key).or_default().digest = new.cloned();
            return;
        }
        if !self.allowed.values().any(|allowed| allowed.places.contains_key(&key)) {
            self.broken(format!("I-P9: {name} is in no publication"));
        }
        let Some((at, open)) = self.open(&key) else {
            self.places.entry(key).or_default().digest = new.cloned();
            return self.broken_by(writer, format!("I-P4: {name} moves, and no open journal names it"));
        };
        let Some(one) = open.entry.tags.iter().find(|one| one.repository == *repository && one.tag == *tag)
        else {
            return;
        };
        let mut generation = place.generation;
        if one.new.as_ref() == new {
            generation = open.entry.generation;
            let allowed = self.allowed(&open.entry.id).cloned().unwrap_or_default();
            if generation < place.generation && !allowed.older {
                let what = format!("I-P4: {name} goes from {} back to {generation}", place.generation);
                self.broken_by(writer, what);
            }
            let immutable = place.digest.is_some() && allowed.immutable.contains(&key);
            if immutable || self.fixed.contains(&key) {
                self.broken_by(writer, format!("I-P7: {name} is immutable and moves"));
            }
        } else if one.old.as_ref() == new {
            generation = place.before;
        } else {
            self.broken_by(writer, format!("I-P4: {name} moves to where {} does not say", open.entry.id));
        }
        let held = self.places.entry(key).or_default();
        (held.digest, held.generation) = (new.cloned(), generation);
        if let Some(written) = self.written.get_mut(&at) {
            written.moved = true;
        }
        if let Some(digest) = new.filter(|digest| Some(*digest) == one.new.as_ref()) {
            self.stands_on_published(known, digest, &name, writer);
        }
    }

    /// The open publication that a tag is in.
    fn open(&self, key: &(Repository, Tag)) -> Option<((Repository, String), Written)> {
        let open = self.written.iter().find(|(_, one)| {
            matches!(one.state, State::Open { .. })
                && one.entry.tags.iter().any(|tag| tag.repository == key.0 && tag.tag == key.1)
        });
        open.map(|(at, written)| (at.clone(), written.clone()))
    }

    /// Everything that a document leads to is in its repository, on all its platforms.
    fn content(&mut self, memory: &Memory, known: &Known, repository: &Repository, of: &Digest, name: &str) {
        let Some(content) = known.get(of) else {
            return self.broken(format!("I-P9: {name} points at {}, which nobody made", of.short()));
        };
        if !content.lacking.is_empty() {
            self.broken(format!("I-P1: {name} lacks {:?}", content.lacking));
        }
        self.entries(memory, known, (repository, of), name);
        for missing in missing(memory, known, repository, of) {
            self.broken(format!("I-P2: {name} leads to {missing}, which is not in {repository}"));
        }
    }

    fn content_of_list(&mut self, memory: &Memory, home: &Repository, document: &Document) {
        let Ok(manifest) = document.manifest() else { return };
        for blob in std::iter::once(manifest.config).chain(manifest.layers) {
            if now(memory.blob_size(home, &blob.digest)) != Some(blob.size) {
                self.broken(format!("I-P2: the list of {home} leads to {}, which is not there", blob.digest));
            }
        }
    }

    fn stands_on_published(&mut self, known: &Known, digest: &Digest, name: &str, writer: &Writer) {
        let own = known.get(digest);
        let children = own.iter().flat_map(|content| &content.children).filter_map(|child| known.get(child));
        let parents: Vec<Digest> =
            { own.into_iter().chain(children) }.flat_map(|content| content.parents.iter().cloned()).collect();
        for parent in parents {
            let published = self.written.values().any(|one| {
                !matches!(one.state, State::Undone | State::RolledBack(_))
                    && self.allowed(&one.entry.id).is_some_and(|allowed| allowed.brings.contains(&parent))
            });
            if !published {
                let what = format!("I-P5: {name} stands on {}, which is not published", parent.short());
                self.broken_by(writer, what);
            }
        }
    }

    /// Every tag leads to whole content: after something was taken away.
    pub(super) fn all_content(&mut self, memory: &Memory, known: &Known) {
        let all: Vec<_> = { self.places.iter() }
            .filter_map(|((repository, tag), place)| {
                Some((repository.clone(), format!("{repository}:{tag}"), place.digest.clone()?))
            })
            .collect();
        for (repository, name, digest) in all {
            self.content(memory, known, &repository, &digest, &name);
        }
    }

    /// Nothing is open, and all is where the last publication wants it.
    pub(super) fn at_the_end(&mut self, memory: &Memory, wanted: &Places) {
        let open: Vec<String> =
            { self.lists.values() }.filter_map(|list| list.open().map(|(open, _)| open.id.clone())).collect();
        for id in open {
            self.broken(format!("I-P5: {id} is open for ever"));
        }
        for ((repository, tag), digest) in wanted {
            let found = now(memory.resolve(repository, &Pointer::Tag(tag.clone())));
            if found.map(|found| found.digest).as_ref() != Some(digest) {
                self.broken(format!("I-P8: {repository}:{tag} is not as a run without troubles leaves it"));
            }
        }
        for repository in now(memory.repositories(None, 100)) {
            for tag in now(memory.tags(&repository, None, 1000)) {
                let key = (repository.clone(), tag);
                let planned = key.1.as_str() == RESERVED_TAG
                    || self.allowed.values().any(|allowed| allowed.places.contains_key(&key));
                if !planned {
                    self.broken(format!("I-P9: nobody planned {}:{}", key.0, key.1));
                }
            }
        }
    }
}

/// What a document leads to and its repository lacks.
fn missing(memory: &Memory, known: &Known, repository: &Repository, of: &Digest) -> Vec<Digest> {
    let mut missing = Vec::new();
    let mut left = vec![of];
    while let Some(digest) = left.pop() {
        if now(memory.resolve(repository, &Pointer::Digest(digest.clone()))).is_none() {
            missing.push(digest.clone());
        }
        let Some(content) = known.get(digest) else { continue };
        left.extend(&content.children);
        for blob in &content.blobs {
            if now(memory.blob_size(repository, &blob.digest)) != Some(blob.size) {
                missing.push(blob.digest.clone());
            }
        }
    }
    missing
}

fn entry(memory: &Memory, home: &Repository, digest: &Digest) -> Option<Entry> {
    let reader = memory.read_blob(home, digest, None).now_or_never()?.ok()?;
    let bytes = reader.collect(digest, 1 << 20).now_or_never()?.ok()?;
    Entry::parse(&bytes).ok()
}

/// What memory says, which does not wait and does not fail.
pub(super) fn now<T>(asked: impl Future<Output = Result<T, crate::oci::Error>>) -> T {
    asked.now_or_never().expect("memory does not wait").expect("memory does not fail")
}
