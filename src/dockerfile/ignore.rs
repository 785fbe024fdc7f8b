//! `.dockerignore`: which files of a context are not sent, by Docker's rules.
//!
//! Each line is a pattern, `!` takes back, the last match wins, and a pattern that matches a folder matches all in
//! it. Patterns become regular expressions exactly as in Docker, with its habits: `**` at the start is a suffix,
//! at the end a prefix.

use std::path::Path;

use regex::Regex;

use super::pattern;
use super::text::Text;
use crate::diag::{Diagnostic, Problems, Result};

/// How many wrong patterns are shown together.
const PROBLEM_LIMIT: usize = 20;

/// The rules of one `.dockerignore`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    takes_back: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exactly(String),
    StartsWith(String),
    EndsWith(String),
    Like(Regex),
}

impl Ignore {
    /// Reads the rules; a pattern that Docker refuses is refused with its line.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self> {
        let text = Text::new(file, text);
        let mut rules = Vec::new();
        let mut problems = Vec::new();
        for line in 0..text.line_count() {
            let range = text.line(line);
            match rule(&text.as_str()[range.clone()]) {
                Ok(found) => rules.extend(found),
                Err(what) if problems.len() < PROBLEM_LIMIT => {
                    let hint = "remove the line, or escape its special characters with `\\`";
                    problems.push(Diagnostic::request(what).at(text.place(range)).hint(hint));
                }
                Err(_) => {}
            }
        }
        Problems::check(problems)?;
        Ok(Self { rules })
    }

    /// Whether the file at this path, relative to the context and with `/`, stays behind.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let path = pattern::clean(path);
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        let mut ignored = false;
        for rule in &self.rules {
            // A rule that could change nothing is not asked.
            if rule.takes_back == ignored
                && (rule.matcher.matches(&path) || parents.iter().any(|parent| rule.matcher.matches(parent)))
            {
                ignored = !rule.takes_back;
            }
        }
        ignored
    }

    /// Whether a folder can be passed over unseen: it is ignored, and nothing is taken back anywhere.
    pub(crate) fn passes_over(&self, folder: &str) -> bool {
        self.ignores(folder) && !self.rules.iter().any(|rule| rule.takes_back)
    }
}

impl Matcher {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exactly(text) => path == text,
            Self::StartsWith(text) => path.starts_with(text.as_str()),
            Self::EndsWith(text) => path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path),
            Self::Like(regex) => regex.is_match(path),
        }
    }
}

/// The rule of a line; none where it is blank or a comment.
fn rule(line: &str) -> Result<Option<Rule>, String> {
    if line.starts_with('#') || line.trim().is_empty() {
        return Ok(None);
    }
    let line = line.trim();
    let (takes_back, written) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    if written.is_empty() {
        return Err("`!` takes back nothing".to_owned());
    }
    let cleaned = pattern::clean(written);
    let relative = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
    let matcher = matcher(relative).ok_or_else(|| format!("`{written}` is not a pattern"))?;
    Ok(Some(Rule { takes_back, matcher }))
}

/// What a cleaned pattern matches; none where it is malformed.
fn matcher(written: &str) -> Option<Matcher> {
    let mut text = "^".to_owned();
    let mut kind: fn(&str) -> Option<Matcher> = |written| Some(Matcher::Exactly(written.to_owned()));
    let mut special = false;
    let mut rest = written.chars().peekable();
    let mut first = true;
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    text.push_str("(.*/)?");
                    special = true;
                } else if special {
                    text.push_str(".*");
                } else {
                    kind = |written| Some(Matcher::StartsWith(before_stars(written).to_owned()));
                }
                if first {
                    special = false;
                    kind = |written| Some(Matcher::EndsWith(written[2..].to_owned()));
                }
            }
            '*' => {
                text.push_str("[^/]*");
                special = true;
            }
            '?' => {
                text.push_str("[^/]");
                special = true;
            }
            '[' => {
                text.push_str(&class(&mut rest)?);
                special = true;
            }
            '\\' => {
                text.push_str(&regex::escape(rest.next()?.encode_utf8(&mut [0; 4])));
                special = true;
            }
            c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
        first = false;
    }
    if special {
        text.push('$');
        return Regex::new(&text).ok().map(Matcher::Like);
    }
    kind(written)
}

