//! The embedded registry over a real socket, asked by a plain HTTP client.

#![cfg(test)]

mod conditions;
mod hostile;
mod limits;
mod program;
mod restart;
mod rights;
mod specification;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use polyarch::oci::server::{Access, Rights, User, router, serve};
use polyarch::oci::{Digest, Document, MediaType, Memory};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a port of its own. It ends with the test.
struct Served {
    address: SocketAddr,
    client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Served {
    async fn start(access: Access) -> Self {
        Self::of(router(Arc::new(Memory::new()), access)).await
    }

    async fn of(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            serve(listener, router, async { drop(stopped.await) }).await.unwrap();
        });
        Self { address, client: Client::builder().no_proxy().build().unwrap(), stop, running }
    }

    async fn open() -> Self {
        Self::start(Access::open()).await
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url)
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        self.ask(method, path).send().await.unwrap()
    }

    async fn push_blob(&self, repository: &str, bytes: &'static [u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.ask("POST", &path).body(bytes).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        digest
    }

    /// Begin an upload; the path of its session.
    async fn begin(&self, repository: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/")).await;
        assert_eq!(answer.status(), 202);
        header(&answer, "location").to_owned()
    }

    async fn put_manifest(&self, path: &str, bytes: &str) -> Response {
        let request = self.ask("PUT", path).header("content-type", MediaType::MANIFEST);
        request.body(bytes.to_owned()).send().await.unwrap()
    }

    /// A small image under a tag; its bytes.
    async fn push_image(&self, repository: &str, tag: &str) -> String {
        let image = image(&self.push_blob(repository, b"{}").await, &json!({ "tag": tag }), None);
        let answer = self.put_manifest(&format!("/v2/{repository}/manifests/{tag}"), &image).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        image
    }

    /// Bytes as they are, past every client; all that comes back.
    async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A request whose body the server reads, half of which, `01234` of ten bytes, was sent.
async fn begun(address: SocketAddr, request: &str) -> TcpStream {
    const GOES_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; GOES_ON.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, GOES_ON);
    stream.write_all(b"01234").await.unwrap();
    stream
}

fn image(config: &Digest, annotations: &Value, subject: Option<&Digest>) -> String {
    let mut image = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::MANIFEST,
        "config": { "mediaType": "application/vnd.example.kind", "digest": config, "size": 2 },
        "layers": [],
        "annotations": annotations,
    });
    if let Some(subject) = subject {
        image["subject"] = json!({ "mediaType": MediaType::MANIFEST, "digest": subject, "size": 1 });
        image["artifactType"] = json!("application/vnd.example.kind");
    }
    image.to_string()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_base_says_that_it_is_a_registry() {
    let served = Served::open().await;
    let answer = served.send("GET", "/v2/").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "docker-distribution-api-version"), "registry/2.0");
    assert_eq!(served.send("POST", "/v2/").await.status(), 405);
}

