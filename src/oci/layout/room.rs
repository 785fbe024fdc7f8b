//! Room on the disk before there is none (F-K7): what the store itself has piled up goes first.

use std::time::Duration;

use super::{Collected, Collection, Layout, Unused};
use crate::oci::{Error, ErrorKind};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Less room than this is little, in bytes, on a disk that is ten times as large and more.
const LITTLE: u64 = 2 << 30;
/// Less than this part of a disk is little where it is smaller.
const PART: u64 = 10;
/// What goes, step by step until there is enough: the grace time, and for how long nobody has asked for a tag that may go.
const STEPS: [(Duration, Option<Duration>); 5] = [
    (DAY, None),
    (HOUR, None),
    (HOUR, Some(DAY.saturating_mul(30))),
    (HOUR, Some(DAY.saturating_mul(7))),
    (HOUR, Some(DAY)),
];

/// How much room there is on the disk of a store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may still be written.
    pub free: u64,
    /// The size of the whole disk.
    pub whole: u64,
}

impl Room {
    /// Whether it is time to take something away.
    pub fn is_little(&self) -> bool {
        self.free < self.mark()
    }

    /// Whether that is enough for a while.
    fn is_enough(&self) -> bool {
        self.free >= 2 * self.mark()
    }

    fn mark(&self) -> u64 {
        LITTLE.min(self.whole / PART)
    }
}

/// What was done for room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Tags that nobody has asked for.
    pub tags: u64,
    /// Files of content that no repository holds any more, and what crashed uploads left.
    pub files: u64,
    /// The bytes of those files.
    pub bytes: u64,
}

impl Layout {
    /// How much room there is on the disk of the store.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn room(&self) -> Result<Room, Error> {
        let state = rustix::fs::statvfs(self.root())
            .map_err(|error| Error::io("ask how much room the store has", error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(state.f_frsize);
        Ok(Room { free: bytes(state.f_bavail), whole: bytes(state.f_blocks) })
    }

    /// Where there is little room, collect until there is enough: first what nothing leads to, then more and more of the
    /// tags, in repositories whose names begin with `within`, that nobody has asked for in a month, a week, a day.
    /// `None` where there was room, or another collection is at work.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn make_room(&self, within: &str) -> Result<Option<Cleared>, Error> {
        match self.room()?.is_little() {
            true => self.clear(within, || Ok(self.room()?.is_enough())).await,
            false => Ok(None),
        }
    }

    /// Collect step by step until it is enough.
    pub(super) async fn clear(
        &self,
        within: &str,
        is_enough: impl Fn() -> Result<bool, Error>,
    ) -> Result<Option<Cleared>, Error> {
        let mut cleared = Cleared::default();
        for (grace, age) in STEPS {
            let unused = age.map(|age| Unused { within: within.to_owned(), age });
            match self.collect(Collection { grace, dry_run: false, unused, ended: Vec::new() }).await {
                Ok(collected) => cleared.add(&collected),
                Err(error) if error.kind() == ErrorKind::Passing => return Ok(None),
                Err(error) => return Err(error),
            }
            if is_enough()? {
                break;
            }
        }
        Ok(Some(cleared))
    }
}

impl Cleared {
    fn add(&mut self, collected: &Collected) {
        self.tags += collected.tags;
        self.files += collected.files + collected.leftovers;
        self.bytes += collected.bytes + collected.leftover_bytes;
    }
}
