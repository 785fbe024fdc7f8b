//! `.dockerignore`: which files of a context are not sent, by Docker's rules.
//!
//! Each line is a pattern, `!` takes back, the last match wins, and a pattern that matches a folder matches all in
//! it. Which files are sent is for the client to say, and clients differ: up to Docker 20.10 every pattern is a
//! regular expression and a folder above a file is matched in one place only, since 23 some are plain text and all
//! folders above are matched. A key may hold too much, never too little: a file counts as left behind only where both
//! leave it.

mod reading;

use std::path::Path;

use reading::Readings;

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
    /// The pattern, cleaned.
    written: String,
    readings: Readings,
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

    /// Whether the file at this path, relative to the context and with `/`, stays behind with every client.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let path = pattern::clean(path);
        let above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        self.newer_ignores(&path, &above) && self.older_ignores(&path, &above)
    }

    /// Docker since 23: a rule that matched a folder `above` holds for all in it, and one that could have changed
    /// nothing was not asked there and does not.
    fn newer_ignores(&self, path: &str, above: &[&str]) -> bool {
        let mut holds = vec![false; self.rules.len()];
        let mut ignored = false;
        for path in above.iter().copied().chain([path]) {
            ignored = false;
            for (rule, holds) in self.rules.iter().zip(&mut holds) {
                let asked = rule.takes_back == ignored;
                *holds = *holds || asked && rule.readings.newer.matches(path, rule.takes_back);
                if *holds {
                    ignored = !rule.takes_back;
                }
            }
        }
        ignored
    }

    /// Docker up to 20.10: its walk does not enter a folder that is ignored, unless a rule that takes back begins with
    /// the folder's own text.
    fn older_ignores(&self, path: &str, above: &[&str]) -> bool {
        let entered = |folder: &str| {
            let below = format!("{folder}/");
            self.rules.iter().any(|rule| rule.takes_back && format!("{}/", rule.written).starts_with(&below))
        };
        let stops =
            |(at, folder): (usize, &&str)| self.older_matches(folder, &above[..at]) && !entered(folder);
        above.iter().enumerate().any(stops) || self.older_matches(path, above)
    }

    /// Whether the last rule of Docker 20.10 that matches a path ignores it. Of the folders above, the one with as many
    /// parts as the pattern is matched, and no other.
    fn older_matches(&self, path: &str, above: &[&str]) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            let matches = |path: &str| rule.readings.older.matches(path, rule.takes_back);
            let folder = above.get(rule.written.matches('/').count());
            if rule.takes_back == ignored && (matches(path) || folder.is_some_and(|folder| matches(folder))) {
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
    let readings = reading::read(relative).ok_or_else(|| format!("`{written}` is not a pattern"))?;
    Ok(Some(Rule { takes_back, written: relative.to_owned(), readings }))
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
        check("a$b", "a$b", "a");
        check("\u{feff}a", "a", "b");
        check("a\r\nb\r\n", "a b", "c");
        check("..", "", "a");
        check(".", "", "a");
        check("/", "", "a");
    }

    /// What Docker 20.10 and 26.1 were measured to send: only what both leave behind counts as ignored.
    #[test]
    fn f_d10_a_file_is_ignored_only_where_old_and_new_clients_leave_it() {
        check("**.log", "", "x.log a/x.log a/b/x.log");
        check("**.pyc", "", "a/x.pyc");
        check("**~", "", "a/y~");
        check("**/a**", "a/b/c ab aab app/(auth)/p nm/a/z", "b xab");
        check("\\a", "", "a/b");
        check("a\\b", "", "ab a/b");
        check("[\\d]", "", "d 1");
        check("\\d\\.txt", "", "d.txt 1.txt");
        check("a+b", "", "a+b aab");
        check("a+*", "a+b a+c", "aab ab");
        check("app/(auth)", "", "app/(auth)/p");
        check("a^b", "", "a^b");
        check("*^*", "a b/c", "");
        check("**/nm\n!nm/keep", "q/nm/x", "nm/keep nm/x nm/a/z");
        check("a\n!**/keep", "a/b a/drop/k", "a/keep/k");
        check("a\n!\\k", "", "a/b k");
        check("x/[*]y", "", "x/*y x/zy");
        check("logs\n!logs/keep\nlog*", "logs/x", "logs/keep");
        check("logs\n!logs/keep\nlogs", "logs/x", "logs/keep");
        check("lo*\n!logs/keep\n?ogs", "logs/x", "logs/keep");
        check("*\n!ig\nlogs\n!logs/keep\n*", "x", "logs/keep");
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