#[tokio::test]
async fn i_r2_a_blob_comes_out_as_it_went_in_whole_and_in_ranges() {
    let served = Served::open().await;
    let digest = served.push_blob("a/b", b"0123456789").await;
    let path = format!("/v2/a/b/blobs/{digest}");
    let head = served.send("HEAD", &path).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, "10"));
    assert_eq!(header(&head, "docker-content-digest"), digest.to_string());
    let get = served.send("GET", &path).await;
    assert_eq!((get.status(), header(&get, "content-length")), (StatusCode::OK, "10"));
    assert_eq!(get.text().await.unwrap(), "0123456789");
    for (range, status, part, content) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=1-2,4-5", 200, "0123456789", ""),
    ] {
        let answer = served.ask("GET", &path).header("range", range).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-range")),
            (status, content),
            "{range}"
        );
        assert_eq!(answer.text().await.unwrap(), part, "{range}");
    }
    let outside = served.ask("GET", &path).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!((outside.status().as_u16(), header(&outside, "content-range")), (416, "bytes */10"));

    let elsewhere = served.send("GET", &format!("/v2/other/blobs/{digest}")).await;
    assert_eq!(code(elsewhere).await, (404, "BLOB_UNKNOWN".into()));
    assert_eq!(served.send("DELETE", &path).await.status(), 202);
    assert_eq!(served.send("HEAD", &path).await.status(), 404);
    assert_eq!(code(served.send("DELETE", &path).await).await, (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn i_r4_f_e2_uploads_move_strictly_forward() {
    let served = Served::open().await;
    let session = served.begin("a").await;
    let chunk = |range: &'static str, body: &'static str| {
        served.ask("PATCH", &session).header("content-range", range).body(body).send()
    };
    let first = chunk("0-4", "01234").await.unwrap();
    assert_eq!((first.status().as_u16(), header(&first, "range")), (202, "0-4"));
    for range in ["0-4", "4-8", "6-10", "9-5", "x"] {
        let refused = chunk(range, "56789").await.unwrap();
        assert_eq!((refused.status().as_u16(), header(&refused, "range")), (416, "0-4"), "{range}");
        assert_eq!(header(&refused, "location"), session);
    }
    assert_eq!(code(chunk("5-9", "567").await.unwrap()).await, (400, "SIZE_INVALID".into()));
    let status = served.send("GET", &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-4"), "nothing has moved");
    assert_eq!(chunk("5-6", "56").await.unwrap().status(), 202);

    let digest = Digest::of(b"0123456789");
    let stray = served.ask("PUT", &format!("{session}?digest={digest}"));
    let stray = stray.header("content-range", "0-2").body("789").send().await.unwrap();
    assert_eq!(stray.status(), 416);
    let last = served.ask("PUT", &format!("{session}?digest={digest}"));
    let last = last.header("content-range", "7-9").body("789").send().await.unwrap();
    assert_eq!((last.status().as_u16(), header(&last, "docker-content-digest")), (201, &*digest.to_string()));
    let blob = served.send("GET", header(&last, "location")).await;
    assert_eq!(blob.text().await.unwrap(), "0123456789");
    assert_eq!(code(served.send("GET", &session).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

#[tokio::test]
async fn f_e2_two_requests_at_once_do_not_mix() {
    let served = Served::open().await;
    let session = served.begin("a").await;
    let mut slow = begun(served.address, &format!("PATCH {session}")).await;
    let second = served.ask("PATCH", &session).body("xxxxx").send().await.unwrap();
    assert_eq!(code(second).await, (409, "BLOB_UPLOAD_INVALID".into()));
    slow.write_all(b"56789").await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    let digest = Digest::of(b"0123456789");
    assert_eq!(served.send("PUT", &format!("{session}?digest={digest}")).await.status(), 201);
}

#[tokio::test]
async fn f_e1_a_client_that_goes_away_can_go_on_where_it_was() {
    let served = Served::open().await;
    let session = served.begin("a").await;
    let mut broken = TcpStream::connect(served.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
    broken.write_all(head.as_bytes()).await.unwrap();
    drop(broken);
    let begun = Instant::now();
    loop {
        let status = served.send("GET", &session).await;
        if status.status() == 204 && header(&status, "range") == "0-4" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the bytes that came are not there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let digest = Digest::of(b"0123456789");
    let rest = served.ask("PUT", &format!("{session}?digest={digest}")).body("56789");
    assert_eq!(rest.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_is_called_is_not_kept() {
    let served = Served::open().await;
    let digest = Digest::of(b"right");
    let session = served.begin("a").await;
    let put = served.ask("PUT", &format!("{session}?digest={digest}")).body("wrong").send().await.unwrap();
    assert_eq!(code(put).await, (400, "DIGEST_INVALID".into()));
    let post = format!("/v2/a/blobs/uploads/?digest={digest}");
    let post = served.ask("POST", &post).body("wrong").send().await.unwrap();
    assert_eq!(code(post).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(served.send("HEAD", &format!("/v2/a/blobs/{digest}")).await.status(), 404);
    let cancelled = served.begin("a").await;
    assert_eq!(served.send("DELETE", &cancelled).await.status(), 204);
    assert_eq!(served.send("GET", &cancelled).await.status(), 404);
}

#[tokio::test]
async fn a_mount_moves_no_bytes_and_falls_back_to_an_upload() {
    let served = Served::open().await;
    let digest = served.push_blob("from", b"layer").await;
    let mounted = served.send("POST", &format!("/v2/to/blobs/uploads/?mount={digest}&from=from")).await;
    assert_eq!(mounted.status(), 201);
    assert_eq!(served.send("GET", header(&mounted, "location")).await.text().await.unwrap(), "layer");
    let anonymous = served.send("POST", &format!("/v2/third/blobs/uploads/?mount={digest}")).await;
    assert_eq!(anonymous.status(), 201, "whoever holds it will do");
    assert_eq!(served.send("GET", header(&anonymous, "location")).await.text().await.unwrap(), "layer");
    for query in ["&from=nowhere", "&from=..%2fx"] {
        let answer = served.send("POST", &format!("/v2/new/blobs/uploads/?mount={digest}{query}")).await;
        assert_eq!(answer.status(), 202, "{query}");
        assert!(header(&answer, "location").starts_with("/v2/new/blobs/uploads/"));
    }
}

#[tokio::test]
async fn f_e3_the_same_blob_and_tag_from_sixteen_clients() {
    let served = Served::open().await;
    let bytes = vec![7_u8; 1 << 20];
    let digest = Digest::of(&bytes);
    let config = served.push_blob("a", b"{}").await;
    let push = async |number: usize| {
        let session = served.begin("a").await;
        let put = served.ask("PUT", &format!("{session}?digest={digest}")).body(bytes.clone());
        assert_eq!(put.send().await.unwrap().status(), 201);
        let image = image(&config, &json!({ "number": number.to_string() }), None);
        assert_eq!(served.put_manifest("/v2/a/manifests/same", &image).await.status(), 201);
        image
    };
    let images = futures_util::future::join_all((0..16).map(push)).await;
    let kept = served.send("GET", "/v2/a/manifests/same").await.text().await.unwrap();
    assert!(images.contains(&kept), "the tag is torn");
    let blob = served.send("GET", &format!("/v2/a/blobs/{digest}")).await;
    assert!(blob.bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn a_manifest_goes_by_tag_and_by_digest() {
    let served = Served::open().await;
    let image = served.push_image("a/b", "one").await;
    let digest = Digest::of(image.as_bytes());
    for pointer in ["one".to_owned(), digest.to_string()] {
        for method in ["HEAD", "GET"] {
            let request = served.ask(method, &format!("/v2/a/b/manifests/{pointer}"));
            let answer = request.header("accept", "text/plain").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(header(&answer, "content-type"), MediaType::MANIFEST);
            assert_eq!(header(&answer, "content-length"), image.len().to_string());
            assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
            assert_eq!(answer.text().await.unwrap(), if method == "GET" { &*image } else { "" });
        }
    }
    let many = format!("/v2/a/b/manifests/{digest}?tag=two&tag=three");
    let pushed = served.put_manifest(&many, &image).await;
    assert_eq!(pushed.status(), 201);
    assert_eq!(header(&pushed, "location"), format!("/v2/a/b/manifests/{digest}"));
    assert_eq!(pushed.headers().get_all("oci-tag").iter().count(), 2);
    assert_eq!(served.send("GET", "/v2/a/b/manifests/three").await.text().await.unwrap(), image);

    assert_eq!(served.send("DELETE", "/v2/a/b/manifests/two").await.status(), 202);
    assert_eq!(served.send("GET", "/v2/a/b/manifests/two").await.status(), 404);
    assert_eq!(served.send("GET", "/v2/a/b/manifests/one").await.status(), 200);
    assert_eq!(served.send("DELETE", &format!("/v2/a/b/manifests/{digest}")).await.status(), 202);
    let gone = served.send("GET", "/v2/a/b/manifests/one").await;
    assert_eq!(code(gone).await, (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn tm15_f_e9_a_manifest_that_lies_or_dangles_is_refused() {
    let served = Served::open().await;
    let config = served.push_blob("a", b"{}").await;
    let plain = image(&config, &json!({}), None);
    let dangling = image(&Digest::of(b"missing"), &json!({}), None);
    let both = plain.replacen("\"layers\":[]", "\"layers\":[],\"manifests\":[]", 1);
    let other_type = plain.replacen(MediaType::MANIFEST, MediaType::INDEX, 1);
    let twice = plain.replacen("\"layers\":[]", "\"layers\":[],\"layers\":[]", 1);
    for (text, expected) in [
        (dangling.as_str(), "MANIFEST_BLOB_UNKNOWN"),
        (&both, "MANIFEST_INVALID"),
        (&other_type, "MANIFEST_INVALID"),
        (&twice, "MANIFEST_INVALID"),
        ("[]", "MANIFEST_INVALID"),
        ("", "MANIFEST_INVALID"),
        ("{", "MANIFEST_INVALID"),
    ] {
        let answer = served.put_manifest("/v2/a/manifests/t", text).await;
        assert_eq!(code(answer).await, (400, expected.to_owned()), "{text}");
    }
    let wrong = format!("/v2/a/manifests/{}", Digest::of(b"other"));
    assert_eq!(code(served.put_manifest(&wrong, &plain).await).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(served.send("GET", "/v2/a/manifests/t").await.status(), 404, "nothing was kept");
    assert_eq!(served.put_manifest("/v2/a/manifests/t", &plain).await.status(), 201);
}

#[tokio::test]
async fn tm14_a_manifest_past_4_mib_is_refused_and_the_client_hears_it() {
    let served = Served::open().await;
    // A client that sends all of it before it listens, as many do: it must not find the connection cut.
    for size in [Document::BYTES_LIMIT + 1, 3 * Document::BYTES_LIMIT] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!("PUT /v2/a/manifests/t HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; size]).await.expect("no broken pipe");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 413", "{size}");
    }
    let stream = futures_util::stream::iter((0..80).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16])));
    let request = served.ask("PUT", "/v2/a/manifests/t").header("content-type", MediaType::MANIFEST);
    let answer = request.body(reqwest::Body::wrap_stream(stream)).send().await.expect("an answer");
    assert_eq!(code(answer).await, (413, "SIZE_INVALID".into()), "with no length said");

    let config = served.push_blob("a", b"{}").await;
    let mut image = image(&config, &json!({}), None);
    image.push_str(&" ".repeat(Document::BYTES_LIMIT - image.len()));
    assert_eq!(served.put_manifest("/v2/a/manifests/t", &image).await.status(), 201, "just within");
}

#[tokio::test]
async fn lists_come_in_pages_with_links() {
    let served = Served::open().await;
    for tag in ["c", "a", "e", "B", "d"] {
        served.push_image("x/one", tag).await;
    }
    served.push_image("x/two", "t").await;
    served.push_image("three", "t").await;
    for (first, key, all) in [
        ("/v2/x/one/tags/list?n=2", "tags", vec!["B", "a", "c", "d", "e"]),
        ("/v2/_catalog?n=1", "repositories", vec!["three", "x/one", "x/two"]),
    ] {
        let mut path = first.to_owned();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let answer = served.send("GET", &path).await;
            assert_eq!(answer.status(), 200);
            let link = header(&answer, "link").to_owned();
            let body: Value = answer.json().await.unwrap();
            let page: Vec<String> = serde_json::from_value(body[key].clone()).unwrap();
            assert!(!page.is_empty() && page.len() <= 2);
            seen.extend(page);
            let Some(next) = link.strip_suffix(">; rel=\"next\"") else { break };
            path = next.strip_prefix('<').unwrap().to_owned();
        }
        assert_eq!(seen, all);
    }
    let rest: Value = served.send("GET", "/v2/x/one/tags/list?last=c").await.json().await.unwrap();
    assert_eq!(rest, json!({ "name": "x/one", "tags": ["d", "e"] }));
    let none = served.send("GET", "/v2/x/one/tags/list?n=0").await;
    assert_eq!((none.status().as_u16(), header(&none, "link")), (200, ""));
    assert_eq!(served.send("GET", "/v2/x/one/tags/list?n=-1").await.status(), 400);
    let unknown = served.send("GET", "/v2/x/nowhere/tags/list").await;
    assert_eq!(code(unknown).await, (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn referrers_are_found_filtered_and_may_come_before_their_subject() {
    let served = Served::open().await;
    let config = served.push_blob("a", b"{}").await;
    let subject = Digest::of(b"a subject that is not there");
    let path = format!("/v2/a/referrers/{subject}");
    let empty = served.send("GET", &path).await;
    assert_eq!(header(&empty, "content-type"), MediaType::INDEX);
    assert_eq!(empty.json::<Value>().await.unwrap()["manifests"], json!([]));

    let signature = image(&config, &json!({ "key": "value" }), Some(&subject));
    let digest = Digest::of(signature.as_bytes());
    let pushed = served.put_manifest(&format!("/v2/a/manifests/{digest}"), &signature).await;
    assert_eq!((pushed.status().as_u16(), header(&pushed, "oci-subject")), (201, &*subject.to_string()));
    let found = served.send("GET", &path).await;
    assert_eq!(header(&found, "oci-filters-applied"), "");
    let found: Value = found.json().await.unwrap();
    assert_eq!(found["manifests"][0]["digest"], json!(digest));
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example.kind");
    assert_eq!(found["manifests"][0]["annotations"]["key"], "value");
    for (wanted, count) in [("application%2Fvnd.example.kind", 1), ("other", 0)] {
        let answer = served.send("GET", &format!("{path}?artifactType={wanted}")).await;
        assert_eq!(header(&answer, "oci-filters-applied"), "artifactType");
        let index: Value = answer.json().await.unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), count, "{wanted}");
    }
    assert_eq!(served.send("GET", "/v2/a/referrers/sha256:12").await.status(), 400);
}

#[tokio::test]
async fn f_e8_tm16_names_that_lead_out_are_refused_as_they_stand() {
    let served = Served::open().await;
    let digest = Digest::of(b"x");
    for (path, status) in [
        (format!("/v2/../../etc/blobs/{digest}"), 400),
        (format!("/v2/..%2f..%2fetc/blobs/{digest}"), 400),
        (format!("/v2/%2e%2e/blobs/{digest}"), 400),
        (format!("/v2/a//b/blobs/{digest}"), 400),
        (format!("/v2/{}/blobs/{digest}", "a".repeat(256)), 400),
        ("/v2/a/blobs/sha256:../../../etc/passwd".into(), 404),
        ("/v2/a/blobs/sha256:..%2f..%2fx".into(), 400),
        ("/v2/a/manifests/..%2fx".into(), 404),
        ("/v2/a/blobs/uploads/..%2fx".into(), 404),
        ("/v2/_catalog/tags/list".into(), 400),
    ] {
        let answer =
            served.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains("{\"errors\":[{"), "{path}: {answer}");
    }
    assert_eq!(served.send("POST", "/v2/A/blobs/uploads/").await.status(), 400);
    let bad_tag = served.put_manifest("/v2/a/manifests/.x", "{}").await;
    assert_eq!(code(bad_tag).await, (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn i_r5_a_password_is_asked_before_anything_happens() {
    for open in [false, true] {
        let unnamed = if open { Rights::reading() } else { Rights::default() };
        let access = Access::new(unnamed, vec![User::new("user", "word", Rights::all())]);
        let served = Served::start(access).await;
        let base = served.send("GET", "/v2/").await;
        assert_eq!(base.status(), if open { 200 } else { 401 });
        assert_eq!(header(&base, "www-authenticate"), "Basic realm=\"polyarch\"");
        let digest = Digest::of(b"{}");
        let upload = format!("/v2/a/blobs/uploads/?digest={digest}");
        let refused = served.ask("POST", &upload).body("{}").send().await.unwrap();
        assert_eq!(header(&refused, "www-authenticate"), "Basic realm=\"polyarch\"");
        assert_eq!(code(refused).await, (401, "UNAUTHORIZED".into()));
        let wrong = served.ask("POST", &upload).basic_auth("user", Some("wor")).body("{}");
        assert_eq!(wrong.send().await.unwrap().status(), 401);
        let login = served.ask("GET", "/v2/").basic_auth("user", Some("wrong")).send().await.unwrap();
        assert_eq!(login.status(), 401, "`docker login` hears that the password is wrong");

        let blob = format!("/v2/a/blobs/{digest}");
        let with = |request: RequestBuilder| request.basic_auth("user", Some("word"));
        let missing = with(served.ask("HEAD", &blob)).send().await.unwrap();
        assert_eq!(missing.status(), 404, "nothing was written");
        assert_eq!(with(served.ask("GET", "/v2/")).send().await.unwrap().status(), 200);
        assert_eq!(with(served.ask("POST", &upload)).body("{}").send().await.unwrap().status(), 201);
        let read = served.send("GET", &blob).await;
        assert_eq!(read.status(), if open { 200 } else { 401 });
        assert_eq!(served.send("DELETE", &blob).await.status(), 401);
    }
}

#[tokio::test]
async fn f_e11_running_requests_end_well_and_new_ones_are_not_taken() {
    let Served { address, client, stop, running } = Served::open().await;
    let digest = Digest::of(b"0123456789");
    let mut slow = begun(address, &format!("POST /v2/a/blobs/uploads/?digest={digest}")).await;
    stop.send(()).unwrap();
    let asked = Instant::now();
    // It hears of its end a moment later.
    while client.get(format!("http://{address}/v2/")).header("connection", "close").send().await.is_ok() {
        assert!(asked.elapsed() < Duration::from_secs(60), "still listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    slow.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    running.await.unwrap();
}

#[tokio::test]
async fn f_e7_who_hangs_on_is_cut_off_after_the_grace() {
    let Served { address, stop, running, .. } = Served::open().await;
    let digest = Digest::of(b"0123456789");
    let _stuck = begun(address, &format!("POST /v2/a/blobs/uploads/?digest={digest}")).await;
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
    ended.expect("it ends although a client hangs on").unwrap();
}
