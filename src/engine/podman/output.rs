//! Read what Buildah says while it builds.
//!
//! A step begins with `STEP 2/5: RUN make`, with `[1/2] ` before it where there are several stages. What follows is what
//! it prints, and Buildah's own lines among it. Where a build fails, the last word begins with `Error: `.

use std::collections::VecDeque;

/// How many lines of a step's output are kept for the message.
const TAIL_LINES: usize = 20;

/// The steps of one build, as far as its output tells.
#[derive(Debug, Default)]
pub(super) struct BuildLog {
    step: Option<String>,
    tail: VecDeque<String>,
    /// What was wrong: the lines from the last that begins with `Error: `.
    error: Vec<String>,
}

/// Why a build failed, in Buildah's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed<'l> {
    /// The step, where one is to blame.
    pub(super) step: Option<&'l str>,
    /// What was wrong with it; without the command, which says what it likes.
    pub(super) reason: String,
}

impl BuildLog {
    /// Take in a line; a step that begins with it is named.
    pub(super) fn line(&mut self, line: &str) -> Option<String> {
        if let Some(step) = step(line) {
            self.tail.clear();
            self.error.clear();
            self.step = Some(step.clone());
            return Some(step);
        }
        if line.starts_with("Error: ") {
            self.error = vec![line.to_owned()];
        } else if !self.error.is_empty() && self.error.len() < TAIL_LINES {
            self.error.push(line.to_owned());
        }
        if !is_buildahs_own(line) {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.chars().take(500).collect());
        }
        None
    }

    /// Why it failed, where it says so.
    pub(super) fn failure(&self) -> Option<Failed<'_>> {
        let error = self.error.first()?.strip_prefix("Error: ")?;
        let error = error.strip_prefix("error ").unwrap_or(error);
        let Some(at_step) = error.strip_prefix("building at STEP \"") else {
            return Some(Failed { step: None, reason: self.whole_error() });
        };
        let (_, reason) = at_step.rsplit_once("\": ").unwrap_or(("", at_step));
        let reason = reason.strip_prefix("while running runtime: ").unwrap_or(reason);
        Some(Failed { step: self.step.as_deref(), reason: reason.to_owned() })
    }

    fn whole_error(&self) -> String {
        self.error.join("\n").trim_start_matches("Error: ").to_owned()
    }

    /// The last lines that the step printed.
    pub(super) fn tail(&self) -> Vec<&str> {
        self.tail.iter().map(String::as_str).collect()
    }

    /// Whether the command of the step was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.tail.iter().chain(&self.error).any(|line| line.ends_with("exited on killed"))
    }
}

/// `[2/5] RUN make` of `STEP 2/5: RUN make`.
fn step(line: &str) -> Option<String> {
    let (stage, rest) = match line.strip_prefix('[').and_then(|rest| rest.split_once("] STEP ")) {
        Some((stage, rest)) if is_count(stage) => (format!("{stage} "), rest),
        _ => (String::new(), line.strip_prefix("STEP ")?),
    };
    let (number, text) = rest.split_once(": ")?;
    is_count(number).then(|| format!("[{stage}{number}] {text}"))
}

/// `2/5`.
fn is_count(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('/').is_some_and(|(at, of)| is_number(at) && is_number(of))
}

/// Whether a line is none of what a command prints.
fn is_buildahs_own(line: &str) -> bool {
    const OWN: &[&str] = &[
        "--> ",
        "COMMIT",
        "Error: ",
        "Trying to pull ",
        "Getting image source signatures",
        "Copying blob ",
        "Copying config ",
        "Writing manifest to image destination",
        "Storing signatures",
        "subprocess exited with status ",
        "[Warning] one or more build args were not consumed",
    ];
    OWN.iter().any(|own| line.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, BuildLog) {
        let mut log = BuildLog::default();
        let steps = text.lines().filter_map(|line| log.line(line)).collect();
        (steps, log)
    }

    #[test]
    fn steps_are_named_with_their_stages() {
        let text = "STEP 1/2: FROM a@sha256:1\nSTEP 2/2: RUN echo STEP 9/9: x\nSTEP nine/9: no\n--> 12\n[1/2] STEP 1/1: FROM b\n[2/2] COMMIT\n";
        let (steps, _) = read(text);
        assert_eq!(steps, ["[1/2] FROM a@sha256:1", "[2/2] RUN echo STEP 9/9: x", "[1/2 1/1] FROM b"]);
    }

    #[test]
    fn f_g20_the_reason_is_told_from_what_a_command_says() {
        let table = [
            (
                "STEP 2/2: RUN echo one; exit 7\none\ntwo\nsubprocess exited with status 7\nError: building at STEP \"RUN echo one; exit 7\": exit status 7\n",
                (Some("[2/2] RUN echo one; exit 7"), "exit status 7", vec!["one", "two"]),
            ),
            (
                "[1/2] STEP 2/2: RUN echo \": connection refused\nError: building at STEP \"RUN echo \": connection refused\": while running runtime: exit status 1\n",
                (Some("[1/2 2/2] RUN echo \": connection refused"), "exit status 1", vec![]),
            ),
            (
                "STEP 1/1: FROM r/a\nTrying to pull r/a...\nError: creating build container: pinging container registry r: connection refused\n",
                (None, "creating build container: pinging container registry r: connection refused", vec![]),
            ),
            (
                "STEP 1/1: RUN x\nError: error building at STEP \"RUN x\": error while running runtime: exit status 2\n",
                (Some("[1/1] RUN x"), "error while running runtime: exit status 2", vec![]),
            ),
        ];
        for (text, (step, reason, tail)) in table {
            let (_, log) = read(text);
            assert_eq!(log.failure(), Some(Failed { step, reason: reason.to_owned() }), "{text}");
            assert_eq!(log.tail(), tail, "{text}");
        }
    }

    #[test]
    fn a_killed_command_is_known_and_the_tail_is_bounded() {
        let (_, log) = read(
            "STEP 1/1: RUN x\nsubprocess exited on killed\nError: building at STEP \"RUN x\": exit status 1\n",
        );
        assert!(log.is_killed());
        let many: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let (_, log) = read(&format!("STEP 1/1: RUN x\n{many}"));
        assert_eq!((log.tail().len(), log.tail()[0], log.failure()), (20, "line 980", None));
    }
}
