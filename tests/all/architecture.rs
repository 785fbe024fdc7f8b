//! The rules of the house, held by a test: who may use whom, who may know what, how long a file may be.
//!
//! The scans read tokens, so comments and texts do not count and macros do. Each is first run against a planted
//! fault: a scan that finds nothing anywhere would hold nothing.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const LINES_LIMIT: usize = 600;

/// What only some may know, and who keeps it: prefixes of paths under `src`.
const SECRETS: &[(&[&str], &[&str])] = &[
    (&["println", "eprintln", "eprint", "anstream"], &["ui"]),
    (&["clap"], &["cli"]),
    (
        &["env::var", "env::var_os", "env::vars", "env::vars_os", "env::args", "env::current_dir"],
        &["cli", "defence/off"],
    ),
    (&["process::Command"], &["engine", "oci/credentials"]),
    (&["reqwest"], &["oci/client"]),
    (&["axum", "hyper", "hyper_util"], &["oci/server"]),
    (&["std::fs", "tokio::fs", "rustix::fs"], &["oci", "survey", "engine", "run", "export", "cli"]),
    (&["SystemTime", "Instant"], &["oci", "engine", "run", "cli"]),
    (&["jiff"], &["diag/moment", "oci/client", "attest/time", "cli"]),
];

/// One file under `src`, its path written with `/`.
struct Source {
    path: String,
    text: String,
}

/// A path in the code, such as `std::fs::read`, or a single word; and its line.
#[derive(Debug, PartialEq)]
struct Word {
    segments: Vec<String>,
    line: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The module at the root that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn words(&self) -> Vec<Word> {
        let tokens =
            self.text.parse::<TokenStream>().unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let mut words = Vec::new();
        collect_words(tokens, &[], &mut words);
        words
    }

    /// Files that are compiled for tests only.
    fn is_test(&self) -> bool {
        const NAMES: &[&str] =
            &["tests", "real", "fixture", "simulate", "invariants", "watched", "fuzzing", "dice"];
        let name = self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        NAMES.contains(&name) || self.path.contains("/tests/")
    }
}

/// Every path in the tokens, `a::{b, c::d}` taken apart.
fn collect_words(tokens: TokenStream, prefix: &[String], words: &mut Vec<Word>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) => collect_words(group.stream(), &[], words),
            TokenTree::Ident(first) => {
                let line = first.span().start().line;
                let mut segments = prefix.to_vec();
                segments.push(first.to_string());
                while is_colon(at) && is_colon(at + 1) {
                    match tokens.get(at + 2) {
                        Some(TokenTree::Ident(next)) => segments.push(next.to_string()),
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            collect_words(group.stream(), &segments, words);
                        }
                        _ => break,
                    }
                    at += 3;
                }
                words.push(Word { segments, line });
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The modules of `lib.rs`, in their order.
fn modules(lib: &str) -> Vec<String> {
    let names = lib.lines().map(|line| line.trim_start_matches("pub ")).filter_map(|line| {
        line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')).map(str::to_owned)
    });
    names.collect()
}

fn uses_of_modules_below(modules: &[String], source: &Source) -> Vec<String> {
    let rank = |name: &str| modules.iter().position(|module| module == name);
    let own = rank(source.module());
    let mut faults = Vec::new();
    for Word { segments, line } in source.words() {
        let fault = match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["crate", name, ..] => match rank(name) {
                None => Some(format!("`crate::{name}` is no module: the root exports nothing else")),
                found if found > own => Some(format!("{} stands above `{name}`", source.module())),
                _ => None,
            },
            ["super", "super", ..] => Some("`super::super` hides which module is meant".to_owned()),
            ["super", name, ..] if rank(name) > own && own.is_some() => {
                Some(format!("{} stands above `{name}`", source.module()))
            }
            _ => None,
        };
        faults.extend(fault.map(|fault| format!("{}:{line}: {fault}", source.path)));
    }
    faults
}

fn secrets_told(source: &Source) -> Vec<String> {
    let keeps = |keeper: &&str| {
        let rest = source.path.strip_prefix(*keeper);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    if source.is_test() {
        return Vec::new();
    }
    let words = source.words();
    let mut faults = Vec::new();
    for (secrets, keepers) in SECRETS.iter().filter(|(_, keepers)| !keepers.iter().any(keeps)) {
        for secret in *secrets {
            let parts: Vec<&str> = secret.split("::").collect();
            let told = |word: &&Word| word.segments.windows(parts.len()).any(|part| part == parts);
            faults.extend(words.iter().filter(told).map(|word| {
                let (path, line, keepers) = (&source.path, word.line, keepers.join(", "));
                format!("{path}:{line}: `{secret}` is known only to {keepers}")
            }));
        }
    }
    faults
}

fn shape_faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//! ") {
        faults.push(format!("{}:1: the first line does not say what the file is for (`//! …`)", source.path));
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
    let length = tests.unwrap_or(lines.len());
    if length > LINES_LIMIT && !source.is_test() {
        faults.push(format!("{}: {length} lines without tests; {LINES_LIMIT} at most", source.path));
    }
    faults
}

