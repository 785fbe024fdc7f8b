//! Garbage goes, and nothing else does.

use std::collections::BTreeSet;

use super::journal::{Journal, Step};
use super::*;
use crate::oci::layout::keep::SLACK;
use crate::oci::{Descriptor, Manifest};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const A_DAY: Collection = Collection { grace: DAY, dry_run: false, unused: None, ended: Vec::new() };

pub(super) fn manifest(config: &[u8], layers: &[&[u8]], subject: Option<&Document>) -> Document {
    Document::of_manifest(&Manifest {
        subject: subject.map(Document::descriptor),
        ..Manifest::new(
            Descriptor::of(MediaType::CONFIG, config),
            layers.iter().map(|layer| Descriptor::of(MediaType::LAYER_GZIP, layer)).collect(),
        )
    })
}

pub(super) fn index(manifests: &[&Document]) -> Document {
    Document::of_index(&ImageIndex::new(manifests.iter().map(|one| one.descriptor()).collect()))
}

/// Write an image of these bytes.
pub(super) async fn image(
    store: &Layout,
    name: &Repository,
    word: &str,
    subject: Option<&Document>,
    tags: &[Tag],
) -> Result<Document, Error> {
    let (config, layer) = (format!(r#"{{"word":"{word}"}}"#), format!("layer of {word}"));
    store.write_blob(name, config.clone().into_bytes().into()).await?;
    store.write_blob(name, layer.clone().into_bytes().into()).await?;
    let document = manifest(config.as_bytes(), &[layer.as_bytes()], subject);
    store.write_document(name, &document, tags).await?;
    Ok(document)
}

/// All that a document leads to is there and whole.
pub(super) async fn whole(store: &Layout, name: &Repository, root: &Pointer) -> Result<(), Error> {
    let mut waiting = vec![store.read_document(name, root).await?];
    while let Some(document) = waiting.pop() {
        for digest in rules::mentioned(document.bytes()) {
            match store.read_document(name, &digest.clone().into()).await {
                Ok(child) => waiting.push(child),
                Err(error) if error.is_not_found() => {
                    let blob = store.read_blob(name, &digest, None).await?;
                    blob.collect(&digest, 1 << 20).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

impl Fixture {
    /// Let everything in the store be older.
    pub(super) fn age(&self, by: Duration) {
        for entry in walkdir::WalkDir::new(&self.root).into_iter().filter_map(Result::ok) {
            if entry.file_type().is_file() {
                older(entry.path(), by);
            }
        }
    }

    /// The names of all content.
    fn content(&self) -> BTreeSet<String> {
        let entries = walkdir::WalkDir::new(self.root.join("blobs")).into_iter().filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_file());
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn older(path: &Path, by: Duration) {
    let file = fs::File::options().write(true).open(path).expect("a file of the store");
    let time = file.metadata().and_then(|found| found.modified()).expect("its time");
    file.set_modified(time - by).expect("older");
}

async fn has(store: &Layout, name: &Repository, bytes: &[u8]) -> bool {
    store.blob_size(name, &Digest::of(bytes)).await.expect("a look").is_some()
}

#[tokio::test]
async fn i_s3_what_a_tag_leads_to_stays_and_what_is_about_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let amd = image(&store, &fixture.name, "amd", None, &[]).await.expect("taken");
    let arm = image(&store, &fixture.name, "arm", None, &[]).await.expect("taken");
    let both = index(&[&amd, &arm]);
    store.write_document(&fixture.name, &both, &[]).await.expect("taken");
    store.write_document(&fixture.name, &index(&[&both]), &[tag("nested")]).await.expect("taken");
    let signature = image(&store, &fixture.name, "signature", Some(&amd), &[]).await.expect("taken");
    image(&store, &fixture.name, "of the signature", Some(&signature), &[]).await.expect("taken");
    let other: Repository = "z".parse().expect("a name");
    assert!(store.mount_blob(&other, &Digest::of(b"layer of amd"), &fixture.name).await.expect("mounted"));
    let before = fixture.content();
    fixture.age(2 * DAY);
    let collected = store.collect(A_DAY).await.expect("collected");
    assert_eq!((collected.documents, collected.blobs, collected.files), (0, 1, 0), "what only `z` held");
    assert_eq!(collected.kept_files, before.len() as u64);
    assert_eq!(fixture.content(), before);
    whole(&store, &fixture.name, &tag("nested").into()).await.expect("all of it");
    assert_eq!(store.referrers(&fixture.name, amd.digest()).await.expect("a list").len(), 1);
    assert_eq!(store.referrers(&fixture.name, signature.digest()).await.expect("a list").len(), 1);
}

#[tokio::test]
async fn i_s4_what_nothing_leads_to_goes_at_once_and_wholly() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let kept = image(&store, &fixture.name, "kept", None, &[tag("kept")]).await.expect("taken");
    let gone = image(&store, &fixture.name, "gone", None, &[tag("gone")]).await.expect("taken");
    let about = image(&store, &fixture.name, "about", Some(&gone), &[]).await.expect("taken");
    store.write_document(&fixture.name, &index(&[&gone, &about]), &[]).await.expect("taken");
    store.remove_tag(&fixture.name, &tag("gone")).await.expect("untagged");
    store.write_blob(&fixture.name, Bytes::from_static(b"orphan")).await.expect("taken");
    fs::write(fixture.root.join("blobs/sha256/README"), "not ours").expect("a foreign file");
    fixture.age(2 * DAY);
    let before = fixture.content();
    let dry = Collection { dry_run: true, ..A_DAY };
    let told = store.collect(dry.clone()).await.expect("a dry run");
    assert_eq!(fixture.content(), before, "nothing is removed");
    assert_eq!((told.documents, told.blobs, told.files), (3, 5, 8));
    assert_eq!(store.collect(A_DAY).await.expect("collected"), told, "as it was told");
    let left = store.collect(dry).await.expect("a dry run");
    assert_eq!((left.documents, left.blobs, left.files, left.leftovers), (0, 0, 0, 0));
    assert_eq!(fixture.content().len(), 3 + 1, "one image and what is not ours");
    assert_eq!(fixture.count("repositories/a/b/_referrers"), 0);
    whole(&store, &fixture.name, &kept.digest().clone().into()).await.expect("the other one");
    image(&store, &fixture.name, "gone", None, &[tag("gone")]).await.expect("and it can come back");
    whole(&store, &fixture.name, &tag("gone").into()).await.expect("whole");
}

#[tokio::test]
async fn i_s3_what_somebody_was_told_is_there_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let name = &fixture.name;
    let other: Repository = "other".parse().expect("a name");
    let words: [&[u8]; 5] = [b"headed", b"read", b"mounted", b"pushed again", b"forgotten"];
    for bytes in words {
        store.write_blob(name, Bytes::copy_from_slice(bytes)).await.expect("taken");
    }
    let found = image(&store, name, "found", None, &[]).await.expect("taken");
    fixture.age(2 * DAY);
    assert!(has(&store, name, b"headed").await);
    store.read_blob(name, &Digest::of(b"read"), Some(0..1)).await.expect("a part of it");
    assert!(store.mount_blob(&other, &Digest::of(b"mounted"), name).await.expect("a look"));
    store.write_blob(name, Bytes::from_static(b"pushed again")).await.expect("taken");
    assert!(store.resolve(name, &found.digest().clone().into()).await.expect("a look").is_some());
    store.collect(A_DAY).await.expect("collected");
    for bytes in &words[..4] {
        assert!(has(&store, name, bytes).await, "{}", String::from_utf8_lossy(bytes));
    }
    assert!(has(&store, &other, b"mounted").await);
    assert!(!has(&store, name, b"forgotten").await);
    whole(&store, name, &found.digest().clone().into()).await.expect("a document with all it leads to");
}

#[tokio::test]
async fn tm30_a_collection_goes_through_no_link() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let outside = fixture.root.with_file_name("outside");
    let name = Digest::of(b"not ours").hex().to_owned();
    fs::create_dir(&outside).and_then(|()| fs::write(outside.join(&name), "not ours")).expect("a file");
    older(&outside.join(&name), 9 * DAY);
    store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect("taken");
    for part in ["uploads", "leases", "blobs/sha256", "blobs", "repositories/a/b/_blobs", "repositories/a"] {
        let (path, aside) = (fixture.root.join(part), fixture.root.with_file_name("aside"));
        fs::rename(&path, &aside).expect("aside");
        std::os::unix::fs::symlink(&outside, &path).expect("a link");
        // It may refuse, or pass over what is no folder of ours.
        let _ = store.collect(A_DAY).await;
        assert!(outside.join(&name).exists(), "{part}");
        fs::remove_file(&path).and_then(|()| fs::rename(&aside, &path)).expect("as before");
    }
}

#[tokio::test]
async fn f_k7_tags_that_nobody_asks_for_go_where_that_is_wanted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let scope: Repository = "scopes/trusted".parse().expect("a name");
    for name in [&scope, &fixture.name] {
        image(&store, name, "asked", None, &[tag("asked")]).await.expect("taken");
        image(&store, name, "forgotten", None, &[tag("forgotten")]).await.expect("taken");
    }
    fixture.age(40 * DAY);
    assert!(store.resolve(&scope, &tag("asked").into()).await.expect("a look").is_some());
    let unused = Unused { within: "scopes".to_owned(), age: 30 * DAY };
    let collection = Collection { unused: Some(unused), ..A_DAY };
    let dry = Collection { dry_run: true, ..collection.clone() };
    let told = store.collect(dry).await.expect("a dry run");
    assert_eq!(
        (told.tags, told.documents, told.blobs, told.files),
        (1, 1, 2, 0),
        "the other repository holds them"
    );
    assert_eq!(store.tags(&scope, None, 9).await.expect("tags").len(), 2);
    assert_eq!(store.collect(collection).await.expect("collected"), told);
    assert_eq!(store.tags(&scope, None, 9).await.expect("tags"), [tag("asked")]);
    assert_eq!(
        store.tags(&fixture.name, None, 9).await.expect("tags").len(),
        2,
        "not where nobody wanted it"
    );
    whole(&store, &scope, &tag("asked").into()).await.expect("whole");
    store.flush().await.expect("a list");
    assert_eq!(fixture.listed(), ["a/b:asked", "a/b:forgotten", "scopes/trusted:asked"]);
}

#[tokio::test]
async fn f_k7_what_is_needed_least_goes_first_and_only_until_there_is_room() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let scope: Repository = "scopes/trusted".parse().expect("a name");
    let kept = || async { store.tags(&scope, None, 9).await.expect("tags").len() };
    for (word, days) in [("year", 300), ("fortnight", 6), ("days", 1), ("today", 1)] {
        image(&store, &scope, word, None, &[tag(word)]).await.expect("taken");
        fixture.age(days * DAY);
    }
    assert!(store.resolve(&scope, &tag("today").into()).await.expect("a look").is_some());
    store.write_blob(&fixture.name, Bytes::from_static(b"of nobody")).await.expect("taken");
    older(&store.shared.folders.blob(&Digest::of(b"of nobody")), 2 * DAY);
    let mark = Shelf::quiet(&store.shared.folders, &fixture.name).blob_mark(&Digest::of(b"of nobody"));
    older(&mark, 2 * DAY);
    for (steps, files, left) in [(1, 1, 4), (3, 3, 3), (4, 3, 2), (5, 3, 1)] {
        let made = std::cell::Cell::new(0);
        let enough = || {
            made.set(made.get() + 1);
            Ok(made.get() == steps)
        };
        let cleared = store.clear("scopes", enough).await.expect("cleared").expect("it was alone");
        assert_eq!((made.get(), cleared.files, kept().await), (steps, files, left), "{steps} steps");
    }
    whole(&store, &scope, &tag("today").into()).await.expect("what was asked for today stays");
    assert!(
        store.make_room("scopes").await.is_ok_and(|made| made.is_none())
            || store.room().expect("known").is_little()
    );
    let room = |free, whole| Room { free, whole }.is_little();
    assert!(
        room(99, 1000) && !room(100, 1000) && !room(2 << 30, 100 << 30) && room((2 << 30) - 1, 100 << 30)
    );
}

#[tokio::test]
async fn f_s8_a_run_protects_what_it_has_seen_however_long_it_takes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.write_blob(&fixture.name, Bytes::from_static(b"before")).await.expect("taken");
    fixture.age(DAY);
    let lease = store.lease().await.expect("a run");
    store.write_blob(&fixture.name, Bytes::from_static(b"since")).await.expect("taken");
    fixture.age(25 * DAY);
    fs::write(fixture.root.join("leases/dead"), "").expect("a lease of a dead run");
    older(&fixture.root.join("leases/dead"), 100 * DAY);
    store.collect(A_DAY).await.expect("collected");
    assert!(!fixture.root.join("leases/dead").exists());
    assert_eq!(fixture.count("leases"), 1);
    assert!(has(&store, &fixture.name, b"since").await);
    assert!(!has(&store, &fixture.name, b"before").await);
    drop(lease);
    assert_eq!(fixture.count("leases"), 0);
    fixture.age(25 * DAY);
    store.collect(A_DAY).await.expect("collected");
    assert!(!has(&store, &fixture.name, b"since").await);
}

#[tokio::test]
async fn f_s13_a_clock_that_is_set_back_makes_nothing_old_and_nothing_eternal() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.write_blob(&fixture.name, Bytes::from_static(b"from the future")).await.expect("taken");
    let future = store.shared.folders.now().expect("the time") + 1000 * DAY;
    for entry in walkdir::WalkDir::new(&fixture.root).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            let file = fs::File::options().write(true).open(entry.path()).expect("a file");
            file.set_modified(future).expect("of the future");
        }
    }
    let told = store.collect(A_DAY).await.expect("collected");
    assert_eq!((told.blobs, told.files), (0, 0));
    fixture.age(2 * DAY);
    let told = store.collect(A_DAY).await.expect("collected");
    assert_eq!((told.blobs, told.files), (1, 1), "it aged from the first collection on");

    store.write_blob(&fixture.name, Bytes::from_static(b"of a run")).await.expect("taken");
    fixture.age(9 * DAY);
    let lease = store.lease().await.expect("a run");
    let file = walkdir::WalkDir::new(fixture.root.join("leases")).min_depth(1).into_iter().flatten().next();
    let file = fs::File::options().write(true).open(file.expect("its file").path()).expect("its file");
    file.set_modified(future).expect("begun before the clock was set back");
    assert_eq!(store.collect(A_DAY).await.expect("collected").files, 0, "no age can be believed");
    drop(lease);
    assert_eq!(store.collect(A_DAY).await.expect("collected").files, 1);
}

