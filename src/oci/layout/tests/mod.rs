//! What only a folder must keep: crashes, rot, other processes, links. The contract is in `tests/all/store.rs`.

mod claims;
mod collection;
mod damage;
mod full;
pub(super) mod journal;
mod power;
mod power_disk;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::oci::{ImageIndex, MediaType};

struct Fixture {
    _above: TempDir,
    root: PathBuf,
    name: Repository,
}

impl Fixture {
    fn new() -> Self {
        let above = tempfile::tempdir().expect("a folder");
        let root = above.path().join("store");
        Self { _above: above, root, name: "a/b".parse().expect("a name") }
    }

    fn open(&self) -> Layout {
        Layout::open(&self.root).expect("a store")
    }

    /// A store on a disk whose changes are noted.
    fn open_on(&self, journal: &journal::Journal) -> Layout {
        Layout::open_on(disk::Disk { journal: Some(journal.clone()) }, &self.root).expect("a store")
    }

    /// How many files lie under a part of the store.
    fn count(&self, part: &str) -> usize {
        let entries = walkdir::WalkDir::new(self.root.join(part)).into_iter().filter_map(Result::ok);
        entries.filter(|entry| entry.file_type().is_file()).count()
    }

    /// The names that other tools see.
    fn listed(&self) -> Vec<String> {
        let bytes = fs::read(self.root.join("index.json")).expect("a list");
        let index: ImageIndex = serde_json::from_slice(&bytes).expect("an image index");
        index
            .manifests
            .iter()
            .map(|one| one.annotations["org.opencontainers.image.ref.name"].clone())
            .collect()
    }
}

fn document() -> Document {
    Document::new(MediaType::INDEX, r#"{"schemaVersion":2,"manifests":[]}"#)
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

#[test]
fn f_x1_of_many_that_make_a_store_at_once_each_has_it() {
    for _ in 0..200 {
        let fixture = Fixture::new();
        fs::create_dir(&fixture.root).expect("a folder");
        let begin = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    begin.wait();
                    let _ = fixture.open();
                });
            }
        });
    }
}

#[tokio::test]
async fn i_s7_an_upload_that_is_given_up_leaves_no_file() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(vec![1; 2 << 20].into()).await.expect("taken");
    assert_eq!(fixture.count("uploads"), 1);
    drop(upload);
    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(Bytes::from_static(b"half")).await.expect("taken");
    upload.finish(&Digest::of(b"whole")).await.expect_err("not these bytes");
    // The thread that was writing lets go of its file in its own time.
    for _ in 0..12_000 {
        if fixture.count("uploads") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((fixture.count("uploads"), fixture.count("blobs")), (0, 0));
}

#[tokio::test]
async fn i_s7_only_what_crashed_runs_left_is_swept() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let (old, young) = (fixture.root.join("uploads/old"), fixture.root.join("uploads/young"));
    let outside = fixture.root.with_file_name("outside");
    for file in [&old, &young, &outside] {
        let day = fs::File::create(file).expect("a file");
        let now = day.metadata().and_then(|found| found.modified()).expect("its time");
        let age = Duration::from_secs(if file == &young { 23 } else { 25 } * 60 * 60);
        day.set_modified(now - age).expect("older");
    }
    let store = fixture.open();
    assert!(!old.exists() && young.exists() && outside.exists());
    store.remove_uploads().await.expect("no run lives");
    assert!(!young.exists() && outside.exists());
}

#[tokio::test]
async fn i_s7_f_p1_what_nobody_can_go_on_with_goes_at_once_and_what_somebody_has_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let names = ["uploads/.tmpAbCdEf", "uploads/session-1-a", "leases/.tmpGhIjKl"];
    let files = names.map(|name| fixture.root.join(name));
    files.iter().for_each(|file| drop(fs::File::create(file).expect("a file")));
    let name = Digest::of(b"what is made");
    let Ok(Claimed::Ours(claim)) = store.claim(&name, "somebody").await else { panic!("it is free") };
    let dead = fixture.root.join("claims").join(Digest::of(b"what was made").hex());
    fs::write(&dead, "somebody who was killed").expect("a claim");
    let lease = store.lease().await.expect("at work");
    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(Bytes::from_static(b"half")).await.expect("taken");
    store.remove_remains().await.expect("no run lives");
    assert_eq!(files.map(|file| file.exists()), [false, true, false]);
    assert_eq!(["uploads", "leases", "claims"].map(|folder| fixture.count(folder)), [2, 1, 1]);
    assert!(!dead.exists());
    drop((claim, lease));
    upload.finish(&Digest::of(b"half")).await.expect("it stood");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i_s7_what_somebody_writes_stands_through_the_removal_of_uploads() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let writers = (0..4_u32).map(|writer| {
        let (store, name) = (store.clone(), fixture.name.clone());
        tokio::spawn(async move {
            for number in 0..50_u32 {
                let bytes = Bytes::from([writer.to_be_bytes(), number.to_be_bytes()].concat());
                store.write_blob(&name, bytes).await.expect("taken");
            }
        })
    });
    let writers = futures_util::future::join_all(writers.collect::<Vec<_>>());
    let remover = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                store.remove_uploads().await.expect("removed");
                store.remove_remains().await.expect("removed");
            }
        })
    };
    let written = writers.await;
    remover.abort();
    written.into_iter().for_each(|written| written.expect("nobody's file was removed"));
    assert_eq!((fixture.count("uploads"), fixture.count("blobs")), (0, 200));
}

