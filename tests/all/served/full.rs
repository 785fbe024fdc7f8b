//! The disk fails under a served store: at any call, once or for good (F-K1 to F-K5, F-E6, G15).
//!
//! Calls are made to fail by strace, counted in each thread; every tenth place in CI, all of them by hand with
//! `POLYARCH_FAULTS_EVERY=1`. A real full disk is a small file system in a namespace of its own.

use std::path::PathBuf;
use std::process::Stdio;

use polyarch::oci::{Digest, Document, Layout};

use super::{Asked, Asker, Failed, Server, manifest, so_many};
use crate::program::{Place, skip};

/// So many places of one call are tried at most.
const PLACES: usize = 400;

/// A small run: images under two tags. What was acknowledged, and how the failures were told.
#[derive(Default)]
struct Run {
    blobs: Vec<Digest>,
    documents: Vec<Document>,
    failures: Vec<(u16, String)>,
}

impl Run {
    /// Push everything, whatever fails on the way.
    async fn push(&mut self, asker: &Asker, words: &[&str]) {
        for word in words {
            let pushed = self.image(asker, word).await;
            match pushed {
                Ok(()) => {}
                Err(Failed::Answered(status, body)) => self.failures.push((status.as_u16(), body)),
                Err(Failed::Lost(why)) => self.failures.push((0, why)),
            }
        }
    }

    async fn image(&mut self, asker: &Asker, word: &str) -> Asked {
        let config = format!("{{\"word\":\"{word}\"}}");
        let layer = word.repeat(4_000);
        for (bytes, by_session) in [(config.as_bytes(), false), (layer.as_bytes(), true)] {
            let digest = asker.push_blob(bytes, by_session).await?;
            self.blobs.push(digest);
        }
        let document = manifest(config.as_bytes(), layer.as_bytes());
        asker.push_document(&document, word).await?;
        self.documents.push(document);
        Ok(())
    }

    /// What was acknowledged is there.
    async fn check(&self, asker: &Asker, after: &str) {
        for digest in &self.blobs {
            let bytes =
                asker.blob(digest).await.unwrap_or_else(|error| panic!("{after}: {digest}: {error:?}"));
            assert_eq!(Digest::of(&bytes), *digest, "{after}");
        }
        for document in &self.documents {
            let found = asker.document(&document.digest().to_string()).await;
            assert_eq!(
                &found.unwrap_or_else(|error| panic!("{after}: {error:?}")),
                document.bytes(),
                "{after}"
            );
        }
    }
}

const WORDS: [&str; 3] = ["one", "two", "three"];

fn strace_is_here(test: &str) -> bool {
    let answer = super::program("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = answer.is_ok_and(|status| status.success());
    if !here {
        skip(test, "no strace");
    }
    here
}

/// A server whose n-th call of a kind fails, in each thread; `None` where it did not even start.
fn failing(place: &Place, call: &str, error: &str, when: usize) -> Option<Server> {
    let mut strace = place.program("strace");
    let inject = format!("inject={call}:error={error}:when={when}");
    // With -D the server is our own child, and strace its grandchild: a kill hits the right one.
    strace.args(["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args([
        "-e",
        &inject,
        env!("CARGO_BIN_EXE_polyarch"),
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--anonymous-writes",
    ]);
    strace.arg("--store").arg(place.store()).stdout(Stdio::piped()).stderr(Stdio::null());
    Server::try_of(strace.spawn().expect("strace starts"))
}

/// Let each n-th call of a kind fail with an error, and see that nothing is lost and all ends well.
async fn sweep(call: &str, error: &str, tolerated: &[u16]) -> usize {
    let every = so_many("POLYARCH_FAULTS_EVERY", 10);
    let mut failures = 0;
    // Some calls after the last one whose failure was told, all has been seen.
    let mut when = 1;
    let mut quiet = 0;
    while when < PLACES && quiet * every < 20 {
        let after = format!("{error} at call {when} of {call}");
        let place = Place::new();
        drop(Layout::open(place.store()).expect("a store"));
        let mut run = Run::default();
        match failing(&place, call, error, when) {
            None => {}
            Some(server) => {
                let asker = Asker::new(&server, "small/run");
                run.push(&asker, &WORDS).await;
                for (status, body) in &run.failures {
                    assert!(tolerated.contains(status), "{after}: {status} {body}");
                }
                quiet = if run.failures.is_empty() { quiet + 1 } else { 0 };
                failures += run.failures.len();
            }
        }
        let server = Server::start(&place);
        let asker = Asker::new(&server, "small/run");
        run.check(&asker, &after).await;
        let mut again = Run::default();
        again.push(&asker, &WORDS).await;
        assert_eq!(again.failures, [], "{after}: the run ends well now");
        again.check(&asker, &after).await;
        drop(server);
        let scrubbed = Layout::open(place.store()).expect("the store").scrub().await.expect("read");
        assert_eq!((scrubbed.broken, scrubbed.foreign), (vec![], vec![]), "{after}");
        when += every;
    }
    println!("{error} at {call}: {failures} failures seen, up to call {when}");
    failures
}

#[tokio::test]
async fn f_k1_a_disk_that_is_full_at_any_call_loses_nothing() {
    if !strace_is_here("f_k1") {
        return;
    }
    let mut failures = 0;
    for call in ["/^mkdir", "/^openat", "/^rename", "/^f.*sync"] {
        failures += sweep(call, "ENOSPC", &[507]).await;
    }
    assert!(failures > 0, "something did fail");
}

#[tokio::test]
async fn f_k3_a_failing_sync_is_a_failed_push() {
    if !strace_is_here("f_k3") {
        return;
    }
    assert!(sweep("/^f.*sync", "EIO", &[500]).await > 0, "something did fail");
}

#[tokio::test]
async fn f_k4_a_disk_that_may_not_be_written_loses_nothing() {
    if !strace_is_here("f_k4") {
        return;
    }
    let mut failures = 0;
    for (error, status) in [("EDQUOT", 507), ("EROFS", 500), ("EACCES", 500)] {
        failures += sweep("/^rename", error, &[status]).await;
    }
    assert!(failures > 0, "something did fail");
}

#[tokio::test]
async fn f_k5_a_rename_to_another_device_is_a_failed_push() {
    if !strace_is_here("f_k5") {
        return;
    }
    assert!(sweep("/^rename", "EXDEV", &[500]).await > 0, "something did fail");
}

/// A server whose store lies on a file system of a few pages, in a namespace of its own.
fn on_small_disk(test: &str, place: &Place, options: &str) -> Option<Server> {
    std::fs::create_dir(place.store()).expect("a mount point");
    let script = format!(
        "mount -t tmpfs -o mode=700,{options} none \"$1\" && exec \"$0\" serve --anonymous-writes --listen 127.0.0.1:0 --store \"$1\""
    );
    let mut unshare = place.program("unshare");
    unshare.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_polyarch")]).arg(place.store());
    unshare.stdout(Stdio::piped()).stderr(Stdio::null());
    let server = unshare.spawn().ok().and_then(Server::try_of);
    if server.is_none() {
        skip(test, "no namespace with a file system of its own can be made");
    }
    server
}

/// The folder of such a store, seen from outside.
fn from_outside(server: &Server, place: &Place) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", server.child.id()));
    root.join(place.store().strip_prefix("/").expect("a whole path"))
}

