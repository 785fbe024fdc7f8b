//! The registry client against a scripted registry on loopback that refuses, cuts, lies and leads astray.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use polyarch::oci::{
    Client, ClientOptions, Credentials, Digest, DockerConfig, Document, Error, ErrorKind, Fixed, Login,
    MediaType, Pauses, Pointer, Repository, Secret, Store, Terms,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::program::write_program;

pub(super) const CANARY: &str = "canary-7f3a9b";

/// A request as the scripted registry saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the body came whole.
    whole: bool,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the scripted registry answers; `sent` bytes of the body, then the connection ends.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    sent: usize,
}

pub(super) fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: Vec::new(), sent: usize::MAX }
}

impl Reply {
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }
}

/// A registry that answers by script and remembers what it was asked.
pub(super) struct Server {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `script` gets each request with its number. `read_limit` cuts the connection within request bodies.
    pub(super) async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::cutting(script, |_, _| None).await
    }

    async fn cutting(
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
        cut: impl Fn(usize, &str) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let number = log.lock().unwrap().len();
                let Some(request) = receive(&mut stream, number, &cut).await else { continue };
                log.lock().unwrap().push(request.clone());
                if !request.whole {
                    script(number, &request);
                    continue;
                }
                let reply = script(number, &request);
                let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
                for (name, value) in &reply.headers {
                    head += &format!("{name}: {value}\r\n");
                }
                if !reply.headers.iter().any(|(name, _)| name == "content-length") {
                    head += &format!("content-length: {}\r\n", reply.body.len());
                }
                head += "\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                if request.method != "HEAD" {
                    let sent = reply.sent.min(reply.body.len());
                    let _ = stream.write_all(&reply.body[..sent]).await;
                }
                let _ = stream.shutdown().await;
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    pub(super) fn client_with(&self, change: impl Fn(&mut ClientOptions)) -> Client {
        let pause = Duration::from_millis(1);
        let mut options = ClientOptions {
            pauses: Pauses { base: pause, cap: pause },
            patience: Duration::ZERO,
            idle: Duration::from_secs(60),
            ..ClientOptions::default()
        };
        change(&mut options);
        Client::new(&self.address, options).unwrap()
    }
}

async fn receive(
    stream: &mut TcpStream,
    number: usize,
    cut: &impl Fn(usize, &str) -> Option<usize>,
) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse::<usize>().unwrap());
    let taken = cut(number, &method).unwrap_or(length).min(length);
    let mut body = vec![0; taken];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, target, headers, body, whole: taken == length })
}

pub(super) fn repository() -> Repository {
    "team/image".parse().unwrap()
}

pub(super) fn fixed(address: &str, login: Login) -> Arc<dyn Credentials> {
    Arc::new(Fixed(address.to_owned(), login))
}

pub(super) fn basic() -> Login {
    Login::Basic { user: "user".to_owned(), password: Secret::new(CANARY) }
}

fn manifest() -> Document {
    let config = Digest::of(b"{}");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[]}}"#,
        MediaType::MANIFEST,
        MediaType::EMPTY
    );
    Document::new(MediaType::MANIFEST, text.into_bytes())
}

fn served(document: &Document) -> Reply {
    reply(200).with("content-type", document.media_type()).body(document.bytes().to_vec())
}

fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(" {inner} {inner:?}");
        cause = inner.source();
    }
    text
}

#[tokio::test]
async fn f_r1_retry_after_is_waited_for_and_bounded() {
    let digest = Digest::of(b"x");
    let patient = |server: &Server| server.client_with(|options| options.patience = Duration::from_secs(60));
    let server = Server::start(|number, _| match number {
        0 => reply(429).with("retry-after", "1"),
        1 => reply(429)
            .with("date", "Wed, 21 Oct 2026 07:28:00 GMT")
            .with("retry-after", "Wed, 21 Oct 2026 07:28:01 GMT"),
        2 => reply(429).with("retry-after", "soon"),
        _ => reply(200).with("content-length", "1"),
    })
    .await;
    let start = std::time::Instant::now();
    assert_eq!(patient(&server).blob_size(&repository(), &digest).await.unwrap(), Some(1));
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());

    let server = Server::start(|_, _| reply(429).with("retry-after", "1000000000")).await;
    let error = patient(&server).blob_size(&repository(), &digest).await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::Passing, 1));
    assert!(error.to_string().contains("1000000000 s"), "{error}");
}

