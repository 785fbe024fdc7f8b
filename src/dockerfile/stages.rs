//! Group instructions into stages, and find stages by name.

use std::collections::BTreeMap;

use super::instruction::{Action, Instruction, Word};
use super::text::Text;
use crate::diag::{Diagnostic, Place};

/// A `FROM` and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) image: Word,
    /// In lower case, as names are compared.
    pub(super) name: Option<String>,
    pub(super) platform: Option<Word>,
    pub(super) instructions: Vec<Instruction>,
}

/// The `ARG`s before the first `FROM`, and the stages.
pub(super) fn group(
    text: &Text,
    instructions: Vec<Instruction>,
    problems: &mut Vec<Diagnostic>,
) -> (Vec<Instruction>, Vec<Stage>) {
    let mut globals = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let complete = problems.is_empty();
    let mut early = None;
    for instruction in instructions {
        if let Action::From { image, name, platform } = instruction.action {
            stages.push(Stage { image, name, platform, instructions: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.instructions.push(instruction);
        } else if matches!(instruction.action, Action::Arg(_)) {
            globals.push(instruction);
        } else {
            early.get_or_insert(instruction.range);
        }
    }
    // What stands before the first `FROM` can only be judged where every line was understood.
    if complete {
        if let Some(range) = early {
            let problem =
                Diagnostic::request("only `ARG` may stand before the first `FROM`").at(text.place(range));
            problems.push(problem.hint("move the line below a `FROM`, or start the file with `FROM image`"));
        } else if stages.is_empty() {
            let problem = Diagnostic::request("the Dockerfile has no `FROM`").at(Place::file(text.file()));
            problems.push(problem.hint("start it with `FROM image`, or with `FROM scratch`"));
        }
    }
    (globals, stages)
}

/// Finds stages by name, as seen from another stage.
pub(super) struct StageNames<'a>(BTreeMap<&'a str, Vec<usize>>);

impl<'a> StageNames<'a> {
    pub(super) fn new(stages: &'a [Stage]) -> Self {
        let mut names: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                names.entry(name).or_default().push(at);
            }
        }
        Self(names)
    }

    /// The nearest stage of this name before `stage`.
    pub(super) fn before(&self, name: &str, stage: usize) -> Option<usize> {
        let found = self.0.get(name.to_lowercase().as_str())?;
        found[..found.partition_point(|at| *at < stage)].last().copied()
    }

    /// Whether a stage of this name stands at or after `stage`.
    pub(super) fn is_later(&self, name: &str, stage: usize) -> bool {
        self.0
            .get(name.to_lowercase().as_str())
            .and_then(|found| found.last())
            .is_some_and(|last| *last >= stage)
    }

    /// All names.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }
}
