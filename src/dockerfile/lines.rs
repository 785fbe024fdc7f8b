//! Cut a Dockerfile into directives and logical lines: comments, continuations, heredocs.
//!
//! A logical line knows where each of its bytes stood in the file, so that a word of it can be shown to a
//! person, or replaced, exactly.

use std::ops::Range;

use super::text::Text;
use super::words;
use crate::diag::Diagnostic;

/// The instructions that may carry heredocs.
const HEREDOC_KEYWORDS: [&str; 3] = ["ADD", "COPY", "RUN"];

/// A parser directive: `# key=value` before anything else.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) value: String,
    pub(super) range: Range<usize>,
}

/// One instruction as it was written, its continuations joined.
#[derive(Clone, Debug)]
pub(super) struct LogicalLine {
    /// The joined text.
    pub(super) text: String,
    /// Where in the file each piece of it starts: (offset in `text`, offset in the file), ascending.
    pieces: Vec<(usize, usize)>,
    /// The heredocs that follow it.
    pub(super) heredocs: Vec<Heredoc>,
}

/// A heredoc: the word that announced it and its lines.
#[derive(Clone, Debug)]
pub(super) struct Heredoc {
    pub(super) name: String,
    pub(super) body: Range<usize>,
}

impl LogicalLine {
    /// Where a range of its text stands in the file.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        let start = self.source_offset(range.start);
        if range.is_empty() { start..start } else { start..self.source_offset(range.end - 1) + 1 }
    }

    fn source_offset(&self, offset: usize) -> usize {
        let at = self.pieces.partition_point(|(logical, _)| *logical <= offset).saturating_sub(1);
        self.pieces.get(at).map_or(0, |(logical, source)| source + (offset - logical))
    }
}

/// What a file holds, and what is wrong with how it is cut.
pub(super) struct Lines {
    pub(super) escape: char,
    pub(super) syntax: Option<Directive>,
    pub(super) lines: Vec<LogicalLine>,
    pub(super) problems: Vec<Diagnostic>,
}

/// Cuts a file.
pub(super) fn cut(text: &Text) -> Lines {
    let mut problems = Vec::new();
    let escape = escape_directive(text, &mut problems);
    let syntax = syntax_directive(text);
    let mut lines = Vec::new();
    let mut next = 0;
    while next < text.line_count() {
        let Some(mut line) = logical_line(text, escape, &mut next) else { continue };
        if let Err(problem) = heredocs(text, &mut line, &mut next) {
            problems.push(problem);
        }
        lines.push(line);
    }
    Lines { escape, syntax, lines, problems }
}

/// `key` and `value` of `key = value`, where the line after the comment mark is a directive.
fn directive(line: &str) -> Option<(String, Range<usize>)> {
    let after = line.strip_prefix('#')?.trim_start();
    let equals = after.find('=')?;
    let key = after[..equals].trim_end();
    let mut letters = key.chars();
    let named =
        letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.all(|c| c.is_ascii_alphanumeric());
    let value = after[equals + 1..].trim();
    if !named || value.is_empty() {
        return None;
    }
    let start = line.len() - after[equals + 1..].trim_start().len();
    Some((key.to_ascii_lowercase(), start..start + value.len()))
}

/// The escape character, from the directives at the very start.
fn escape_directive(text: &Text, problems: &mut Vec<Diagnostic>) -> char {
    let mut escape = '\\';
    let mut seen: Vec<String> = Vec::new();
    for line in 0..text.line_count() {
        let range = text.line(line);
        let written = text.as_str()[range.clone()].trim_start();
        let Some((key, value)) = directive(written) else { break };
        if !["escape", "syntax", "check"].contains(&key.as_str()) {
            break;
        }
        let start = range.end - written.len();
        if seen.contains(&key) {
            let message = format!("the directive `{key}` is given twice");
            problems
                .push(Diagnostic::request(message).at(text.place(range)).hint("remove one of the two lines"));
            break;
        }
        if key == "escape" {
            match &written[value.clone()] {
                "\\" => escape = '\\',
                "`" => escape = '`',
                other => problems.push(
                    Diagnostic::request(format!("`{other}` cannot be the escape character"))
                        .at(text.place(start + value.start..start + value.end))
                        .hint("write `# escape=\\` or `# escape=\\``"),
                ),
            }
        }
        seen.push(key);
    }
    escape
}

