//! Read a table key by key: a key that nobody asked for is an error, and all errors come together.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::SCOPES;
use super::value::HINT;
use super::written::{Source, Written};
use crate::diag::{Diagnostic, did_you_mean};

/// How many problems are told of one file.
const TOLD_LIMIT: usize = 100;

/// A file that is being read, and what is wrong with it so far.
pub(super) struct Reading {
    pub(super) source: Source,
    problems: RefCell<Vec<Diagnostic>>,
    untold: Cell<usize>,
}

impl Reading {
    pub(super) fn new(source: Source) -> Self {
        Self { source, problems: RefCell::default(), untold: Cell::new(0) }
    }

    /// Notes a problem at a place of the file.
    pub(super) fn wrong(&self, span: &Range<usize>, problem: Diagnostic) {
        if self.problems.borrow().len() >= TOLD_LIMIT {
            // A place costs a pass over the text, and nobody reads more.
            return self.untold.set(self.untold.get() + 1);
        }
        let problem = if problem.place.is_some() { problem } else { problem.at(self.source.place(span)) };
        self.problems.borrow_mut().push(problem);
    }

    /// All problems, in the order of the file.
    pub(super) fn finish(self) -> (Source, Vec<Diagnostic>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        if self.untold.get() > 0 {
            problems.push(Diagnostic::request(format!("{} more problems", self.untold.get())));
        }
        (self.source, problems)
    }

    /// A text, or a problem that says what stands there instead.
    pub(super) fn text(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Written<String>> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(Written::new(text.to_string(), value.span()));
        }
        self.mismatch(name, "a text", value);
        None
    }

    /// One of a few words, or a problem that says what stands there instead and with this what may.
    pub(super) fn word(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        hint: impl FnOnce() -> String,
    ) -> Option<Written<String>> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(Written::new(text.to_string(), value.span()));
        }
        self.wrong(&value.span(), mismatched(name, "a text", value).hint(hint()));
        None
    }

    /// A text that means something.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Written<T>> {
        let text = self.text(name, value)?;
        match text.value.parse() {
            Ok(value) => Some(Written::new(value, text.span)),
            Err(error) => {
                let problem = split_hint(&error.to_string());
                let normal = text.value.trim().to_lowercase();
                let problem = match problem.hints.is_empty() {
                    true if format!("{normal}/").starts_with(SCOPES) => problem
                        .hint("choose another name, as in \"stacks/base\": this one is the store's own"),
                    true if !normal.is_empty() && normal.parse::<T>().is_ok() => {
                        problem.hint(format!("write \"{normal}\""))
                    }
                    true => with_form(problem),
                    false => problem,
                };
                self.wrong(&text.span, problem);
                None
            }
        }
    }

    /// The text of an argument or label: texts, whole numbers and truth values, but no fractions, since `3.10` is `3.1`.
    pub(super) fn plain(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Written<String>> {
        match value.get_ref() {
            DeValue::Integer(_) | DeValue::Boolean(_) => {
                Some(Written::new(self.source.slice(&value.span()).to_owned(), value.span()))
            }
            DeValue::Float(_) => {
                let written = self.source.slice(&value.span());
                let problem = Diagnostic::request(format!(
                    "`{name}` wants a text: as a number {written} may lose digits"
                ));
                self.wrong(&value.span(), problem.hint(format!("write `{name} = \"{written}\"`")));
                None
            }
            _ => self.text(name, value),
        }
    }

    /// A whole number in a range.
    pub(super) fn number(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<Written<u32>> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.mismatch(name, "a whole number", value);
            return None;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(Written::new(number, value.span())),
            _ => {
                let (least, most) = (range.start(), range.end());
                let problem = Diagnostic::request(format!("`{name}` wants a number from {least} to {most}"));
                self.wrong(&value.span(), problem.hint(format!("write `{name} = {least}`, or more")));
                None
            }
        }
    }

    /// An amount of money.
    pub(super) fn amount(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Written<f64>> {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => "",
        };
        match text.parse::<f64>() {
            Ok(amount) if amount.is_finite() && amount >= 0.0 => Some(Written::new(amount, value.span())),
            _ => {
                let problem = Diagnostic::request(format!("`{name}` wants an amount of money"));
                self.wrong(&value.span(), problem.hint(format!("write `{name} = 0.016`")));
                None
            }
        }
    }

    /// The values of a list.
    pub(super) fn list<'a, 'i>(
        &self,
        name: &str,
        value: &'a Spanned<DeValue<'i>>,
    ) -> impl Iterator<Item = &'a Spanned<DeValue<'i>>> + use<'a, 'i> {
        let list = value.get_ref().as_array();
        if list.is_none() {
            self.mismatch(name, "a list", value);
        }
        list.into_iter().flatten()
    }

    /// The entries of a table whose keys are free.
    pub(super) fn entries<'a, 'i>(
        &self,
        name: &str,
        value: &'a Spanned<DeValue<'i>>,
    ) -> impl Iterator<Item = (Written<String>, &'a Spanned<DeValue<'i>>)> + use<'a, 'i> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mismatch(name, "a table", value);
        }
        let entries = table.into_iter().flatten();
        entries.map(|(key, value)| (Written::new(key.get_ref().to_string(), key.span()), value))
    }

    /// A table whose keys are known.
    pub(super) fn section<'a, 'i>(
        &'a self,
        name: &str,
        value: &'a Spanned<DeValue<'i>>,
    ) -> Option<Section<'a, 'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self, name, table, value.span())),
            _ => {
                self.mismatch(name, "a table", value);
                None
            }
        }
    }

    fn mismatch(&self, name: &str, wanted: &str, value: &Spanned<DeValue<'_>>) {
        let problem = mismatched(name, wanted, value);
        let written = self.source.slice(&value.span());
        let short = !written.contains('\n') && written.len() < 60;
        let key = name.rsplit('.').next().unwrap_or(name);
        let problem = match (wanted, value.get_ref()) {
            ("a list", DeValue::String(_)) if short => problem.hint(format!("write `{key} = [{written}]`")),
            (
                "a text",
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_),
            ) => problem.hint(format!("write `{key} = \"{written}\"`")),
            ("a list", _) => problem.hint(format!("write `{key} = [\"…\"]`")),
            ("a table", _) => problem.hint(format!("write `{key} = {{ NAME = \"…\" }}`")),
            ("a whole number", _) => problem.hint(format!("write `{key} = 1`, or more")),
            _ => problem.hint(format!("write `{key} = \"…\"`")),
        };
        self.wrong(&value.span(), problem);
    }
}

