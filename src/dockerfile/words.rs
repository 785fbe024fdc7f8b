//! Expand words as BuildKit does: variables with their modifiers, quotes and escapes.
//!
//! A variable that the base image may set is not known before the build. A word that needs one is said to be
//! unknown, and who asked decides what that means; nothing is guessed.

use std::collections::BTreeSet;

use regex::Regex;

/// How deep `${A:-${B:-…}}` may nest.
const DEPTH_LIMIT: usize = 64;
/// How many bytes a word may grow by when it is expanded.
const GROWTH_LIMIT_BYTES: usize = 64 * 1024;

/// What is known of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// It has this value.
    Set(String),
    /// It is certainly not set.
    Unset,
    /// The base image may set it.
    Unknown,
}

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    /// The text, with nothing in the place of an unknown variable.
    pub(super) text: String,
    /// The text split at blanks that neither quotes nor escapes protect.
    pub(super) words: Vec<String>,
    /// The variables it asked for.
    pub(super) used: BTreeSet<String>,
    /// Whether a variable of unknown value had a say in it.
    pub(super) unknown: bool,
    /// The first modifier that the frontend inside Docker 20.10 refuses.
    pub(super) newer: Option<String>,
}

/// Expands a word. An error is a fragment that says what is wrong with the word.
pub(super) fn expand(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Variable,
) -> Result<Expansion, String> {
    Lexer::new(word, escape, false, lookup).finish()
}

/// Splits a line at blanks, leaving quotes, escapes and variables in the words; none where quotes do not match.
pub(super) fn split_raw(line: &str) -> Vec<String> {
    Lexer::new(line, '\\', true, &|_| Variable::Unset).finish().map(|found| found.words).unwrap_or_default()
}

/// What to do with quotes and escapes while reading.
#[derive(Clone, Copy)]
struct Mode {
    /// Keep quotes and unset variables as they were written.
    raw: bool,
    /// Keep escape characters.
    raw_escapes: bool,
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    raw: bool,
    lookup: &'a dyn Fn(&str) -> Variable,
    found: Expansion,
    size: usize,
    limit: usize,
}

/// A text and the words in it, while they grow.
#[derive(Default)]
struct Parts {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Parts {
    fn plain(&mut self, c: char) {
        self.text.push(c);
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }
}

impl<'a> Lexer<'a> {
    fn new(word: &'a str, escape: char, raw: bool, lookup: &'a dyn Fn(&str) -> Variable) -> Self {
        Self {
            rest: word.chars().peekable(),
            escape,
            raw,
            lookup,
            found: Expansion::default(),
            size: 0,
            limit: word.len() + GROWTH_LIMIT_BYTES,
        }
    }

    fn finish(mut self) -> Result<Expansion, String> {
        let mode = Mode { raw: self.raw, raw_escapes: self.raw };
        let mut parts = self.until(None, mode, 0)?;
        if !parts.word.is_empty() {
            parts.words.push(parts.word);
        }
        self.found.text = parts.text;
        self.found.words = parts.words;
        Ok(self.found)
    }

    /// Reads to a closing character, or to the end where there is none.
    fn until(&mut self, stop: Option<char>, mode: Mode, depth: usize) -> Result<Parts, String> {
        if depth > DEPTH_LIMIT {
            return Err(format!("`${{…}}` is nested more than {DEPTH_LIMIT} deep"));
        }
        let mut parts = Parts::default();
        while let Some(&c) = self.rest.peek() {
            if Some(c) == stop {
                self.rest.next();
                return Ok(parts);
            }
            match c {
                '$' => {
                    let value = self.dollar(mode, depth)?;
                    value.chars().for_each(|c| parts.plain(c));
                }
                '\'' => {
                    let text = self.single_quoted(mode)?;
                    parts.quoted(&text);
                }
                '"' => {
                    let text = self.double_quoted(mode, depth)?;
                    parts.quoted(&text);
                }
                _ => {
                    self.rest.next();
                    if c != self.escape {
                        parts.plain(c);
                        continue;
                    }
                    if mode.raw_escapes {
                        parts.quoted(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(next) = self.rest.next() {
                        parts.quoted(next.encode_utf8(&mut [0; 4]));
                    }
                }
            }
        }
        match stop {
            None => Ok(parts),
            Some(stop) => Err(format!("`{stop}` is missing at its end")),
        }
    }

    fn single_quoted(&mut self, mode: Mode) -> Result<String, String> {
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err("the closing `'` is missing".to_owned()),
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        Ok(if mode.raw { format!("'{text}'") } else { text })
    }

    fn double_quoted(&mut self, mode: Mode, depth: usize) -> Result<String, String> {
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.peek().copied() {
                None => return Err("the closing `\"` is missing".to_owned()),
                Some('"') => {
                    self.rest.next();
                    break;
                }
                Some('$') => text.push_str(&self.dollar(mode, depth)?),
                Some(c) => {
                    self.rest.next();
                    if c != self.escape {
                        text.push(c);
                        continue;
                    }
                    if mode.raw_escapes {
                        text.push(c);
                    }
                    match self.rest.peek().copied() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.rest.next();
                            text.push(next);
                        }
                        Some(_) if mode.raw_escapes => {}
                        Some(_) => text.push(c),
                    }
                }
            }
        }
        Ok(if mode.raw { format!("\"{text}\"") } else { text })
    }

    fn dollar(&mut self, mode: Mode, depth: usize) -> Result<String, String> {
        self.rest.next();
        let value = if self.rest.peek() == Some(&'{') {
            self.rest.next();
            self.braced(mode, depth)?
        } else {
            match self.name() {
                name if name.is_empty() => "$".to_owned(),
                name if mode.raw => format!("${name}"),
                name => self.value(&name).unwrap_or_default(),
            }
        };
        self.size += value.len();
        if self.size > self.limit {
            return Err(format!("it expands to more than {} KiB", GROWTH_LIMIT_BYTES / 1024));
        }
        Ok(value)
    }

