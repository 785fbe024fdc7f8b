//! The contract that every store keeps, whatever is behind it: memory, a folder, a registry.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use polyarch::oci::{
    Algorithm, Condition, Descriptor, Digest, Document, ErrorKind, Hasher, ImageIndex, Layout, Manifest,
    MediaType, Memory, Pointer, Repository, Store, Tag, Terms,
};

use crate::images;

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(&Memory::new()).await;
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    keeps_the_contract(&Layout::open(folder.path().join("store")).expect("a store")).await;
}

/// Run every check against a store that is empty.
pub(crate) async fn keeps_the_contract(store: &dyn Store) {
    assert_eq!(store.repositories(None, 10).await.expect("an empty store lists nothing"), []);
    blobs_come_back_as_they_went_in(store).await;
    ranges_are_exact(store).await;
    long_digests_are_names_too(store).await;
    what_is_not_whole_is_not_there(store).await;
    equal_uploads_at_once_are_one_blob(store).await;
    blobs_are_visible_by_repository(store).await;
    documents_come_back_byte_for_byte(store).await;
    documents_want_their_content(store).await;
    wrong_documents_are_refused(store).await;
    artifacts_and_empty_indexes_are_documents(store).await;
    tags_move_and_come_in_pages(store).await;
    tags_move_on_condition(store).await;
    what_is_removed_is_gone(store).await;
    referrers_name_their_subject(store).await;
    repositories_come_in_pages(store).await;
}

