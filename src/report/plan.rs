//! A plan for people and programs: text, JSON, Mermaid and DOT.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::terminal::{duration, emulation_cost};
use crate::diag::{count, size};
use crate::event::{EmulationCost, Waiting};
use serde::{Deserialize, Serialize};

/// The version of the format of plans as they are shown.
pub(crate) const PLAN_VIEW_VERSION: u32 = 1;

/// What a plan says to those who read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanView {
    /// [`PLAN_VIEW_VERSION`].
    pub(crate) version: u32,
    /// Every job, parents before children.
    pub(crate) jobs: Vec<JobView>,
    /// Copies of images elsewhere, which no job makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mirrors: Vec<MirrorView>,
    /// The builders that were asked about, and what they do of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) builders: Vec<CapacityView>,
    /// What a person should know; beside the text these go to standard error.
    pub(crate) warnings: Vec<String>,
}

/// What a builder does of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CapacityView {
    /// Its name.
    pub(crate) name: String,
    /// Its engine, and where that is.
    pub(crate) engine: String,
    /// How many jobs it does at once.
    pub(crate) slots: usize,
    /// How content comes to it and back.
    pub(crate) content: String,
    /// Checks run in containers, and not as steps of builds upon the image.
    pub(crate) runs_containers: bool,
    /// What becomes there of the caches that the family keeps in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) caches: Vec<String>,
    /// How many jobs it does by emulation that no builder does natively, or that are not split between builders.
    #[serde(default)]
    pub(crate) emulates: usize,
    /// How many jobs it does not do, by why.
    pub(crate) hindrances: BTreeMap<String, usize>,
}

impl fmt::Display for CapacityView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, engine, content, .. } = self;
        let checks = match self.runs_containers {
            true => "in containers",
            false => "as steps of builds upon the image, of which nothing is cached",
        };
        writeln!(f, "{name}: {engine}, {}", count(self.slots, "slot"))?;
        writeln!(f, "  content: {content}")?;
        writeln!(f, "  checks: {checks}")?;
        self.caches.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        if self.emulates > 0 {
            writeln!(f, "  emulates {}", count(self.emulates, "job"))?;
        }
        { self.hindrances.iter() }
            .try_for_each(|(why, jobs)| writeln!(f, "  not {}: {name} {why}", count(*jobs, "job")))
    }
}

/// One job of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobView {
    /// `image:variant@platform`.
    pub(crate) job: String,
    /// `image:variant`.
    pub(crate) unit: String,
    /// The platform.
    pub(crate) platform: String,
    /// What happens to it.
    pub(crate) decision: DecisionView,
    /// Why, the weightiest reason first.
    pub(crate) reasons: Vec<String>,
    /// The jobs that it uses, and waits for.
    pub(crate) parents: Vec<String>,
    /// The jobs that it waits for although it uses nothing of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<String>,
    /// The images from outside that it uses.
    pub(crate) bases: Vec<String>,
    /// The image key.
    pub(crate) key: String,
    /// Whether it may be built by emulation; nothing where it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) emulation: Option<EmulationView>,
    /// How many bytes of room are said to be wanted for it where the builder keeps images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<u64>,
    /// The labels that the builder must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs: Vec<String>,
    /// How long it may take natively, where anything is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) estimate: Option<EstimateView>,
    /// How long it may take by emulation, where that is allowed and anything is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) emulated: Option<EstimateView>,
    /// Until when it is not tried, where it has failed again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
}

impl JobView {
    /// What it wants of the builder beside its platform, in brackets; nothing where that is nothing.
    fn terms(&self) -> String {
        let whole = self.emulation == Some(EmulationView::Always);
        let whole = whole.then(|| "all platforms on one builder".to_owned());
        let disk = self.disk.map(|bytes| format!("wants {}", size(bytes)));
        let needs = (!self.needs.is_empty()).then(|| format!("needs {}", self.needs.join(", ")));
        let terms: Vec<String> = [whole, disk, needs].into_iter().flatten().collect();
        match terms.is_empty() {
            true => String::new(),
            false => format!(" ({})", terms.join("; ")),
        }
    }
}

/// By which rule a job may be built by emulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmulationView {
    /// Where no builder is native.
    Allow,
    /// One builder builds all platforms of the image.
    Always,
}

/// How long a job may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EstimateView {
    /// Milliseconds.
    pub(crate) milliseconds: u64,
    /// It was not measured, but taken from its neighbours.
    pub(crate) assumed: bool,
}

