//! What `polyarch why` says of each class of inputs.

use super::keys::{first_inputs, rows_of_inputs};
use super::*;
use crate::plan::words::changed;

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

#[test]
fn each_class_of_inputs_is_told_in_words_with_old_and_new() {
    let (one, two) = (digest("1"), digest("2"));
    let file = |mode: &str, content: &str| format!("{mode} {content}");
    let frontend = |digest: &str| format!("docker.io/docker/dockerfile:1@{digest}");
    let rows: Vec<(&str, Option<String>, Option<String>, &str)> = vec![
        (
            "format",
            Some("1".into()),
            Some("2".into()),
            "the format of keys of this program changed: 1 then, 2 now",
        ),
        (
            "compression",
            Some("gzip".into()),
            Some("zstd".into()),
            "the compression of layers changed: gzip then, zstd now",
        ),
        (
            "platform",
            Some("linux/amd64".into()),
            Some("linux/386".into()),
            "the platform changed: linux/amd64 then, linux/386 now",
        ),
        (
            "dockerfile",
            Some(one.clone()),
            Some(two.clone()),
            "the Dockerfile changed: 6b86b273ff34 then, d4735e3a265e now",
        ),
        ("target", None, Some("last".into()), "the target stage changed: the last one then, last now"),
        (
            "target",
            Some("first".into()),
            Some("last".into()),
            "the target stage changed: first then, last now",
        ),
        (
            "frontend",
            Some(frontend(&one)),
            Some(frontend(&two)),
            "the frontend that `# syntax` names changed: docker.io/docker/dockerfile:1@6b86b273ff34 then, docker.io/docker/dockerfile:1@d4735e3a265e now",
        ),
        (
            "frontend",
            None,
            Some(frontend(&two)),
            "the frontend that `# syntax` names changed: the engine's own then, docker.io/docker/dockerfile:1@d4735e3a265e now",
        ),
        (
            "file:a",
            Some(file("0644", &one)),
            Some(file("0644", &two)),
            "file a changed: 6b86b273ff34 then, d4735e3a265e now",
        ),
        (
            "file:a",
            Some(file("0644", &one)),
            Some(file("0755", &one)),
            "the mode of file a changed: 0644 then, 0755 now",
        ),
        (
            "file:a",
            Some(file("0644", &one)),
            Some(file("0755", &two)),
            "a changed: a file 0644 6b86b273ff34 then, a file 0755 d4735e3a265e now",
        ),
        (
            "file:a",
            Some(file("0644", &one)),
            Some("link ../b c".into()),
            "a changed: a file 0644 6b86b273ff34 then, a link to ../b c now",
        ),
        ("file:a", Some("link b".into()), Some("link c".into()), "where link a leads changed: b then, c now"),
        (
            "file:a",
            Some("folder 0755".into()),
            Some("folder 0700".into()),
            "the mode of folder a changed: 0755 then, 0700 now",
        ),
        ("file:vendor/module/a", Some(file("0644", &one)), None, "file vendor/module/a is gone"),
        ("file:a", None, Some("link b".into()), "link a is new"),
        ("arg:X", Some("1".into()), Some("2".into()), "build argument X changed: 1 then, 2 now"),
        ("arg:X", None, Some("2".into()), "build argument X is new: 2"),
        ("label:l", Some("1".into()), None, "label l is gone: 1 then"),
        (
            "parent:base",
            Some(one.clone()),
            Some(two.clone()),
            "inputs of base changed: 6b86b273ff34 then, d4735e3a265e now",
        ),
        (
            "base:r.io/x:1",
            Some(one.clone()),
            Some(two.clone()),
            "base image r.io/x:1 changed: 6b86b273ff34 then, d4735e3a265e now",
        ),
        (
            "remote:https://x.y/z:1",
            Some(one),
            Some(two),
            "what ADD fetches from https://x.y/z:1 changed: 6b86b273ff34 then, d4735e3a265e now",
        ),
        ("epoch", None, Some("1".into()), "the refresh epoch changed: none then, 1 now"),
    ];
    for (input, old, new, expected) in rows {
        assert_eq!(changed(input, old.as_deref(), new.as_deref()), expected);
    }
}

/// Every row of the key table, changed, is a reason of its own in the plan, and none is told by a raw name.
#[test]
fn i_b3_each_row_of_the_key_table_is_told_by_why() {
    let before = first_inputs();
    for (row, after) in rows_of_inputs() {
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differing: Vec<&String> =
            names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
        assert!(!differing.is_empty(), "{row}");
        for name in differing {
            let told =
                changed(name, before.get(name).map(String::as_str), after.get(name).map(String::as_str));
            let raw = [
                "frontend changed",
                "target changed",
                "remote:",
                "file:",
                "arg:",
                "base:",
                "parent:",
                "dockerfile ",
            ];
            assert!(!raw.iter().any(|raw| told.starts_with(raw)), "{row}: {told}");
            assert!(
                told.contains(" then, ") || told.contains("is new") || told.contains("is gone"),
                "{row}: {told}"
            );
        }
    }
}