/// What stands before a `**` at the end.
fn before_stars(written: &str) -> &str {
    written.strip_suffix("**").unwrap_or(written)
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let (negated, ranges) = pattern::class(rest)?;
    let mut text = if negated { "[^" } else { "[" }.to_owned();
    for (low, high) in ranges.into_iter().filter(|(low, high)| low <= high) {
        text.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
    }
    text.push(']');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &str, ignored: &str, sent: &str) {
        let ignore = Ignore::parse(Path::new(".dockerignore"), rules).expect("the rules are right");
        for path in ignored.split_whitespace() {
            assert!(ignore.ignores(path), "{rules:?} should ignore {path}");
        }
        for path in sent.split_whitespace() {
            assert!(!ignore.ignores(path), "{rules:?} should send {path}");
        }
    }

    #[test]
    fn rules_are_those_of_docker() {
        check("", "", "a a/b");
        check("# a\n\n  \n", "", "a #");
        check("a", "a a/b a/b/c", "ab b/a");
        check("/a/", "a a/b", "b/a");
        check("./a/../b", "b", "a");
        check("  a  ", "a", "b");
        check("*", "a a/b .x", "");
        check("*.md", "README.md", "docs/README.md a.mdx");
        check("*/*.md", "docs/a.md", "a.md d/e/a.md");
        check("**/*.md", "a.md d/a.md d/e/a.md", "a.mdx");
        check("**/node_modules", "node_modules a/node_modules/x", "node_modules2");
        check("**", "a a/b", "");
        check("a/**", "a/b a/b/c", "a b");
        check("a/**/b", "a/b a/x/b a/x/y/b", "b");
        check("a?c", "abc", "ac a/c");
        check("[a-c].txt", "a.txt", "d.txt");
        check("[^a].txt", "b.txt", "a.txt");
        check("a\\*", "a*", "ab");
        check("a.b", "a.b", "axb");
        check("a+(b)|c{1}$^", "a+(b)|c{1}$^", "a");
        check("\u{feff}a", "a", "b");
        check("a\r\nb\r\n", "a b", "c");
        check("..", "", "a");
        check(".", "", "a");
        check("/", "", "a");
    }

    #[test]
    fn the_last_match_wins_and_a_folder_is_opened_again() {
        check("*\n!a", "b b/a", "a a/b");
        check("a\n!a/b", "a/c a/d/b", "a/b a/b/x");
        check("*.md\n!README.md", "a.md", "README.md");
        check("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", "README-x.md");
        check("!a\na", "a", "");
        check("*\n! /a/", "b", "a/x");
        check("**\n!src/**/*.rs", "Cargo.toml src/a.txt", "src/a.rs src/b/c.rs");
    }

    #[test]
    fn f_c14_wrong_patterns_are_named_with_their_lines() {
        let problems = Ignore::parse(Path::new("x"), "ok\n[a\n!\nb\\\n").expect_err("three are wrong");
        assert_eq!(
            problems.to_string(),
            "x:2:1: `[a` is not a pattern; x:3:1: `!` takes back nothing; x:4:1: `b\\` is not a pattern"
        );
    }

    #[test]
    fn a_folder_is_passed_over_only_where_nothing_is_taken_back() {
        let parse = |rules| Ignore::parse(Path::new("x"), rules).expect("the rules are right");
        assert!(parse("a").passes_over("a") && !parse("a\n!a/b").passes_over("a"));
    }

    proptest::proptest! {
        #[test]
        fn f_c14_no_text_panics(rules in "([!#*?/.\\[\\]^a\\\\-]|\n){0,40}", path in "[a/.*]{0,20}") {
            if let Ok(ignore) = Ignore::parse(Path::new("x"), &rules) {
                ignore.ignores(&path);
            }
        }
    }
}
