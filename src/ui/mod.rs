//! The only place that prints. Data goes to standard output, talk to standard error.
//!
//! Meaning never hangs on colour. On a terminal, running jobs have one line each, redrawn in place; elsewhere every
//! fact is a plain line, so that a log can be searched.

mod called;
mod problem;
mod progress;

use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::diag::{Diagnostic, Problems, Result};
use crate::event::Event;

pub(crate) use called::Called;
use progress::Progress;

/// Something that can be written to.
pub(crate) type Stream = Box<dyn Write + Send>;

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Plain text.
    Never,
    /// With ANSI escapes.
    Always,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    /// One line a running job, redrawn on a terminal this many columns wide.
    Live {
        /// Columns.
        columns: usize,
    },
    /// A plain line for every fact.
    Plain,
    /// No progress at all.
    Quiet,
}

/// Where everything that a person or a program reads is written.
pub(crate) struct Ui {
    colour: Colour,
    called: Called,
    state: Mutex<State>,
}

struct State {
    stdout: Stream,
    stderr: Stream,
    /// Why standard output takes no more; what follows is dropped.
    stdout_failure: Option<io::Error>,
    progress: Progress,
    /// What takes from a text what would be obeyed by whatever reads standard error; whether it goes on with a line.
    escape: Option<fn(&str, bool) -> String>,
    /// Standard error stands within a line.
    within_line: bool,
}

impl Ui {
    /// One over these streams.
    pub(crate) fn new(stdout: Stream, stderr: Stream, colour: Colour, display: Display) -> Self {
        let progress = Progress::new(display);
        Self {
            colour,
            called: Called::default(),
            state: Mutex::new(State {
                stdout,
                stderr,
                stdout_failure: None,
                progress,
                escape: None,
                within_line: false,
            }),
        }
    }

    /// The same, whose talk is read by something that would obey parts of it.
    pub(crate) fn escaping(self, escape: fn(&str, bool) -> String) -> Self {
        self.state().escape = Some(escape);
        self
    }

    /// The same, whose hints name commands with these options.
    pub(crate) fn called(self, called: Called) -> Self {
        Self { called, ..self }
    }

    /// A line to be obeyed, to standard error as it is.
    pub(crate) fn command(&self, line: Option<String>) {
        let mut state = self.state();
        let escape = state.escape.take();
        state.say(&line.unwrap_or_default());
        state.escape = escape;
    }

    /// What was asked for, to standard output, as it is.
    pub(crate) fn data(&self, text: &str) {
        let mut state = self.state();
        state.clear();
        if state.stdout_failure.is_none() {
            let written = state.stdout.write_all(text.as_bytes()).and_then(|()| state.stdout.flush());
            state.stdout_failure = written.err();
        }
    }

    /// A line of talk, to standard error.
    pub(crate) fn note(&self, text: &str) {
        self.talk(&format!("{}\n", text.trim_end_matches('\n')));
    }

    /// What one would type next, to standard error.
    pub(crate) fn next(&self, text: &str) {
        self.note(&self.called.told(text));
    }

    /// Everything that is wrong.
    pub(crate) fn problems(&self, problems: &Problems) {
        let shown: Vec<String> =
            problems.iter().map(|problem| problem::render(problem, self.colour, &self.called)).collect();
        self.talk(&shown.join("\n"));
    }

    /// Something to know.
    pub(crate) fn warning(&self, warning: &Diagnostic) {
        let text = problem::render(warning, self.colour, &self.called);
        // A blank line keeps what follows apart from a warning of many lines.
        self.talk(&if text.trim_end().contains('\n') { format!("{text}\n") } else { text });
    }

    /// Something has happened.
    pub(crate) fn show(&self, event: &Event) {
        let mut state = self.state();
        let text = state.progress.take(event);
        state.say(&text);
    }

    /// Time has passed: elapsed times of running jobs are drawn again, ten times a second at most.
    pub(crate) fn tick(&self, now_milliseconds: u64) {
        let mut state = self.state();
        let text = state.progress.tick(now_milliseconds);
        state.say(&text);
    }

    /// Takes the live lines away, and says whether all data was written. A reader who has gone wanted no more, so
    /// that is no failure (`polyarch plan | head`).
    pub(crate) fn finish(&self) -> Result<()> {
        let mut state = self.state();
        state.clear();
        match state.stdout_failure.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Diagnostic::surroundings("cannot write to standard output").because(error).into())
            }
            _ => Ok(()),
        }
    }

    fn talk(&self, text: &str) {
        let mut state = self.state();
        state.clear();
        state.say(text);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        let text = self.progress.clear();
        self.say(&text);
    }

    /// What cannot be written to standard error can be told to nobody.
    fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let escaped = self.escape.map(|escape| escape(text, self.within_line));
        self.within_line = !text.ends_with('\n');
        let text = escaped.as_deref().unwrap_or(text);
        let _unheard = self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush());
    }
}

#[cfg(test)]
mod tests;
