//! Say what is wrong, where, and what to do: diagnostics are values with hints.
//!
//! A message is a lowercase sentence fragment. A hint is an imperative that works when pasted. Independent
//! problems travel together, in a [`Problems`], and are shown together. Nothing here prints, but for
//! what Rust itself says of a panic where RUST_BACKTRACE asks for that.

mod mistake;
mod moment;

use std::fmt;
use std::path::PathBuf;

pub(crate) use mistake::{keep_panics, mistake, mistake_in_task, outliving, place_in_task};
pub(crate) use moment::moment;

/// Whether something stops the command or is only worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The command cannot do what was asked.
    Error,
    /// The command goes on; the person should know.
    Warning,
    /// Nothing is wrong, and something could be better.
    Advice,
}

/// What kind of problem it is, which settles the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A build, a test or a verification failed: exit code 1.
    Failed,
    /// What was asked for, in a file or on the command line, is wrong: exit code 2.
    Request,
    /// Engine, registry, disk or network failed: exit code 3.
    Surroundings,
    /// A stated policy refuses it: exit code 4.
    Policy,
    /// A publication stopped half way; the same command resumes it: exit code 5.
    Incomplete,
    /// The terminal that it was begun in has gone, by SIGHUP: exit code 129.
    HungUp,
    /// A person stopped it, by SIGINT: exit code 130.
    Interrupted,
    /// Something stopped it, by SIGTERM: exit code 143.
    Terminated,
    /// Our own mistake: exit code 101.
    Bug,
}

impl Kind {
    /// The exit code of a command that ends with a problem of this kind.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Request => 2,
            Self::Surroundings => 3,
            Self::Policy => 4,
            Self::Incomplete => 5,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Bug => 101,
        }
    }
}

/// A place in a file that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file, as the person named it.
    pub(crate) file: PathBuf,
    /// Line, from 1; 0 where only the file is known.
    pub(crate) line: usize,
    /// Column in characters, from 1; 0 where only the line is known.
    pub(crate) column: usize,
    /// How many characters are meant, from `column`; at least 1 where the column is known.
    pub(crate) width: usize,
    /// The text of that line, to show with the message; empty where it cannot be had.
    pub(crate) text: String,
}

impl Place {
    /// A whole file.
    pub(crate) fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), line: 0, column: 0, width: 0, text: String::new() }
    }

    /// The place of a range of bytes in a file's text.
    pub(crate) fn span(file: impl Into<PathBuf>, source: &str, span: std::ops::Range<usize>) -> Self {
        let start = floor_boundary(source, span.start);
        let end = floor_boundary(source, span.end.max(start));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let text = source[line_start..line_end].trim_end_matches('\r').to_owned();
        Self {
            file: file.into(),
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            width: source[start..end.min(line_end).max(start)].chars().count().max(1),
            text,
        }
    }

    /// A whole line of a file's text, `line` counted from 1.
    pub(crate) fn line(file: impl Into<PathBuf>, source: &str, line: usize) -> Self {
        let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_owned();
        let indent = text.chars().take_while(|c| c.is_whitespace()).count();
        let width = text.trim().chars().count().max(1);
        Self { file: file.into(), line, column: indent + 1, width, text }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

/// One problem: what is wrong, where, because of what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// Error or warning.
    pub(crate) severity: Severity,
    /// What kind of problem, which settles the exit code.
    pub(crate) kind: Kind,
    /// What is wrong: a lowercase fragment with no full stop.
    pub(crate) message: String,
    /// Where, if it is in a file.
    pub(crate) place: Option<Place>,
    /// What lay under it, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to do: imperatives.
    pub(crate) hints: Vec<String>,
}