#[tokio::test]
async fn f_r1_what_is_to_be_tried_once_is_sent_once() {
    let document = Document::new(MediaType::MANIFEST, r#"{"schemaVersion":2}"#);
    for status in [429, 503] {
        let server = Server::start(move |_, _| reply(status).with("retry-after", "1")).await;
        let client = server.client_with(|options| options.patience = Duration::from_secs(60));
        let terms = Terms { once: true, ..Terms::default() };
        let tags = ["list".parse().unwrap()];
        let written = client.write_document_on(&repository(), &document, &tags, &terms).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Passing);
        let puts = server.seen().iter().filter(|seen| seen.method == "PUT").count();
        assert_eq!(puts, 1, "{status}");
    }
}

#[tokio::test]
async fn f_r2_patience_outlasts_attempts_and_ends() {
    let server = Server::start(|number, _| reply(if number < 50 { 503 } else { 200 })).await;
    let client = server.client_with(|options| options.patience = Duration::from_secs(60));
    client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap();
    assert_eq!(server.seen().len(), 51);
    let server = Server::start(|_, _| reply(500)).await;
    let error = server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::Passing, 6));
}

#[tokio::test]
async fn f_r3_what_will_not_pass_is_not_repeated() {
    for (status, requests) in
        [(500, 2), (502, 2), (504, 2), (408, 2), (499, 2), (522, 2), (501, 1), (507, 1), (403, 1)]
    {
        let server = Server::start(move |number, _| reply(if number == 0 { status } else { 200 })).await;
        let _ = server.client().resolve(&repository(), &Pointer::Digest(Digest::of(b"x"))).await;
        let heads = server.seen().iter().filter(|seen| seen.method == "HEAD").count();
        assert_eq!(heads, requests, "{status}");
    }
}

#[tokio::test]
async fn f_r4_a_cut_download_goes_on_where_it_was() {
    let blob: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let (digest, whole) = (Digest::of(&blob), blob.clone());
    let server = Server::start(move |number, seen| {
        let from = seen.header("range").map_or(0, |range| {
            range.strip_prefix("bytes=").unwrap().split_once('-').unwrap().0.parse::<usize>().unwrap()
        });
        let body = &whole[from..];
        let status = if number == 0 { 200 } else { 206 };
        let reply = reply(status)
            .with("content-range", format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()))
            .body(body);
        // Eleven cuts, more than there are attempts, with progress each time.
        if number < 11 { reply.cut(30_000) } else { reply }
    })
    .await;
    let reader = server.client().read_blob(&repository(), &digest, None).await.unwrap();
    assert_eq!(reader.size, 400_000);
    assert_eq!(reader.collect(&digest, 1 << 20).await.unwrap(), blob);
    assert_eq!(server.seen().len(), 12);
}

#[tokio::test]
async fn f_r4_a_download_without_progress_ends() {
    let server = Server::start(|number, _| {
        reply(if number == 0 { 200 } else { 206 })
            .with("content-range", "bytes 0-99/100")
            .body(vec![0; 100])
            .cut(0)
    })
    .await;
    let reader = server.client().read_blob(&repository(), &Digest::of(b"x"), None).await.unwrap();
    let error = reader.collect(&Digest::of(b"x"), 1 << 20).await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::Passing, 6));
}

