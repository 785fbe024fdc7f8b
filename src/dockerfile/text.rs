//! The text of a Dockerfile: its bytes checked, its lines found, its places told.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Place, Result};

/// How long a line may be to be shown with a message; a longer one would only hide it.
const SHOWN_LINE_BYTES: usize = 4096;

/// Checks that bytes are text: UTF-8 with no NUL. Names the first offset that is not.
pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<String> {
    let refuse = |what: &str, offset: usize, hint: String| {
        Diagnostic::request(format!("{what} at byte {offset}")).at(Place::file(file)).hint(hint).into()
    };
    let convert =
        |from: &str| format!("iconv -f {from} -t UTF-8 {0} > {0}.new && mv {0}.new {0}", file.display());
    match bytes {
        [0xff, 0xfe, ..] => {
            return Err(refuse("the file is UTF-16, not UTF-8: byte order mark", 0, convert("UTF-16")));
        }
        [0xfe, 0xff, ..] => {
            return Err(refuse("the file is UTF-16, not UTF-8: byte order mark", 0, convert("UTF-16")));
        }
        _ => {}
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        refuse("the file is not UTF-8: invalid bytes", error.valid_up_to(), convert("LATIN1"))
    })?;
    if let Some(offset) = text.find('\0') {
        let remove = format!("tr -d '\\000' < {0} > {0}.new && mv {0}.new {0}", file.display());
        return Err(refuse("the file is not text: NUL", offset, remove));
    }
    Ok(text.to_owned())
}

/// A text with an index of its lines, so that a place costs nothing much.
#[derive(Clone, Debug)]
pub(super) struct Text {
    file: PathBuf,
    text: String,
    starts: Vec<usize>,
}

impl Text {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.to_owned(), text: text.to_owned(), starts }
    }

    /// The file, as the person named it.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The whole text, byte order mark included.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many lines there are; nothing after the last line feed is not a line.
    pub(super) fn line_count(&self) -> usize {
        self.starts.len() - usize::from(self.starts.last() == Some(&self.text.len()))
    }

    /// The bytes of a line, from 0, without its end and without a byte order mark.
    pub(super) fn line(&self, line: usize) -> Range<usize> {
        let full = self.full_line(line);
        let text = &self.text[full.clone()];
        let start = if line == 0 && text.starts_with('\u{feff}') { full.start + 3 } else { full.start };
        let end = full.start + text.trim_end_matches(['\n', '\r']).len();
        start..end.max(start)
    }

    /// The bytes of a line, from 0, with its end.
    pub(super) fn full_line(&self, line: usize) -> Range<usize> {
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        self.starts.get(line).copied().unwrap_or(end)..end
    }

    /// The line, from 0, that a byte is in.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The place of a range of bytes.
    pub(super) fn place(&self, range: Range<usize>) -> Place {
        let line = self.line_of(range.start);
        let bounds = self.line(line);
        let shown = bounds.len() <= SHOWN_LINE_BYTES;
        let start = range.start.clamp(bounds.start, bounds.end);
        let end = range.end.clamp(start, bounds.end);
        let near = start - bounds.start <= SHOWN_LINE_BYTES && end - start <= SHOWN_LINE_BYTES;
        Place {
            file: self.file.clone(),
            line: line + 1,
            column: if near { self.text[bounds.start..start].chars().count() + 1 } else { 0 },
            width: if near { self.text[start..end].chars().count().max(1) } else { 0 },
            text: if shown { self.text[bounds].to_owned() } else { String::new() },
        }
    }
}
