//! TOML as such: what is no TOML is told with its place, a key written twice with both of its lines.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::written::Source;
use crate::diag::{Diagnostic, Problems, Result};

/// How deep tables and lists may nest.
const DEPTH_LIMIT: usize = 64;
/// How many syntax errors are told; after a few the rest only follow from the first.
const TOLD_LIMIT: usize = 20;

/// Reads a text as a TOML table.
pub(super) fn table<'a>(source: &Source, text: &'a str) -> Result<DeTable<'a>> {
    if let Some(offset) = text.find('\0') {
        let hint = "write the file as UTF-8 text without NUL";
        let problem = Diagnostic::request(format!("the file is not text: NUL at byte {offset}"));
        return Err(problem.at(source.hidden_place(&(offset..offset))).hint(hint).into());
    }
    if let Some(at) = too_deep(text) {
        let problem =
            Diagnostic::request(format!("tables and lists are nested more than {DEPTH_LIMIT} deep"));
        let hint = "remove brackets: no setting needs more than five";
        return Err(problem.at(source.place(&(at..at + 1))).hint(hint).into());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Diagnostic> =
        errors.iter().take(TOLD_LIMIT).map(|error| problem(source, text, table.get_ref(), error)).collect();
    if errors.len() > TOLD_LIMIT {
        problems.push(Diagnostic::request(format!("{} more errors of syntax", errors.len() - TOLD_LIMIT)));
    }
    Problems::check(problems).map(|()| table.into_inner())
}

/// The first bracket that opens more levels than are allowed. Brackets in texts and comments do not count; the
/// parser has a limit of its own, but gives it no place.
fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'#' => {
                at = after_quoted(bytes, at);
                continue;
            }
            b'[' | b'{' if depth == DEPTH_LIMIT => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the text or comment that starts here is over; a text of one line ends with its line, closed or not.
fn after_quoted(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = quote != b'#' && bytes.get(start..start + 3) == Some(&[quote; 3]);
    let mut at = start + if triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !triple => return at,
            _ if triple && bytes.get(at..at + 3) == Some(&[quote; 3]) => return at + 3,
            _ if !triple && *byte == quote && quote != b'#' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

fn problem(source: &Source, text: &str, table: &DeTable<'_>, error: &Error) -> Diagnostic {
    let span = error.span().unwrap_or_default();
    if error.message() != "duplicate key" {
        return Diagnostic::request(format!("this is no TOML: {}", error.message())).at(source.place(&span));
    }
    let key = source.slice(&span);
    let problem = Diagnostic::request(format!("`{key}` is written twice")).at(source.place(&span));
    match first_of(text, table, &span) {
        Some(first) => problem
            .because(format!("it stands in line {} already", source.line(first.start)))
            .hint(format!("remove line {} or line {}", source.line(first.start), source.line(span.start))),
        None => problem.hint("remove one of the two"),
    }
}

/// Where a key that is written twice stands first: for `[a.b]` the same heading, for `b = …` the key nearest before
/// it in the same table of the text.
fn first_of(text: &str, table: &DeTable<'_>, second: &Range<usize>) -> Option<Range<usize>> {
    let line_start = text[..second.start].rfind('\n').map_or(0, |at| at + 1);
    let heading = text[line_start..].lines().next().map(str::trim).filter(|line| line.starts_with('['));
    if let Some(heading) = heading.and_then(|line| line.split(']').next()) {
        let mut offset = 0;
        for line in text[..line_start].split_inclusive('\n') {
            if line.trim_start().split(']').next() == Some(heading) {
                return Some(offset..offset + heading.len());
            }
            offset += line.len();
        }
    }
    let name = text.get(second.clone())?.trim_matches(['"', '\'']);
    let mut found = None;
    keys_named(table, name, &mut |span| {
        if span.start < second.start
            && found.as_ref().is_none_or(|best: &Range<usize>| best.start < span.start)
        {
            found = Some(span);
        }
    });
    found
}

fn keys_named(table: &DeTable<'_>, name: &str, each: &mut impl FnMut(Range<usize>)) {
    for (key, value) in table {
        if key.get_ref() == name {
            each(key.span());
        }
        inside(value, name, each);
    }
}

fn inside(value: &Spanned<DeValue<'_>>, name: &str, each: &mut impl FnMut(Range<usize>)) {
    match value.get_ref() {
        DeValue::Table(table) => keys_named(table, name, each),
        DeValue::Array(values) => values.iter().for_each(|value| inside(value, name, each)),
        _ => {}
    }
}
