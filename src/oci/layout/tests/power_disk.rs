//! A disk that loses its power: what may be on it afterwards, by what it was told.
//!
//! It promises less than any real one. Of the names in a folder each is, independently of the others, any of those
//! it was since the folder was last synced; a rename may be seen on one side only. Of a file, what was written since
//! it was last synced is there or zeros or cut off, in sectors of 512 bytes. A name that is durable may so lead to
//! bytes that are not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::journal::Step;

const SECTOR: usize = 512;

/// Random numbers that are the same for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// How much the disk loses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// All that it may.
    Everything,
    /// Only bytes; every name is there.
    Bytes,
    /// Only names; every byte is there.
    Names,
    /// Now this, now that.
    Anything,
}

type Node = usize;

enum Thing {
    Folder(BTreeMap<String, Name>),
    File { durable: Vec<u8>, pending: Vec<u8> },
}

/// What a name has led to since its folder was synced, the durable first.
struct Name(Vec<Option<Node>>);

/// The disk.
pub(super) struct PowerDisk {
    root: PathBuf,
    things: Vec<Thing>,
}

impl PowerDisk {
    /// A disk with an empty folder for a store, after some steps.
    pub(super) fn after(root: &Path, steps: &[Step]) -> Self {
        let mut disk = Self { root: root.to_owned(), things: vec![Thing::Folder(BTreeMap::new())] };
        for step in steps {
            disk.step(step);
        }
        disk
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::CreateFolder(path) => {
                let node = self.add(Thing::Folder(BTreeMap::new()));
                self.name(path, Some(node));
            }
            Step::CreateFile(path) if self.find(path).is_none() => {
                let node = self.add(Thing::File { durable: Vec::new(), pending: Vec::new() });
                self.name(path, Some(node));
            }
            Step::CreateFile(_) => {}
            Step::Write(path, bytes) => {
                if let Some(Thing::File { pending, .. }) = self.thing(path) {
                    pending.extend_from_slice(bytes);
                }
            }
            Step::SyncFile(path) => {
                if let Some(Thing::File { durable, pending }) = self.thing(path) {
                    durable.append(pending);
                }
            }
            Step::Rename(from, to) => {
                let node = self.find(from);
                self.name(from, None);
                self.name(to, node);
            }
            Step::Remove(path) => self.name(path, None),
            Step::SyncFolder(path) => {
                if let Some(Thing::Folder(names)) = self.thing(path) {
                    names.values_mut().for_each(|name| drop(name.0.drain(..name.0.len() - 1)));
                }
            }
        }
    }

    fn add(&mut self, thing: Thing) -> Node {
        self.things.push(thing);
        self.things.len() - 1
    }

    /// What a path leads to as long as the power is on.
    fn find(&self, path: &Path) -> Option<Node> {
        let parts = path.strip_prefix(&self.root).expect("inside the store");
        parts.components().try_fold(0, |node, part| match &self.things[node] {
            Thing::Folder(names) => *names.get(part.as_os_str().to_str()?)?.0.last()?,
            Thing::File { .. } => None,
        })
    }

    fn thing(&mut self, path: &Path) -> Option<&mut Thing> {
        self.find(path).map(|node| &mut self.things[node])
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        match self.thing(path.parent().expect("a folder")) {
            Some(Thing::Folder(names)) => names.entry(name).or_insert_with(|| Name(vec![None])).0.push(node),
            _ => panic!("{} is in no folder", path.display()),
        }
    }

    /// Write down what may be left of it.
    pub(super) fn lose_power(&self, into: &Path, loss: Loss, random: &mut Random) {
        self.write(0, into, loss, random);
    }

    fn write(&self, node: Node, path: &Path, loss: Loss, random: &mut Random) {
        match &self.things[node] {
            Thing::Folder(names) => {
                if node != 0 {
                    fs::create_dir(path).expect("a folder");
                }
                for (name, Name(values)) in names {
                    let chosen = match loss {
                        Loss::Everything => 0,
                        Loss::Bytes => values.len() - 1,
                        Loss::Names | Loss::Anything => random.below(values.len()),
                    };
                    if let Some(node) = values[chosen] {
                        self.write(node, &path.join(name), loss, random);
                    }
                }
            }
            Thing::File { durable, pending } => {
                let lost = match loss {
                    Loss::Names => pending.clone(),
                    Loss::Everything => Vec::new(),
                    Loss::Bytes | Loss::Anything => torn(durable.len(), pending, random),
                };
                fs::write(path, [&durable[..], &lost].concat()).expect("a file");
            }
        }
    }
}

/// Some sectors of what was written, zeros for others, perhaps not all of it.
fn torn(start: usize, pending: &[u8], random: &mut Random) -> Vec<u8> {
    let mut left = pending.to_vec();
    let mode = random.below(4);
    for (at, byte) in left.iter_mut().enumerate() {
        let sector = (start + at) / SECTOR;
        // The same for all bytes of a sector.
        let kept = Random(random.0 ^ sector as u64).next().is_multiple_of(2);
        if mode == 0 || (mode == 1 && !kept) {
            *byte = 0;
        }
    }
    if mode >= 2 && !left.is_empty() {
        let sectors = (start + left.len()).div_ceil(SECTOR);
        let end = (random.below(sectors + 1) * SECTOR).saturating_sub(start);
        left.truncate(end);
    }
    random.next();
    left
}

/// Which sync a step is: what is synced, told by the folder that it lies in or comes to lie in.
pub(super) fn sync_of(root: &Path, steps: &[Step], at: usize) -> Option<String> {
    let folder = |path: &Path| {
        let parts = path.strip_prefix(root).expect("inside the store");
        let parts: Vec<String> =
            parts.components().map(|one| one.as_os_str().to_string_lossy().into()).collect();
        match parts.iter().position(|part| part.starts_with('_')) {
            Some(own) => parts[own].clone(),
            None => parts.first().cloned().unwrap_or_else(|| "the root".to_owned()),
        }
    };
    match &steps[at] {
        Step::SyncFolder(path) => Some(format!("folder {}", folder(path))),
        Step::SyncFile(path) => {
            let target = steps[at..].iter().find_map(|step| match step {
                Step::Rename(from, to) if from == path => Some(to),
                _ => None,
            });
            target.map(|target| format!("file of {}", folder(target)))
        }
        _ => None,
    }
}
