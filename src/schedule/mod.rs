//! Which job starts on which machine, and when: a function of estimates and of what has ended.
//!
//! Jobs and machines are numbers here, places in the lists that a [`Problem`] was made of. Times are milliseconds
//! since the beginning of the run, as the caller counts them; nothing here knows a clock.

mod faults;
mod fleet;
mod graph;
mod outlook;
mod problem;
mod ready;
pub(crate) mod rehearsal;
mod scheduler;
#[cfg(test)]
mod invariants;
mod search;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeSet;

use crate::oci::Platform;

pub(crate) use outlook::{Kind, Outlook, fleets, foresee, smallest};
pub(crate) use problem::Problem;
pub(crate) use scheduler::{Fallen, Scheduler, Start, Ticket};
pub(crate) use search::priorities;

/// One thing to be done.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The jobs that it uses, and waits for: all of them stand before it in the list.
    pub(crate) parents: Vec<usize>,
    /// The jobs that it waits for although it uses nothing of them; these stand before it too.
    pub(crate) beside: Vec<usize>,
    /// The image that it is a part of: the same number for each of its platforms.
    pub(crate) image: usize,
    /// What it makes: of two jobs of the same number one waits while the other is at work.
    pub(crate) product: usize,
    /// Where it can be done; `None` where it takes no machine and no time.
    pub(crate) needs: Option<Needs>,
    /// How long it takes where its platform is native, at the speed of 100.
    pub(crate) native: u64,
    /// How long it takes where its platform is emulated, at the speed of 100.
    pub(crate) emulated: u64,
    /// The machines on which what it stands on was made before this, one for each such parent, which may still have it.
    pub(crate) near: Vec<usize>,
}

/// What a machine must have for a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Needs {
    /// The platform.
    pub(crate) platform: Platform,
    /// All of these labels.
    pub(crate) labels: BTreeSet<String>,
    /// So many bytes of disk, as long as the job is at work.
    pub(crate) disk: u64,
    /// A machine of another platform may emulate it.
    pub(crate) may_emulate: bool,
    /// Jobs of the same number here go to one machine, as long as that is there.
    pub(crate) together: Option<usize>,
}

/// What jobs are done on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The platforms that it runs itself.
    pub(crate) native: BTreeSet<Platform>,
    /// The platforms that it may emulate.
    pub(crate) emulated: BTreeSet<Platform>,
    /// How many jobs it does at once; at least 1.
    pub(crate) slots: usize,
    /// What else it has.
    pub(crate) labels: BTreeSet<String>,
    /// How many bytes of disk jobs may fill; `None` where that is not known and counts as enough.
    pub(crate) disk: Option<u64>,
    /// How fast it is, in percent; at least 1.
    pub(crate) speed: u32,
}

/// What a person asked of the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// After a failure nothing new begins.
    pub(crate) fail_fast: bool,
    /// Images whose failures stop nothing but what stands on them.
    pub(crate) harmless: BTreeSet<usize>,
    /// After a failure of one of these images nothing new begins of its other platforms.
    pub(crate) fail_fast_images: BTreeSet<usize>,
}

impl Machine {
    /// Whether it has what is needed, but for the platform, as long as it does nothing else.
    fn has_room(&self, needs: &Needs) -> bool {
        self.has_room_with(self.disk, needs)
    }

    /// The same where that much of its disk may be filled.
    fn has_room_with(&self, disk: Option<u64>, needs: &Needs) -> bool {
        needs.labels.is_subset(&self.labels) && disk.is_none_or(|disk| disk >= needs.disk)
    }

    /// Whether it may ever do what needs this.
    pub(crate) fn takes(&self, needs: &Needs) -> bool {
        let emulates = needs.may_emulate && self.emulated.contains(&needs.platform);
        (self.native.contains(&needs.platform) || emulates) && self.has_room(needs)
    }

    /// How long something takes here that takes so long at the speed of 100.
    pub(crate) fn time(&self, milliseconds: u64) -> u64 {
        milliseconds.saturating_mul(100).div_ceil(u64::from(self.speed.max(1)))
    }
}