/// A copy of an image elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorView {
    /// `image`.
    pub(crate) unit: String,
    /// The image elsewhere.
    pub(crate) source: String,
    /// Its digest, which the copy has too; none where it cannot be looked up.
    pub(crate) digest: Option<String>,
    /// Templates of the tags of the copy.
    pub(crate) tags: Vec<String>,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DecisionView {
    /// It is built and checked.
    Build,
    /// Its image stands; its checks run.
    Check,
    /// A record stands for it.
    Reuse,
    /// It is not tried in this run, since it has failed again and again.
    Wait,
    /// It stands on one that is not tried.
    Skip,
}

impl fmt::Display for DecisionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Check => "check",
            Self::Reuse => "reuse",
            Self::Wait => "wait",
            Self::Skip => "skip",
        })
    }
}

/// The images that the jobs of one unit stand on or copy from, in brackets; nothing where there is none.
fn stands_on(jobs: &[&JobView]) -> String {
    let unit = |job: &String| job.split_once('@').map_or_else(|| job.clone(), |(unit, _)| unit.to_owned());
    let parents = jobs.iter().flat_map(|job| &job.parents).map(unit);
    let bases = jobs.iter().flat_map(|job| &job.bases).cloned();
    let all: BTreeSet<String> = parents.chain(bases).collect();
    let held: BTreeSet<String> = jobs.iter().flat_map(|job| &job.beside).map(unit).collect();
    let listed = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    match (all.is_empty(), held.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("  (on {})", listed(all)),
        (false, false) => format!("  (on {}; waits for all platforms of {})", listed(all), listed(held)),
    }
}

impl PlanView {
    /// One line an image, then how much there is to do.
    pub(crate) fn to_text(&self) -> String {
        let mut images: Vec<(&str, Vec<&JobView>)> = Vec::new();
        for job in &self.jobs {
            match images.iter_mut().find(|(unit, _)| *unit == job.unit) {
                Some((_, jobs)) => jobs.push(job),
                None => images.push((&job.unit, vec![job])),
            }
        }
        let units = images.iter().map(|(unit, _)| *unit).chain(self.mirrors.iter().map(|one| &*one.unit));
        let width = units.map(|unit| unit.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (unit, jobs) in images {
            let on = stands_on(&jobs);
            let mut groups: BTreeMap<(DecisionView, Option<&str>, String), Vec<String>> = BTreeMap::new();
            for job in jobs {
                let platform = job.platform.clone();
                let why = job.reasons.first().map(String::as_str);
                groups.entry((job.decision, why, job.terms())).or_default().push(platform);
            }
            let groups: Vec<String> = { groups.into_iter() }
                .map(|((decision, why, terms), platforms)| {
                    let why = why.map_or_else(String::new, |why| format!(": {why}"));
                    format!("{decision} {}{terms}{why}", platforms.join(", "))
                })
                .collect();
            text.push_str(&format!("{unit:width$}  {}{on}\n", groups.join("; ")));
        }
        for MirrorView { unit, source, digest, .. } in &self.mirrors {
            let digest = digest.as_ref().map_or("unknown: it cannot be looked up", |digest| digest);
            text.push_str(&format!("{unit:width$}  mirror {source} ({digest})\n"));
        }
        let of_kind = |decision| self.jobs.iter().filter(|job| job.decision == decision).count();
        let (build, check, reuse) =
            (of_kind(DecisionView::Build), of_kind(DecisionView::Check), of_kind(DecisionView::Reuse));
        let left_out: String = [(DecisionView::Wait, "waiting"), (DecisionView::Skip, "skipped")]
            .into_iter()
            .map(|(decision, word)| (of_kind(decision), word))
            .filter(|(jobs, _)| *jobs > 0)
            .map(|(jobs, word)| format!(", {jobs} {word}"))
            .collect();
        let jobs = count(self.jobs.len(), "job");
        let work = self.work().map_or_else(String::new, |work| format!("; {work}"));
        let emulation = self.emulation().map_or_else(String::new, |told| format!("{told}\n"));
        let builders: String = self.builders.iter().map(ToString::to_string).collect();
        format!(
            "{text}{jobs}: {build} to build, {check} to check, {reuse} reused{left_out}{work}\n{emulation}{builders}"
        )
    }

    /// How long the jobs may take one after another, where anything is known.
    fn work(&self) -> Option<String> {
        let estimates = self.jobs.iter().filter_map(|job| job.estimate);
        let estimates: Vec<EstimateView> = estimates.filter(|one| one.milliseconds > 0).collect();
        let sum = estimates.iter().map(|one| one.milliseconds).fold(0, u64::saturating_add);
        let assumed = estimates.iter().filter(|one| one.assumed).count();
        let assumed = if assumed > 0 { format!(", {assumed} of them assumed") } else { String::new() };
        (sum > 0).then(|| format!("about {} of work{assumed}", duration(sum)))
    }

    /// How many jobs may be emulated, and where anything is known what that may cost: no engine is asked which
    /// platforms it has.
    fn emulation(&self) -> Option<String> {
        let both = |job: &JobView| Some((job.emulated?.milliseconds, job.estimate?.milliseconds));
        let times: Vec<(u64, u64)> =
            self.jobs.iter().filter_map(both).filter(|(emulated, _)| *emulated > 0).collect();
        let sum = |part: fn(&(u64, u64)) -> u64| times.iter().map(part).fold(0, u64::saturating_add);
        let cost =
            EmulationCost { emulated_milliseconds: sum(|one| one.0), native_milliseconds: sum(|one| one.1) };
        let jobs = self.jobs.iter().filter(|job| job.emulation.is_some()).count();
        let cost = match times.is_empty() {
            true => String::new(),
            false => format!(": {}", emulation_cost(&cost)),
        };
        (jobs > 0).then(|| format!("if no builder is native, {} emulated{cost}", count(jobs, "job")))
    }

    /// The plan as JSON, ending with a line end.
    pub(crate) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a plan is plain JSON");
        format!("{text}\n")
    }

