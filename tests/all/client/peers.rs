//! The 13 faults of a push and the 6 of a pull that other clients were measured with: all are survived, against
//! both registries, and what is published or pulled is whole.

use super::fault_proxy::{Fault, FaultProxy, Reply, Request, rule};
use super::registries::{Image, Registry, client, survives_pull, survives_push, tag};

use polyarch::oci::{ErrorKind, Pointer, Store};

const BLOBS: &str = "/blobs/uploads/";
const MANIFEST: &str = "/manifests/";

fn refused(status: u16, code: &str) -> Fault {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"planted"}}]}}"#);
    Fault::Answer(Reply::of(status).with("content-type", "application/json").body(body))
}

fn later(status: u16, seconds: u64) -> Fault {
    Fault::Answer(Reply::of(status).with("retry-after", seconds))
}

fn starts(request: &Request) -> bool {
    request.is("POST", BLOBS)
}

/// A request that carries bytes of a layer that is not small.
fn carries(request: &Request) -> bool {
    (request.is("PUT", BLOBS) || request.is("PATCH", BLOBS)) && request.length > 100_000
}

fn finishes(request: &Request) -> bool {
    request.is("PUT", BLOBS)
}

fn manifest(request: &Request) -> bool {
    request.is("PUT", MANIFEST)
}

#[tokio::test]
async fn f_r1_push_01_429_with_retry_after() {
    survives_push("f_r1_push_01", |_| vec![rule(1, starts, later(429, 1))]).await;
}

#[tokio::test]
async fn f_r1_push_02_three_429_without_retry_after() {
    survives_push("f_r1_push_02", |_| vec![rule(3, starts, Fault::Answer(Reply::of(429)))]).await;
}

#[tokio::test]
async fn f_r3_push_03_one_503() {
    survives_push("f_r3_push_03", |_| vec![rule(1, starts, Fault::Answer(Reply::of(503)))]).await;
}

#[tokio::test]
async fn f_r3_push_04_three_503() {
    survives_push("f_r3_push_04", |_| vec![rule(3, starts, Fault::Answer(Reply::of(503)))]).await;
}

#[tokio::test]
async fn f_r4_push_05_reset_in_the_middle_of_a_blob() {
    survives_push("f_r4_push_05", |_| vec![rule(1, carries, Fault::CutRequest(3 << 20))]).await;
}

#[tokio::test]
async fn f_r6_push_06_the_upload_is_gone_at_its_end() {
    survives_push("f_r6_push_06", |_| vec![rule(1, finishes, refused(404, "BLOB_UPLOAD_UNKNOWN"))]).await;
}

#[tokio::test]
async fn f_r5_push_07_blob_committed_and_reply_lost() {
    survives_push("f_r5_push_07", |_| vec![rule(1, finishes, Fault::LoseReply)]).await;
}

#[tokio::test]
async fn f_r3_push_08_manifest_500() {
    survives_push("f_r3_push_08", |_| vec![rule(1, manifest, Fault::Answer(Reply::of(500)))]).await;
}

#[tokio::test]
async fn f_r1_push_09_manifest_429_with_retry_after() {
    survives_push("f_r1_push_09", |_| vec![rule(1, manifest, later(429, 1))]).await;
}

#[tokio::test]
async fn f_r8_push_10_blobs_not_known_yet() {
    survives_push("f_r8_push_10", |_| vec![rule(1, manifest, refused(400, "MANIFEST_BLOB_UNKNOWN"))]).await;
}

#[tokio::test]
async fn f_r5_push_11_manifest_committed_and_reply_lost() {
    survives_push("f_r5_push_11", |_| vec![rule(2, manifest, Fault::LoseReply)]).await;
}

#[tokio::test]
async fn f_r7_push_12_bodies_capped_at_4_mib_with_416() {
    let large = |request: &Request| request.target.contains(BLOBS) && request.length > 4 << 20;
    survives_push("f_r7_push_12", |_| vec![rule(usize::MAX, large, refused(416, "RANGE_INVALID"))]).await;
}