/// The frontend that `# syntax=` asks for; a first line `#!…` may stand before it.
fn syntax_directive(text: &Text) -> Option<Directive> {
    for line in 0..text.line_count() {
        let range = text.line(line);
        let written = &text.as_str()[range.clone()];
        if line == 0 && written.starts_with("#!") {
            continue;
        }
        let (key, value) = directive(written)?;
        if key == "syntax" {
            let reference = written[value.clone()].split(' ').next().unwrap_or_default();
            let start = range.start + value.start;
            return Some(Directive { value: reference.to_owned(), range: start..start + reference.len() });
        }
        if !["escape", "check"].contains(&key.as_str()) {
            return None;
        }
    }
    None
}

/// Joins the lines of one instruction; none where there is only a comment or nothing.
fn logical_line(text: &Text, escape: char, next: &mut usize) -> Option<LogicalLine> {
    let source = text.as_str();
    let first = text.line(*next);
    *next += 1;
    let start = first.end - source[first.clone()].trim_start().len();
    let (kept, mut open) = continuation(&source[start..first.end], escape);
    if kept.starts_with('#') || (kept.is_empty() && !open) {
        return None;
    }
    let mut joined = LogicalLine { text: kept.to_owned(), pieces: vec![(0, start)], heredocs: Vec::new() };
    while open && *next < text.line_count() {
        let range = text.line(*next);
        *next += 1;
        let written = &source[range.clone()];
        let bare = written.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let (kept, goes_on) = continuation(written, escape);
        joined.pieces.push((joined.text.len(), range.start));
        joined.text.push_str(kept);
        open = goes_on;
    }
    (!joined.text.trim().is_empty()).then_some(joined)
}

/// A line without its continuation mark, and whether it had one. An escaped mark is none.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let bare = line.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        Some(kept) if !kept.ends_with(escape) => (kept, true),
        _ => (line, false),
    }
}

/// Takes the heredocs that a line announces.
fn heredocs(text: &Text, line: &mut LogicalLine, next: &mut usize) -> Result<(), Diagnostic> {
    if !line.text.contains("<<") || !may_have_heredocs(&line.text) {
        return Ok(());
    }
    for word in words::split_raw(&line.text) {
        let Some((name, chomp)) = heredoc_word(&word) else { continue };
        let start = text.full_line(*next).start;
        loop {
            if *next >= text.line_count() {
                let place = text.place(line.source(0..line.text.len()));
                return Err(Diagnostic::request(format!("the heredoc `{word}` has no end"))
                    .at(place)
                    .hint(format!("add a line that holds `{name}` and nothing else")));
            }
            let range = text.line(*next);
            let written = &text.as_str()[range.clone()];
            *next += 1;
            if name == if chomp { written.trim_start_matches('\t') } else { written } {
                line.heredocs.push(Heredoc { name: word.clone(), body: start..range.start });
                break;
            }
        }
    }
    Ok(())
}

fn may_have_heredocs(line: &str) -> bool {
    let mut rest = line.trim_start();
    for _ in 0..2 {
        let keyword = rest.split_whitespace().next().unwrap_or_default();
        let arguments = rest[keyword.len()..].trim_start();
        if keyword.eq_ignore_ascii_case("ONBUILD") {
            rest = arguments;
            continue;
        }
        return HEREDOC_KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(keyword))
            && super::instruction::json_words(arguments).is_none();
    }
    false
}

/// The name in a word such as `<<EOF`, `3<<-"EOF"`, and whether tabs before it do not count.
pub(super) fn heredoc_word(word: &str) -> Option<(String, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    // A variable in the name stays as it was written.
    let unset = rest.replace('$', "\\$");
    let mut names = words::expand(&unset, '\\', &|_| words::Variable::Unset).ok()?.words;
    (names.len() == 1).then(|| names.swap_remove(0)).map(|name| (name, chomp))
}
