//! How far each job is, and what a passed or failed one means for those that wait for it.

use std::sync::Arc;

use super::Problem;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Parents have not passed yet.
    Waiting,
    /// It may start.
    Ready,
    /// It is at work.
    Running,
    /// It passed, failed, or will never start.
    Over,
}

/// The jobs and how far each is.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    problem: Arc<Problem>,
    /// How many of its parents have not passed.
    open: Vec<usize>,
    stages: Vec<Stage>,
    /// How many are not over.
    left: usize,
}

impl Graph {
    pub(super) fn new(problem: Arc<Problem>) -> Self {
        let open: Vec<usize> = problem.parents.iter().map(Vec::len).collect();
        let stage = |open: &usize| if *open == 0 { Stage::Ready } else { Stage::Waiting };
        Self { stages: open.iter().map(stage).collect(), left: open.len(), open, problem }
    }

    pub(super) fn stage(&self, job: usize) -> Stage {
        self.stages[job]
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Jobs at a stage, in their order.
    pub(super) fn at(&self, stage: Stage) -> impl Iterator<Item = usize> {
        self.stages.iter().enumerate().filter(move |(_, own)| **own == stage).map(|(job, _)| job)
    }

    pub(super) fn start(&mut self, job: usize) {
        self.stages[job] = Stage::Running;
    }

    pub(super) fn again(&mut self, job: usize) {
        self.stages[job] = Stage::Ready;
    }

    /// It passed; the jobs that may start now.
    pub(super) fn passed(&mut self, job: usize) -> Vec<usize> {
        self.end(job);
        let mut ready = Vec::new();
        for child in &self.problem.children[job] {
            self.open[*child] -= 1;
            if self.open[*child] == 0 && self.stages[*child] == Stage::Waiting {
                self.stages[*child] = Stage::Ready;
                ready.push(*child);
            }
        }
        ready
    }

    /// It will never pass; all that stand on it, which now never start, in their order.
    pub(super) fn fell(&mut self, job: usize) -> Vec<usize> {
        self.end(job);
        let mut fallen = Vec::new();
        let mut next = vec![job];
        while let Some(one) = next.pop() {
            let waiting: Vec<usize> = { self.problem.children[one].iter().copied() }
                .filter(|child| self.stages[*child] == Stage::Waiting)
                .collect();
            for child in waiting {
                self.end(child);
                fallen.push(child);
                next.push(child);
            }
        }
        fallen.sort_unstable();
        fallen
    }

    fn end(&mut self, job: usize) {
        if self.stages[job] != Stage::Over {
            self.stages[job] = Stage::Over;
            self.left -= 1;
        }
    }
}