#[tokio::test]
async fn f_s3_content_that_was_lost_is_absent() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"lost")).await.expect("taken");
    store.write_document(&fixture.name, &document(), &[tag("x")]).await.expect("taken");
    fs::remove_dir_all(fixture.root.join("blobs")).expect("lost");
    assert_eq!(store.blob_size(&fixture.name, &digest).await.expect("a look"), None);
    assert_eq!(store.resolve(&fixture.name, &tag("x").into()).await.expect("a look"), None);
    store.write_blob(&fixture.name, Bytes::from_static(b"lost")).await.expect("and can be written again");
}

#[tokio::test]
async fn f_x1_two_processes_see_each_other_at_once() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.open(), fixture.open());
    let digest = one.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect("taken");
    assert_eq!(other.blob_size(&fixture.name, &digest).await.expect("a look"), Some(1));
    one.write_document(&fixture.name, &document(), &[tag("x")]).await.expect("taken");
    other.write_document(&fixture.name, &document(), &[tag("y")]).await.expect("taken");
    assert_eq!(one.tags(&fixture.name, None, 9).await.expect("tags"), [tag("x"), tag("y")]);
    other.remove_tag(&fixture.name, &tag("x")).await.expect("gone");
    assert_eq!(one.resolve(&fixture.name, &tag("x").into()).await.expect("a look"), None);
    drop(one);
    drop(other);
    assert_eq!(fixture.listed(), ["a/b:y"]);
}

// The clock stands still, so that the store does not write the list by itself before it is killed.
#[tokio::test(start_paused = true)]
async fn f_s4_the_list_for_other_tools_is_made_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.flush().await.expect("a first list");
    assert_eq!(fixture.listed(), [""; 0]);
    store.write_document(&fixture.name, &document(), &[tag("x"), tag("y")]).await.expect("taken");
    store.flush().await.expect("a list");
    assert_eq!(fixture.listed(), ["a/b:x", "a/b:y"]);
    let list = fixture.root.join("index.json");
    let whole = fs::read(&list).expect("the list");
    for length in 0..whole.len() {
        fs::write(&list, &whole[..length]).expect("torn");
        drop(fixture.open());
        assert_eq!(fs::read(&list).expect("the list"), whole, "torn after {length} bytes");
    }
    // Killed after a tag has moved, before the list was written.
    store.remove_tag(&fixture.name, &tag("x")).await.expect("gone");
    std::mem::forget(store);
    drop(fixture.open());
    assert_eq!(fixture.listed(), ["a/b:y"]);
}

#[tokio::test(start_paused = true)]
async fn the_list_follows_by_itself() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.write_document(&fixture.name, &document(), &[tag("x")]).await.expect("taken");
    assert!(!fixture.root.join("index.json").exists(), "not for every tag");
    tokio::time::sleep(INDEX_DELAY * 2).await;
    for _ in 0..60_000 {
        if fixture.root.join("index.json").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.listed(), ["a/b:x"]);
}

#[tokio::test]
async fn tm30_links_are_not_followed() {
    let fixture = Fixture::new();
    let outside = fixture.root.with_file_name("outside");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, &fixture.root).expect("a link");
    for path in [fixture.root.clone(), fixture.root.join("")] {
        assert!(Layout::open(path).is_err(), "a link in place of the store");
    }
    fs::remove_file(&fixture.root).expect("no link");
    let store = fixture.open();
    let mode = fs::metadata(&fixture.root).expect("the store").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "only its owner looks into it");
    for part in ["repositories/a", "repositories", "blobs/sha256", "blobs", "uploads"] {
        let path = fixture.root.join(part);
        let aside = fixture.root.with_file_name("aside");
        let was_there = fs::rename(&path, &aside).is_ok();
        symlink(&outside, &path).expect("a link");
        store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect_err(part);
        store.write_document(&fixture.name, &document(), &[tag("x")]).await.expect_err(part);
        fs::remove_file(&path).expect("no link");
        if was_there {
            fs::rename(&aside, &path).expect("as before");
        }
    }
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "nothing was written there");
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect("taken");
    let (blob, secret) = (fixture.root.join("blobs/sha256").join(digest.hex()), outside.join("secret"));
    fs::write(&secret, "s").and_then(|()| fs::remove_file(&blob)).expect("a secret");
    symlink(&secret, &blob).expect("a link");
    assert!(store.read_blob(&fixture.name, &digest, None).await.is_err(), "a link is read");
}

