//! What a fleet would make of a plan, for people and programs.

use serde::Serialize;

use super::terminal::duration;
use crate::diag::count;

/// The version of the format of simulations as they are shown.
pub(crate) const SIMULATION_VERSION: u32 = 1;
/// How wide the picture of a timeline is.
const WIDTH: u64 = 40;

/// What comes of a simulation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Simulation {
    /// [`SIMULATION_VERSION`].
    pub(crate) version: u32,
    /// How many jobs take time.
    pub(crate) jobs: usize,
    /// Of so many the time is assumed.
    pub(crate) assumed: usize,
    /// How long they take one after another on one builder of speed 100, in milliseconds.
    pub(crate) work_milliseconds: u64,
    /// The builders.
    pub(crate) builders: Vec<BuilderView>,
    /// What these make of the plan.
    pub(crate) outlook: OutlookView,
    /// What happens when.
    pub(crate) timeline: Vec<SpanView>,
    /// What 1, 2 and so on of each builder make of it.
    pub(crate) fleets: Vec<OutlookView>,
    /// The smallest fleet within five percent of the best time of those.
    pub(crate) smallest: Option<OutlookView>,
}

/// Builders of one kind.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BuilderView {
    /// Its name.
    pub(crate) name: String,
    /// What it runs itself.
    pub(crate) platforms: Vec<String>,
    /// What it emulates.
    pub(crate) emulates: Vec<String>,
    /// How many there are.
    pub(crate) count: usize,
    /// How many jobs each does at once.
    pub(crate) slots: usize,
    /// What one costs a minute.
    pub(crate) price: f64,
    /// How fast it is, in percent.
    pub(crate) speed: u32,
}

/// How long, and how dear.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OutlookView {
    /// How many builders there are, in the order of [`Simulation::builders`].
    pub(crate) counts: Vec<usize>,
    /// How long it takes.
    pub(crate) milliseconds: u64,
    /// What it costs.
    pub(crate) cost: f64,
}

/// One job on one builder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SpanView {
    /// `image:variant@platform`.
    pub(crate) job: String,
    /// The builder, numbered where there are several of its kind.
    pub(crate) builder: String,
    /// It is emulated there.
    pub(crate) emulated: bool,
    /// Its time is assumed.
    pub(crate) assumed: bool,
    /// When it begins, in milliseconds.
    pub(crate) begin: u64,
    /// When it ends, in milliseconds.
    pub(crate) end: u64,
}

impl Simulation {
    /// As JSON, ending with a line end.
    pub(crate) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a simulation is plain JSON");
        format!("{text}\n")
    }

    /// For a terminal.
    pub(crate) fn to_text(&self) -> String {
        let assumed = match self.assumed {
            0 => String::new(),
            assumed => format!("; the time of {} is assumed", count(assumed, "job")),
        };
        let jobs = count(self.jobs, "job");
        let mut text = format!("{jobs}, {} of work{assumed}\n", duration(self.work_milliseconds));
        text.push_str(&format!("{}: {}\n", self.fleet(&self.outlook.counts), self.told(&self.outlook)));
        text.push_str(&self.timeline_text());
        if !self.fleets.is_empty() {
            text.push_str("\nother fleets\n");
        }
        for fleet in &self.fleets {
            let each = fleet.counts.first().copied().unwrap_or_default();
            text.push_str(&format!("  {each:3} of each  {}\n", self.told(fleet)));
        }
        if let Some(smallest) = &self.smallest {
            let fleet = self.fleet(&smallest.counts);
            text.push_str(&format!(
                "the smallest within 5 % of the best: {fleet}: {}\n",
                self.told(smallest)
            ));
        }
        text
    }

    fn is_priced(&self) -> bool {
        self.builders.iter().any(|builder| builder.price > 0.0)
    }

    fn told(&self, outlook: &OutlookView) -> String {
        let cost = match self.is_priced() {
            true => format!(", costs {:.2}", outlook.cost),
            false => String::new(),
        };
        format!("{}{cost}", duration(outlook.milliseconds))
    }

    fn fleet(&self, counts: &[usize]) -> String {
        let present = self.builders.iter().zip(counts).filter(|(_, number)| **number > 0);
        let kinds = present.map(|(builder, number)| {
            format!("{number} × {} with {}", builder.name, count(builder.slots, "slot"))
        });
        kinds.collect::<Vec<_>>().join(", ")
    }

    fn timeline_text(&self) -> String {
        let width = |text: fn(&SpanView) -> &str| {
            self.timeline.iter().map(|span| text(span).chars().count()).max().unwrap_or_default()
        };
        let (builders, jobs) = (width(|span| &span.builder), width(|span| &span.job));
        let whole = self.outlook.milliseconds.max(1);
        let column = |time: u64| usize::try_from(time * WIDTH / whole).unwrap_or_default();
        let lines = self.timeline.iter().map(|span| {
            let (begin, end) = (column(span.begin), column(span.end).max(column(span.begin) + 1));
            let bar = format!("{}{}", " ".repeat(begin), "#".repeat(end - begin));
            let notes = [(span.emulated, "emulated"), (span.assumed, "assumed")];
            let notes: Vec<&str> = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
            let line = format!(
                "  {:>7} {:>7}  {:builders$}  {:jobs$}  |{bar:40}|  {}",
                clock(span.begin),
                clock(span.end),
                span.builder,
                span.job,
                notes.join(", ")
            );
            format!("{}\n", line.trim_end())
        });
        lines.collect()
    }
}

/// Minutes and seconds since the beginning.
fn clock(milliseconds: u64) -> String {
    format!("{}:{:02}", milliseconds / 60_000, milliseconds / 1000 % 60)
}