impl Diagnostic {
    /// An error of a kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind,
            message: message.into(),
            place: None,
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A wrong request: exit code 2.
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::new(Kind::Request, message)
    }

    /// Failing surroundings: exit code 3.
    pub(crate) fn surroundings(message: impl Into<String>) -> Self {
        Self::new(Kind::Surroundings, message)
    }

    /// What the store, a folder or a registry, did not do: what it has by then stays there.
    pub(crate) fn of_store(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self::surroundings(what)
            .caused_by(error)
            .hint("see that the store can be reached and has room: the folder or the registry that --store names")
            .hint("then run the same command again: what the store has by now is not built again")
    }

    /// Something to know that stops nothing.
    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(Kind::Request, message) }
    }

    /// Something that could be better, which is not told to whoever wants to hear only what is wrong.
    pub(crate) fn advice(message: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::new(Kind::Request, message) }
    }

    /// The same, at a place.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same, with what lay under it; a chain of sources becomes one cause each.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// The same, because of an error and everything that lay under that.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // A wrapper often says what it wraps.
            if !self.causes.last().is_some_and(|last| last.contains(&text)) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// The same, because of another problem: that one's causes lie under it, and its hints come first.
    #[must_use]
    pub(crate) fn because_of(mut self, problem: &Self) -> Self {
        self.causes.push(problem.message.clone());
        self.causes.extend(problem.causes.iter().cloned());
        let (own, hints) = (std::mem::take(&mut self.hints), problem.hints.clone());
        self.hints = hints.into_iter().filter(|hint| !own.contains(hint)).collect();
        self.hints.extend(own);
        self
    }

    /// The same, where the command goes on when it is run again.
    #[must_use]
    pub(crate) fn again(self) -> Self {
        self.hint("run the same command again: it does what is missing")
    }

    /// The same, with something to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line, without the hints: for logs and for causes of other problems.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// One or more problems that were found together. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(Vec<Diagnostic>);

impl Problems {
    /// The problems found, or `Ok` where there is none.
    pub(crate) fn check(found: Vec<Diagnostic>) -> Result<()> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }

    /// All of them, in the order found.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The exit code: that of the first problem; but that something was left half way counts before all.
    pub(crate) fn exit_code(&self) -> u8 {
        let half_way = |kind: &Kind| {
            matches!(kind, Kind::HungUp | Kind::Interrupted | Kind::Terminated | Kind::Incomplete)
        };
        let mut kinds = self.0.iter().map(|problem| problem.kind);
        let first = kinds.clone().next().unwrap_or(Kind::Bug);
        kinds.find(half_way).unwrap_or(first).exit_code()
    }

    /// These and those.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Problems {
    /// Each of them as the cause of what stands over them all.
    #[must_use]
    pub(crate) fn under(&self, over: &Diagnostic) -> Self {
        Self(self.0.iter().map(|problem| over.clone().because_of(problem)).collect())
    }
}

impl From<Diagnostic> for Problems {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// The result of anything a person asked for.
pub(crate) type Result<T, E = Problems> = std::result::Result<T, E>;

/// Collects the values of independent steps, or all of their problems.
pub(crate) fn collect<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(found) => problems.extend(found.0),
        }
    }
    Problems::check(problems).map(|()| values)
}

/// "did you mean `x`?", where one of the known words is near enough to the one written.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().min(written.len()) / 4)
        .min()
        .map(|(_, word)| format!("did you mean `{word}`?"))
}

/// A size as a person reads it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10)),
        None => format!("{bytes} bytes"),
    }
}

/// A number and its noun: `1 job`, `2 jobs`, `2 indexes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_becomes_line_and_column() {
        let place = Place::span("a.toml", "first\r\nkéy = 1\n", 7..11);
        assert_eq!(place.to_string(), "a.toml:2:1");
        assert_eq!((place.width, place.text.as_str()), (3, "kéy = 1"));
        assert_eq!(Place::span("a", "x", 9..12).to_string(), "a:1:2");
    }

    #[test]
    fn independent_problems_come_together() {
        let found =
            collect([Ok(1), Err(Diagnostic::request("one").into()), Err(Diagnostic::request("two").into())]);
        let problems = found.expect_err("two of three are wrong");
        assert_eq!(problems.to_string(), "one; two");
        assert_eq!(problems.exit_code(), 2);
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(
            did_you_mean("platform", ["platforms", "images"]).as_deref(),
            Some("did you mean `platforms`?")
        );
        assert_eq!(did_you_mean("zebra", ["platforms", "images"]), None);
    }
}
