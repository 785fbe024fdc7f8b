//! Which job is next: a pure queue, deepest remaining path first.

use std::collections::{BTreeMap, BTreeSet};

/// Jobs that wait for others, and jobs that are ready.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    waits_for: BTreeMap<J, BTreeSet<J>>,
    children: BTreeMap<J, BTreeSet<J>>,
    depth: BTreeMap<J, usize>,
    ready: BTreeSet<J>,
}

impl<J: Clone + Ord> Queue<J> {
    /// A queue of jobs with what each waits for, parents before children. What is not a job itself is done already.
    pub(crate) fn new(order: &[(J, BTreeSet<J>)]) -> Self {
        let known: BTreeSet<&J> = order.iter().map(|(job, _)| job).collect();
        let mut queue = Self {
            waits_for: BTreeMap::new(),
            children: BTreeMap::new(),
            depth: BTreeMap::new(),
            ready: BTreeSet::new(),
        };
        for (job, parents) in order {
            let parents: BTreeSet<J> =
                parents.iter().filter(|parent| known.contains(parent)).cloned().collect();
            for parent in &parents {
                queue.children.entry(parent.clone()).or_default().insert(job.clone());
            }
            if parents.is_empty() {
                queue.ready.insert(job.clone());
            }
            queue.waits_for.insert(job.clone(), parents);
        }
        for (job, _) in order.iter().rev() {
            let below = queue
                .children
                .get(job)
                .into_iter()
                .flatten()
                .filter_map(|child| queue.depth.get(child))
                .max();
            let depth = 1 + below.copied().unwrap_or_default();
            queue.depth.insert(job.clone(), depth);
        }
        queue
    }

    /// The ready jobs, the one with the longest path below it first, else by name.
    pub(crate) fn ready(&self) -> Vec<J> {
        let mut ready: Vec<J> = self.ready.iter().cloned().collect();
        ready.sort_by_key(|job| std::cmp::Reverse(self.depth.get(job).copied().unwrap_or_default()));
        ready
    }

    /// A ready job has been started.
    pub(crate) fn start(&mut self, job: &J) {
        self.ready.remove(job);
    }

    /// A started job has passed: what waited for it alone is ready.
    pub(crate) fn passed(&mut self, job: &J) {
        self.waits_for.remove(job);
        for child in self.children.remove(job).unwrap_or_default() {
            if let Some(waits_for) = self.waits_for.get_mut(&child) {
                waits_for.remove(job);
                if waits_for.is_empty() {
                    self.ready.insert(child);
                }
            }
        }
    }

    /// A started job has failed: all its descendants leave the queue and are returned, in order.
    pub(crate) fn failed(&mut self, job: &J) -> Vec<J> {
        self.waits_for.remove(job);
        let mut lost = BTreeSet::new();
        let mut next = vec![job.clone()];
        while let Some(one) = next.pop() {
            for child in self.children.remove(&one).unwrap_or_default() {
                if self.waits_for.remove(&child).is_some() {
                    self.ready.remove(&child);
                    lost.insert(child.clone());
                    next.push(child);
                }
            }
        }
        lost.into_iter().collect()
    }

    /// Everything that has not been started leaves the queue and is returned, in order.
    pub(crate) fn drain(&mut self, started: &BTreeSet<J>) -> Vec<J> {
        self.ready.clear();
        let left: Vec<J> = self.waits_for.keys().filter(|job| !started.contains(job)).cloned().collect();
        self.waits_for.retain(|job, _| started.contains(job));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(edges: &[(&'static str, &[&'static str])]) -> Queue<&'static str> {
        let order: Vec<_> =
            edges.iter().map(|(job, parents)| (*job, parents.iter().copied().collect())).collect();
        Queue::new(&order)
    }

    #[test]
    fn the_deepest_remaining_path_goes_first() {
        let mut queue = queue(&[("a", &[]), ("b", &[]), ("b1", &["b"]), ("b2", &["b1"]), ("a1", &["a"])]);
        assert_eq!(queue.ready(), ["b", "a"]);
        queue.start(&"b");
        queue.passed(&"b");
        assert_eq!(queue.ready(), ["a", "b1"], "as deep as each other: by name");
    }

    #[test]
    fn a_failure_takes_its_descendants_and_nothing_else() {
        let mut queue = queue(&[("a", &[]), ("b", &[]), ("c", &["a", "b"]), ("d", &["c"]), ("e", &["b"])]);
        queue.start(&"a");
        queue.start(&"b");
        assert_eq!(queue.failed(&"a"), ["c", "d"]);
        queue.passed(&"b");
        assert_eq!(queue.ready(), ["e"]);
    }

    #[test]
    fn a_job_waits_for_all_its_parents_once() {
        let mut queue = queue(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]);
        queue.start(&"a");
        queue.passed(&"a");
        assert_eq!(queue.ready(), ["b"]);
        queue.start(&"b");
        queue.passed(&"b");
        assert_eq!(queue.ready(), ["c"]);
        assert_eq!(queue.drain(&BTreeSet::new()), ["c"]);
    }
}
