//! Machines that fail, vanish and return, and jobs that nobody can do.

use super::graph::Stage;
use super::scheduler::{Fallen, Scheduler, Start, Ticket};

impl Scheduler {
    /// A try has failed on its machine in a way that need not happen on another: the job is ready again. `false`
    /// where it does not count any more.
    pub(crate) fn again(&mut self, ticket: Ticket) -> bool {
        let Some(Start { job, machine, .. }) = self.end(ticket) else { return false };
        self.fleet.has_failed(machine);
        self.ready.avoid(job, machine);
        self.make_ready_again(job);
        true
    }

    /// A machine is gone: the tries on it do not count any more, and their jobs are ready again.
    pub(crate) fn lost(&mut self, machine: usize) -> Vec<Start> {
        self.fleet.set_lost(machine, true);
        let starts = self.running.values().map(|running| running.start);
        let gone: Vec<Start> = starts.filter(|start| start.machine == machine).collect();
        for start in &gone {
            self.end(start.ticket);
            self.make_ready_again(start.job);
        }
        self.ready.choose_machines_again(&self.fleet);
        gone
    }

    /// A lost machine answers again, and has forgotten what it was at.
    pub(crate) fn returned(&mut self, machine: usize) {
        self.fleet.set_lost(machine, false);
        self.ready.choose_machines_again(&self.fleet);
    }

    /// A try could not begin, since no more is free on its machine than this: the job is ready again, for where there
    /// is room. `false` where it does not count any more.
    pub(crate) fn turned_away(&mut self, ticket: Ticket, free: u64) -> bool {
        let Some(Start { job, machine, .. }) = self.end(ticket) else { return false };
        self.free(machine, free);
        self.make_ready_again(job);
        true
    }

    /// So much is free on a machine now, beside what jobs fill that are at work.
    pub(crate) fn free(&mut self, machine: usize, free: u64) {
        self.fleet.set_free(machine, free);
        self.ready.choose_machines_again(&self.fleet);
    }

    /// Jobs that are ready, and that no machine fits of those that are not lost; none where nothing new begins any more.
    pub(crate) fn stranded(&self) -> Vec<usize> {
        if self.closed {
            return Vec::new();
        }
        let without = self.ready.classes.iter().filter(|class| class.machines.is_empty());
        let mut jobs: Vec<usize> = without.flat_map(|class| class.jobs.iter().map(|(_, job)| *job)).collect();
        jobs.sort_unstable();
        jobs
    }

    /// A job that is not at work fails: nobody can do it. `None` where it is over, or at work.
    pub(crate) fn given_up(&mut self, job: usize) -> Option<Fallen> {
        match self.graph.stage(job) {
            Stage::Ready => self.ready.remove(job),
            Stage::Waiting => {}
            Stage::Running | Stage::Over => return None,
        }
        Some(self.fall(job))
    }

    /// Whether every job is over.
    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.graph.left() == 0
    }

    fn make_ready_again(&mut self, job: usize) {
        self.graph.again(job);
        self.enqueue(job);
    }
}