    fn braced(&mut self, mode: Mode, depth: usize) -> Result<String, String> {
        if matches!(self.rest.peek(), Some('{' | '}' | ':')) {
            return Err("`${` is not followed by the name of a variable".to_owned());
        }
        let name = self.name();
        let Some(mut modifier) = self.rest.next() else { return Err(missing_brace()) };
        if modifier == '}' {
            return Ok(if mode.raw { format!("${{{name}}}") } else { self.value(&name).unwrap_or_default() });
        }
        if modifier == '/' {
            return self.replaced(&name, mode, depth);
        }
        let colon = modifier == ':';
        if colon {
            modifier = self.rest.next().ok_or_else(missing_brace)?;
        }
        if !matches!(modifier, '+' | '-' | '?' | '#' | '%') {
            let written = if colon { format!(":{modifier}") } else { modifier.to_string() };
            return Err(format!("`{written}` in `${{{name}{written}…}}` is not a modifier"));
        }
        let trims = matches!(modifier, '#' | '%');
        if !colon || trims {
            self.found.newer.get_or_insert_with(|| format!("${{{name}{modifier}…}}"));
        }
        let unknown_before = self.found.unknown;
        let inner = Mode { raw: mode.raw, raw_escapes: trims || mode.raw_escapes };
        let word = self
            .until(Some('}'), inner, depth + 1)
            .map_err(|problem| if self.rest.peek().is_none() { missing_brace() } else { problem })?;
        if mode.raw {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{}}}", word.text));
        }
        let unknown_in_word = self.found.unknown && !unknown_before;
        let value = self.value(&name);
        let absent = value.as_ref().is_none_or(|value| colon && value.is_empty());
        let word_counts = match modifier {
            '-' => absent,
            '+' => !absent,
            _ => true,
        };
        if unknown_in_word && !word_counts && self.is_known(&name) {
            // The alternative was not taken, so that its variables have no say.
            self.found.unknown = unknown_before;
        }
        apply(&name, modifier, colon, value, word.text, !self.is_known(&name))
    }

    fn replaced(&mut self, name: &str, mode: Mode, depth: usize) -> Result<String, String> {
        self.found.newer.get_or_insert_with(|| format!("${{{name}/…}}"));
        let all = self.rest.next_if_eq(&'/').is_some();
        let inner = Mode { raw: mode.raw, raw_escapes: true };
        let pattern = self.until(Some('/'), inner, depth + 1)?.text;
        let replacement = self.until(Some('}'), inner, depth + 1)?.text;
        if mode.raw {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = self.value(name).unwrap_or_default();
        let pattern = shell_pattern(&pattern, true, "", "")?;
        let text = regex::NoExpand(&replacement);
        Ok(if all { pattern.replace_all(&value, text) } else { pattern.replace(&value, text) }.into_owned())
    }

    fn is_known(&self, name: &str) -> bool {
        (self.lookup)(name) != Variable::Unknown
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.found.used.insert(name.to_owned());
        match (self.lookup)(name) {
            Variable::Set(value) => Some(value),
            Variable::Unset => None,
            Variable::Unknown => {
                self.found.unknown = true;
                None
            }
        }
    }

    /// The name of a variable: letters, digits and `_`; or digits; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek().copied() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.rest.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
            }
            Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.rest.next();
                name.push(c);
            }
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }
}

fn missing_brace() -> String {
    "the closing `}` of `${` is missing".to_owned()
}

/// The value of `${name<modifier>word}`.
fn apply(
    name: &str,
    modifier: char,
    colon: bool,
    value: Option<String>,
    word: String,
    unknown: bool,
) -> Result<String, String> {
    let absent = value.as_ref().is_none_or(|value| colon && value.is_empty());
    match modifier {
        '-' if absent => Ok(word),
        '+' => Ok(if absent { String::new() } else { word }),
        '?' if absent && !unknown => {
            let empty = if value.is_some() { "empty" } else { "unset" };
            Err(if word.is_empty() {
                format!("`{name}` may not be {empty}")
            } else {
                format!("`{name}`: {word}")
            })
        }
        '#' | '%' => {
            let (word, greedy) = match word.strip_prefix(modifier) {
                Some(rest) => (rest, true),
                None => (word.as_str(), false),
            };
            let value = value.unwrap_or_default();
            if modifier == '#' {
                let end = shell_pattern(word, greedy, "^", "")?.find(&value).map_or(0, |found| found.end());
                Ok(value[end..].to_owned())
            } else {
                // The longest suffix is the one found first; the shortest is what a greedy prefix leaves.
                let before = if greedy { "^(.*?)" } else { "^(.*)" };
                let kept = shell_pattern(word, true, before, "$")?.captures(&value);
                Ok(kept
                    .and_then(|found| found.get(1))
                    .map_or(value.as_str(), |kept| kept.as_str())
                    .to_owned())
            }
        }
        _ => Ok(value.unwrap_or_default()),
    }
}

/// The regular expression of a pattern in which `*` is any text and `?` any character.
fn shell_pattern(pattern: &str, greedy: bool, before: &str, after: &str) -> Result<Regex, String> {
    let mut text = format!("(?s){before}");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' => text.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => text.push('.'),
            '\\' => match rest.next() {
                Some(next @ ('*' | '?' | '\\' | '}' | '/')) => {
                    text.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
                }
                _ => return Err(format!("`{pattern}` is not a pattern: `\\` escapes nothing")),
            },
            _ => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push_str(after);
    Regex::new(&text).map_err(|_| format!("`{pattern}` is not a pattern"))
}