async fn fills_up_and_goes_on(test: &str, options: &str, fill: impl Fn(&std::path::Path)) {
    let place = Place::new();
    let Some(server) = on_small_disk(test, &place, options) else { return };
    let folder = from_outside(&server, &place);
    let asker = Asker::new(&server, "small/disk");
    let mut run = Run::default();
    run.push(&asker, &["before"]).await;
    assert_eq!(run.failures, []);
    let filler = folder.join("filler");
    std::fs::create_dir(&filler).expect("a folder for what fills the disk");
    fill(&filler);
    run.push(&asker, &WORDS).await;
    assert!(!run.failures.is_empty(), "the disk is full");
    for (status, body) in &run.failures {
        assert_eq!(*status, 507, "{body}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["errors"][0]["code"], "STORE_FULL", "{body}");
        let causes = body["errors"][0]["detail"]["causes"].to_string();
        assert!(causes.contains("No space left"), "it names its cause: {body}");
    }
    run.check(&asker, "on the full disk").await;
    std::fs::remove_dir_all(&filler).expect("room");
    let mut again = Run::default();
    again.push(&asker, &WORDS).await;
    assert_eq!(again.failures, [], "with room it goes on");
    again.check(&asker, "with room").await;
    run.check(&asker, "with room").await;
    let uploads = std::fs::read_dir(folder.join("uploads")).expect("the uploads");
    assert_eq!(uploads.count(), 0, "nothing is left of what failed");
}

#[tokio::test]
async fn f_k1_a_full_disk_is_told_and_the_server_goes_on() {
    fills_up_and_goes_on("f_k1", "size=2m", |folder| {
        // Until nothing fits any more.
        for number in 0..4096 {
            if std::fs::write(folder.join(number.to_string()), [0; 4096]).is_err() {
                return;
            }
        }
        panic!("the disk is larger than it should be");
    })
    .await;
}

#[tokio::test]
async fn f_k2_a_disk_without_inodes_is_told_and_the_server_goes_on() {
    fills_up_and_goes_on("f_k2", "size=64m,nr_inodes=200", |folder| {
        for number in 0..200 {
            if std::fs::File::create(folder.join(number.to_string())).is_err() {
                return;
            }
        }
        panic!("the disk has more inodes than it should");
    })
    .await;
}

#[tokio::test]
async fn f_e6_a_manifest_that_finds_no_room_is_refused_and_leaves_no_tag() {
    let place = Place::new();
    let Some(server) = on_small_disk("f_e6", &place, "size=2m") else { return };
    let asker = Asker::new(&server, "small/disk");
    let mut run = Run::default();
    run.push(&asker, &["before"]).await;
    assert_eq!(run.failures, []);
    let bytes = run.documents[0].bytes();
    let mut large: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    large["annotations"] = serde_json::json!({ "large": "a".repeat(3 << 20) });
    let large = Document::new(run.documents[0].media_type(), large.to_string());
    match asker.push_document(&large, "large").await {
        Err(Failed::Answered(status, body)) => {
            assert_eq!(status.as_u16(), 507, "{body}");
            assert!(body.contains("STORE_FULL") && body.contains("No space left"), "{body}");
        }
        other => panic!("refused: {other:?}"),
    }
    match asker.document("large").await {
        Err(Failed::Answered(status, _)) => assert_eq!(status.as_u16(), 404, "no tag dangles"),
        other => panic!("it is not there: {other:?}"),
    }
    run.check(&asker, "after the refusal").await;
    let uploads = std::fs::read_dir(from_outside(&server, &place).join("uploads")).expect("the uploads");
    assert_eq!(uploads.count(), 0, "nothing is left of what was refused");
}
