//! Content that rots is never served, and a store of another time is not spoilt.

use futures_util::StreamExt as _;

use super::*;

#[tokio::test]
async fn f_s1_rot_is_noticed_by_whoever_reads() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"healthy")).await.expect("taken");
    store.write_document(&fixture.name, &document(), &[tag("x")]).await.expect("taken");
    for digest in [&digest, document().digest()] {
        let path = fixture.root.join("blobs/sha256").join(digest.hex());
        let mut bytes = fs::read(&path).expect("content");
        bytes[3] ^= 1;
        fs::write(&path, bytes).expect("rot");
    }
    let reader = store.read_blob(&fixture.name, &digest, None).await.expect("it opens");
    let error = reader.collect(&digest, 100).await.expect_err("other bytes");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let error = store.read_document(&fixture.name, &tag("x").into()).await.expect_err("other bytes");
    assert_eq!(error.kind(), ErrorKind::Mismatch);

    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(Bytes::from_static(b"healthy")).await.expect("taken");
    upload.finish(&digest).await.expect("whole content takes the place of the broken");
    store.write_document(&fixture.name, &document(), &[]).await.expect("and so does a document");
    let reader = store.read_blob(&fixture.name, &digest, None).await.expect("it opens");
    assert_eq!(reader.collect(&digest, 100).await.expect("healed"), "healthy");
    store.read_document(&fixture.name, &tag("x").into()).await.expect("healed");
}

/// What can happen to the bytes of a file.
fn damages(whole: &[u8]) -> Vec<Vec<u8>> {
    let flips = (0..whole.len()).map(|at| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cuts = (0..whole.len()).step_by(97).map(|length| whole[..length].to_vec());
    flips.chain(cuts).chain([[whole, b"more"].concat(), vec![0; whole.len()]]).collect()
}

#[tokio::test]
async fn f_s1_broken_content_is_never_served_whole() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole: Vec<u8> = (0..1000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let digest = store.write_blob(&fixture.name, whole.clone().into()).await.expect("taken");
    let path = fixture.root.join("blobs/sha256").join(digest.hex());
    for (number, broken) in damages(&whole).into_iter().enumerate() {
        fs::write(&path, &broken).expect("damage");
        match store.read_blob(&fixture.name, &digest, None).await {
            Err(error) => assert!(error.is_not_found() && broken.is_empty(), "{number}: {error}"),
            Ok(mut reader) => {
                let mut bytes = 0;
                let mut end = Ok(());
                while let Some(piece) = reader.stream.next().await {
                    match piece {
                        Ok(piece) => bytes += piece.len() as u64,
                        Err(error) => end = Err(error),
                    }
                }
                assert_eq!(end.expect_err("no clean end").kind(), ErrorKind::Mismatch, "{number}");
                assert!(bytes < reader.size, "{number}: nobody gets as many bytes as were announced");
                assert!(fixture.root.join("quarantine").join(shelf::file_name(&digest)).exists());
            }
        }
        assert_eq!(store.blob_size(&fixture.name, &digest).await.expect("a look"), None, "{number}");
        store.write_blob(&fixture.name, whole.clone().into()).await.expect("pushed again");
    }
    let reader = store.read_blob(&fixture.name, &digest, None).await.expect("there");
    assert_eq!(reader.collect(&digest, 1 << 20).await.expect("whole"), whole);
}

#[tokio::test]
async fn f_s1_a_scrub_finds_all_that_is_broken() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let large = vec![7; 3 << 20];
    let mut digests = Vec::new();
    for bytes in [&b"one"[..], b"two", b"", &large] {
        digests.push(store.write_blob(&fixture.name, Bytes::copy_from_slice(bytes)).await.expect("taken"));
    }
    let healthy = store.scrub().await.expect("read");
    assert_eq!((healthy.files, healthy.bytes, healthy.broken.len()), (4, 6 + (3 << 20), 0));
    for digest in [&digests[1], &digests[3]] {
        let path = fixture.root.join("blobs/sha256").join(digest.hex());
        let mut bytes = fs::read(&path).expect("content");
        let last = bytes.len() - 1;
        bytes[last] ^= 128;
        fs::write(path, bytes).expect("rot");
    }
    fs::write(fixture.root.join("blobs/sha256/README"), "").expect("a foreign file");
    let mut scrubbed = store.scrub().await.expect("read");
    scrubbed.broken.sort();
    let mut expected = vec![digests[1].clone(), digests[3].clone()];
    expected.sort();
    assert_eq!((scrubbed.broken, scrubbed.foreign), (expected, vec!["sha256/README".to_owned()]));
    assert_eq!(fixture.count("quarantine"), 2);
    for (digest, there) in digests.iter().zip([true, false, true, false]) {
        let found = store.blob_size(&fixture.name, digest).await.expect("a look");
        assert_eq!(found.is_some(), there, "{digest}");
    }
    assert_eq!(store.scrub().await.expect("read").broken, []);
}

