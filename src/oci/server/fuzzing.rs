//! What must hold of every request that is sent to the server: see `src/fuzzing.rs`.

use std::cell::LazyCell;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper_util::service::TowerToHyperService;

use super::blob::Wanted;
use super::upload::Chunk;
use super::{Access, Rights, User, router as router_of};
use crate::oci::{Digest, Document, ImageIndex, Memory, Repository, Store, Tag};

/// How many requests one input holds, and how large an answer to one may be.
const REQUESTS: usize = 8;
const ANSWER_BYTES: usize = 64 << 10;

thread_local! {
    static RUNTIME: LazyCell<tokio::runtime::Runtime> = LazyCell::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
}

/// Some requests in a row, divided by lines of `---`: method and target on the first line, headers on the next, after
/// an empty line the body; `{upload}` in a target stands for where the last upload goes on. The server never fails,
/// says why it refuses as the specification has it, and hands out only what the digest names. Where only reading is
/// allowed, nothing changes.
pub fn router(data: &[u8]) {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            converse(&filled().await, Access::open(), data).await;
            let store = filled().await;
            let before = listed(&store).await;
            let users = vec![User::new("a", "a password that nobody guesses", Rights::all())];
            converse(&store, Access::new(Rights::reading(), users), data).await;
            assert_eq!(listed(&store).await, before, "who may only read has written");
        });
    });
}

/// A store with a repository `a/b` in it: a blob, and an index under the tag `v1`.
async fn filled() -> Memory {
    let store = Memory::new();
    let repository: Repository = "a/b".parse().expect("a name");
    store.write_blob(&repository, "0123456789".into()).await.expect("a blob");
    let index = Document::of_index(&ImageIndex::new(Vec::new()));
    store.write_document(&repository, &index, &["v1".parse().expect("a tag")]).await.expect("an index");
    store
}

/// Everything that can be seen of a store by its names.
async fn listed(store: &Memory) -> Vec<(Repository, Vec<Tag>, Option<u64>)> {
    let mut all = Vec::new();
    let digest = Digest::of(b"0123456789");
    for repository in store.repositories(None, 100).await.expect("repositories") {
        let tags = store.tags(&repository, None, 100).await.expect("tags");
        let size = store.blob_size(&repository, &digest).await.expect("a blob or none");
        all.push((repository, tags, size));
    }
    all
}

async fn converse(store: &Memory, access: Access, data: &[u8]) {
    let router = router_of(Arc::new(store.clone()), access);
    let mut upload = "/v2/a/b/blobs/uploads/".to_owned();
    for data in parts(data, b"\n---\n").into_iter().take(REQUESTS) {
        let Some(request) = request(data, &upload) else { continue };
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let told = format!("{method} {} {headers:?}", request.uri());
        let (status, answered, body) = answer(&router, request).await;
        check(&method, status, &answered, &body, &told);
        let location = answered.get("location").and_then(|value| value.to_str().ok());
        if let Some(location) = location.filter(|location| location.contains("/blobs/uploads/")) {
            location.clone_into(&mut upload);
        }
    }
    let last = request(b"GET /v2/", "").expect("a request");
    assert_eq!(answer(&router, last).await.0, StatusCode::OK, "it answers no more");
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let service = TowerToHyperService::new(router.clone());
    let Ok(answer) = hyper::service::Service::call(&service, request).await;
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, ANSWER_BYTES).await.expect("a body that ends");
    (parts.status, parts.headers, body.to_vec())
}

/// What lies between the marks.
fn parts<'a>(mut data: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    while let Some(at) = data.windows(mark.len()).position(|window| window == mark) {
        found.push(&data[..at]);
        data = &data[at + mark.len()..];
    }
    found.push(data);
    found
}

/// A request, where the bytes are one that HTTP lets through to us.
fn request(data: &[u8], upload: &str) -> Option<Request<Body>> {
    let end = data.windows(2).position(|window| window == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = String::from_utf8(lines.next()?.to_vec()).ok()?.replace("{upload}", upload);
    let (method, target) = line.split_once(' ')?;
    let mut request = Request::new(Body::from(body.to_vec()));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn check(method: &Method, status: StatusCode, headers: &HeaderMap, body: &[u8], told: &str) {
    assert!(status.as_u16() >= 200 && status.as_u16() < 500, "{told}: {status}");
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("docker-distribution-api-version"), Some("registry/2.0"), "{told}");
    assert_eq!(header("x-content-type-options"), Some("nosniff"), "{told}");
    for location in headers.get_all("location").into_iter().chain(headers.get_all("link")) {
        let text = location.to_str().expect("a text").trim_start_matches('<');
        assert!(text.starts_with("/v2/") && !text.contains(".."), "{told}: leads to {text}");
    }
    if status.as_u16() >= 400 {
        assert_eq!(header("content-type"), Some("application/json"), "{told}");
        if *method != Method::HEAD {
            check_refusal(body, told);
        }
        return;
    }
    if *method != Method::GET {
        return;
    }
    if let (StatusCode::OK, Some(digest)) = (status, header("docker-content-digest")) {
        let digest: Digest = digest.parse().expect("a digest");
        assert!(crate::oci::rules::has_digest(body, &digest), "{told}: other bytes than {digest}");
    }
    if let (StatusCode::PARTIAL_CONTENT, Some(range)) = (status, header("content-range")) {
        let range = range.strip_prefix("bytes ").and_then(|range| range.strip_suffix("/10"));
        let (first, last) = range.and_then(|range| range.split_once('-')).expect("a range of ten bytes");
        let (first, last): (usize, usize) = (first.parse().expect("a place"), last.parse().expect("a place"));
        assert_eq!(body, &b"0123456789"[first..=last], "{told}");
    }
}

/// A refusal has one error with a code of the kind that the specification has, and words.
fn check_refusal(body: &[u8], told: &str) {
    let value: serde_json::Value = serde_json::from_slice(body).expect("a refusal is JSON");
    let errors = value["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 1, "{told}: {value}");
    let code = errors[0]["code"].as_str().expect("a code");
    assert!(!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{told}");
    assert!(errors[0]["message"].as_str().is_some_and(|words| !words.is_empty()), "{told}: {value}");
}

/// The size of a blob on the first line, a header on the second: what a range asks for lies within the blob, and what
/// a chunk announces can be counted.
pub(in crate::oci) fn range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((size, text)) = text.split_once('\n') else { return };
    let Ok(size) = size.parse::<u64>() else { return };
    if let Wanted::Part(part) = Wanted::parse(Some(text), size) {
        assert!(part.start < part.end && part.end <= size, "{text:?} of {size}");
        let printed = format!("bytes={}-{}", part.start, part.end - 1);
        assert_eq!(Wanted::parse(Some(&printed), size), Wanted::Part(part), "{text:?} of {size}");
    }
    if let Some(chunk) = Chunk::parse(text) {
        let last = chunk.start.checked_add(chunk.length).and_then(|end| end.checked_sub(1));
        let last = last.expect("a chunk with an end that can be counted");
        assert!(last >= chunk.start && text.bytes().all(|byte| byte != b'+'), "{text:?}");
        for printed in [format!("{}-{last}", chunk.start), format!("bytes {}-{last}/*", chunk.start)] {
            assert_eq!(Chunk::parse(&printed), Some(chunk), "{text:?}");
        }
    }
}
