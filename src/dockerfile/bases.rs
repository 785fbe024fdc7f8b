//! What each `FROM` means: another stage, `scratch`, or an image from outside.

use std::collections::BTreeSet;

use super::scope::Globals;
use super::stages::{Stage, StageNames};
use super::words::Expansion;
use super::{Dockerfile, Newer};
use crate::diag::{self, Diagnostic, Problems, Result};

/// Single words that name a platform by its operating system or architecture alone.
const PLATFORM_WORDS: [&str; 26] = [
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1", "js", "local", "amd64", "arm64",
    "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "mips64le", "mips64", "mips", "mipsle", "loong64",
    "wasm", "x86_64", "aarch64", "armhf",
];

/// What a stage stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    Image(String),
}

/// A `FROM` with its arguments put in.
#[derive(Clone, Debug)]
pub(super) struct ResolvedFrom {
    pub(super) base: Base,
    pub(super) platform: Option<String>,
    /// The global arguments that it asked for.
    pub(super) used: BTreeSet<String>,
    pub(super) newer: Vec<Newer>,
}

impl Dockerfile {
    /// Every `FROM`, those of stages that are not built too: BuildKit refuses a wrong one anywhere.
    pub(super) fn bases(&self, globals: &Globals, names: &StageNames<'_>) -> Result<Vec<ResolvedFrom>> {
        let mut resolved = Vec::new();
        let mut problems = Vec::new();
        for (at, stage) in self.stages.iter().enumerate() {
            match self.base(at, stage, globals, names) {
                Ok(found) => resolved.push(found),
                Err(problem) => problems.push(problem),
            }
        }
        problems.truncate(super::PROBLEM_LIMIT);
        Problems::check(problems)?;
        Ok(resolved)
    }

    fn base(
        &self,
        at: usize,
        stage: &Stage,
        globals: &Globals,
        names: &StageNames<'_>,
    ) -> Result<ResolvedFrom, Diagnostic> {
        let wrong = |message: String, word: &super::instruction::Word| {
            Diagnostic::request(message).at(self.text.place(word.range.clone()))
        };
        let shown = &stage.image.text;
        let image = globals
            .expand(shown, self.escape)
            .map_err(|what| wrong(format!("`FROM {shown}` cannot be expanded: {what}"), &stage.image))?;
        if image.text.is_empty() {
            return Err(self.empty(wrong(format!("`FROM {shown}` names no image"), &stage.image), &image));
        }
        if image.text.starts_with('-') || image.text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let problem =
                wrong(format!("`FROM {shown}` is {:?}, which is no image", image.text), &stage.image);
            return Err(match argument_list(&image) {
                Some(arguments) => problem
                    .because(format!("an argument is a value, not more of the Dockerfile: {arguments}"))
                    .hint(format!("give {arguments} a value without blanks")),
                None => problem,
            });
        }
        let mut used = image.used.clone();
        let mut newer: Vec<_> = image.newer.iter().map(|what| self.newer(&stage.image.range, what)).collect();
        let mut platform = None;
        if let Some(word) = &stage.platform {
            let found = globals.expand(&word.text, self.escape).map_err(|what| {
                wrong(format!("`--platform={}` cannot be expanded: {what}", word.text), word)
            })?;
            if found.text.is_empty() {
                return Err(
                    self.empty(wrong(format!("`--platform={}` names no platform", word.text), word), &found)
                );
            }
            check_platform(&found.text)
                .map_err(|hint| wrong(format!("`{}` is no platform", found.text), word).hint(hint))?;
            used.extend(found.used);
            newer.extend(found.newer.iter().map(|what| self.newer(&word.range, what)));
            platform = Some(found.text);
        }
        let base = match names.before(&image.text, at) {
            Some(stage) => Base::Stage(stage),
            None if image.text == "scratch" => Base::Scratch,
            None => Base::Image(image.text),
        };
        Ok(ResolvedFrom { base, platform, used, newer })
    }

    pub(super) fn newer(&self, range: &std::ops::Range<usize>, feature: &str) -> Newer {
        Newer { place: self.text.place(range.clone()), feature: feature.to_owned() }
    }

    /// A problem of a word that became empty: which arguments did it, and what to do.
    fn empty(&self, problem: Diagnostic, word: &Expansion) -> Diagnostic {
        let Some(name) = word.used.first() else { return problem };
        let arguments = argument_list(word).unwrap_or_default();
        let in_stage = self.declared_args().iter().any(|arg| arg.text == *name);
        let reason = if in_stage { "has no value before the first `FROM`" } else { "is declared nowhere" };
        problem
            .because(format!("{arguments} {reason}"))
            .hint(format!("give `--build-arg {name}=…`, or write `ARG {name}=…` before the first `FROM`"))
    }
}

/// The arguments of a word, as a person names them.
fn argument_list(word: &Expansion) -> Option<String> {
    let names: Vec<String> = word.used.iter().map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether a text can be a platform; else what to write.
fn check_platform(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-()+".contains(c))
    };
    let known = parts.len() > 1 || PLATFORM_WORDS.contains(&text.to_ascii_lowercase().as_str());
    if parts.len() <= 3 && parts.iter().all(plain) && known {
        return Ok(());
    }
    Err(diag::did_you_mean(text, PLATFORM_WORDS)
        .unwrap_or_else(|| "write it as `linux/amd64` or `linux/arm/v7`".to_owned()))
}