#[tokio::test]
async fn f_s7_a_collection_that_stops_anywhere_is_ended_by_the_next() {
    for stop in 0.. {
        assert!(stop < 1000, "a collection of little has few steps");
        let fixture = Fixture::new();
        let journal = Journal::default();
        let store = fixture.open_on(&journal);
        let name = &fixture.name;
        image(&store, name, "kept", None, &[tag("kept")]).await.expect("taken");
        let gone = image(&store, name, "gone", None, &[]).await.expect("taken");
        let about = image(&store, name, "about", Some(&gone), &[]).await.expect("taken");
        let parent = index(&[&gone]);
        store.write_document(name, &parent, &[]).await.expect("taken");
        fs::write(fixture.root.join("uploads/left"), "half").expect("a leftover");
        fixture.age(2 * DAY);
        journal.fail(stop, usize::MAX);
        let stopped = store.collect(A_DAY).await;
        let done = journal.never_failed();
        journal.fail(0, 0);
        assert!(stopped.is_ok() || !done, "after {stop} steps: {stopped:?}");
        let shelf = Shelf::quiet(&store.shared.folders, name);
        for document in [&parent, &gone, &about] {
            if folders::is_file(&shelf.document_file(document.digest())).expect("a look") {
                // It is still there, and so is all that it leads to.
                for digest in rules::mentioned(document.bytes()) {
                    let held = [shelf.blob_mark(&digest), shelf.document_file(&digest)];
                    assert!(held.iter().any(|file| file.exists()), "after {stop} steps");
                    assert!(store.shared.folders.blob(&digest).exists(), "after {stop} steps");
                }
            }
        }
        drop(store);
        let store = fixture.open_on(&Journal::default());
        store.collect(A_DAY).await.expect("the next one");
        assert_eq!(fixture.content().len(), 3, "after {stop} steps");
        assert_eq!((fixture.count("uploads"), fixture.count("repositories/a/b/_referrers")), (0, 0));
        whole(&store, name, &tag("kept").into()).await.expect("untouched");
        if done {
            assert!(stop > 10, "it did stop at each step");
            return;
        }
    }
}