    /// The plan as a Mermaid flow chart. Jobs are numbered, because few characters may stand in Mermaid's names.
    pub(crate) fn to_mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (at, job) in self.jobs.iter().enumerate() {
            let label = format!("{}\n{}", job.job, job.decision);
            text.push_str(&format!("    job{at}[\"{}\"]:::{}\n", mermaid_text(&label), job.decision));
        }
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let label = format!("{}\nmirror", mirror.unit);
            text.push_str(&format!("    mirror{at}[\"{}\"]:::reuse\n", mermaid_text(&label)));
        }
        self.for_each_edge(|parent, child, edge| {
            let arrow = if edge == Edge::Uses { "-->" } else { "-.->" };
            text.push_str(&format!("    {parent} {arrow} {child}\n"));
        });
        text.push_str("    classDef build fill:#ffe8cc,stroke:#d9480f\n");
        text.push_str("    classDef check fill:#fff3bf,stroke:#e67700\n");
        text.push_str("    classDef reuse fill:#e9ecef,stroke:#868e96\n");
        for decision in [DecisionView::Wait, DecisionView::Skip] {
            if self.jobs.iter().any(|job| job.decision == decision) {
                text.push_str(&format!("    classDef {decision} fill:#ffe3e3,stroke:#c92a2a\n"));
            }
        }
        text
    }

    /// The plan as a graph for Graphviz.
    pub(crate) fn to_dot(&self) -> String {
        let mut text = "digraph plan {\n    rankdir=LR;\n    node [shape=box];\n".to_owned();
        for (at, job) in self.jobs.iter().enumerate() {
            let style = match job.decision {
                DecisionView::Build => "bold",
                DecisionView::Check => "solid",
                DecisionView::Reuse => "dashed",
                DecisionView::Wait | DecisionView::Skip => "dotted",
            };
            let label = format!("{}\n{}", dot_text(&job.job), job.decision).replace('\n', "\\n");
            text.push_str(&format!("    job{at} [label=\"{label}\", style={style}];\n"));
        }
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let label = format!("{}\\nmirror", dot_text(&mirror.unit));
            text.push_str(&format!("    mirror{at} [label=\"{label}\", style=dotted];\n"));
        }
        self.for_each_edge(|parent, child, edge| {
            let style = if edge == Edge::Uses { "" } else { " [style=dashed]" };
            text.push_str(&format!("    {parent} -> {child}{style};\n"));
        });
        text.push_str("}\n");
        text
    }

    /// From a job, or a mirror, to each job that uses it or waits for it, by their names in the pictures.
    fn for_each_edge(&self, mut edge: impl FnMut(&str, &str, Edge)) {
        let places: BTreeMap<&str, usize> =
            self.jobs.iter().enumerate().map(|(at, job)| (job.job.as_str(), at)).collect();
        for (child, job) in self.jobs.iter().enumerate() {
            let child = format!("job{child}");
            for (others, kind) in [(&job.parents, Edge::Uses), (&job.beside, Edge::WaitsFor)] {
                for other in others.iter().filter_map(|other| places.get(other.as_str())) {
                    edge(&format!("job{other}"), &child, kind);
                }
            }
            for (at, mirror) in self.mirrors.iter().enumerate() {
                if job.bases.contains(&mirror.source) {
                    edge(&format!("mirror{at}"), &child, Edge::Uses);
                }
            }
        }
    }
}

/// What a job has to do with another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Uses,
    WaitsFor,
}

/// A text between quotation marks in Mermaid: everything but plain characters by its number.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("<br/>"),
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '-' | '_' | '.' | '/' | ':' | '@' => {
                safe.push(character)
            }
            other => write!(safe, "#{};", u32::from(other)).expect("writing to a string cannot fail"),
        }
    }
    safe
}

/// A text between quotation marks in DOT.
fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
