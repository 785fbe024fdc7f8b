//! Ready jobs by what they need: of those that need the same only the first has to be looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fleet::Fleet;
use super::{Needs, Problem};

/// The jobs that need the same, and that have failed on the same machines.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) needs: usize,
    /// Machines that others go before, since jobs of the class have failed there.
    avoided: BTreeSet<usize>,
    /// The more urgent first, else in their order.
    pub(super) jobs: BTreeSet<(Reverse<u64>, usize)>,
    /// The machines that are not lost and fit best, all of them native or all of them not.
    pub(super) machines: Vec<usize>,
    pub(super) emulated: bool,
    /// None of its jobs can start before something changes.
    pub(super) blocked: bool,
    /// When that changes by time alone.
    pub(super) look_again: Option<u64>,
}

/// All ready jobs.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    problem: Arc<Problem>,
    priorities: Arc<[u64]>,
    pub(super) classes: Vec<Class>,
    by_needs: BTreeMap<(usize, BTreeSet<usize>), usize>,
    /// The classes whose machines each machine is one of.
    of_machine: Vec<Vec<usize>>,
    /// The classes of jobs that go together.
    of_group: BTreeMap<usize, Vec<usize>>,
    /// The machine on which one of those that go together has started last.
    place_of_group: BTreeMap<usize, usize>,
    /// The machines that each job has failed on; most jobs have failed on none.
    failed_on: BTreeMap<usize, BTreeSet<usize>>,
    /// Jobs that take no machine.
    pub(super) weightless: BTreeSet<usize>,
}

impl Ready {
    pub(super) fn new(problem: Arc<Problem>, priorities: Arc<[u64]>, fleet: &Fleet) -> Self {
        let mut ready = Self {
            classes: Vec::new(),
            by_needs: BTreeMap::new(),
            of_machine: vec![Vec::new(); problem.machines.len()],
            of_group: BTreeMap::new(),
            place_of_group: BTreeMap::new(),
            failed_on: BTreeMap::new(),
            weightless: BTreeSet::new(),
            priorities,
            problem,
        };
        for needs in 0..ready.problem.needs.len() {
            ready.class(needs, &BTreeSet::new(), fleet);
        }
        ready
    }

    pub(super) fn insert(&mut self, job: usize, fleet: &Fleet) {
        let Some(needs) = self.problem.needs_of[job] else {
            self.weightless.insert(job);
            return;
        };
        let class = match self.failed_on.get(&job) {
            None => needs,
            Some(avoided) => self.class(needs, &avoided.clone(), fleet),
        };
        let class = &mut self.classes[class];
        class.jobs.insert((Reverse(self.priorities[job]), job));
        class.blocked = false;
    }

    pub(super) fn remove(&mut self, job: usize) {
        let Some(needs) = self.problem.needs_of[job] else {
            self.weightless.remove(&job);
            return;
        };
        let class = match self.failed_on.get(&job) {
            None => Some(needs),
            Some(avoided) => self.by_needs.get(&(needs, avoided.clone())).copied(),
        };
        if let Some(class) = class {
            self.classes[class].jobs.remove(&(Reverse(self.priorities[job]), job));
        }
    }

    /// Other machines go before this one for the job from now on. It is not in the queue.
    pub(super) fn avoid(&mut self, job: usize, machine: usize) {
        self.failed_on.entry(job).or_default().insert(machine);
    }

    /// A job has started on a machine: what goes together with it goes there too.
    pub(super) fn gather(&mut self, job: usize, machine: usize, fleet: &Fleet) {
        let Some(group) = self.problem.needs(job).and_then(|needs| needs.together) else { return };
        if self.place_of_group.insert(group, machine) == Some(machine) {
            return;
        }
        for at in self.of_group.get(&group).cloned().unwrap_or_default() {
            self.choose_machines(at, fleet);
        }
    }

    /// Something has ended on a machine.
    pub(super) fn unblock(&mut self, machine: usize) {
        for class in &self.of_machine[machine] {
            self.classes[*class].blocked = false;
        }
    }

    /// Time has passed.
    pub(super) fn unblock_by_time(&mut self, now: u64) {
        for class in &mut self.classes {
            if class.look_again.is_some_and(|then| then <= now) {
                class.blocked = false;
                class.look_again = None;
            }
        }
    }

    /// Machines were lost or have returned, or have more or less room.
    pub(super) fn choose_machines_again(&mut self, fleet: &Fleet) {
        self.of_machine.iter_mut().for_each(Vec::clear);
        for at in 0..self.classes.len() {
            self.choose_machines(at, fleet);
        }
    }

    /// The class whose most urgent job comes first of all.
    pub(super) fn first(&self) -> Option<usize> {
        let open = self.classes.iter().enumerate().filter(|(_, class)| !class.blocked);
        let heads = open.filter_map(|(at, class)| Some((class.jobs.first()?, at)));
        heads.min().map(|(_, at)| at)
    }

    fn class(&mut self, needs: usize, avoided: &BTreeSet<usize>, fleet: &Fleet) -> usize {
        let key = (needs, avoided.clone());
        if let Some(class) = self.by_needs.get(&key) {
            return *class;
        }
        let at = self.classes.len();
        self.classes.push(Class {
            needs,
            avoided: avoided.clone(),
            jobs: BTreeSet::new(),
            machines: Vec::new(),
            emulated: false,
            blocked: false,
            look_again: None,
        });
        self.by_needs.insert(key, at);
        if let Some(group) = self.problem.needs[needs].together {
            self.of_group.entry(group).or_default().push(at);
        }
        self.choose_machines(at, fleet);
        at
    }

    /// The machine of those that it goes together with, as long as that fits and its jobs have not failed there; else
    /// native machines, else emulating ones; of either those that its jobs have not failed on, if there are any.
    fn choose_machines(&mut self, at: usize, fleet: &Fleet) {
        let class = &mut self.classes[at];
        let needs: &Needs = &self.problem.needs[class.needs];
        let fits = |at: &usize| !fleet.is_lost(*at) && fleet.has_room(*at, needs);
        let place = needs.together.and_then(|group| self.place_of_group.get(&group)).copied();
        let fits: Vec<usize> = match place.filter(|at| fits(at) && !class.avoided.contains(at)) {
            Some(place) => vec![place],
            None => (0..self.problem.machines.len()).filter(fits).collect(),
        };
        let native = |at: &usize| fleet.machine(*at).native.contains(&needs.platform);
        let emulating =
            |at: &usize| needs.may_emulate && fleet.machine(*at).emulated.contains(&needs.platform);
        let native: Vec<usize> = fits.iter().copied().filter(native).collect();
        class.emulated = native.is_empty();
        let all = if native.is_empty() { fits.into_iter().filter(emulating).collect() } else { native };
        let untried: Vec<usize> = { all.iter().copied() }.filter(|at| !class.avoided.contains(at)).collect();
        class.machines = if untried.is_empty() { all } else { untried };
        class.blocked = false;
        class.machines.iter().for_each(|machine| self.of_machine[*machine].push(at));
    }
}
