//! Whether a job waits for a faster machine: where it would end there earlier than on the one that is free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many ready jobs are looked at for one that a slow machine is good enough for.
const DEPTH: usize = 64;

/// The slots of machines that are faster than the free one, as far as can be told.
pub(super) struct Faster {
    /// When each is free, the earliest first, with the speed of its machine.
    slots: BinaryHeap<Reverse<(u64, Reverse<u32>)>>,
}

/// What comes of looking at the ready jobs of a class.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This job starts on the free machine now.
    Start(usize),
    /// All wait for faster machines, at most until then.
    Wait(Option<u64>),
}

impl Faster {
    /// From when slots of faster machines are thought to be free, and the speed of each.
    pub(super) fn new(slots: impl Iterator<Item = (u64, u32)>) -> Self {
        Self { slots: slots.map(|(free, speed)| Reverse((free, Reverse(speed)))).collect() }
    }

    /// The first of some jobs, given with their times at the speed of 100, that does not end earlier by waiting its
    /// turn. Those before it are thought to take the faster slots one after the other.
    pub(super) fn choose(mut self, jobs: impl Iterator<Item = (usize, u64)>, now: u64, speed: u32) -> Choice {
        let mut until = None;
        for (job, time) in jobs.take(DEPTH) {
            let here = at_speed(time, speed);
            let Some(Reverse((free, Reverse(faster)))) = self.slots.pop() else { return Choice::Start(job) };
            let end = free.saturating_add(at_speed(time, faster));
            if now.saturating_add(here) <= end {
                return Choice::Start(job);
            }
            // What is late is thought to be late as long again.
            let patience = free.saturating_add(here.saturating_sub(at_speed(time, faster)));
            until = [until, Some(patience)].into_iter().flatten().min();
            self.slots.push(Reverse((end, Reverse(faster))));
        }
        Choice::Wait(until)
    }
}

fn at_speed(time: u64, speed: u32) -> u64 {
    time.saturating_mul(100).div_ceil(u64::from(speed.max(1)))
}

/// When something is thought to end that was to end then: what is late is thought to be late as long again.
pub(super) fn expected_end(estimate: u64, now: u64) -> u64 {
    if estimate > now { estimate } else { now.saturating_add(now - estimate) }
}
