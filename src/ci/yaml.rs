//! YAML as it is written for CI services: every text that another reader could take for something else is quoted.
//!
//! YAML 1.2.2, in the part that readers of 1.1 understand alike: `on`, `yes` and `1_000` are texts only in quotes.

use std::fmt::Write as _;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Yaml {
    /// A text.
    Text(String),
    /// A text of several lines, for a shell.
    Script(String),
    /// A whole number.
    Number(u64),
    /// A version, as it is written.
    Version(&'static str),
    /// True or false.
    Truth(bool),
    /// A list.
    List(Vec<Self>),
    /// Fields in their order.
    Map(Map),
}

/// Fields in their order, some of them with a comment behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map(Vec<(String, Yaml, Option<&'static str>)>);

impl Map {
    /// With one more field.
    pub(super) fn with(mut self, key: &str, value: impl Into<Yaml>) -> Self {
        self.0.push((key.to_owned(), value.into(), None));
        self
    }

    /// With one more field, and why it is there.
    pub(super) fn with_note(mut self, key: &str, value: impl Into<Yaml>, note: &'static str) -> Self {
        self.0.push((key.to_owned(), value.into(), Some(note)));
        self
    }

    /// With one more field where there is a value.
    pub(super) fn with_some(self, key: &str, value: Option<impl Into<Yaml>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Whether it has no field.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With the fields of another behind its own.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Yaml {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Yaml {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Yaml {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

/// A document.
pub(super) fn document(top: &Map) -> String {
    let mut out = String::new();
    fields(&mut out, top, 0);
    out
}

fn fields(out: &mut String, map: &Map, depth: usize) {
    for (at, (key, value, note)) in map.0.iter().enumerate() {
        if at > 0 || depth == 0 {
            indent(out, depth);
        }
        out.push_str(&scalar(key));
        out.push(':');
        after_key(out, value, depth, *note);
    }
}

/// What stands behind a key, to the end of its last line.
fn after_key(out: &mut String, value: &Yaml, depth: usize, note: Option<&str>) {
    let note = note.map(|note| format!(" # {note}")).unwrap_or_default();
    match value {
        Yaml::Map(map) if !map.0.is_empty() => {
            let _ = writeln!(out, "{note}");
            indent(out, depth + 1);
            fields(out, map, depth + 1);
        }
        Yaml::List(list) if !list.is_empty() => {
            let _ = writeln!(out, "{note}");
            for item in list {
                indent(out, depth + 1);
                out.push_str("- ");
                of_list(out, item, depth + 1);
            }
        }
        Yaml::Script(script) => {
            let _ = writeln!(out, " |{note}");
            lines(out, script, depth + 1);
        }
        plain => {
            let _ = writeln!(out, " {}{note}", inline(plain));
        }
    }
}

fn of_list(out: &mut String, item: &Yaml, depth: usize) {
    match item {
        Yaml::Map(map) if !map.0.is_empty() => fields(out, map, depth + 1),
        Yaml::Script(script) => {
            out.push_str("|\n");
            lines(out, script, depth + 1);
        }
        plain => {
            let _ = writeln!(out, "{}", inline(plain));
        }
    }
}

fn lines(out: &mut String, script: &str, depth: usize) {
    for line in script.lines() {
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// A value on one line.
fn inline(value: &Yaml) -> String {
    match value {
        Yaml::Text(text) | Yaml::Script(text) => scalar(text),
        Yaml::Number(number) => number.to_string(),
        Yaml::Version(version) => (*version).to_owned(),
        Yaml::Truth(truth) => truth.to_string(),
        Yaml::List(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Yaml::Map(map) => {
            let fields = map.0.iter().map(|(key, value, _)| format!("{}: {}", scalar(key), inline(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n(' ', 2 * depth));
}

/// A text, in quotes unless every reader takes it for that text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./@ ".contains(&byte);
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if first && !is_word && text.bytes().all(plain) && !text.ends_with(' ') {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        for plain in ["a", "base-notebook", "polyarch job", "actions/checkout@v1", "_x", "read"] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in
            ["", "on", "Yes", "1", "0x1", "-a", "*a", "&a", "a: b", "a #b", "a ", "~", "{a}", "[a]", "!a"]
        {
            assert_eq!(scalar(quoted), format!("\"{quoted}\""));
        }
        assert_eq!(scalar("a\"\\\n\u{1b}é"), r#""a\"\\\n\U0000001b\U000000e9""#);
    }

    #[test]
    fn a_document_has_its_fields_in_their_order() {
        let inner = Map::default().with("b", 1).with_note("a", true, "why");
        let list = Yaml::List(vec![inner.clone().into(), "x".into(), Yaml::List(vec!["z".into()])]);
        let map = Map::default()
            .with("on", Map::default())
            .with("map", inner)
            .with("list", list)
            .with("run", Yaml::Script("one\n\n  two\n".to_owned()))
            .with_some("none", None::<&str>)
            .and(Map::default().with("last", "x"));
        let wanted = "\"on\": {}\nmap:\n  b: 1\n  a: true # why\nlist:\n  - b: 1\n    a: true # why\n  - x\n  - [z]\nrun: |\n  one\n\n    two\nlast: x\n";
        assert_eq!(document(&map), wanted);
    }
}