#[tokio::test]
async fn i_s3_where_a_kept_document_is_broken_nothing_is_touched() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let kept = image(&store, &fixture.name, "kept", None, &[tag("kept")]).await.expect("taken");
    let path = fixture.root.join("blobs/sha256").join(kept.digest().hex());
    let bytes = fs::read(&path).expect("the document");
    fs::write(&path, [&bytes[..], b" "].concat()).expect("rot");
    fixture.age(2 * DAY);
    let collected = store.collect(A_DAY).await.expect("collected");
    assert_eq!((collected.blobs, collected.files), (0, 0));
    assert_eq!(collected.passed_over.len(), 1, "{collected:?}");
    fs::write(&path, bytes).expect("healed");
    whole(&store, &fixture.name, &tag("kept").into()).await.expect("all of it is still there");
    let tags = fixture.root.join("repositories/a/b/_tags/kept");
    fs::write(tags, "torn").expect("a broken tag");
    fixture.age(2 * DAY);
    assert_eq!(store.collect(A_DAY).await.expect("collected").passed_over.len(), 1);
    assert_eq!(fixture.content().len(), 3);
}

#[tokio::test]
async fn i_s3_who_relies_on_content_and_who_takes_it_away_exclude_each_other() {
    let fixture = Fixture::new();
    let journal = Journal::default();
    let store = fixture.open_on(&journal);
    image(&store, &fixture.name, "gone", None, &[]).await.expect("taken");
    fixture.age(2 * DAY);
    let lock =
        |root: &Path, name: &str| fs::File::open(root.join("repositories").join(name)).expect("a lock");
    let hold = keep::shared(&store.shared.folders).expect("somebody relies on something");
    assert!(lock(&fixture.root, "_keep").try_lock().is_err(), "nobody can take it away");
    assert!(lock(&fixture.root, "_keep").try_lock_shared().is_ok(), "others can rely on it, too");
    // What another test starts meanwhile has its file open as well, until it has become another program.
    let opens = |_| {
        let is_open = lock(&fixture.root, "_gate").try_lock().is_ok();
        is_open || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }
    };
    assert!((0..12_000).any(opens), "the gate is open");
    drop(hold);
    let (root, seen) = (fixture.root.clone(), Arc::new(AtomicBool::new(false)));
    let removed = seen.clone();
    journal.watch(move |step| {
        if matches!(step, Step::Remove(path) if !path.starts_with(root.join("uploads"))) {
            assert!(lock(&root, "_keep").try_lock_shared().is_err(), "{step:?}: nobody can rely on it");
            assert!(lock(&root, "_gate").try_lock_shared().is_err(), "{step:?}: nor begin to");
            removed.store(true, Ordering::SeqCst);
        }
    });
    store.collect(A_DAY).await.expect("collected");
    assert!(seen.load(Ordering::SeqCst), "something was taken away");
}

