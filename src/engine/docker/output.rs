//! Read what BuildKit says while it builds, in its form for logs (`--progress=plain`).
//!
//! Lines of one step begin with `#` and its number. The first is its name; the others are what it prints (after
//! the seconds since it began), what it transfers, and how it ended. What no step says is the client's own.

use std::collections::{BTreeMap, VecDeque};

/// How many lines of a step's output are kept for the message.
const TAIL_LINES: usize = 20;

/// How many steps are followed; a build has tens of them.
const STEPS: usize = 4096;

/// The steps of one build, as far as its output tells.
#[derive(Debug, Default)]
pub(super) struct BuildLog {
    steps: BTreeMap<u32, Step>,
    failed: Option<u32>,
    /// The last lines that belong to no step.
    client: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    tail: VecDeque<String>,
    error: Option<String>,
}

impl BuildLog {
    /// Take in a line; a step that begins with it is named, once.
    pub(super) fn line(&mut self, line: &str) -> Option<String> {
        let Some((number, text)) = numbered(line) else {
            if !line.trim().is_empty() && !line.starts_with("------") {
                keep(&mut self.client, line);
            }
            return None;
        };
        if self.steps.len() >= STEPS && !self.steps.contains_key(&number) {
            return None;
        }
        let begins = !self.steps.contains_key(&number);
        let step = self.steps.entry(number).or_default();
        if begins {
            text.clone_into(&mut step.name);
            return is_of_the_dockerfile(text).then(|| text.to_owned());
        }
        if let Some(error) = text.strip_prefix("ERROR: ").or_else(|| text.strip_prefix("ERROR ")) {
            step.error = Some(error.to_owned());
            // Steps that were under way when another failed end as cancelled, and are not to blame.
            if !error.contains("context canceled") {
                self.failed.get_or_insert(number);
            }
        } else if let Some((seconds, said)) = text.split_once(' ').or(Some((text, "")))
            && is_seconds(seconds)
        {
            keep(&mut step.tail, said);
        }
        None
    }

    /// The step that failed: its name, what was wrong, and the last lines that it printed.
    pub(super) fn failure(&self) -> Option<(&str, &str, Vec<&str>)> {
        let step = self.steps.get(&self.failed?)?;
        Some((
            &step.name,
            step.error.as_deref().unwrap_or_default(),
            step.tail.iter().map(String::as_str).collect(),
        ))
    }

    /// What the client said last, outside all steps.
    pub(super) fn last_words(&self) -> Vec<&str> {
        let error = self.client.iter().rposition(|line| line.starts_with("ERROR: "));
        self.client
            .iter()
            .skip(error.unwrap_or(0))
            .map(|line| line.strip_prefix("ERROR: ").unwrap_or(line))
            .collect()
    }
}

/// The number and the text of a line of a step.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, text))
}

/// `12.345`, the time that stands before what a step prints.
fn is_seconds(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, part)| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(part)
    })
}

/// Whether a step is one that a person wrote, or the export at the end; the rest is BuildKit's own business.
fn is_of_the_dockerfile(name: &str) -> bool {
    !["[internal]", "[auth]", "[context ", "resolve ", "building with ", "importing ", "preparing "]
        .iter()
        .any(|own| name.starts_with(own))
        && !name.starts_with("resolving provenance")
}

fn keep(tail: &mut VecDeque<String>, line: &str) {
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.chars().take(500).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, BuildLog) {
        let mut log = BuildLog::default();
        let steps = text.lines().filter_map(|line| log.line(line)).collect();
        (steps, log)
    }

    const OLD: &str = r##"#1 [internal] load build definition from Dockerfile
#1 sha256:99ec082e904375e69ac84dd989c57e7e64f733df5e18c1e355d5290d5fd68b0f
#1 DONE 0.0s

#5 [1/3] FROM 127.0.0.1:5951/scopes/trusted@sha256:3b95
#5 sha256:3639dfa595de147e99cbb283d6f308ac14b04230e22b3b6989dc836421bb993e
#5 DONE 0.0s

#6 [2/3] RUN echo a; exit 7
#6 sha256:c127ff6fe4e6905d3291c4b2f94778994950872bf779affff857c24fa47351c6
#6 0.134 a
#6 ...

#7 [other 1/1] RUN sleep 9
#7 ERROR: context canceled

#6 [2/3] RUN echo a; exit 7
#6 0.135   two
#6 0.136
#6 ERROR: executor failed running [/bin/sh -c echo a; exit 7]: exit code: 7
------
 > [2/3] RUN echo a; exit 7:
------
executor failed running [/bin/sh -c echo a; exit 7]: exit code: 7
"##;

    #[test]
    fn each_step_is_named_once() {
        let (steps, _) = read(OLD);
        let expected = [
            "[1/3] FROM 127.0.0.1:5951/scopes/trusted@sha256:3b95",
            "[2/3] RUN echo a; exit 7",
            "[other 1/1] RUN sleep 9",
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_step_that_failed_is_found_with_its_last_lines() {
        let (_, log) = read(OLD);
        let (name, error, tail) = log.failure().unwrap();
        assert_eq!(name, "[2/3] RUN echo a; exit 7");
        assert_eq!(error, "executor failed running [/bin/sh -c echo a; exit 7]: exit code: 7");
        assert_eq!(tail, ["a", "  two", ""]);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut text = "#1 [1/1] RUN yes\n".to_owned();
        (0..1000).for_each(|at| text += &format!("#1 0.{at} line {at}\n"));
        let (_, log) =
            read(&(text + "#1 ERROR: process \"yes\" did not complete successfully: exit code: 1"));
        let (_, _, tail) = log.failure().unwrap();
        assert_eq!((tail.len(), tail[0], tail[19]), (20, "line 980", "line 999"));
    }

    #[test]
    fn what_the_client_says_last_is_kept() {
        let (steps, log) = read(
            "#0 building with \"default\" instance using docker driver\nWARNING: old\nERROR: failed to build: failed to solve: dockerfile parse error on line 3: unknown instruction: COPYY",
        );
        assert!(steps.is_empty() && log.failure().is_none());
        let words = [
            "failed to build: failed to solve: dockerfile parse error on line 3: unknown instruction: COPYY",
        ];
        assert_eq!(log.last_words(), words);
    }
}
