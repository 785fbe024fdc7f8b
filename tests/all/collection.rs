//! `polyarch gc` on a store that others use at the same time.

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use polyarch::oci::{Digest, Document, ImageIndex, Layout, MediaType, Repository, Store};
use serde_json::Value;

use crate::program::Place;

/// A store with one document under a tag and one blob that nothing leads to, all of it three days old.
async fn old_store(place: &Place) -> Digest {
    let store = Layout::open(place.store()).unwrap();
    let name: Repository = "a/b".parse().unwrap();
    let document = Document::new(MediaType::INDEX, r#"{"schemaVersion":2,"manifests":[]}"#);
    store.write_document(&name, &document, &["kept".parse().unwrap()]).await.unwrap();
    let orphan = store.write_blob(&name, Bytes::from_static(b"orphan")).await.unwrap();
    age(&place.store());
    orphan
}

fn age(folder: &Path) {
    let days = Duration::from_secs(3 * 24 * 60 * 60);
    for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let file = fs::File::options().write(true).open(entry.path()).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - days).unwrap();
        }
    }
}

#[tokio::test]
async fn i_s4_gc_says_what_would_go_and_then_takes_it_away() {
    let place = Place::new();
    let orphan = old_store(&place).await;
    let file = place.store().join("blobs/sha256").join(orphan.hex());
    let young = place.run(&["gc", "--grace", "30d"]).well();
    assert_eq!(young.stdout, "removed  0 files, 0 bytes\nkept     2 files, 40 bytes\n");
    let told = place.run(&["gc", "--dry-run"]).well();
    assert_eq!(told.stdout, "to go    1 file, 6 bytes\nkept     1 file, 34 bytes\n");
    assert!(file.exists());
    let json: Value = serde_json::from_str(&place.run(&["gc", "--format", "json"]).well().stdout).unwrap();
    assert_eq!((&json["files"], &json["bytes"], &json["blobs"]), (&1.into(), &6.into(), &1.into()));
    assert_eq!((&json["dry_run"], &json["kept"]["files"]), (&false.into(), &1.into()));
    assert!(!file.exists());
    let again = place.run(&["gc"]).well();
    assert_eq!(again.stdout, "removed  0 files, 0 bytes\nkept     1 file, 34 bytes\n");
    assert_eq!(again.stderr, "");
}

#[tokio::test]
async fn what_a_scope_leaves_that_ends_goes_at_once_and_a_dry_run_says_so() {
    let place = Place::new();
    let store = Layout::open(place.store()).unwrap();
    let [own, trusted]: [Repository; 2] =
        ["pr-1", "trusted"].map(|scope| format!("scopes/{scope}").parse().unwrap());
    let empty = Document::new(MediaType::INDEX, r#"{"schemaVersion":2,"manifests":[]}"#);
    let above = Document::of_index(&ImageIndex::new(vec![empty.descriptor()]));
    for (repository, documents) in [(&own, &[&empty, &above][..]), (&trusted, &[&empty])] {
        for document in documents {
            let tag = format!("kept-{}", document.digest().short()).parse().unwrap();
            store.write_document(repository, document, &[tag]).await.unwrap();
        }
    }
    age(&place.store());
    let gc = |arguments: &[&str]| place.run(&[&["gc"], arguments].concat()).well().stdout;
    let whole = gc(&["--dry-run"]);
    assert!(whole.starts_with("to go    0 files"), "{whole}");
    // What looks for what ends is nobody who needs it, however often it looks.
    let said = ["--end", "pr-1", "--at-most", "1MB", "--dry-run"];
    let told = (0..3).map(|_| gc(&said)).next_back().unwrap();
    let size = above.bytes().len();
    let expected = format!(
        "to end   2 tags, 0 images of 0 bytes in scopes/pr-1\nto go    1 file, {size} bytes\nkept     1 file, 34 bytes\n"
    );
    assert_eq!(told, expected);
    assert_eq!(gc(&["--dry-run"]), whole, "nothing has gone");
    let ended = gc(&["--end", "pr-1", "--at-most", "1MB"]);
    assert_eq!(ended, expected.replace("to end", "ended ").replace("to go  ", "removed"));
}

#[tokio::test]
async fn f_s1_gc_with_scrub_tells_what_is_broken() {
    let place = Place::new();
    let orphan = old_store(&place).await;
    let file = place.store().join("blobs/sha256").join(orphan.hex());
    let well = place.run(&["gc", "--scrub", "--grace", "30d"]).well();
    assert!(well.stdout.starts_with("read     2 files, 40 bytes; 0 broken\n"), "{}", well.stdout);
    fs::write(&file, b"ornhap").unwrap();
    let answer = place.run(&["gc", "--scrub", "--grace", "30d", "--format", "json"]).ended(1);
    let json: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(json["scrub"]["broken"], serde_json::json!([orphan.to_string()]));
    assert!(answer.stderr.contains(&orphan.to_string()), "{}", answer.stderr);
    assert!(!file.exists());
    assert!(place.store().join(format!("quarantine/sha256-{}", orphan.hex())).exists());
}

#[test]
fn gc_makes_no_store_and_wants_one() {
    let place = Place::new();
    let answer = place.run(&["gc"]).ended(2);
    assert!(answer.stderr.contains("there is no store"), "{}", answer.stderr);
    assert!(!place.store().exists());
    let _ = place.run(&["gc", "--grace", "soon"]).ended(2);
}

#[tokio::test]
async fn f_s16_a_store_of_a_newer_polyarch_is_not_written() {
    let place = Place::with(&[("base/Dockerfile", "FROM scratch\n")]);
    old_store(&place).await;
    fs::write(place.store().join("store.json"), r#"{"format":9,"readers":1}"#).unwrap();
    let list = || {
        let entries = walkdir::WalkDir::new(place.store()).sort_by_file_name().into_iter();
        entries.map(|entry| entry.unwrap().into_path()).collect::<Vec<_>>()
    };
    let before = list();
    for arguments in [&["gc"][..], &["build"]] {
        let answer = place.run(arguments).ended(3);
        assert!(answer.stderr.contains("format 9"), "{}", answer.stderr);
        assert!(answer.stderr.contains("newer polyarch"), "{}", answer.stderr);
    }
    let _ = place.run(&["inspect", "a/b:kept"]).well();
    assert_eq!(list(), before);
    fs::write(place.store().join("store.json"), r#"{"format":9,"readers":9}"#).unwrap();
    let answer = place.run(&["inspect", "a/b:kept"]).ended(3);
    assert!(answer.stderr.contains("format 9"), "{}", answer.stderr);
}
