//! A problem as a person reads it: message, place with its line, causes, and after a blank line what to do.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anstyle::{AnsiColor, Style};

use crate::diag::{Diagnostic, Place, Severity};

use super::{Called, Colour};

/// One problem, ending with a line end.
pub(super) fn render(problem: &Diagnostic, colour: Colour, called: &Called) -> String {
    let mut text = match &problem.place {
        Some(place) if place.column > 0 && !place.text.is_empty() => with_line(problem, place, colour),
        place => {
            let at = place
                .as_ref()
                .map_or_else(String::new, |place| format!("\n --> {}", shown(&place.to_string())));
            format!("{}: {}{at}", label(problem.severity, colour), shown(&problem.message))
        }
    };
    for cause in &problem.causes {
        text.push_str(&format!("\n  caused by: {}", shown(cause)));
    }
    for (at, hint) in problem.hints.iter().enumerate() {
        let gap = if at == 0 { "\n\n" } else { "\n" };
        text.push_str(&format!("{gap}hint: {}", shown(&called.told(hint))));
    }
    text.push('\n');
    text
}

/// Message, `file:line:column`, the line and a caret under what is meant.
fn with_line(problem: &Diagnostic, place: &Place, colour: Colour) -> String {
    let byte_at = |characters: usize| {
        place.text.char_indices().nth(characters).map_or(place.text.len(), |(byte, _)| byte)
    };
    let (start, end) = (byte_at(place.column - 1), byte_at(place.column - 1 + place.width));
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning | Severity::Advice => Level::WARNING,
    };
    let snippet = Snippet::source(place.text.as_str())
        .path(place.file.display().to_string())
        .line_start(place.line)
        .annotation(AnnotationKind::Primary.span(start..end));
    let renderer = match colour {
        Colour::Always => Renderer::styled(),
        Colour::Never => Renderer::plain(),
    };
    let message = shown(&problem.message);
    renderer.render(&[level.primary_title(message).element(snippet)])
}

fn label(severity: Severity, colour: Colour) -> String {
    let (word, tint) = match severity {
        Severity::Error => ("error", AnsiColor::BrightRed),
        Severity::Warning | Severity::Advice => ("warning", AnsiColor::Yellow),
    };
    match colour {
        Colour::Never => word.to_owned(),
        Colour::Always => {
            let style = Style::new().bold().fg_color(Some(tint.into()));
            format!("{style}{word}{style:#}")
        }
    }
}

/// A text without control characters, which could move the cursor or hide what was said; line ends are indented.
pub(super) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' => safe.push_str("\n    "),
            '\t' => safe.push(' '),
            other if other.is_control() => safe.extend(other.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}
