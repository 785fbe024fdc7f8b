//! One instruction: its keyword, its flags, and the words of it that a family needs.

use std::ops::Range;

use super::lines::{self, LogicalLine};
use super::text::Text;
use crate::diag::{self, Diagnostic, Place};

/// Every keyword there is.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A mount whose type is settled within the build: 20.10 takes none, and nobody can tell before what it mounts.
pub(crate) const UNSETTLED_MOUNT: &str = "RUN --mount with a variable or a quote in its type";

/// The blanks that separate a keyword from its arguments.
const BLANKS: [char; 5] = [' ', '\t', '\r', '\u{b}', '\u{c}'];

/// A word and where it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// An instruction and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Instruction {
    pub(super) action: Action,
    pub(super) range: Range<usize>,
    /// Constructs that the frontend inside Docker 20.10 refuses.
    pub(super) newer: Vec<&'static str>,
}

/// What an instruction does, as far as a family cares.
#[derive(Clone, Debug)]
pub(super) enum Action {
    From { image: Word, name: Option<String>, platform: Option<Word> },
    Arg(Vec<(String, Option<String>)>),
    Env(Vec<(String, String)>),
    Copy(Copy),
    Run(Vec<Mount>),
    Onbuild { trigger: String, inner: Box<Instruction> },
    Other,
}

/// A `COPY` or an `ADD`.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) add: bool,
    pub(super) from: Option<Word>,
    /// The sources, heredocs left out; the range of one that is written in JSON with escapes is empty.
    pub(super) sources: Vec<Word>,
    pub(super) excludes: Vec<String>,
    pub(super) checksum: Option<String>,
}

/// The options of one `RUN --mount`, in the order written: keys in lower case.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub(super) options: Vec<(String, Word)>,
}

impl Mount {
    /// The value of the last option of any of these names.
    pub(super) fn option(&self, names: &[&str]) -> Option<&Word> {
        self.options.iter().rev().find(|(key, _)| names.contains(&key.as_str())).map(|(_, value)| value)
    }

    /// Its `type`, in lower case; a bind mount where it says none.
    pub(super) fn kind(&self) -> String {
        self.option(&["type"]).map_or_else(|| "bind".to_owned(), |kind| kind.text.to_ascii_lowercase())
    }

    /// Whether its type is what is written: no variable, no quotes that somebody else takes away.
    fn has_plain_kind(&self) -> bool {
        self.kind().chars().all(|c| c.is_ascii_alphabetic())
    }
}

/// A flag without its dashes, and where each byte of its value stands in the line.
struct Flag {
    name: String,
    value: String,
    offsets: Vec<usize>,
}

/// Reads an instruction. `text` is none where it stands in no file.
pub(super) fn parse(
    line: &LogicalLine,
    escape: char,
    text: Option<&Text>,
) -> Result<Instruction, Diagnostic> {
    let start = line.text.len() - line.text.trim_start().len();
    let end = line.text.trim_end().len();
    Reader { line, escape, text }.instruction(start, end, true)
}

struct Reader<'a> {
    line: &'a LogicalLine,
    escape: char,
    text: Option<&'a Text>,
}