fn name(text: &str) -> Repository {
    format!("contract/{text}").parse().expect("a repository name")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn long_digest(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

async fn write(store: &dyn Store, repository: &Repository, bytes: &[u8]) -> Digest {
    store.write_blob(repository, Bytes::copy_from_slice(bytes)).await.expect("a blob is taken")
}

async fn read(store: &dyn Store, repository: &Repository, digest: &Digest) -> Bytes {
    let reader = store.read_blob(repository, digest, None).await.expect("the blob is there");
    reader.collect(digest, 1 << 24).await.expect("its bytes are whole")
}

/// A manifest whose configuration and layer are these bytes, which are not written.
fn manifest_of(config: &[u8], layer: &[u8]) -> Manifest {
    Manifest::new(
        Descriptor::of(MediaType::CONFIG, config),
        vec![Descriptor::of(MediaType::LAYER_GZIP, layer)],
    )
}

/// An image in a repository, made of a word.
async fn image(store: &dyn Store, repository: &Repository, word: &str, tags: &[Tag]) -> Document {
    let (config, layer) = (format!(r#"{{"config":"{word}"}}"#), format!("layer {word}"));
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    images::image(store, repository, &config, &layer, &tags).await
}

async fn blobs_come_back_as_they_went_in(store: &dyn Store) {
    let repository = name("blobs");
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for bytes in [&b""[..], b"hello", &large] {
        let digest = Digest::of(bytes);
        assert_eq!(store.blob_size(&repository, &digest).await.expect("a look"), None);
        let mut upload = store.start_upload(&repository).await.expect("an upload");
        for piece in bytes.chunks(700_001) {
            upload.write(Bytes::copy_from_slice(piece)).await.expect("a piece is taken");
        }
        assert_eq!(upload.written(), bytes.len() as u64);
        upload.finish(&digest).await.expect("the blob is taken");
        assert_eq!(store.blob_size(&repository, &digest).await.expect("a look"), Some(bytes.len() as u64));
        assert_eq!(read(store, &repository, &digest).await, bytes);
        assert_eq!(write(store, &repository, bytes).await, digest, "writing it again changes nothing");
    }
    let absent = store.read_blob(&repository, &Digest::of(b"never"), None).await.err().expect("not there");
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
}

async fn ranges_are_exact(store: &dyn Store) {
    let repository = name("ranges");
    let digest = write(store, &repository, b"0123456789").await;
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9")] {
        let reader = store.read_blob(&repository, &digest, Some(range)).await.expect("a range");
        assert_eq!(reader.size, expected.len() as u64);
        let bytes = reader.collect(&Digest::of(expected.as_bytes()), 10).await.expect("exactly these bytes");
        assert_eq!(bytes, expected);
    }
    let outside = store.read_blob(&repository, &digest, Some(10..12)).await.err().expect("outside");
    assert_eq!(outside.kind(), ErrorKind::Invalid, "{outside}");
}

async fn long_digests_are_names_too(store: &dyn Store) {
    let repository = name("long");
    let digest = long_digest(b"long");
    let mut upload = store.start_upload(&repository).await.expect("an upload");
    upload.write(Bytes::from_static(b"long")).await.expect("taken");
    upload.finish(&digest).await.expect("a blob by its SHA-512 digest");
    assert_eq!(read(store, &repository, &digest).await, "long");

    let bytes = Document::of_index(&ImageIndex::new(vec![])).bytes().clone();
    let digest = long_digest(&bytes);
    let document = Document::with_digest(MediaType::INDEX, bytes, digest.clone()).expect("its digest");
    store.write_document(&repository, &document, &[tag("long")]).await.expect("a document by it, too");
    let found = store.resolve(&repository, &tag("long").into()).await.expect("a look").expect("it is there");
    assert_eq!(found.digest, digest);
    assert_eq!(store.read_document(&repository, &digest.into()).await.expect("whole"), document);
}

async fn what_is_not_whole_is_not_there(store: &dyn Store) {
    let repository = name("halves");
    let (digest, truth) = (Digest::of(b"whole"), Digest::of(b"who"));
    let mut upload = store.start_upload(&repository).await.expect("an upload");
    upload.write(Bytes::from_static(b"who")).await.expect("taken");
    drop(upload);
    let mut upload = store.start_upload(&repository).await.expect("an upload");
    upload.write(Bytes::from_static(b"who")).await.expect("taken");
    let error = upload.finish(&digest).await.expect_err("the bytes are others");
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    for digest in [digest, truth] {
        assert_eq!(store.blob_size(&repository, &digest).await.expect("a look"), None);
    }
}

async fn equal_uploads_at_once_are_one_blob(store: &dyn Store) {
    let repository = name("race");
    let bytes: Bytes = vec![7; 100_000].into();
    let digest = Digest::of(&bytes);
    let one = || async {
        let mut upload = store.start_upload(&repository).await?;
        upload.write(bytes.clone()).await?;
        upload.finish(&digest).await
    };
    for result in join_all((0..16).map(|_| one())).await {
        result.expect("every one of them succeeds (F-S5)");
    }
    assert_eq!(read(store, &repository, &digest).await, bytes);
}

async fn blobs_are_visible_by_repository(store: &dyn Store) {
    let (here, there) = (name("here"), name("there"));
    let digest = write(store, &here, b"mounted").await;
    assert_eq!(store.blob_size(&there, &digest).await.expect("a look"), None);
    let hidden = store.read_blob(&there, &digest, None).await.err().expect("not in that repository");
    assert_eq!(hidden.kind(), ErrorKind::NotFound, "{hidden}");
    let absent = Digest::of(b"nowhere");
    assert!(!store.mount_blob(&there, &absent, &here).await.expect("there is nothing to mount"));
    assert!(!store.mount_blob(&there, &digest, &name("unknown")).await.expect("nor there"));
    assert_eq!(store.blob_size(&there, &digest).await.expect("a look"), None);
    assert!(store.mount_blob(&there, &digest, &here).await.expect("this can be mounted"));
    assert_eq!(read(store, &there, &digest).await, "mounted");
    store.remove_blob(&here, &digest).await.expect("taken out here");
    assert_eq!(store.blob_size(&here, &digest).await.expect("a look"), None);
    assert_eq!(read(store, &there, &digest).await, "mounted", "and still there");
    let again = store.remove_blob(&here, &digest).await.expect_err("it is gone");
    assert_eq!(again.kind(), ErrorKind::NotFound, "{again}");
}

async fn documents_come_back_byte_for_byte(store: &dyn Store) {
    let repository = name("documents");
    let (config, layer) = (write(store, &repository, b"{}").await, write(store, &repository, b"layer").await);
    // Blanks and fields that we do not know are part of it.
    let text = format!(
        r#"{{ "schemaVersion": 2, "unknown": [1],
        "config": {{"mediaType": "{}", "size": 2, "digest": "{config}"}},
        "layers": [{{"mediaType": "{}", "size": 5, "digest": "{layer}"}}] }}"#,
        MediaType::CONFIG,
        MediaType::LAYER_GZIP
    );
    let document = Document::new(MediaType::MANIFEST, text);
    store.write_document(&repository, &document, &[tag("one"), tag("two")]).await.expect("it is taken");
    let pointers: [Pointer; 3] = [document.digest().clone().into(), tag("one").into(), tag("two").into()];
    for pointer in &pointers {
        let found = store.resolve(&repository, pointer).await.expect("a look");
        assert_eq!(found, Some(document.descriptor()), "{pointer}");
        assert_eq!(store.read_document(&repository, pointer).await.expect("it is there"), document);
    }
    let nothing: Pointer = tag("three").into();
    assert_eq!(store.resolve(&repository, &nothing).await.expect("a look"), None);
    let error = store.read_document(&repository, &nothing).await.expect_err("no such tag");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(store.resolve(&name("unknown"), &pointers[0]).await.expect("a look"), None);
}

async fn documents_want_their_content(store: &dyn Store) {
    let repository = name("missing");
    let manifest = Document::of_manifest(&manifest_of(b"config", b"the layer"));
    let index = Document::of_index(&ImageIndex::new(vec![manifest.descriptor()]));
    let refused = |document: Document| {
        let repository = repository.clone();
        async move {
            let error = store.write_document(&repository, &document, &[tag("x")]).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::MissingContent, "{error}");
            assert_eq!(store.resolve(&repository, &tag("x").into()).await.expect("a look"), None);
        }
    };
    refused(manifest.clone()).await;
    refused(index.clone()).await;
    write(store, &repository, b"config").await;
    refused(manifest.clone()).await;
    write(store, &repository, b"the layer").await;
    refused(index.clone()).await;
    store.write_document(&repository, &manifest, &[]).await.expect("now it is all there");
    store.write_document(&repository, &index, &[tag("x")]).await.expect("and the index with it");
}

