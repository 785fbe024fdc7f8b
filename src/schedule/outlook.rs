//! What a fleet would make of some jobs: how long, how dear, and how few machines would do.

use std::collections::BTreeMap;

use super::rehearsal::{Span, makespan, rehearse};
use super::{Job, Machine, Problem, Rules, priorities};

/// A smaller fleet may take so many percent of the time of the best.
const GOOD_ENOUGH: u64 = 105;

/// Machines of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// One of them.
    pub(crate) machine: Machine,
    /// How many there are.
    pub(crate) count: usize,
    /// What one of them costs a minute, from the beginning of its first job to the end of its last.
    pub(crate) price: f64,
}

/// What a fleet would make of some jobs.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    /// How many machines there are of each kind.
    pub(crate) counts: Vec<usize>,
    /// When the last job ends, in milliseconds.
    pub(crate) makespan: u64,
    /// What that costs.
    pub(crate) cost: f64,
    /// What is done when and where. Machines are numbered by kinds, those of the first kind first.
    pub(crate) spans: Vec<Span>,
}

/// What a fleet of these kinds would make of these jobs, parents before children.
pub(crate) fn foresee(jobs: &[Job], kinds: &[Kind], rules: &Rules) -> Outlook {
    let machines: Vec<&Kind> = kinds.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.count)).collect();
    let copies = machines.iter().map(|kind| kind.machine.clone()).collect();
    let problem = Problem::new(jobs.to_vec(), copies, rules.clone());
    let spans = rehearse(&problem, priorities(&problem));
    let mut used = BTreeMap::<usize, (u64, u64)>::new();
    for span in &spans {
        let (begin, end) = used.entry(span.machine).or_insert((span.begin, span.end));
        *begin = (*begin).min(span.begin);
        *end = (*end).max(span.end);
    }
    let cost = used.iter().map(|(at, (begin, end))| machines[*at].price * (end - begin) as f64 / 60_000.0);
    let counts = kinds.iter().map(|kind| kind.count).collect();
    Outlook { counts, makespan: makespan(&spans), cost: cost.sum(), spans }
}

/// Fleets with 1, 2 and so on to so many machines of each kind.
pub(crate) fn fleets(jobs: &[Job], kinds: &[Kind], most: usize, rules: &Rules) -> Vec<Outlook> {
    (1..=most).map(|count| foresee(jobs, &with_counts(kinds, &vec![count; kinds.len()]), rules)).collect()
}

/// The smallest fleet that takes at most five percent longer than the best of some: of the largest, machines are
/// taken away kind by kind as long as that holds.
pub(crate) fn smallest(jobs: &[Job], kinds: &[Kind], fleets: &[Outlook], rules: &Rules) -> Option<Outlook> {
    let best = fleets.iter().map(|fleet| fleet.makespan).min()?;
    let is_good =
        |outlook: &Outlook| outlook.makespan.saturating_mul(100) <= best.saturating_mul(GOOD_ENOUGH);
    let mut smallest = fleets.iter().find(|fleet| is_good(fleet))?.clone();
    for kind in 0..kinds.len() {
        while smallest.counts[kind] > 1 {
            let mut fewer = smallest.counts.clone();
            fewer[kind] -= 1;
            let outlook = foresee(jobs, &with_counts(kinds, &fewer), rules);
            if !is_good(&outlook) {
                break;
            }
            smallest = outlook;
        }
    }
    Some(smallest)
}

fn with_counts(kinds: &[Kind], counts: &[usize]) -> Vec<Kind> {
    kinds.iter().zip(counts).map(|(kind, count)| Kind { count: *count, ..kind.clone() }).collect()
}