#[tokio::test]
async fn f_s1_what_was_healed_meanwhile_is_not_set_aside() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"whole")).await.expect("taken");
    let path = fixture.root.join("blobs/sha256").join(digest.hex());
    fs::write(&path, "rotten").expect("rot");
    let broken = fs::File::open(&path).expect("somebody is reading it");
    let mut upload = store.start_upload(&fixture.name).await.expect("an upload");
    upload.write(Bytes::from_static(b"whole")).await.expect("taken");
    upload.finish(&digest).await.expect("somebody else pushes it");
    assert!(!scrub::set_aside(&store.shared.folders, &digest, &broken).expect("a look"));
    assert_eq!(fs::read(&path).expect("still there"), b"whole");
}

#[tokio::test]
async fn f_s16_a_store_of_a_newer_format_is_read_and_not_written() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let stamp = fixture.root.join("store.json");
    assert_eq!(fs::read_to_string(&stamp).expect("a stamp"), "{\"format\":1,\"readers\":1}\n");
    let digest = store.write_blob(&fixture.name, Bytes::from_static(b"x")).await.expect("taken");
    store.write_document(&fixture.name, &document(), &[tag("x")]).await.expect("taken");
    drop(store);
    fs::write(&stamp, r#"{"format":2,"readers":1,"new":[]}"#).expect("a newer stamp");
    fs::write(fixture.root.join("uploads/old"), "").expect("a leftover");
    fs::remove_file(fixture.root.join("index.json")).expect("a stale list");
    let before = fixture.count("");
    let store = fixture.open();
    let name = &fixture.name;
    assert_eq!(store.blob_size(name, &digest).await.expect("a look"), Some(1));
    let reader = store.read_blob(name, &digest, None).await.expect("it is there");
    assert_eq!(reader.collect(&digest, 9).await.expect("read"), "x");
    assert_eq!(store.read_document(name, &tag("x").into()).await.expect("read"), document());
    assert_eq!(store.tags(name, None, 9).await.expect("tags"), [tag("x")]);
    assert_eq!(store.referrers(name, &digest).await.expect("a list"), []);
    let refused = [
        store.writable().err(),
        store.write_blob(name, Bytes::from_static(b"y")).await.err(),
        store.write_document(name, &document(), &[tag("y")]).await.err(),
        store.mount_blob(&"other".parse().expect("a name"), &digest, name).await.err(),
        store.remove_blob(name, &digest).await.err(),
        store.remove_tag(name, &tag("x")).await.err(),
        store.remove_document(name, document().digest()).await.err(),
        store.lease().await.err(),
        store.scrub().await.err(),
        store
            .collect(Collection { grace: Duration::ZERO, dry_run: false, unused: None, ended: Vec::new() })
            .await
            .err(),
    ];
    for error in refused.map(|error| error.expect("refused")) {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("format 2"), "{error}");
    }
    store.flush().await.expect("there is nothing for us to write");
    drop(store);
    assert_eq!(fixture.count(""), before, "nothing was made or removed");

    fs::write(&stamp, r#"{"format":3,"readers":2}"#).expect("a newer stamp");
    let error = Layout::open(&fixture.root).err().expect("it cannot even be read");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for garbage in ["", "{", "[]", r#"{"format":"1"}"#] {
        fs::write(&stamp, garbage).expect("a broken stamp");
        let error = Layout::open(&fixture.root).err().expect("nobody knows what this is");
        assert!(error.to_string().contains("store.json"), "{error}");
    }
    fs::remove_file(&stamp).expect("a store from before there were stamps");
    drop(fixture.open());
    assert!(stamp.exists());
}
