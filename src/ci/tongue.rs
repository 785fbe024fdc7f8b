//! How one speaks to the services from within a job: groups of lines, a summary, and nothing by mistake.

use super::Service;

/// How much of a summary is written, in bytes: services take one of a mebibyte for each step.
const SUMMARY_BYTES: usize = 256 << 10;

/// The variable by which a service says what commit was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It names the file with what began the run, as JSON.
    Event(&'static str),
    /// It is the message of the commit.
    Message(&'static str),
}

impl Service {
    /// The line that begins a group of lines, at a time in seconds since 1970-01-01 UTC.
    pub(crate) fn group(self, title: &str, at_seconds: u64) -> Option<String> {
        match self {
            Self::Github => Some(format!("::group::{}\n", of_one_line(title))),
            Self::Gitlab => {
                let title = of_one_line(title);
                Some(format!("\u{1b}[0Ksection_start:{at_seconds}:polyarch\r\u{1b}[0K{title}\n"))
            }
            Self::Circleci => None,
        }
    }

    /// The line that ends it.
    pub(crate) fn end_group(self, at_seconds: u64) -> Option<String> {
        match self {
            Self::Github => Some("::endgroup::\n".to_owned()),
            Self::Gitlab => Some(format!("\u{1b}[0Ksection_end:{at_seconds}:polyarch\r\u{1b}[0K\n")),
            Self::Circleci => None,
        }
    }

    /// The variable that names the file in which a job says what others ask for, as in `publishes=true`.
    pub(crate) fn outputs(self) -> Option<&'static str> {
        (self == Self::Github).then_some("GITHUB_OUTPUT")
    }

    /// Where it says what commit was pushed.
    pub(crate) fn pushed(self) -> Option<Pushed> {
        match self {
            Self::Github => Some(Pushed::Event("GITHUB_EVENT_PATH")),
            Self::Gitlab => Some(Pushed::Message("CI_COMMIT_MESSAGE")),
            Self::Circleci => None,
        }
    }

    /// The variable that names the file of a step's summary.
    pub(crate) fn summary(self) -> Option<&'static str> {
        (self == Self::Github).then_some("GITHUB_STEP_SUMMARY")
    }
}

fn of_one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// F-G16: lines that a service obeys in the log of a job no longer are what it obeys, and can still be read. `is_begun`
/// says whether the text goes on with a line that has begun before.
///
/// GitHub's runner obeys `::command` at the beginning of a line, behind white space, and `##[command` anywhere; another
/// runner of its kind `##vso[`.
pub(crate) fn harmless(text: &str, is_begun: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.split_inclusive(['\n', '\r']).enumerate() {
        if line.trim_start().starts_with("::") && !(at == 0 && is_begun) {
            out.push_str("| ");
        }
        out.push_str(&line.replace("##[", "## [").replace("##vso[", "## vso["));
    }
    out
}

/// A title and lines that may hold anything, as Markdown that shows them as they are.
pub(crate) fn summary(title: &str, outcome: &str, lines: &str) -> String {
    let plain = |text: &str| {
        let marked = |c: char| c.is_ascii_punctuation() && !"@/.:-,;".contains(c);
        let escaped = |c: char| if marked(c) { vec!['\\', c] } else { vec![c] };
        of_one_line(text).chars().flat_map(escaped).collect::<String>()
    };
    let mut out = format!("### {}: {}\n\n", plain(title), plain(outcome));
    if !lines.is_empty() {
        let end =
            (0..=SUMMARY_BYTES.min(lines.len())).rev().find(|at| lines.is_char_boundary(*at)).unwrap_or(0);
        let lines = &lines[..end];
        // A fence is ended by one as long, whatever stands between.
        let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let shown: String = lines.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        out.push_str(&format!("{fence}text\n{}\n{fence}\n\n", shown.trim_end()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GitHub's runner would obey.
    fn is_obeyed(text: &str) -> bool {
        let mut lines = text.split(['\n', '\r']);
        lines.any(|line| {
            line.trim_start().starts_with("::") || line.contains("##[") || line.contains("##vso[")
        })
    }

    #[test]
    fn f_g16_what_an_image_says_is_no_command() {
        for wild in [
            "::add-mask::x\n",
            "ok\n  ::set-output name=x::y\n",
            "a ##[error]b\n",
            "##vso[task.setvariable]x",
            "ok\r::stop-commands::x",
            "###[group]x",
            "\u{a0}::warning::x",
        ] {
            assert!(is_obeyed(wild) && !is_obeyed(&harmless(wild, false)), "{}", harmless(wild, false));
        }
        for plain in ["a::b\n", "[base] 1/3 # x\n", "", "one\n\ntwo"] {
            assert_eq!(harmless(plain, false), plain);
        }
        assert_eq!(harmless("::b\n::c", true), "::b\n| ::c", "the first goes on with a line");
    }

    #[test]
    fn f_g16_a_summary_shows_what_it_is_told() {
        let said = summary("base@linux/amd64", "<img>", "a ``` b\n```` <script>\u{1b}[0m\n# x");
        let wanted =
            "### base@linux/amd64: \\<img\\>\n\n`````text\na ``` b\n```` <script>[0m\n# x\n`````\n\n";
        assert_eq!(said, wanted);
        assert_eq!(summary("a\n# b", "", ""), "### a\\# b: \n\n");
        assert!(summary("a", "b", &"é".repeat(SUMMARY_BYTES)).len() < SUMMARY_BYTES + 100);
    }

    #[test]
    fn a_group_has_a_line_of_its_own() {
        assert_eq!(Service::Github.group("a\n::b", 1).as_deref(), Some("::group::a::b\n"));
        let begun = Service::Gitlab.group("a", 7).unwrap_or_default();
        assert!(begun.contains("section_start:7:polyarch\r"), "{begun:?}");
        assert_eq!(Service::Circleci.end_group(1), None);
    }
}
