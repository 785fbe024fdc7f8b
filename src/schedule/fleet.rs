//! The machines: what is free on each, which are lost, and which have failed too often.

use std::sync::Arc;

use super::{Machine, Needs, Problem};

/// After so many passing failures in a row a machine is used only where no other one is free.
const FAILURES_LIMIT: u32 = 3;

/// One machine as it is now.
#[derive(Clone, Debug)]
struct State {
    used: usize,
    /// How many bytes jobs may fill, as was seen last; `None` where that is not known.
    disk: Option<u64>,
    disk_used: u64,
    lost: bool,
    failures: u32,
}

/// The machines as they are now.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    problem: Arc<Problem>,
    states: Vec<State>,
}

impl Fleet {
    pub(super) fn new(problem: Arc<Problem>) -> Self {
        let fresh =
            |machine: &Machine| State { used: 0, disk: machine.disk, disk_used: 0, lost: false, failures: 0 };
        Self { states: problem.machines.iter().map(fresh).collect(), problem }
    }

    pub(super) fn machine(&self, at: usize) -> &Machine {
        &self.problem.machines[at]
    }

    pub(super) fn take(&mut self, at: usize, needs: &Needs) {
        self.states[at].used += 1;
        self.states[at].disk_used = self.states[at].disk_used.saturating_add(needs.disk);
    }

    pub(super) fn give_back(&mut self, at: usize, needs: &Needs) {
        self.states[at].used = self.states[at].used.saturating_sub(1);
        self.states[at].disk_used = self.states[at].disk_used.saturating_sub(needs.disk);
    }

    /// Whether a job can start there now, of those that it fits at all.
    pub(super) fn is_free(&self, at: usize, needs: &Needs) -> bool {
        let state = &self.states[at];
        let disk_left = state.disk.is_none_or(|disk| disk.saturating_sub(state.disk_used) >= needs.disk);
        !state.lost && self.free_slots(at) > 0 && disk_left
    }

    pub(super) fn free_slots(&self, at: usize) -> usize {
        self.machine(at).slots.max(1).saturating_sub(self.states[at].used)
    }

    /// Whether a machine that does nothing else has what is needed, but for the platform.
    pub(super) fn has_room(&self, at: usize, needs: &Needs) -> bool {
        self.machine(at).has_room_with(self.states[at].disk, needs)
    }

    pub(super) fn disk_used(&self, at: usize) -> u64 {
        self.states[at].disk_used
    }

    /// So many bytes are free there beside what jobs fill that are at work.
    pub(super) fn set_free(&mut self, at: usize, free: u64) {
        self.states[at].disk = Some(free.saturating_add(self.states[at].disk_used));
    }

    /// How many slots are taken, for each thousand that there are.
    pub(super) fn load(&self, at: usize) -> usize {
        self.states[at].used * 1000 / self.machine(at).slots.max(1)
    }

    pub(super) fn is_lost(&self, at: usize) -> bool {
        self.states[at].lost
    }

    pub(super) fn set_lost(&mut self, at: usize, lost: bool) {
        self.states[at].lost = lost;
    }

    /// Whether it has failed too often.
    pub(super) fn is_suspect(&self, at: usize) -> bool {
        self.states[at].failures >= FAILURES_LIMIT
    }

    pub(super) fn has_failed(&mut self, at: usize) {
        self.states[at].failures = self.states[at].failures.saturating_add(1);
    }

    pub(super) fn has_worked(&mut self, at: usize) {
        self.states[at].failures = 0;
    }
}