#[tokio::test]
async fn f_s9_another_folder_in_its_place_is_left_alone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fs::rename(&fixture.root, fixture.root.with_file_name("moved")).expect("moved");
    store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect_err("the folder is gone");
    fs::create_dir(&fixture.root).expect("another one");
    store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect_err("it is another one");
    assert_eq!(fs::read_dir(&fixture.root).expect("it").count(), 0);
}

#[tokio::test]
async fn f_s15_a_folder_of_other_things_is_refused() {
    let fixture = Fixture::new();
    fs::create_dir(&fixture.root).expect("a folder");
    fs::write(fixture.root.join("thesis.tex"), "…").expect("somebody's work");
    let error = Layout::open(&fixture.root).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(&fixture.root).expect("it").count(), 1);
}

#[tokio::test]
async fn a_range_that_ends_outside_is_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"0123")).await.expect("taken");
    let error = store.read_blob(&fixture.name, &digest, Some(2..5)).await.err().expect("outside");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn f_x4_a_lock_that_is_removed_is_noticed_before_anything_is_relied_on() {
    use journal::Step;
    let held_by_tags: fn(&Step) -> bool = |step| matches!(step, Step::SyncFile(_));
    let content_comes: fn(&Step) -> bool =
        |step| matches!(step, Step::Rename(_, to) if to.to_string_lossy().contains("blobs/sha256"));
    let always: fn(&Step) -> bool = |_| true;
    for (lock, when) in [
        ("a/b/_lock", held_by_tags),
        ("_keep", content_comes),
        ("a/b/_lock", always),
        ("_keep", always),
        ("_gate", always),
    ] {
        let fixture = Fixture::new();
        let journal = journal::Journal::default();
        let store = fixture.open_on(&journal);
        store.write_document(&fixture.name, &document(), &[tag("before")]).await.expect("taken");
        let path = fixture.root.join("repositories").join(lock);
        journal.watch(move |step| drop(when(step).then(|| fs::remove_file(&path))));
        let other = Document::new(MediaType::INDEX, r#"{"schemaVersion":2, "manifests":[]}"#);
        let ended = store.write_document(&fixture.name, &other, &[tag("after")]).await;
        assert_eq!(ended.err().map(|error| error.kind()), Some(ErrorKind::Passing), "{lock}");
        let tags = store.tags(&fixture.name, None, 9).await.expect("tags");
        assert_eq!(tags, [tag("before")], "{lock}: no tag moves without it");
        journal.watch(|_| {});
        store.write_document(&fixture.name, &other, &[tag("after")]).await.expect("with a lock it goes on");
    }
}

#[tokio::test]
async fn f_x4_a_collection_takes_nothing_away_without_its_locks() {
    for lock in ["a/b/_lock", "_keep"] {
        let fixture = Fixture::new();
        let journal = journal::Journal::default();
        let store = fixture.open_on(&journal);
        for word in ["one", "two"] {
            store.write_blob(&fixture.name, Bytes::from_static(word.as_bytes())).await.expect("taken");
        }
        fixture.age(Duration::from_secs(2 * 24 * 60 * 60));
        let path = fixture.root.join("repositories").join(lock);
        let gone = move |step: &journal::Step| {
            if matches!(step, journal::Step::Remove(_)) {
                let _ = fs::remove_file(&path);
            }
        };
        journal.watch(gone);
        let all =
            Collection { grace: Duration::from_secs(60), dry_run: false, unused: None, ended: Vec::new() };
        let error = store.collect(all.clone()).await.expect_err("after the first it has no lock");
        assert_eq!(error.kind(), ErrorKind::Passing, "{lock}: {error}");
        assert_eq!(fixture.count("repositories/a/b/_blobs"), 1, "{lock}");
        journal.watch(|_| {});
        store.collect(all).await.expect("the next one ends the work");
        assert_eq!((fixture.count("blobs"), fixture.count("repositories/a/b/_blobs")), (0, 0), "{lock}");
    }
}