impl Reader<'_> {
    fn instruction(&self, start: usize, end: usize, outer: bool) -> Result<Instruction, Diagnostic> {
        let whole = &self.line.text[start..end];
        let keyword = whole.split(BLANKS).next().unwrap_or_default();
        let after = start + keyword.len();
        let known = keyword.to_ascii_uppercase();
        if !KEYWORDS.contains(&known.as_str()) {
            return Err(self.unknown_keyword(keyword, start));
        }
        let (flags, arguments) = self.flags(after, end);
        let mut newer = Vec::new();
        let action = match known.as_str() {
            "FROM" if outer => self.from(&flags, arguments, start..end)?,
            "ARG" => self.arg(arguments)?,
            "ENV" => self.env(arguments)?,
            "COPY" | "ADD" => self.copy(known == "ADD", &flags, arguments, &mut newer)?,
            "RUN" => self.run(&flags, arguments, &mut newer)?,
            "ONBUILD" if outer => self.onbuild(arguments, &mut newer)?,
            "FROM" | "ONBUILD" | "MAINTAINER" if !outer => {
                return Err(self.wrong(format!("`{known}` cannot be a trigger of `ONBUILD`"), start..after));
            }
            "HEALTHCHECK" if flags.iter().any(|flag| flag.name == "start-interval") => {
                newer.push("HEALTHCHECK --start-interval");
                Action::Other
            }
            _ => Action::Other,
        };
        Ok(Instruction { action, range: self.line.source(start..end), newer })
    }

    fn place(&self, range: Range<usize>) -> Option<Place> {
        self.text.map(|text| text.place(self.line.source(range)))
    }

    fn wrong(&self, message: impl Into<String>, range: Range<usize>) -> Diagnostic {
        let problem = Diagnostic::request(message);
        match self.place(range) {
            Some(place) => problem.at(place),
            None => problem,
        }
    }

    fn unknown_keyword(&self, keyword: &str, start: usize) -> Diagnostic {
        let shown: String = keyword.chars().take(40).collect();
        let problem = self.wrong(format!("unknown instruction `{shown}`"), start..start + keyword.len());
        let guess = diag::did_you_mean(&shown.to_ascii_uppercase(), KEYWORDS);
        problem.hint(guess.unwrap_or_else(|| {
            format!("end the line before with `{}` if this line belongs to it", self.escape)
        }))
    }

    /// The flags after a keyword, and where the arguments are.
    fn flags(&self, start: usize, end: usize) -> (Vec<Flag>, Range<usize>) {
        let mut flags = Vec::new();
        let mut at = start;
        loop {
            let rest = &self.line.text[at..end];
            at += rest.len() - rest.trim_start().len();
            if !self.line.text[at..end].starts_with("--") {
                return (flags, at..end);
            }
            let (word, offsets, next) = self.flag_word(at, end);
            at = next;
            if word == "--" {
                return (flags, end - self.line.text[at..end].trim_start().len()..end);
            }
            let equals = word.find('=').unwrap_or(word.len());
            let value = word.get(equals + 1..).unwrap_or_default().to_owned();
            let offsets = offsets.get(equals + 1..).unwrap_or_default().to_vec();
            flags.push(Flag { name: word[..equals].trim_start_matches('-').to_owned(), value, offsets });
        }
    }

    /// A flag without its quotes and escapes, with the offset of each of its bytes in the line.
    fn flag_word(&self, start: usize, end: usize) -> (String, Vec<usize>, usize) {
        let mut word = String::new();
        let mut offsets = Vec::new();
        let mut quote = None;
        let mut escaped = false;
        for (at, c) in self.line.text[start..end].char_indices() {
            if !escaped {
                match (c, quote) {
                    ('\\', _) => {
                        escaped = true;
                        continue;
                    }
                    (c, Some(open)) if c == open => {
                        quote = None;
                        continue;
                    }
                    ('\'' | '"', None) => {
                        quote = Some(c);
                        continue;
                    }
                    (c, None) if c.is_whitespace() => return (word, offsets, start + at),
                    _ => {}
                }
            }
            escaped = false;
            word.push(c);
            offsets.extend((0..c.len_utf8()).map(|byte| start + at + byte));
        }
        (word, offsets, end)
    }

    fn flag_range(&self, flag: &Flag, part: Range<usize>) -> Range<usize> {
        // Nothing, but it stands somewhere.
        if part.is_empty() {
            let next = flag.offsets.get(part.start).copied();
            let at = next.or_else(|| flag.offsets.last().map(|last| last + 1)).unwrap_or_default();
            return self.line.source(at..at);
        }
        match (flag.offsets.get(part.start), part.end.checked_sub(1).and_then(|last| flag.offsets.get(last)))
        {
            (Some(first), Some(last)) if first <= last => self.line.source(*first..last + 1),
            _ => 0..0,
        }
    }

    fn flag(&self, flags: &[Flag], name: &str) -> Option<Word> {
        let flag = flags.iter().find(|flag| flag.name == name)?;
        Some(Word { text: flag.value.clone(), range: self.flag_range(flag, 0..flag.value.len()) })
    }

    fn from(
        &self,
        flags: &[Flag],
        arguments: Range<usize>,
        whole: Range<usize>,
    ) -> Result<Action, Diagnostic> {
        let text = &self.line.text[arguments.clone()];
        let words: Vec<&str> = text.split(BLANKS).filter(|word| !word.is_empty()).collect();
        let name = match words.as_slice() {
            [_] => None,
            [_, r#as, name] if r#as.eq_ignore_ascii_case("as") => Some(name.to_lowercase()),
            _ => {
                let problem = self.wrong("`FROM` takes an image, or an image, `AS` and a name", whole);
                return Err(problem.hint("write `FROM image AS name`"));
            }
        };
        if let Some(name) = name.as_deref().filter(|name| !is_stage_name(name)) {
            let start = arguments.end - name.len().min(arguments.len());
            let problem = self.wrong(format!("`{name}` cannot be the name of a stage"), start..arguments.end);
            return Err(problem.hint("start it with a letter, then letters, digits, `-`, `_` and `.`"));
        }
        let image = arguments.start..arguments.start + words[0].len();
        let image = Word { text: words[0].to_owned(), range: self.line.source(image) };
        Ok(Action::From { image, name, platform: self.flag(flags, "platform") })
    }

    fn arg(&self, arguments: Range<usize>) -> Result<Action, Diagnostic> {
        let words = split_words(&self.line.text[arguments.clone()], self.escape);
        let mut declared = Vec::new();
        for word in &words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if name.is_empty() {
                return Err(self
                    .wrong("`ARG` has a value with no name", arguments)
                    .hint("write `ARG NAME=value`"));
            }
            declared.push((name.to_owned(), value));
        }
        if declared.is_empty() {
            return Err(self
                .wrong("`ARG` names nothing", arguments)
                .hint("write `ARG NAME` or `ARG NAME=value`"));
        }
        Ok(Action::Arg(declared))
    }

    fn env(&self, arguments: Range<usize>) -> Result<Action, Diagnostic> {
        let text = &self.line.text[arguments.clone()];
        let words = split_words(text, self.escape);
        let wrong =
            || self.wrong("`ENV` takes names with values", arguments.clone()).hint("write `ENV NAME=value`");
        if !words.first().ok_or_else(wrong)?.contains('=') {
            let (name, value) = text.split_once(BLANKS).ok_or_else(wrong)?;
            return Ok(Action::Env(vec![(name.to_owned(), value.trim_start_matches(BLANKS).to_owned())]));
        }
        let pair = |word: &String| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(wrong()),
        };
        words.iter().map(pair).collect::<Result<_, _>>().map(Action::Env)
    }

    fn copy(
        &self,
        add: bool,
        flags: &[Flag],
        arguments: Range<usize>,
        newer: &mut Vec<&'static str>,
    ) -> Result<Action, Diagnostic> {
        let keyword = if add { "ADD" } else { "COPY" };
        let text = &self.line.text[arguments.clone()];
        let mut words = match json_words(text) {
            Some(words) => self.words_of_json(words, arguments.clone()),
            None => self.plain_words(arguments.clone()),
        };
        if words.len() < 2 {
            let problem =
                self.wrong(format!("`{keyword}` takes at least a source and a destination"), arguments);
            return Err(problem.hint(format!("write `{keyword} source destination`")));
        }
        words.pop();
        if !self.line.heredocs.is_empty() {
            newer.push("heredoc");
            words.retain(|word| lines::heredoc_word(&word.text).is_none());
        }
        let copy_flags =
            [("link", "COPY --link"), ("parents", "COPY --parents"), ("exclude", "COPY --exclude")];
        let add_flags = [
            ("link", "ADD --link"),
            ("checksum", "ADD --checksum"),
            ("keep-git-dir", "ADD --keep-git-dir"),
            ("exclude", "ADD --exclude"),
            ("unpack", "ADD --unpack"),
        ];
        let refused: &[(&str, &'static str)] = if add { &add_flags } else { &copy_flags };
        for (name, feature) in refused {
            if flags.iter().any(|flag| flag.name == *name) {
                newer.push(feature);
            }
        }
        let octal = |mode: &str| mode.contains('$') || mode.chars().all(|c| c.is_digit(8));
        if flags.iter().any(|flag| flag.name == "chmod" && !octal(&flag.value)) {
            newer.push("--chmod with letters");
        }
        let values = |name| flags.iter().filter(move |flag| flag.name == name).map(|flag| flag.value.clone());
        Ok(Action::Copy(Copy {
            add,
            from: if add { None } else { self.flag(flags, "from").filter(|from| !from.text.is_empty()) },
            sources: words,
            excludes: values("exclude").collect(),
            checksum: values("checksum").next(),
        }))
    }

    /// The words between blanks.
    fn plain_words(&self, arguments: Range<usize>) -> Vec<Word> {
        let mut words = Vec::new();
        let mut start = arguments.start;
        // The blanks are of one byte each.
        for text in self.line.text[arguments].split(BLANKS) {
            let range = start..start + text.len();
            start = range.end + 1;
            if !text.is_empty() {
                words.push(Word { text: text.to_owned(), range: self.line.source(range) });
            }
        }
        words
    }

    /// The words of a list in JSON, each where it stands without its quotes.
    fn words_of_json(&self, words: Vec<String>, arguments: Range<usize>) -> Vec<Word> {
        let mut start = arguments.start;
        let word = |text: String| {
            let found = self.line.text[start..arguments.end].find(&format!("\"{text}\""));
            let range = found.map_or(0..0, |at| {
                let first = start + at + 1;
                start = first + text.len() + 1;
                self.line.source(first..first + text.len())
            });
            Word { text, range }
        };
        words.into_iter().map(word).collect()
    }

    fn run(
        &self,
        flags: &[Flag],
        arguments: Range<usize>,
        newer: &mut Vec<&'static str>,
    ) -> Result<Action, Diagnostic> {
        if arguments.is_empty() {
            return Err(self
                .wrong("`RUN` runs nothing", arguments)
                .hint("write `RUN command`, or remove the line"));
        }
        if !self.line.heredocs.is_empty() {
            newer.push("heredoc");
        }
        for flag in flags {
            newer.extend(match (flag.name.as_str(), flag.value.as_str()) {
                ("network", "none" | "default") => Some("RUN --network"),
                ("network", _) => Some("RUN --network=host"),
                ("security", "sandbox") => Some("RUN --security"),
                ("security", _) => Some("RUN --security=insecure"),
                ("device", _) => Some("RUN --device"),
                _ => None,
            });
        }
        let mounts = flags.iter().filter(|flag| flag.name == "mount").map(|flag| self.mount(flag));
        let mounts: Vec<Mount> = mounts.collect();
        newer.extend(mounts.iter().find(|mount| !mount.has_plain_kind()).map(|_| UNSETTLED_MOUNT));
        Ok(Action::Run(mounts))
    }

    fn mount(&self, flag: &Flag) -> Mount {
        let options = csv_fields(&flag.value).into_iter().map(|range| {
            let field = &flag.value[range.clone()];
            let equals = field.find('=').unwrap_or(field.len());
            let value = (range.start + equals + 1).min(range.end)..range.end;
            let word = Word {
                text: flag.value[value.clone()].replace("\"\"", "\""),
                range: self.flag_range(flag, value),
            };
            (field[..equals].to_ascii_lowercase(), word)
        });
        Mount { options: options.collect() }
    }

    fn onbuild(&self, arguments: Range<usize>, newer: &mut Vec<&'static str>) -> Result<Action, Diagnostic> {
        if arguments.is_empty() {
            return Err(self
                .wrong("`ONBUILD` has no trigger", arguments)
                .hint("write `ONBUILD RUN command`"));
        }
        let inner = self.instruction(arguments.start, arguments.end, false)?;
        newer.extend(&inner.newer);
        let mut trigger = self.line.text[arguments].to_owned();
        for heredoc in &self.line.heredocs {
            if let (Some(text), Some((name, _))) = (self.text, lines::heredoc_word(&heredoc.name)) {
                trigger.push('\n');
                trigger.push_str(&text.as_str()[heredoc.body.clone()]);
                trigger.push_str(&name);
            }
        }
        Ok(Action::Onbuild { trigger, inner: Box::new(inner) })
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

/// The words of an argument list in JSON; none where it is no list of strings.
pub(super) fn json_words(text: &str) -> Option<Vec<String>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    serde_json::Deserializer::from_str(text).into_iter::<Vec<String>>().next()?.ok()
}

/// Splits at blanks outside quotes, keeping quotes and escapes: for `ARG` and `ENV`.
fn split_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == escape && quote != Some('\'') {
            if let Some(next) = rest.next() {
                word.push(c);
                word.push(next);
            }
            continue;
        }
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The fields of a line of comma-separated values; the quotes around a field are left out.
fn csv_fields(text: &str) -> Vec<Range<usize>> {
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let quoted = text[start..].starts_with('"');
        let mut end = start;
        let mut inside = quoted;
        for (at, c) in text[start..].char_indices().skip(usize::from(quoted)) {
            if c == '"' && quoted {
                inside = !inside;
            } else if c == ',' && !inside {
                break;
            }
            end = start + at + c.len_utf8();
        }
        let closed = quoted && end > start + 1 && text[..end].ends_with('"');
        fields.push(if closed { start + 1..end - 1 } else { start..end });
        if end >= text.len() {
            return fields;
        }
        start = end + 1;
    }
}