#[tokio::test]
async fn f_r6_push_13_stale_range_in_replies() {
    // Bodies are capped too, so that there are pieces whose replies can be stale.
    let large = |request: &Request| request.target.contains(BLOBS) && request.length > 1 << 20;
    let patch = |request: &Request| request.is("PATCH", BLOBS);
    let stale: fn(Reply) -> Reply = |reply| reply.with("range", "0-99");
    survives_push("f_r6_push_13", |_| {
        vec![
            rule(usize::MAX, large, refused(413, "SIZE_INVALID")),
            rule(usize::MAX, patch, Fault::Change(stale)),
        ]
    })
    .await;
}

#[tokio::test]
async fn f_r1_pull_1_manifest_429() {
    survives_pull("f_r1_pull_1", || vec![rule(1, |request| request.is("GET", MANIFEST), later(429, 1))])
        .await;
}

#[tokio::test]
async fn f_r3_pull_2_manifest_503() {
    let fault = || Fault::Answer(Reply::of(503));
    survives_pull("f_r3_pull_2", || vec![rule(2, |request| request.is("GET", MANIFEST), fault())]).await;
}

#[tokio::test]
async fn f_r1_pull_3_blob_429() {
    survives_pull("f_r1_pull_3", || vec![rule(1, |request| request.is("GET", "/blobs/"), later(429, 1))])
        .await;
}

#[tokio::test]
async fn f_r3_pull_4_blob_503() {
    let fault = || Fault::Answer(Reply::of(503));
    survives_pull("f_r3_pull_4", || vec![rule(2, |request| request.is("GET", "/blobs/"), fault())]).await;
}

#[tokio::test]
async fn f_r8_pull_5_the_tag_just_pushed_is_not_seen_for_two_requests() {
    let image = Image::new().await;
    for registry in Registry::both("f_r8_pull_5").await {
        let unseen =
            |request: &Request| request.target.ends_with("/manifests/latest") && request.method != "PUT";
        let rules = vec![rule(2, unseen, refused(404, "MANIFEST_UNKNOWN"))];
        let proxy = FaultProxy::start(&registry.address, rules).await;
        let client = client(&proxy);
        image.push(&client).await.unwrap();
        let found = client.resolve(&image.repository, &Pointer::Tag(tag())).await.unwrap();
        assert_eq!(found.map(|found| found.digest).as_ref(), Some(image.document.digest()));
        assert_eq!(proxy.faults(), 2);
        // A tag that nobody wrote is not waited for.
        let asked = proxy.requests().len();
        let other = Pointer::Tag("other".parse().unwrap());
        assert_eq!(client.resolve(&image.repository, &other).await.unwrap(), None);
        assert_eq!(proxy.requests().len(), asked + 1);
    }
}

#[tokio::test]
async fn f_r4_pull_6_body_cut() {
    let large = |request: &Request| request.is("GET", "/blobs/");
    survives_pull("f_r4_pull_6", || vec![rule(5, large, Fault::CutReply(1500))]).await;
}

#[tokio::test]
async fn f_r19_tampering_is_noticed() {
    let image = Image::new().await;
    let flip: fn(Reply) -> Reply = |mut reply| {
        let at = reply.body.len() / 2;
        reply.body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        reply
    };
    type Change = fn(Reply) -> Reply;
    let faults: [(&str, Change); 4] = [
        ("/blobs/", flip),
        ("/manifests/", flip),
        ("/manifests/", |reply| reply.with("content-type", "application/vnd.oci.image.index.v1+json")),
        ("/manifests/", |reply| reply.body(vec![b' '; 5 << 20]).without("content-length")),
    ];
    for registry in Registry::both("f_r19").await {
        image.push(&registry.client()).await.unwrap();
        for (word, change) in faults {
            let rules = vec![rule(usize::MAX, move |request| request.is("GET", word), Fault::Change(change))];
            let proxy = FaultProxy::start(&registry.address, rules).await;
            let error = image.pull(&client(&proxy)).await.map(drop).unwrap_err();
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Mismatch | ErrorKind::TooLarge | ErrorKind::Invalid),
                "{error:?}"
            );
        }
    }
}
