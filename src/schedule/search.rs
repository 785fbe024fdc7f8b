//! A better order than the longest path first, found by trying orders in virtual time: bounded, seeded, and pure.

use std::sync::Arc;

use super::Problem;
use super::rehearsal::{Span, makespan, rehearse};

/// How many orders are tried at most.
const TRIES: usize = 400;
/// How many jobs are put in place in all tries together, whatever their number: so that large families cost no more.
const PLACINGS: usize = 20_000;
/// So many times as dear is a job where machines are of different speeds.
const SPEEDS: usize = 4;
/// Where the numbers begin that the search takes its steps by.
const SEED: u64 = 0x706f_6c79_6172_6368;

/// Priorities that lead to a short run, if everything takes as long as is thought: those of the longest paths, or
/// better ones that a search has found.
pub(crate) fn priorities(problem: &Arc<Problem>) -> Arc<[u64]> {
    Search::new(problem).run()
}

/// How good an order is, the smaller the better: when the last job ends, and the sum of all ends.
type Worth = (u64, u64);

struct Search<'a> {
    problem: &'a Arc<Problem>,
    tries_left: usize,
    best: Vec<usize>,
    worth: Worth,
    spans: Vec<Span>,
    dice: u64,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Arc<Problem>) -> Self {
        let best = by_value(&problem.longest_paths());
        let spans = rehearse(problem, ranks(&best));
        let mixed = problem.machines.windows(2).any(|pair| pair[0].speed != pair[1].speed);
        let placings = if mixed { PLACINGS / SPEEDS } else { PLACINGS };
        let tries_left = (placings / problem.len().max(1)).min(TRIES);
        Self { tries_left, best, worth: worth(&spans), spans, dice: SEED, problem }
    }

    fn run(mut self) -> Arc<[u64]> {
        let least = self.problem.least_time();
        for start in self.starts() {
            if self.worth.0 > least && self.tries_left > 0 {
                self.attempt(start);
            }
        }
        while self.worth.0 > least && self.tries_left > 0 {
            let next = self.neighbour();
            self.attempt(next);
        }
        ranks(&self.best)
    }

    fn attempt(&mut self, order: Vec<usize>) {
        self.tries_left -= 1;
        let spans = rehearse(self.problem, ranks(&order));
        let worth = worth(&spans);
        if worth <= self.worth {
            (self.best, self.worth, self.spans) = (order, worth, spans);
        }
    }

    /// Orders that are good for some families: by what stands on a job in all, and by its own time.
    fn starts(&self) -> Vec<Vec<usize>> {
        let (paths, below) = (self.problem.longest_paths(), self.problem.times_below());
        let mixed = |slots: u64| -> Vec<u64> {
            paths.iter().zip(&below).map(|(path, below)| path.saturating_add(below / slots)).collect()
        };
        let slots =
            self.problem.machines.iter().map(|machine| machine.slots as u64).max().unwrap_or(1).max(1);
        [mixed(slots), mixed(2 * slots), mixed(1), self.problem.shortest_times()]
            .map(|one| by_value(&one))
            .into()
    }

    /// The best order with one job, of the platform that ends last, moved elsewhere in it.
    fn neighbour(&mut self) -> Vec<usize> {
        let last = self.spans.iter().max_by_key(|span| span.end);
        let slowest = last.and_then(|span| self.problem.needs(span.job)).map(|needs| &needs.platform);
        let is_slow = |job: &usize| self.problem.needs(*job).map(|needs| &needs.platform) == slowest;
        let places: Vec<usize> = (0..self.best.len()).filter(|at| is_slow(&self.best[*at])).collect();
        let mut order = self.best.clone();
        if let [_, _, ..] = places[..] {
            let (from, to) = (places[self.below(places.len())], places[self.below(places.len())]);
            let moved = order.remove(from);
            order.insert(to, moved);
        }
        order
    }

    /// A number below another.
    fn below(&mut self, limit: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        usize::try_from(self.dice % limit as u64).unwrap_or_default()
    }
}

fn worth(spans: &[Span]) -> Worth {
    (makespan(spans), spans.iter().map(|span| span.end).fold(0, u64::saturating_add))
}

/// Jobs with the highest value first, else in their order.
fn by_value(values: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|job| std::cmp::Reverse(values[*job]));
    order
}

/// The priorities of an order.
fn ranks(order: &[usize]) -> Arc<[u64]> {
    let mut ranks = vec![0; order.len()];
    for (rank, job) in order.iter().rev().enumerate() {
        ranks[*job] = rank as u64;
    }
    ranks.into()
}
