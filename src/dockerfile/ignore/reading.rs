//! What one pattern of a `.dockerignore` matches, by the two readings of it that clients have.

use regex::Regex;

use crate::dockerfile::pattern;

/// What a pattern matches.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Exactly(String),
    StartsWith(String),
    EndsWith(String),
    Like(Regex),
    /// What it matches is not known: the rule then does what leaves the file in the context.
    Unsure,
}

/// A pattern by both readings.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    /// That of Docker up to 20.10: always a regular expression, in which `+(){}|` keep their meaning.
    pub(super) older: Matcher,
    /// That of Docker since 23: `**` at the start alone is a suffix, at the end alone a prefix, and no letter is
    /// special where no other sign is.
    pub(super) newer: Matcher,
}

impl Matcher {
    /// Whether it matches a path; where that is not known, what `unsure` says.
    pub(super) fn matches(&self, path: &str, unsure: bool) -> bool {
        match self {
            Self::Exactly(text) => path == text,
            Self::StartsWith(text) => path.starts_with(text.as_str()),
            Self::EndsWith(text) => path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path),
            Self::Like(regex) => regex.is_match(path),
            Self::Unsure => unsure,
        }
    }
}

/// How the newer reading takes a pattern, as far as it has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Prefix,
    Suffix,
    Regex,
}

/// What a cleaned pattern matches; none where it is malformed.
pub(super) fn read(written: &str) -> Option<Readings> {
    let (mut older, mut newer) = ("^".to_owned(), "^".to_owned());
    let mut kind = Kind::Plain;
    let mut sure = !escapes_letters(written);
    let mut rest = written.chars().peekable();
    let mut first = true;
    while let Some(c) = rest.next() {
        let both = match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                let last = rest.peek().is_none();
                kind = match kind {
                    _ if first => Kind::Suffix,
                    Kind::Plain if last => Kind::Prefix,
                    _ => Kind::Regex,
                };
                if last { ".*" } else { "(.*/)?" }.to_owned()
            }
            '*' | '?' => {
                kind = Kind::Regex;
                if c == '*' { "[^/]*" } else { "[^/]" }.to_owned()
            }
            '[' => {
                kind = Kind::Regex;
                let (class, is_sure) = class(&mut rest)?;
                sure &= is_sure;
                class
            }
            '\\' => {
                kind = Kind::Regex;
                regex::escape(rest.next()?.encode_utf8(&mut [0; 4]))
            }
            '^' => "^".to_owned(),
            '+' | '(' | ')' | '{' | '}' | '|' => {
                older.push(c);
                newer.push('\\');
                newer.push(c);
                String::new()
            }
            c => regex::escape(c.encode_utf8(&mut [0; 4])),
        };
        older.push_str(&both);
        newer.push_str(&both);
        first = false;
    }
    let like = |text: String| match Regex::new(&(text + "$")) {
        Ok(regex) if sure => Matcher::Like(regex),
        _ => Matcher::Unsure,
    };
    let newer = match kind {
        Kind::Plain => Matcher::Exactly(written.to_owned()),
        Kind::Prefix => Matcher::StartsWith(written.strip_suffix("**").unwrap_or(written).to_owned()),
        Kind::Suffix => Matcher::EndsWith(written.strip_prefix("**").unwrap_or(written).to_owned()),
        Kind::Regex => like(newer),
    };
    Some(Readings { older: like(older), newer })
}

/// A class as regular expressions have it, and whether it means the same there as in a pattern of paths.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<(String, bool)> {
    let (negated, ranges) = pattern::class(rest)?;
    let mut text = if negated { "[^" } else { "[" }.to_owned();
    let mut sure = true;
    for (low, high) in ranges.into_iter().filter(|(low, high)| low <= high) {
        // Clients translate these without looking whether they stand in a class.
        sure &= ![low, high].iter().any(|end| matches!(end, '*' | '?' | '['));
        text.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
    }
    text.push(']');
    Some((text, sure))
}

/// Whether a `\` stands before a letter or digit, also within a class. Regular expressions then read more than the
/// character: `\b` is the edge of a word, `\d` any digit.
fn escapes_letters(written: &str) -> bool {
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next().is_some_and(|escaped| escaped.is_alphanumeric() || !escaped.is_ascii()) {
            return true;
        }
    }
    false
}