/// Paths between backticks that end in `.rs` or `/`, and are not there.
fn names_of_nothing(map: &str, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let code = map.split('`').skip(1).step_by(2);
    let paths = code.filter(|text| (text.ends_with(".rs") || text.ends_with('/')) && !text.contains(' '));
    paths.filter(|path| !is_there(path)).map(|path| format!("`{path}` does not exist")).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn sources_under(folder: &str) -> Vec<Source> {
    let folder = root().join(folder);
    let entries = walkdir::WalkDir::new(&folder).sort_by_file_name().into_iter();
    let files = entries.map(|entry| entry.expect("a readable folder").into_path());
    let sources = files.filter(|path| path.extension().is_some_and(|kind| kind == "rs")).map(|path| {
        let name = path.strip_prefix(&folder).expect("under the folder").to_str().expect("a text");
        Source::new(name, &fs::read_to_string(&path).expect("a source file"))
    });
    sources.collect()
}

/// The files of modules: all but the two roots.
fn sources() -> Vec<Source> {
    let all = sources_under("src").into_iter();
    all.filter(|source| source.path != "lib.rs" && source.path != "main.rs").collect()
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn modules_use_only_modules_above_them() {
    let order = modules("//! x\nmod diag;\npub mod oci;\nmod plan;\n");
    assert_eq!(order, ["diag", "oci", "plan"]);
    let faults = |text| uses_of_modules_below(&order, &Source::new("oci/store.rs", text));
    none(faults("use crate::{diag, oci::Digest}; // crate::plan\nconst A: &str = \"crate::plan\";"));
    for planted in [
        "use crate::plan::Plan;",
        "use crate::{diag, plan};",
        "fn f() { vec![crate::plan::new()]; }",
        "use crate::Plan;",
        "use super::super::plan;",
        "use super::plan::Plan;",
    ] {
        assert_eq!(faults(planted).len(), 1, "{planted}: {:?}", faults(planted));
    }
    let order = modules(&fs::read_to_string(root().join("src/lib.rs")).expect("the library"));
    none(sources().iter().flat_map(|source| uses_of_modules_below(&order, source)).collect());
}

#[test]
fn modules_know_only_what_they_may() {
    let faults = |path, text| secrets_told(&Source::new(path, text));
    none(faults("plan/mod.rs", "use std::time::Duration; // println!\nconst A: &str = \"std::fs\";"));
    none(faults("oci/client/mod.rs", "use reqwest::Client; use std::fs;"));
    none(faults("ui.rs", "fn f() { println!(); }"));
    for (path, planted) in [
        ("plan/mod.rs", "fn f() { println!(); }"),
        ("plan/mod.rs", "use std::{fmt, fs::File};"),
        ("plan/mod.rs", "fn f() { std::time::Instant::now(); }"),
        ("plan/mod.rs", "#[derive(clap::Parser)] struct A;"),
        ("family/mod.rs", "use jiff::Timestamp;"),
        ("oci/server.rs", "use reqwest::Client;"),
        ("oci/clients.rs", "use reqwest::Client;"),
        ("oci/client.rs", "use tokio::process::Command;"),
        ("run/mod.rs", "fn f() { std::env::var(\"A\"); }"),
    ] {
        assert_eq!(faults(path, planted).len(), 1, "{path}: {planted}: {:?}", faults(path, planted));
    }
    none(sources().iter().flat_map(secrets_told).collect());
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let faults = |path, text: &str| shape_faults(&Source::new(path, text));
    let long = format!("//! Long.\n{}", "\n".repeat(LINES_LIMIT));
    let tested = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(LINES_LIMIT));
    assert_eq!(faults("a.rs", "use std::fmt;").len(), 1);
    assert_eq!(faults("a.rs", &long).len(), 1);
    none([faults("a.rs", &tested), faults("a/tests.rs", &long)].concat());
    none(sources().iter().flat_map(shape_faults).collect());
    let said = |source: &Source| source.text.starts_with("//! ");
    none(sources_under("tests").iter().filter(|test| !said(test)).map(|test| test.path.clone()).collect());
}

#[test]
fn the_map_names_only_what_exists() {
    let planted = "In `src/gone.rs`, beside `src/oci/` and `Store`, and `gone/`.";
    let found = names_of_nothing(planted, |path| path == "src/oci/");
    assert_eq!(found, ["`src/gone.rs` does not exist", "`gone/` does not exist"]);
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map");
    none(names_of_nothing(&map, |path| root().join(path).exists()));
}

/// What `cargo deny` refuses as unsound is not there, whether or not that is run.
#[test]
fn tm24_what_is_locked_comes_from_one_place_and_has_no_crate_that_is_unsound() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let (policy, locked) = (read("deny.toml"), read("Cargo.lock"));
    let values = |text: &str, name: &str| -> Vec<String> {
        let after = |line: &str| Some(line.trim().strip_prefix(name)?.split('"').nth(1)?.to_owned());
        text.lines().filter_map(after).collect()
    };
    let (refused, crates) = (values(&policy, "{ crate"), values(&locked, "name ="));
    assert!(crates.len() > 50, "{crates:?}");
    for one in ["async-tar", "bincode", "serde_yaml", "serde_yml", "tokio-tar"] {
        assert!(refused.iter().any(|refused| refused.split(':').next() == Some(one)), "{one} is not refused");
        assert!(!crates.iter().any(|name| name == one), "{one} is used");
    }
    let sources = values(&locked, "source =");
    assert!(sources.iter().all(|source| source == "registry+https://github.com/rust-lang/crates.io-index"));
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
}
