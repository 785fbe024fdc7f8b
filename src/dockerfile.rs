//! Read a Dockerfile as far as a family needs it: stages, `FROM`, `ARG`, sources, mounts, heredocs.
//!
//! It agrees with BuildKit, and is a function of the text and the request: no disk, no clock, no environment.
//!
//! | file | what it settles |
//! |---|---|
//! | `text` | bytes to text, lines, places |
//! | `lines` | directives, comments, continuations, heredocs |
//! | `instruction` | keyword, flags, words |
//! | `stages` | which instruction is in which stage |
//! | `words` | variables, quotes, escapes |
//! | `scope` | what each variable is worth, where |
//! | `bases` | what each `FROM` means |
//! | `needs` | what one build reads |
//! | `git` | which commit of which repository an `ADD` means |
//! | `caches` | which caches a build mounts |
//! | `replace` | the same text with other references, commits and ids of caches |
//! | `pattern`, `ignore` | which files a source and a `.dockerignore` mean |
//!
//! Where something cannot be known before the build (a variable that the base image may set), a source becomes the
//! whole context: a key may cover too much, never too little.

mod bases;
mod caches;
mod fetches;
mod git;
mod ignore;
mod instruction;
mod lines;
mod needs;
mod pattern;
mod replace;
mod scope;
mod stages;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use crate::diag::{Place, Problems, Result};
use crate::oci::Platform;

pub(crate) use caches::{CacheMount, may_mount_cache, of_trigger};
pub(crate) use git::{GitSource, is_commit, user_info};
pub(crate) use ignore::Ignore;
pub(crate) use instruction::UNSETTLED_MOUNT;
pub(crate) use needs::{BaseOfTarget, How, ImageUse, Needs, Newer, Remote, RemoteKind, Source};
pub(crate) use pattern::PathPattern;
pub(crate) use replace::Replacements;

use instruction::{Action, Instruction};
use lines::Directive;
use stages::Stage;
use text::Text;

/// The variables that every `RUN` has where they are given as arguments, in either case, and that are in no key of it.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// How many problems of one file are shown together.
const PROBLEM_LIMIT: usize = 50;

/// Whether a build argument of that name names a proxy.
pub(crate) fn is_proxy(argument: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(argument))
}

/// A Dockerfile that was read once; what it means depends on the [`Request`].
#[derive(Clone, Debug)]
pub(crate) struct Dockerfile {
    text: Text,
    escape: char,
    syntax: Option<Directive>,
    globals: Vec<Instruction>,
    stages: Vec<Stage>,
}

/// One build of a Dockerfile: which stage, with which arguments, for which platform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The target stage; the last one where there is none.
    pub(crate) target: Option<&'a str>,
    /// The build arguments.
    pub(crate) args: &'a BTreeMap<String, String>,
    /// The platform built for, which is also the one built on.
    pub(crate) platform: &'a BuildPlatform,
}

/// A platform, as the automatic arguments `TARGETOS` and so on show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuildPlatform {
    /// `linux`
    pub(crate) os: String,
    /// `amd64`, `arm64`, `arm`
    pub(crate) architecture: String,
    /// `v7`
    pub(crate) variant: Option<String>,
}

impl From<&Platform> for BuildPlatform {
    fn from(platform: &Platform) -> Self {
        let variant = platform.variant().map(str::to_owned);
        Self { os: platform.os().to_owned(), architecture: platform.architecture().to_owned(), variant }
    }
}

impl std::fmt::Display for BuildPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A reference that was written in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// What was written.
    pub(crate) text: String,
    /// Where.
    pub(crate) place: Place,
}

impl Dockerfile {
    /// The text in a file's bytes, or the offset of the first byte that is not text.
    pub(crate) fn read_bytes(file: &Path, bytes: &[u8]) -> Result<String> {
        text::read(file, bytes)
    }

    /// Reads a file's text; independent problems are reported together.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self> {
        let text = Text::new(file, text);
        let cut = lines::cut(&text);
        let mut problems = cut.problems;
        let mut instructions = Vec::new();
        for line in &cut.lines {
            match instruction::parse(line, cut.escape, Some(&text)) {
                Ok(instruction) => instructions.push(instruction),
                Err(problem) => problems.push(problem),
            }
            if problems.len() >= PROBLEM_LIMIT {
                break;
            }
        }
        let (globals, stages) = stages::group(&text, instructions, &mut problems);
        problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        Problems::check(problems)?;
        Ok(Self { text, escape: cut.escape, syntax: cut.syntax, globals, stages })
    }

    /// The frontend image of the `# syntax=` directive.
    pub(crate) fn syntax(&self) -> Option<Written> {
        let syntax = self.syntax.as_ref()?;
        Some(Written { text: syntax.value.clone(), place: self.text.place(syntax.range.clone()) })
    }

    /// Every instruction that needs a newer form, of stages that are not built too: some engines build them.
    pub(crate) fn newer_of_all_stages(&self) -> impl Iterator<Item = Newer> {
        let instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        instructions.flat_map(|one| one.newer.iter().map(|feature| self.newer(&one.range, feature)))
    }

    /// Every `ARG`, in order: its name and where it is declared.
    pub(crate) fn declared_args(&self) -> Vec<Written> {
        let in_stages = self.stages.iter().flat_map(|stage| &stage.instructions);
        let mut declared = Vec::new();
        for instruction in self.globals.iter().chain(in_stages) {
            if let Action::Arg(args) = &instruction.action {
                let place = self.text.place(instruction.range.clone());
                declared.extend(
                    args.iter().map(|(name, _)| Written { text: name.clone(), place: place.clone() }),
                );
            }
        }
        declared
    }
}
