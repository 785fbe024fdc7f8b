//! What has changed of the inputs of a key, in a person's words: one for each row of the table in `src/plan/key.rs`.

use crate::oci::Digest;

/// What became of an input, by the name that the key has for it, with its value then and now.
pub(super) fn changed(input: &str, old: Option<&str>, new: Option<&str>) -> String {
    let (kind, name) = input.split_once(':').unwrap_or((input, ""));
    if kind == "file" {
        return of_path(name, old.map(State::read), new.map(State::read));
    }
    let (what, standard) = match kind {
        "format" => ("the format of keys of this program".to_owned(), None),
        "compression" => ("the compression of layers".to_owned(), None),
        "platform" => ("the platform".to_owned(), None),
        "dockerfile" => ("the Dockerfile".to_owned(), None),
        "target" => ("the target stage".to_owned(), Some("the last one")),
        "frontend" => ("the frontend that `# syntax` names".to_owned(), Some("the engine's own")),
        "arg" => (format!("build argument {name}"), None),
        "label" => (format!("label {name}"), None),
        "parent" => (format!("inputs of {name}"), None),
        "base" => (format!("base image {name}"), None),
        "remote" => (format!("what ADD fetches from {name}"), None),
        "test" => (format!("test `{name}`"), None),
        "tag" => (format!("the tagger of {name}"), None),
        "description" => (format!("the description \"{name}\""), None),
        "epoch" => ("the refresh epoch".to_owned(), Some("none")),
        _ => (input.to_owned(), None),
    };
    let said = |value: Option<&str>| value.map(short).or_else(|| standard.map(str::to_owned));
    match (said(old), said(new)) {
        (Some(old), Some(new)) => format!("{what} changed: {old} then, {new} now"),
        (None, Some(new)) => format!("{what} is new: {new}"),
        (Some(old), None) => format!("{what} is gone: {old} then"),
        (None, None) => format!("{what} changed"),
    }
}

/// What a file of the context was, as the survey says it.
enum State<'a> {
    File { mode: &'a str, content: &'a str },
    Folder { mode: &'a str },
    Link { target: &'a str },
}

impl<'a> State<'a> {
    fn read(state: &'a str) -> Self {
        match state.split_once(' ') {
            Some(("link", target)) => Self::Link { target },
            Some(("folder", mode)) => Self::Folder { mode },
            Some((mode, content)) => Self::File { mode, content },
            None => Self::File { mode: "", content: state },
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Folder { .. } => "folder",
            Self::Link { .. } => "link",
        }
    }

    /// The whole of it, as a part of a sentence.
    fn said(&self) -> String {
        match self {
            Self::File { mode, content } => format!("a file {mode} {}", short(content)),
            Self::Folder { mode } => format!("a folder {mode}"),
            Self::Link { target } => format!("a link to {target}"),
        }
    }
}

fn of_path(path: &str, old: Option<State<'_>>, new: Option<State<'_>>) -> String {
    use State::{File, Folder, Link};
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => return format!("{} {path} is new", new.word()),
        (Some(old), None) => return format!("{} {path} is gone", old.word()),
        (None, None) => return format!("file {path} changed"),
    };
    let (what, old, new) = match (&old, &new) {
        (File { mode, content: old }, File { mode: same, content: new }) if mode == same => {
            (format!("file {path}"), short(old), short(new))
        }
        (File { mode: old, content }, File { mode: new, content: same }) if content == same => {
            (format!("the mode of file {path}"), (*old).to_owned(), (*new).to_owned())
        }
        (Folder { mode: old }, Folder { mode: new }) => {
            (format!("the mode of folder {path}"), (*old).to_owned(), (*new).to_owned())
        }
        (Link { target: old }, Link { target: new }) => {
            (format!("where link {path} leads"), (*old).to_owned(), (*new).to_owned())
        }
        (old, new) => (path.to_owned(), old.said(), new.said()),
    };
    format!("{what} changed: {old} then, {new} now")
}

/// Digests inside a value, cut to what a person can compare.
pub(super) fn short(value: &str) -> String {
    let cut = |word: &str| {
        word.parse::<Digest>().map_or_else(|_| word.to_owned(), |digest| digest.short().to_owned())
    };
    let word = |word: &str| word.split('@').map(cut).collect::<Vec<_>>().join("@");
    value.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