/// What stands where something else is wanted.
fn mismatched(name: &str, wanted: &str, value: &Spanned<DeValue<'_>>) -> Diagnostic {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Diagnostic::request(format!("`{name}` wants {wanted}, not {found}"))
}

/// An error of a parser; "did you mean" at its end becomes the hint.
fn split_hint(error: &str) -> Diagnostic {
    if let Some((message, hint)) = error.split_once(HINT) {
        return Diagnostic::request(message).hint(hint);
    }
    match error.split_once("; did you mean ") {
        Some((message, hint)) => Diagnostic::request(message).hint(format!("did you mean {hint}")),
        None => Diagnostic::request(error),
    }
}

/// What a value looks like whose parser has no better idea.
fn with_form(problem: Diagnostic) -> Diagnostic {
    const FORMS: &[(&str, &str)] = &[
        (
            "is no platform",
            "write it as os/architecture or os/architecture/variant: \"linux/amd64\", \"linux/arm/v7\"",
        ),
        ("is no repository name", "write it in lower case, as in \"owner/name\""),
        ("is not below the folder", "move it below the folder of this file, and name it from there"),
        (
            "is no regular expression",
            "correct it; a special character that is meant itself stands after `\\`",
        ),
    ];
    let form = FORMS.iter().find(|(text, _)| problem.message.contains(text));
    match form {
        Some((_, hint)) => problem.hint(*hint),
        None => problem,
    }
}

/// One table with known keys.
pub(super) struct Section<'a, 'i> {
    reading: &'a Reading,
    /// Its own name, such as `image.base-notebook`; empty for the whole file.
    pub(super) name: String,
    table: &'a DeTable<'i>,
    /// Where it begins.
    pub(super) span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(reading: &'a Reading, name: &str, table: &'a DeTable<'i>, span: Range<usize>) -> Self {
        Self { reading, name: name.to_owned(), table, span, known: Vec::new() }
    }

    /// The value of a key, which is then known.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// The value of a key that is known only where this is so.
    pub(super) fn value_at(&mut self, here: bool, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        if here { self.value(key) } else { None }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Written<String>> {
        self.value(key).and_then(|value| self.reading.text(key, value))
    }

    /// One of a few words; the hint says which.
    pub(super) fn word(
        &mut self,
        key: &'static str,
        hint: impl FnOnce() -> String,
    ) -> Option<Written<String>> {
        self.value(key).and_then(|value| self.reading.word(key, value, hint))
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Written<T>> {
        self.value(key).and_then(|value| self.reading.parsed(key, value))
    }

    /// A list of texts that mean something; `None` where the key is not there.
    pub(super) fn list<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Vec<Written<T>>> {
        let value = self.value(key)?;
        Some(self.reading.list(key, value).filter_map(|one| self.reading.parsed(key, one)).collect())
    }

    /// Every key that is written, and where.
    pub(super) fn written(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        self.table.iter().map(|(key, _)| (key.get_ref().as_ref(), key.span()))
    }

    /// Problems of the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let written = key.get_ref().as_ref();
            if self.known.contains(&written) {
                continue;
            }
            if self.reading.problems.borrow().len() >= TOLD_LIMIT {
                self.reading.untold.set(self.reading.untold.get() + 1);
                continue;
            }
            let inside = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            let hint = did_you_mean(written, self.known.iter().copied())
                .unwrap_or_else(|| format!("use one of `{}`", self.known.join("`, `")));
            let problem = Diagnostic::request(format!("there is no setting `{written}`{inside}"));
            self.reading.wrong(&key.span(), problem.hint(hint));
        }
    }
}
