//! A whole run in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{Problem, Scheduler, Start, Ticket};

/// When and where a job is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The job.
    pub(crate) job: usize,
    /// The machine.
    pub(crate) machine: usize,
    /// The machine is of another platform.
    pub(crate) emulated: bool,
    /// When it begins.
    pub(crate) begin: u64,
    /// When it ends.
    pub(crate) end: u64,
}

/// What comes of a problem where every job takes as long as is thought: each job that takes a machine, in the order
/// in which they begin. What no machine fits is not in it, nor what stands on that.
pub(crate) fn rehearse(problem: &Arc<Problem>, priorities: Arc<[u64]>) -> Vec<Span> {
    let mut scheduler = Scheduler::new(problem, priorities);
    let mut spans: Vec<Span> = Vec::new();
    let mut running: BinaryHeap<Reverse<(u64, Ticket)>> = BinaryHeap::new();
    let mut now = 0;
    loop {
        while let Some(job) = scheduler.weightless() {
            scheduler.passed_at_once(job);
        }
        while let Some(Start { job, machine, emulated, ticket }) = scheduler.next(now) {
            let end = now.saturating_add(problem.time(job, machine, emulated));
            spans.push(Span { job, machine, emulated, begin: now, end });
            running.push(Reverse((end, ticket)));
        }
        let next = running.peek().map(|Reverse((end, _))| *end).into_iter().chain(scheduler.look_again());
        let Some(next) = next.min() else { return spans };
        // What waits for a time that is over would wait for ever.
        now = next.max(now.saturating_add(1)).min(running.peek().map_or(u64::MAX, |Reverse((end, _))| *end));
        while let Some(Reverse((_, ticket))) = running.peek().copied().filter(|Reverse((end, _))| *end <= now)
        {
            running.pop();
            scheduler.passed(ticket);
        }
    }
}

/// When the last of some jobs ends.
pub(crate) fn makespan(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.end).max().unwrap_or_default()
}