/// A registry that keeps one upload, whose state is the bytes that came.
fn upload_script(kept: Arc<Mutex<Vec<u8>>>) -> impl Fn(usize, &Seen) -> Reply + Send + Sync {
    move |_, seen| {
        let mut kept = kept.lock().unwrap();
        let place = |reply: Reply| reply.with("location", "/v2/team/image/blobs/uploads/1?state=a");
        match seen.method.as_str() {
            "POST" => {
                kept.clear();
                place(reply(202))
            }
            "GET" => place(reply(204)).with("range", format!("0-{}", kept.len().saturating_sub(1))),
            "HEAD" => reply(404),
            "PATCH" | "PUT" => {
                if let Some(range) = seen.header("content-range")
                    && range.split_once('-').unwrap().0 != kept.len().to_string()
                {
                    return reply(416);
                }
                kept.extend_from_slice(&seen.body);
                place(reply(if seen.method == "PUT" { 201 } else { 202 }))
            }
            _ => reply(204),
        }
    }
}

async fn push(client: &Client, blob: &[u8]) -> Result<(), Error> {
    let mut upload = client.start_upload(&repository()).await?;
    for piece in blob.chunks(700) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish(&Digest::of(blob)).await
}

#[tokio::test]
async fn f_r4_a_cut_upload_goes_on_from_what_the_registry_has() {
    let blob: Vec<u8> = (0..5000_u32).map(|number| (number % 251) as u8).collect();
    let kept = Arc::new(Mutex::new(Vec::new()));
    // Request 2 is the second PATCH, request 5 another, cut after 300 and 10 bytes.
    let server = Server::cutting(upload_script(kept.clone()), |number, _| match number {
        2 => Some(300),
        5 => Some(10),
        _ => None,
    })
    .await;
    push(&server.client_with(|options| options.chunk = 1024), &blob).await.unwrap();
    assert_eq!(*kept.lock().unwrap(), blob);
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "GET").count(), 2);
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
}

#[tokio::test]
async fn f_r4_a_small_blob_takes_two_requests_and_survives_a_cut() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(upload_script(kept.clone())).await;
    push(&server.client(), b"small").await.unwrap();
    assert_eq!(server.seen().len(), 2);
    let server = Server::cutting(upload_script(kept.clone()), |number, _| (number == 1).then_some(3)).await;
    push(&server.client(), b"small").await.unwrap();
    assert_eq!(*kept.lock().unwrap(), b"small");
}

#[tokio::test]
async fn f_r5_an_upload_whose_answer_was_lost_is_not_sent_again() {
    let server = Server::start(|_, seen| match seen.method.as_str() {
        "POST" => reply(202).with("location", "/v2/team/image/blobs/uploads/1"),
        "PUT" => reply(503),
        _ => reply(200).with("content-length", "5"),
    })
    .await;
    push(&server.client(), b"small").await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn f_r7_smaller_pieces_are_learnt() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let script = upload_script(kept.clone());
    let server = Server::start(move |number, seen| match seen.body.len() > 1 << 20 {
        true => reply(413),
        false => script(number, seen),
    })
    .await;
    let blob = vec![7; 3 << 20];
    push(&server.client(), &blob).await.unwrap();
    assert!(*kept.lock().unwrap() == blob);
}

