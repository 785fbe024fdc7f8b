//! Uploads that outlive the server: killed, told to end, or shared by two.

use std::path::Path;
use std::sync::Arc;

use polyarch::oci::server::{Access, router};
use polyarch::oci::{Algorithm, Digest, Hasher, Layout};

use super::program::Program;
use super::{Served, code, header};

/// What lies among the uploads of a store.
fn uploads(store: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(store.join("uploads")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[tokio::test]
async fn f_e12_an_upload_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for (algorithm, first) in
        [(Algorithm::Sha256, 3 << 20), (Algorithm::Sha512, 5_000), (Algorithm::Sha256, 0)]
    {
        let bytes: Vec<u8> = (0..(3 << 20) + 10_usize).map(|at| (at % 251) as u8).collect();
        let program = Program::start(&store, &["--anonymous-writes"]);
        let begun = program.ask("POST", "/v2/a/blobs/uploads/").send().await.unwrap();
        let session = header(&begun, "location").to_owned();
        if first > 0 {
            let sent = program.ask("PATCH", &session).body(bytes[..first].to_vec()).send().await.unwrap();
            assert_eq!(header(&sent, "range"), format!("0-{}", first - 1));
        }
        program.kill();

        let program = Program::start(&store, &["--anonymous-writes"]);
        let stranger = session.replacen("/v2/a/", "/v2/b/", 1);
        assert_eq!(
            program.ask("GET", &stranger).send().await.unwrap().status(),
            404,
            "of another repository"
        );
        let status = program.ask("GET", &session).send().await.unwrap();
        let last = first.max(1) - 1;
        assert_eq!((status.status().as_u16(), header(&status, "range")), (204, &*format!("0-{last}")));
        let digest = digest_of(algorithm, &bytes);
        let stray = program.ask("PATCH", &session).header("content-range", "7-9").body("xxx");
        assert_eq!(stray.send().await.unwrap().status(), 416);
        let range = format!("{first}-{}", bytes.len() - 1);
        let rest = program.ask("PUT", &format!("{session}?digest={digest}")).header("content-range", range);
        assert_eq!(rest.body(bytes[first..].to_vec()).send().await.unwrap().status(), 201);
        let blob = program.ask("GET", &format!("/v2/a/blobs/{digest}")).send().await.unwrap();
        assert!(blob.bytes().await.unwrap() == bytes);
        assert_eq!(program.ask("GET", &session).send().await.unwrap().status(), 404, "it is over");
        assert_eq!(uploads(&store), [""; 0]);
    }
}

#[tokio::test]
async fn f_e12_what_was_damaged_meanwhile_is_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let program = Program::start(&store, &["--anonymous-writes"]);
    let begun = program.ask("POST", "/v2/a/blobs/uploads/").send().await.unwrap();
    let session = header(&begun, "location").to_owned();
    program.ask("PATCH", &session).body("01234").send().await.unwrap();
    program.kill();
    let file = store.join("uploads").join(&uploads(&store)[0]);
    std::fs::write(&file, b"0x234").unwrap();
    let program = Program::start(&store, &["--anonymous-writes"]);
    let digest = Digest::of(b"0123456789");
    let put = program.ask("PUT", &format!("{session}?digest={digest}")).body("56789").send().await.unwrap();
    assert_eq!(code(put).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(uploads(&store), [""; 0], "nothing of it is left");
}

#[tokio::test]
async fn f_e12_a_server_that_is_told_to_end_keeps_its_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let serve = async || Served::of(router(Arc::new(Layout::open(&store).unwrap()), Access::open())).await;
    let served = serve().await;
    let session = served.begin("a").await;
    assert_eq!(served.ask("PATCH", &session).body("01234").send().await.unwrap().status(), 202);
    served.stop.send(()).unwrap();
    served.running.await.unwrap();
    drop(served.client);
    let served = serve().await;
    let digest = Digest::of(b"0123456789");
    let put = served.ask("PUT", &format!("{session}?digest={digest}")).body("56789").send().await.unwrap();
    assert_eq!(put.status(), 201);
}

#[tokio::test]
async fn f_e2_two_servers_in_one_folder_do_not_share_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let serve = async || Served::of(router(Arc::new(Layout::open(&path).unwrap()), Access::open())).await;
    let (one, two) = (serve().await, serve().await);
    let session = one.begin("a").await;
    assert_eq!(one.ask("PATCH", &session).body("01234").send().await.unwrap().status(), 202);
    let busy = two.ask("PATCH", &session).body("xxxxx").send().await.unwrap();
    assert_eq!((busy.status().as_u16(), header(&busy, "retry-after")), (503, "1"));
    let digest = Digest::of(b"01234");
    assert_eq!(one.send("PUT", &format!("{session}?digest={digest}")).await.status(), 201);
    assert_eq!(two.send("GET", &session).await.status(), 404);
}

#[tokio::test]
async fn f_e1_what_is_given_up_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let served = Served::of(router(Arc::new(Layout::open(&store).unwrap()), Access::open())).await;
    let digest = Digest::of(b"right");
    let wrong = served.begin("a").await;
    let cancelled = served.begin("a").await;
    assert_eq!(served.ask("PATCH", &cancelled).body("some").send().await.unwrap().status(), 202);
    assert_eq!(uploads(&store).len(), 2);
    let put = served.ask("PUT", &format!("{wrong}?digest={digest}")).body("wrong").send().await.unwrap();
    assert_eq!(put.status(), 400);
    assert_eq!(served.send("DELETE", &cancelled).await.status(), 204);
    let post = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(served.ask("POST", &post).body("wrong").send().await.unwrap().status(), 400);
    assert_eq!(uploads(&store), [""; 0]);
}