#[tokio::test]
async fn f_x1_one_collection_at_a_time() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let hold = keep::collecting(&store.shared.folders).expect("the first");
    let error = fixture.open().collect(A_DAY).await.expect_err("the second");
    assert_eq!(error.kind(), ErrorKind::Passing);
    drop(hold);
    // What another test starts at that moment has the file open as well, until it has become another program.
    let mut collected = store.collect(A_DAY).await;
    for _ in 0..12_000 {
        if collected.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        collected = store.collect(A_DAY).await;
    }
    collected.expect("after it");
}

#[tokio::test]
async fn i_s7_an_upload_at_work_is_no_leftover() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(vec![1; 2 << 20].into()).await.expect("taken");
    // The thread that writes does so in its own time.
    let file = walkdir::WalkDir::new(fixture.root.join("uploads")).min_depth(1).into_iter().flatten().next();
    let file = file.expect("its file").into_path();
    for _ in 0..12_000 {
        if fs::metadata(&file).expect("its file").len() == 2 << 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::write(fixture.root.join("uploads/left"), "half").expect("a leftover");
    fixture.age(9 * DAY);
    let collected = store.collect(A_DAY).await.expect("collected");
    assert_eq!((collected.leftovers, collected.leftover_bytes), (1, 4));
    upload.finish(&Digest::of(&vec![1; 2 << 20])).await.expect("it was not hindered");
    assert_eq!(fixture.count("uploads"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_s5_many_that_commit_one_blob_at_once_make_one_file() {
    let fixture = Fixture::new();
    let bytes = Bytes::from(vec![5; 10_000]);
    let committers = (0..16).map(|_| {
        let (store, name, bytes) = (fixture.open(), fixture.name.clone(), bytes.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                let mut upload = store.start_upload(&name).await.expect("an upload");
                upload.write(bytes.clone()).await.expect("taken");
                upload.finish(&Digest::of(&bytes)).await.expect("each of them succeeds");
            }
        })
    });
    for one in committers.collect::<Vec<_>>() {
        one.await.expect("a committer");
    }
    assert_eq!((fixture.count("blobs"), fixture.count("uploads")), (1, 0));
    assert!(has(&fixture.open(), &fixture.name, &bytes).await);
}

/// Writers look, wait, and push what names what they saw; collections with a short grace go on all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_s6_collections_under_load_take_nothing_that_is_needed() {
    const GRACE: Duration = Duration::from_millis(400);
    let fixture = Fixture::new();
    let name = fixture.name.clone();
    let ended = Arc::new(AtomicBool::new(false));
    let collector = tokio::spawn({
        let (store, ended) = (fixture.open(), ended.clone());
        async move {
            let mut files = 0;
            while !ended.load(Ordering::SeqCst) {
                let collected = store
                    .collect(Collection { grace: GRACE, dry_run: false, unused: None, ended: Vec::new() })
                    .await;
                files += collected.expect("collected").files;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            files
        }
    });
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, name) = (fixture.open(), name.clone());
            tokio::spawn(async move {
                let (mut round, mut pushed) = (0_u32, 0);
                while round < 60 {
                    round += 1;
                    // Some words for many writers: they find each other's blobs, old and new.
                    let word = match round % 3 {
                        0 => format!("{}", (round + writer) % 5),
                        _ => format!("{}", round / 2),
                    };
                    let looked = std::time::Instant::now();
                    let own = [tag(&format!("w{writer}"))];
                    match image(&store, &name, &word, None, &own).await {
                        Ok(_) => {
                            whole(&store, &name, &own[0].clone().into())
                                .await
                                .expect("acknowledged and whole");
                            pushed += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::MissingContent, "{error}");
                            assert!(looked.elapsed() > GRACE, "within the grace time: {error}");
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(u64::from(round % 7) * 10)).await;
                }
                pushed
            })
        })
        .collect();
    for writer in writers {
        assert!(writer.await.expect("a writer") > 0);
    }
    ended.store(true, Ordering::SeqCst);
    assert!(collector.await.expect("the collector") > 0, "there was something to collect");
    let store = fixture.open();
    for tag in store.tags(&name, None, 100).await.expect("tags") {
        whole(&store, &name, &tag.into()).await.expect("whole at the end");
    }
    assert!(SLACK < GRACE);
}

/// `POLYARCH_STORE_BLOBS=1000000` by hand, with `/usr/bin/time -v` for the memory.
#[tokio::test]
async fn f_s10_many_blobs_are_collected_in_one_pass() {
    #[expect(clippy::disallowed_methods, reason = "a test may be told how much to do")]
    let count =
        std::env::var("POLYARCH_STORE_BLOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let fixture = Fixture::new();
    drop(fixture.open());
    let (blobs, marks) = (fixture.root.join("blobs/sha256"), fixture.root.join("repositories/a/b/_blobs"));
    fs::create_dir_all(&marks).expect("a repository");
    for number in 0..count {
        let digest = Digest::of(&u64::to_le_bytes(number));
        for path in [blobs.join(digest.hex()), marks.join(shelf::file_name(&digest))] {
            fs::File::create(path).expect("a file");
        }
    }
    fixture.age(2 * DAY);
    let store = fixture.open();
    let began = std::time::Instant::now();
    let collected = store.collect(A_DAY).await.expect("collected");
    assert_eq!((collected.blobs, collected.files), (count, count));
    println!("{count} blobs collected in {:?}", began.elapsed());
}
