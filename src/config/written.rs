//! Values that remember where they were written, and the file that they were written in.

use std::borrow::Borrow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diag::Place;

/// A value and the bytes of the file that it was written with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands in the file's text.
    pub(crate) span: Range<usize>,
}

impl<T> Written<T> {
    /// A value at a place.
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Written<U> {
        Written { value: change(self.value), span: self.span }
    }
}

impl Borrow<str> for Written<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

/// A file and its text, from which places are made when they are needed: making them early would cost a pass over
/// the text for each value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The file, as the person named it.
    pub(crate) file: PathBuf,
    text: String,
}

impl Source {
    /// A file as the person named it, and what stands in it.
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }

    /// The place of a range of bytes.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        Place::span(&self.file, &self.text, span.clone())
    }

    /// The place of a range whose line must not be shown, because it holds a secret.
    pub(crate) fn hidden_place(&self, span: &Range<usize>) -> Place {
        Place { text: String::new(), ..self.place(span) }
    }

    /// What was written there.
    pub(super) fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The line, from 1, of a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
