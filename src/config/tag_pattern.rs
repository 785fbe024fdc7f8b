//! Patterns of tags: text, `*` and `?`, and the names that templates have, which stand for what they become.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

use super::template::{Piece, pieces};
use super::value::{Refused, compile};

/// What of a pattern or template one place of a tag may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol<'a> {
    /// This character.
    Character(char),
    /// Any one character.
    One,
    /// Any number of any characters.
    Any,
    /// What this name becomes, and nothing else: `commit`, `date`.
    Name(&'a str),
}

/// Which tags are meant: `{commit}`, `python-*`, `2024.?`.
#[derive(Clone, Debug)]
pub(crate) struct TagPattern {
    text: String,
    compiled: Regex,
}

impl TagPattern {
    /// Whether a tag is meant.
    pub(crate) fn matches(&self, tag: &str) -> bool {
        self.compiled.is_match(tag)
    }

    /// Whether a tag may be meant that a template makes.
    pub(crate) fn may_match(&self, template: &str) -> bool {
        match (symbols(&self.text, Wildcards::Read), symbols(template, Wildcards::None)) {
            (Ok(own), Ok(made)) => overlap(&own, &made),
            _ => false,
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for TagPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TagPattern {}

impl FromStr for TagPattern {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::new("the pattern is empty; write `*` for every tag".to_owned()));
        }
        let mut pattern = String::from("^");
        for symbol in symbols(text, Wildcards::Read).map_err(Refused::new)? {
            match symbol {
                Symbol::Character(c) => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                Symbol::One => pattern.push('.'),
                Symbol::Any => pattern.push_str(".*"),
                Symbol::Name("commit") => pattern.push_str("[0-9a-f]{7,64}"),
                Symbol::Name(_) => pattern.push_str("[0-9]{4}-[0-9]{2}-[0-9]{2}"),
            }
        }
        pattern.push('$');
        Ok(Self { text: text.to_owned(), compiled: compile(&pattern)? })
    }
}

/// Whether `*` and `?` stand for anything but themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Read,
    None,
}

/// A name whose form is known stands for that form, every other one for any text.
fn symbols(text: &str, wildcards: Wildcards) -> Result<Vec<Symbol<'_>>, String> {
    let mut found = Vec::new();
    for piece in pieces(text).map_err(|(message, hint)| format!("{message}; {hint}"))? {
        match piece {
            Piece::Name(name @ ("commit" | "date")) => found.push(Symbol::Name(name)),
            Piece::Name("image" | "variant" | "platform" | "tag") => found.push(Symbol::Any),
            Piece::Name("version") if wildcards == Wildcards::None => found.push(Symbol::Any),
            Piece::Name(name) if name.parse::<usize>().is_ok() => found.push(Symbol::Any),
            Piece::Name(name) => {
                return Err(format!(
                    "`{{{name}}}` of `{text}` is not known; write `{{commit}}`, `{{date}}` or `*`"
                ));
            }
            Piece::Text(text) => found.extend(text.chars().map(|c| match c {
                '*' if wildcards == Wildcards::Read => Symbol::Any,
                '?' if wildcards == Wildcards::Read => Symbol::One,
                c => Symbol::Character(c),
            })),
        }
    }
    let odd = found.iter().find_map(|symbol| match symbol {
        Symbol::Character(c) if !(c.is_ascii_alphanumeric() || "_.-".contains(*c)) => Some(c),
        _ => None,
    });
    match odd {
        Some(c) if wildcards == Wildcards::Read => Err(format!("no tag has `{c}` in it, as `{text}` wants")),
        _ => Ok(found),
    }
}

/// Whether some text is meant by both.
fn overlap(one: &[Symbol<'_>], other: &[Symbol<'_>]) -> bool {
    let alike = |a: Symbol<'_>, b: Symbol<'_>| match (a, b) {
        (Symbol::One, Symbol::Character(_)) | (Symbol::Character(_), Symbol::One) => true,
        (a, b) => a == b,
    };
    // Row by row: whether what is left of `one` from this symbol on, and of `other` from each, have a text in common.
    let mut below: Vec<bool> = Vec::new();
    for at in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for with in (0..=other.len()).rev() {
            let next = |row: &[bool], with: usize| row.get(with).copied().unwrap_or_default();
            row[with] = match (one.get(at), other.get(with)) {
                (None, None) => true,
                (Some(Symbol::Any), _) if next(&below, with) || next(&row, with + 1) => true,
                (_, Some(Symbol::Any)) if next(&row, with + 1) || next(&below, with) => true,
                (Some(a), Some(b)) => alike(*a, *b) && next(&below, with + 1),
                _ => false,
            };
        }
        below = row;
    }
    below.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TagPattern {
        text.parse().expect("a pattern")
    }

    #[test]
    fn a_pattern_means_whole_tags() {
        let table = [
            ("{commit}", "0123456789ab", true),
            ("{commit}", "latest", false),
            ("{commit}", "x-0123456789ab", false),
            ("{date}", "2026-11-21", true),
            ("{date}", "2026-11-2x", false),
            ("*-2024.*", "python-2024.1", true),
            ("*-2024.*", "python-20241", false),
            ("v1.?", "v1.2", true),
            ("v1.?", "v1.22", false),
            ("python-{0}", "python-3.13", true),
            ("*", "latest", true),
        ];
        for (text, tag, meant) in table {
            assert_eq!(pattern(text).matches(tag), meant, "{text} {tag}");
        }
    }

    #[test]
    fn what_can_be_no_pattern_of_tags_is_refused() {
        for (text, told) in [
            ("", "is empty"),
            ("{comit}", "`{comit}` of `{comit}` is not known"),
            ("{version}", "`{version}` of `{version}` is not known"),
            ("a{", "braces"),
            ("a b", "no tag has ` ` in it"),
            ("a+*", "no tag has `+` in it"),
        ] {
            let refused = text.parse::<TagPattern>().expect_err(text).to_string();
            assert!(refused.contains(told), "{text}: {refused}");
        }
    }

    #[test]
    fn a_pattern_may_mean_what_a_template_makes() {
        let table = [
            ("latest", "latest", true),
            ("latst", "latest", false),
            ("*", "latest", true),
            ("{commit}", "{commit}", true),
            ("{commit}", "latest", false),
            ("{commit}", "{date}", false),
            ("{date}", "cuda-{date}", false),
            ("*{date}", "cuda-{date}", true),
            ("*-2024.*", "python-{0}", true),
            ("python-3.?", "python-{0}.{1}", true),
            ("r-*", "python-{0}", false),
            ("v*", "v{version}", true),
            ("w*", "v{version}", false),
            ("a?c", "abc", true),
            ("a?c", "abbc", false),
            ("*b", "a{0}", true),
        ];
        for (text, template, may) in table {
            assert_eq!(pattern(text).may_match(template), may, "{text} {template}");
        }
    }
}