async fn wrong_documents_are_refused(store: &dyn Store) {
    let repository = name("wrong");
    let mut table = vec![
        (MediaType::MANIFEST, "no JSON".to_owned(), ErrorKind::Invalid),
        (MediaType::MANIFEST, "{}".to_owned(), ErrorKind::Invalid),
        (
            MediaType::INDEX,
            format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, MediaType::MANIFEST),
            ErrorKind::Invalid,
        ),
    ];
    let filler = " ".repeat(Document::BYTES_LIMIT);
    table.push((
        MediaType::INDEX,
        format!(r#"{{"schemaVersion":2,"manifests":[]}}{filler}"#),
        ErrorKind::TooLarge,
    ));
    for (media_type, text, kind) in table {
        let document = Document::new(media_type, text);
        let error = store.write_document(&repository, &document, &[tag("x")]).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(store.tags(&repository, None, 10).await.expect("a list"), []);
}

async fn artifacts_and_empty_indexes_are_documents(store: &dyn Store) {
    let repository = name("artifacts");
    let empty = Document::of_index(&ImageIndex::new(vec![]));
    store.write_document(&repository, &empty, &[]).await.expect("an index of nothing");
    write(store, &repository, b"{}").await;
    write(store, &repository, b"a report").await;
    let artifact = Document::of_manifest(&Manifest {
        artifact_type: Some("application/vnd.example.report".to_owned()),
        config: Descriptor::of(MediaType::EMPTY, b"{}"),
        layers: vec![Descriptor::of("text/plain", b"a report")],
        ..manifest_of(b"", b"")
    });
    store.write_document(&repository, &artifact, &[tag("report")]).await.expect("an artifact");
    assert_eq!(store.read_document(&repository, &tag("report").into()).await.expect("there"), artifact);
}

async fn tags_move_and_come_in_pages(store: &dyn Store) {
    let repository = name("tags");
    assert_eq!(store.tags(&repository, None, 10).await.expect("no such repository"), []);
    let names: Vec<Tag> = ["A", "_a", "a", "a-1", "a.b", "latest"].map(tag).into();
    let first = image(store, &repository, "first", &names).await;
    assert_eq!(store.tags(&repository, None, 100).await.expect("all"), names);
    assert_eq!(store.tags(&repository, None, 2).await.expect("a page"), names[..2]);
    assert_eq!(store.tags(&repository, Some(&names[1]), 3).await.expect("the next"), names[2..5]);
    assert_eq!(store.tags(&repository, Some(&tag("b")), 9).await.expect("after no tag"), names[5..]);
    assert_eq!(store.tags(&repository, Some(&names[5]), 9).await.expect("after the last"), []);
    let second = image(store, &repository, "second", &names[5..]).await;
    let target = store.resolve(&repository, &tag("latest").into()).await.expect("a look").expect("there");
    assert_eq!(target.digest, *second.digest());
    let target = store.resolve(&repository, &tag("a").into()).await.expect("a look").expect("there");
    assert_eq!(target.digest, *first.digest(), "the others stay");
}

/// A tag is moved only from where the caller says that it is, where the store keeps conditions at all.
async fn tags_move_on_condition(store: &dyn Store) {
    let repository = name("conditions");
    let first = image(store, &repository, "first", &[tag("a"), tag("b")]).await;
    if !store.keeps_conditions() {
        return;
    }
    let second = image(store, &repository, "second", &[]).await;
    let terms = |tags| Terms { tags, ..Terms::default() };
    let from = |document: &Document| Condition::OneOf(vec![document.digest().clone()]);
    let at = async |text: &str| {
        let found = store.resolve(&repository, &tag(text).into()).await.expect("a look");
        found.map(|found| found.digest)
    };
    for (tags, condition) in [
        (vec![tag("a")], from(&second)),
        (vec![tag("a"), tag("b")], from(&second)),
        (vec![tag("a"), tag("new")], Condition::Missing),
        (vec![tag("a"), tag("new")], from(&first)),
        (vec![tag("new")], Condition::Present),
    ] {
        let moved = store.write_document_on(&repository, &second, &tags, &terms(condition)).await;
        assert_eq!(moved.expect_err("the condition does not hold").kind(), ErrorKind::Moved, "{tags:?}");
    }
    assert_eq!([at("a").await, at("b").await], [(); 2].map(|()| Some(first.digest().clone())), "none moved");
    assert_eq!(at("new").await, None);
    let both = [tag("a"), tag("b")];
    store.write_document_on(&repository, &second, &both, &terms(from(&first))).await.expect("it holds");
    let new = [tag("new"), tag("newer")];
    store.write_document_on(&repository, &second, &new, &terms(Condition::Missing)).await.expect("it holds");
    for text in ["a", "b", "new", "newer"] {
        assert_eq!(at(text).await.as_ref(), Some(second.digest()), "{text}");
    }
}

async fn what_is_removed_is_gone(store: &dyn Store) {
    let repository = name("removed");
    let document = image(store, &repository, "old", &[tag("keep"), tag("take")]).await;
    let other = image(store, &repository, "new", &[tag("other")]).await;
    store.remove_tag(&repository, &tag("take")).await.expect("a tag goes");
    assert_eq!(store.tags(&repository, None, 9).await.expect("tags"), [tag("keep"), tag("other")]);
    let digest: Pointer = document.digest().clone().into();
    assert!(store.resolve(&repository, &digest).await.expect("a look").is_some(), "its target stays");
    store.remove_document(&repository, document.digest()).await.expect("a document goes");
    assert_eq!(store.resolve(&repository, &digest).await.expect("a look"), None);
    assert_eq!(store.tags(&repository, None, 9).await.expect("tags"), [tag("other")], "and its tags with it");
    let found = store.resolve(&repository, &tag("other").into()).await.expect("a look");
    assert_eq!(found, Some(other.descriptor()));
    let again = [
        store.remove_document(&repository, document.digest()).await,
        store.remove_tag(&repository, &tag("take")).await,
    ];
    for error in again.map(|result| result.expect_err("it is gone")) {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    store.write_document(&repository, &document, &[tag("back")]).await.expect("it can come back");
    assert!(store.resolve(&repository, &tag("back").into()).await.expect("a look").is_some());
}

async fn referrers_name_their_subject(store: &dyn Store) {
    let repository = name("referrers");
    let subject = Document::of_index(&ImageIndex::new(vec![]));
    assert_eq!(store.referrers(&repository, subject.digest()).await.expect("an empty list"), []);
    write(store, &repository, b"{}").await;
    write(store, &repository, b"signature").await;
    let signature = Manifest {
        config: Descriptor::of("application/vnd.example.signature", b"{}"),
        layers: vec![Descriptor::of("text/plain", b"signature")],
        subject: Some(subject.descriptor()),
        annotations: [("by".to_owned(), "me".to_owned())].into(),
        ..manifest_of(b"", b"")
    };
    let list = ImageIndex {
        artifact_type: Some("application/vnd.example.list".to_owned()),
        subject: Some(subject.descriptor()),
        ..ImageIndex::new(vec![])
    };
    let signature = Document::of_manifest(&signature);
    let list = Document::of_index(&list);
    for document in [&signature, &list] {
        store.write_document(&repository, document, &[]).await.expect("its subject may be missing");
    }
    let mut expected = vec![
        Descriptor {
            artifact_type: Some("application/vnd.example.signature".to_owned()),
            annotations: [("by".to_owned(), "me".to_owned())].into(),
            ..signature.descriptor()
        },
        Descriptor { artifact_type: Some("application/vnd.example.list".to_owned()), ..list.descriptor() },
    ];
    expected.sort_by(|one, other| one.digest.cmp(&other.digest));
    assert_eq!(store.referrers(&repository, subject.digest()).await.expect("a list"), expected);
    store.remove_document(&repository, list.digest()).await.expect("one goes");
    let left = store.referrers(&repository, subject.digest()).await.expect("a list");
    assert_eq!(left.iter().map(|found| &found.digest).collect::<Vec<_>>(), [signature.digest()]);
}

async fn repositories_come_in_pages(store: &dyn Store) {
    // `-` and `.` come before `/`, and a repository may lie within another.
    let names: Vec<Repository> = ["zoo", "zoo-a", "zoo.b", "zoo/c"].map(name).into();
    for repository in &names {
        image(store, repository, "zoo", &[]).await;
    }
    let all = store.repositories(None, 1000).await.expect("a list");
    assert!(all.is_sorted() && all.ends_with(&names), "{all:?}");
    assert!(!all.contains(&name("blobs")), "a repository without documents is not listed");
    assert_eq!(store.repositories(Some(&names[0]), 2).await.expect("a page"), names[1..3]);
    assert_eq!(store.repositories(None, 1).await.expect("a page"), all[..1]);
}

#[tokio::test]
async fn a_store_can_be_shared_between_threads() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let other = Arc::clone(&store);
    let digest =
        tokio::spawn(async move { write(&*other, &name("shared"), b"x").await }).await.expect("ends");
    assert_eq!(read(&*store, &name("shared"), &digest).await, "x");
}