#[tokio::test]
async fn f_r9_a_refused_mount_is_cancelled() {
    let server = Server::start(|_, seen| match seen.method.as_str() {
        "POST" => reply(202).with("location", "/v2/team/image/blobs/uploads/1"),
        _ => reply(204),
    })
    .await;
    let (digest, from) = (Digest::of(b"x"), "team/base".parse().unwrap());
    assert!(!server.client().mount_blob(&repository(), &digest, &from).await.unwrap());
    for _ in 0..200 {
        if server.seen().len() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.seen()[1].method, "DELETE");
    for status in [401, 403, 404, 405] {
        let server = Server::start(move |_, _| reply(status)).await;
        assert!(!server.client().mount_blob(&repository(), &digest, &from).await.unwrap(), "{status}");
    }
    let server = Server::start(|_, _| reply(201).with("docker-content-digest", Digest::of(b"y"))).await;
    let error = server.client().mount_blob(&repository(), &digest, &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn f_r12_a_registry_that_lies_is_noticed() {
    let document = manifest();
    let wrong = Digest::of(b"other");
    let good = document.clone();
    let server =
        Server::start(move |_, _| served(&good).with("docker-content-digest", Digest::of(b"other"))).await;
    let tag = Pointer::Tag("latest".parse().unwrap());
    for pointer in [tag.clone(), Pointer::Digest(wrong)] {
        let error = server.client().read_document(&repository(), &pointer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{pointer}");
    }
    let error = server.client().write_document(&repository(), &document, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let good = document.clone();
    let server = Server::start(move |_, _| {
        reply(200).with("content-type", MediaType::INDEX).body(good.bytes().to_vec())
    })
    .await;
    let error = server.client().read_document(&repository(), &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn f_r13_documents_and_refusals_are_bounded() {
    let tag = Pointer::Tag("latest".parse().unwrap());
    let server = Server::start(|_, _| {
        reply(200).with("content-type", MediaType::INDEX).body(vec![b' '; (4 << 20) + 1])
    })
    .await;
    let error = server.client().read_document(&repository(), &tag).await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::TooLarge, 1));
    let message = format!("\u{1b}[31m{}", "x".repeat(60_000));
    let body = serde_json::json!({"errors": [{"code": "DENIED", "message": message}]}).to_string();
    let server = Server::start(move |_, _| reply(403).body(body.clone())).await;
    let error = server.client().read_document(&repository(), &tag).await.unwrap_err();
    assert!(error.to_string().contains("DENIED: [31mxxx") && error.to_string().len() < 600, "{error}");
}

#[tokio::test]
async fn f_r16_lists_end_and_are_in_order() {
    let server = Server::start(|_, seen| match seen.target.contains("page=2") {
        true => reply(200)
            .with("link", "</v2/team/image/tags/list?page=2>; rel=\"next\"")
            .body(r#"{"tags":["a","d"]}"#),
        false => reply(200)
            .with("link", "</v2/team/image/tags/list?page=2>; rel=\"next\"")
            .body(r#"{"tags":["c","b"]}"#),
    })
    .await;
    let tags = server.client().tags(&repository(), Some(&"a".parse().unwrap()), 2).await.unwrap();
    assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    let server =
        Server::start(|_, _| reply(200).with("link", "<http://other.example/>; rel=\"next\"").body("{}"))
            .await;
    assert_eq!(server.client().tags(&repository(), None, 9).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_s14_no_scope_ends_by_age_at_a_registry_that_lists_none() {
    use crate::program::Place;
    let of_others = r#"{"repositories":["owner/other","owner/cache/scopes-of-others"]}"#;
    for (status, list) in [(404, ""), (401, ""), (405, ""), (200, of_others)] {
        let server = Server::start(move |_, seen| match seen.target.split('?').next() {
            Some("/v2/_catalog") => reply(status).body(list),
            Some("/v2/owner/cache/scopes/trusted/tags/list") => reply(200).body(r#"{"tags":["durations"]}"#),
            _ => reply(404),
        })
        .await;
        let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
        let (folder, store) = (place.store(), format!("{}/owner/cache", server.address));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        let told = place.run(&["gc", "--end-after", "14d", "--store", &store, "--folder", folder]).ended(3);
        assert!(told.stderr.contains(" gc --end pr-12"), "{status}: {}", told.stderr);
    }
}

#[tokio::test]
async fn f_r18_a_silent_connection_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::default();
    let client = Server { address, seen }.client_with(|options| {
        options.idle = Duration::from_millis(50);
        options.attempts = 2;
    });
    let error = client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Passing);
    drop(listener);
}

fn helper(folder: &Path, script: &str) {
    write_program(&folder.join("docker-credential-test"), &format!("#!/bin/sh\n{script}\n"));
}

#[tokio::test]
async fn f_r17_helpers_answer_hang_and_print_junk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"credsStore":"test"}"#).unwrap();
    let patient = |patience| {
        DockerConfig::load(std::slice::from_ref(&file), folder.path()).unwrap().with_helper_patience(patience)
    };
    let load = || patient(Duration::from_secs(60));
    let error = load().find("q.io", None).await.unwrap_err();
    assert!(error.to_string().contains("docker-credential-test is not installed"), "{error}");
    helper(
        folder.path(),
        &format!(r#"read host; echo "{{\"Username\":\"$host\",\"Secret\":\"{CANARY}\"}}""#),
    );
    let expected = Login::Basic { user: "q.io".to_owned(), password: Secret::new(CANARY) };
    assert_eq!(load().find("q.io", None).await.unwrap(), Some(expected));
    helper(folder.path(), "echo credentials not found in native keychain; exit 1");
    assert_eq!(load().find("q.io", None).await.unwrap(), None);
    let hangs = ("sleep 600", Duration::from_secs(1));
    let say = ["echo junk canary-7f3a9b", "echo canary-7f3a9b; exit 3"]
        .map(|script| (script, Duration::from_secs(60)));
    for (script, patience) in std::iter::once(hangs).chain(say) {
        helper(folder.path(), script);
        let error = patient(patience).find("q.io", None).await.unwrap_err();
        assert!(error.to_string().contains("docker-credential-test"), "{error}");
        assert!(!everything(&error).contains(CANARY), "{}", everything(&error));
    }
}

#[tokio::test]
async fn f_r17_docker_and_podman_files_are_read() {
    let mut config = DockerConfig::load(&["/nowhere/config.json".into()], "").unwrap();
    let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"q.io/team":{"auth":"Yzpk"},
        "q.io":{"identitytoken":"i"},"r.io":{"registrytoken":"r"},"empty.io":{}}}"#;
    config.add(Path::new("config.json"), text.as_bytes()).unwrap();
    let basic =
        |user: &str, password: &str| Login::Basic { user: user.to_owned(), password: Secret::new(password) };
    let other: Repository = "other/image".parse().unwrap();
    let found = [
        ("docker.io", None, Some(basic("a", "b"))),
        ("q.io", Some(repository()), Some(basic("c", "d"))),
        ("q.io", Some(other), Some(Login::IdentityToken(Secret::new("i")))),
        ("r.io", None, Some(Login::RegistryToken(Secret::new("r")))),
        ("empty.io", None, None),
    ];
    for (registry, repository, expected) in found {
        assert_eq!(config.find(registry, repository.as_ref()).await.unwrap(), expected, "{registry}");
    }
    let error =
        config.add(Path::new("config.json"), br#"{"auths":{"x":{"auth":["canary-7f3a9b"]}}}"#).unwrap_err();
    assert!(!everything(&error).contains(CANARY) && error.to_string().contains("config.json"), "{error}");
    let error = config.add(Path::new("c"), br#"{"auths":"canary-7f3a9b"}"#).unwrap_err();
    assert!(!everything(&error).contains(CANARY));
}

#[tokio::test]
async fn tm18_a_password_is_in_no_message() {
    assert!(!format!("{:?}", basic()).contains(CANARY));
    assert!(!format!("{:?}", Fixed("q.io".to_owned(), basic())).contains(CANARY));
    let refusals: [fn(usize, &Seen) -> Reply; 3] = [
        |_, _| reply(401).with("www-authenticate", "Basic realm=\"x\""),
        |_, seen| match seen.header("authorization") {
            None => reply(401).with("www-authenticate", "Basic realm=\"x\""),
            Some(_) => reply(200).with("content-length", "9").cut(0),
        },
        |_, seen| match seen.target.starts_with("/token") {
            true => reply(200).body(r#"{"token":{"canary-7f3a9b":"canary-7f3a9b"}}"#),
            false => reply(401).with(
                "www-authenticate",
                format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap()),
            ),
        },
    ];
    for script in refusals {
        let server = Server::start(script).await;
        let client = server.client_with(|options| options.credentials = fixed(&server.address, basic()));
        let pointer = Pointer::Tag("latest".parse().unwrap());
        let error = client.read_document(&repository(), &pointer).await.unwrap_err();
        assert!(!everything(&error).contains(CANARY), "{}", everything(&error));
    }
}
