//! What a fleet would make of some jobs: how long, how dear, and how few machines would do.

use std::collections::BTreeMap;

use super::rehearsal::{Span, makespan, rehearse};
use super::{Job, Machine, Problem, Rules, priorities};

/// A smaller fleet may take so many percent of the time of the best.
const GOOD_ENOUGH: u64 = 105;
/// Of so many fleets every one is looked at in the search for the smallest.
const FLEETS_TRIED: usize = 300;

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

/// The smallest fleet that takes at most five percent longer than the best of some: that of the fewest machines, and of
/// these the cheapest. A kind may be missing from it where the others do all that is to be done. Of more fleets than
/// may be tried it is the smallest that is come to by taking machines away, kind by kind.
pub(crate) fn smallest(jobs: &[Job], kinds: &[Kind], fleets: &[Outlook], rules: &Rules) -> Option<Outlook> {
    let best = fleets.iter().map(|fleet| fleet.makespan).min()?;
    let quest = Quest { jobs, kinds, rules, best };
    let first = fleets.iter().find(|fleet| quest.is_good(fleet))?;
    let thinned = quest.thinned(first);
    Some(match quest.no_larger(&thinned, fleets.len()) {
        Some(candidates) => quest.first_good(candidates).unwrap_or(thinned),
        None => thinned,
    })
}

/// The search for a fleet that is good enough.
struct Quest<'a> {
    jobs: &'a [Job],
    kinds: &'a [Kind],
    rules: &'a Rules,
    /// The time of the best.
    best: u64,
}

impl Quest<'_> {
    /// What such a fleet makes of the jobs, where it does all of them in a good time.
    fn good(&self, counts: &[usize]) -> Option<Outlook> {
        let is_taken = |job: &Job| {
            let Some(needs) = &job.needs else { return true };
            self.kinds.iter().zip(counts).any(|(kind, count)| *count > 0 && kind.machine.takes(needs))
        };
        let is_enough = counts.iter().any(|count| *count > 0) && self.jobs.iter().all(is_taken);
        let outlook = is_enough.then(|| foresee(self.jobs, &with_counts(self.kinds, counts), self.rules));
        outlook.filter(|outlook| self.is_good(outlook))
    }

    fn is_good(&self, outlook: &Outlook) -> bool {
        let at_work = self.jobs.iter().filter(|job| job.needs.is_some()).count();
        outlook.spans.len() == at_work
            && outlook.makespan.saturating_mul(100) <= self.best.saturating_mul(GOOD_ENOUGH)
    }

    /// A good fleet without the machines that can be taken away one after another.
    fn thinned(&self, fleet: &Outlook) -> Outlook {
        let mut fleet = fleet.clone();
        for kind in 0..self.kinds.len() {
            while let Some(fewer) = fleet.counts[kind].checked_sub(1) {
                let mut counts = fleet.counts.clone();
                counts[kind] = fewer;
                let Some(good) = self.good(&counts) else { break };
                fleet = good;
            }
        }
        fleet
    }

    /// Every fleet of no more machines than a good one has, and of at most so many of each kind, the smallest first;
    /// `None` where these are too many.
    fn no_larger(&self, fleet: &Outlook, most: usize) -> Option<Vec<Vec<usize>>> {
        let limit = size(&fleet.counts);
        let mut found = vec![Vec::new()];
        for _ in self.kinds {
            let longer = |counts: &Vec<usize>| {
                let left = limit - size(counts);
                let counts = counts.clone();
                (0..=left.min(most)).map(move |count| [&counts[..], &[count]].concat())
            };
            found = found.iter().flat_map(longer).take(FLEETS_TRIED + 1).collect();
        }
        found.sort_by_key(|counts| size(counts));
        (found.len() <= FLEETS_TRIED).then_some(found)
    }

    /// The cheapest good one of those of the fewest machines; of some as cheap the fastest.
    fn first_good(&self, candidates: Vec<Vec<usize>>) -> Option<Outlook> {
        let of_size = candidates.chunk_by(|one, other| size(one) == size(other));
        let cheapest = |same: &[Vec<usize>]| {
            let good = same.iter().filter_map(|counts| self.good(counts));
            good.min_by(|one, other| one.cost.total_cmp(&other.cost).then(one.makespan.cmp(&other.makespan)))
        };
        of_size.into_iter().find_map(cheapest)
    }
}

/// How many machines that are.
fn size(counts: &[usize]) -> usize {
    counts.iter().sum()
}

fn with_counts(kinds: &[Kind], counts: &[usize]) -> Vec<Kind> {
    kinds.iter().zip(counts).map(|(kind, count)| Kind { count: *count, ..kind.clone() }).collect()
}
