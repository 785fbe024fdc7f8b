//! Requests that nobody sends in good faith (TM27), byte for byte: each has its answer, the one behind it on the same
//! connection is answered as itself or not at all, and the server goes on.

use polyarch::oci::Digest;
use polyarch::oci::server::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Served;

/// An honest request behind the hostile one: answered with 200 where both sides agree on where it begins.
const HONEST: &str = "GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// What is sent, and the statuses that come back; the last is 200 where the honest request behind it is answered.
struct Case {
    name: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
}

fn case(name: &str, bytes: impl Into<Vec<u8>>, statuses: &[u16]) -> Case {
    Case { name: name.to_owned(), bytes: bytes.into(), statuses: statuses.to_vec() }
}

/// A request whose framing is right and whose target or method is not.
fn framed(name: &str, line: &str, status: u16) -> Case {
    case(name, format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"), &[status, 200])
}

/// Targets that would lead out of a store, or are of no place in it.
fn targets(digest: &Digest) -> Vec<Case> {
    let long = "a/".repeat(200);
    let table = [
        ("dots", format!("GET /v2/../etc/blobs/{digest}"), 400),
        ("dots before the root", format!("GET /../../v2/a/blobs/{digest}"), 404),
        ("an encoded slash", format!("GET /v2/..%2fetc/blobs/{digest}"), 400),
        ("an encoded slash, upper-case", format!("GET /v2/a%2Fb/blobs/{digest}"), 400),
        ("encoded dots", format!("GET /v2/%2e%2e/blobs/{digest}"), 400),
        ("dots encoded twice", format!("GET /v2/%252e%252e/blobs/{digest}"), 400),
        ("an overlong slash", format!("GET /v2/..%c0%afetc/blobs/{digest}"), 400),
        ("an encoded NUL", format!("GET /v2/a%00/blobs/{digest}"), 400),
        ("an encoded line end", format!("GET /v2/a%0d%0ax:y/blobs/{digest}"), 400),
        ("a backslash", format!("GET /v2/..\\etc/blobs/{digest}"), 400),
        ("an empty part", format!("GET /v2/a//b/blobs/{digest}"), 400),
        ("no repository", format!("GET /v2//blobs/{digest}"), 400),
        ("two slashes first", format!("GET //v2/a/blobs/{digest}"), 404),
        ("a long name", format!("GET /v2/{long}b/blobs/{digest}"), 400),
        ("an upper-case name", format!("GET /v2/A/blobs/{digest}"), 400),
        ("a digest that is a path", "GET /v2/a/blobs/sha256:../../x".into(), 404),
        ("a digest in upper case", format!("GET /v2/a/blobs/{}", digest.to_string().to_uppercase()), 400),
        (
            "a digest of a broken algorithm",
            "GET /v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".into(),
            400,
        ),
        ("a tag that is a path", "GET /v2/a/manifests/..".into(), 404),
        ("a tag with an encoded path", "GET /v2/a/manifests/..%2f..%2fx".into(), 404),
        ("an upload that is a path", "PATCH /v2/a/blobs/uploads/..%2f..%2fx".into(), 404),
        ("an upload of nobody", format!("PUT /v2/a/blobs/uploads/{}", "0".repeat(32)), 404),
        ("a page after a path", "GET /v2/a/tags/list?last=../x".into(), 400),
        ("a page of less than nothing", "GET /v2/_catalog?n=-1".into(), 400),
        ("a page of very many", "GET /v2/_catalog?n=99999999999999999999".into(), 400),
        ("a mount of a path", "POST /v2/a/blobs/uploads/?mount=sha256:../x&from=../y".into(), 400),
        ("another host's address", "GET http://evil.example/v2/none".into(), 404),
        ("a method of no meaning", "BREW /v2/".into(), 405),
        ("a method in lower case", "get /v2/".into(), 405),
        ("a mixed method", format!("dElEtE /v2/a/blobs/{digest}"), 405),
        ("TRACE", "TRACE /v2/".into(), 405),
        ("a star", "OPTIONS *".into(), 404),
        ("a write to the catalog", "PUT /v2/_catalog".into(), 405),
        ("a write to the tags", "DELETE /v2/a/tags/list".into(), 405),
        ("a manifest of nothing", "PUT /v2/a/manifests/x".into(), 400),
    ];
    table.into_iter().map(|(name, line, status)| framed(name, &line, status)).collect()
}

/// Heads that one reader takes for one request and another for another.
fn heads() -> Vec<Case> {
    let get = "GET /v2/ HTTP/1.1\r\n";
    let many: String = (0..150).map(|number| format!("x-{number}: y\r\n")).collect();
    vec![
        case("HTTP/0.9", "GET /v2/\r\n\r\n", &[400]),
        case("HTTP/0.9 in its own form", "GET /v2/\r\n", &[400]),
        case("HTTP/1.2", "GET /v2/ HTTP/1.2\r\nhost: x\r\n\r\n", &[400]),
        case("HTTP/2 by its preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
        case("a file's address", "GET file:///etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", &[400]),
        case("TLS", *b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", &[400]),
        case("noise", *b"\x00\xff\xfe\x80\x81\r\n\r\n", &[400]),
        case("a NUL in the target", *b"GET /v2/\0a HTTP/1.1\r\nhost: x\r\n\r\n", &[400]),
        case("a NUL in a name", *b"GET /v2/ HTTP/1.1\r\nho\0st: x\r\n\r\n", &[400]),
        case("a NUL in a value", *b"GET /v2/ HTTP/1.1\r\nhost: x\0y\r\n\r\n", &[400]),
        case("a bare CR in a value", format!("{get}a: b\rc: d\r\n\r\n"), &[400]),
        case("a space before a colon", format!("{get}host : x\r\n\r\n"), &[400]),
        case("a folded line", format!("{get}host: x\r\n folded: y\r\n\r\n"), &[400]),
        case("a line without a colon", format!("{get}host x\r\n\r\n"), &[400]),
        case("a header without a name", format!("{get}: x\r\n\r\n"), &[400]),
        case("two spaces in the line", "GET  /v2/ HTTP/1.1\r\nhost: x\r\n\r\n", &[400]),
        case("a tab in the line", "GET\t/v2/ HTTP/1.1\r\nhost: x\r\n\r\n", &[400]),
        case("a flood of headers", format!("{get}{many}\r\n"), &[431]),
        case("a header of a megabyte", format!("{get}a: {}\r\n\r\n", "a".repeat(1 << 20)), &[431]),
        case("a target of a megabyte", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)), &[431]),
    ]
}

/// Bodies that end at two places.
fn bodies() -> Vec<Case> {
    let post = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n";
    let chunked = format!("{post}transfer-encoding: chunked\r\n");
    let hidden = "GET /v2/_catalog HTTP/1.1\r\nhost: x\r\n\r\n";
    vec![
        case("two lengths", format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\nx"), &[400]),
        case("two lengths in one", format!("{post}content-length: 1, 2\r\n\r\nx"), &[400]),
        case("a length with a sign", format!("{post}content-length: +1\r\n\r\nx"), &[400]),
        case("a length below nothing", format!("{post}content-length: -1\r\n\r\nx"), &[400]),
        case("a length in hexadecimal", format!("{post}content-length: 0x1\r\n\r\nx"), &[400]),
        case("a length past counting", format!("{post}content-length: {}0\r\n\r\nx", u64::MAX), &[400]),
        case("an empty length", format!("{post}content-length:\r\n\r\n"), &[400]),
        case(
            "an unknown coding",
            format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
            &[400],
        ),
        case(
            "chunked and then not",
            format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            &[400],
        ),
        case("a chunk of no size", format!("{chunked}\r\nx\r\n\r\n"), &[202]),
        case("a chunk below nothing", format!("{chunked}\r\n-1\r\nx\r\n0\r\n\r\n"), &[202]),
        case("a chunk past counting", format!("{chunked}\r\nfffffffffffffffff\r\nx\r\n"), &[202]),
        case("a chunk longer than it says", format!("{chunked}\r\n1\r\nxyz\r\n0\r\n\r\n"), &[202]),
        case("chunks that end with LF", format!("{chunked}\r\n1\nx\n0\n\n{hidden}"), &[202]),
        case(
            "an old client's coding",
            "POST /v2/a/blobs/uploads/ HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        case(
            "a body of a GET",
            format!("GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len()),
            &[200, 200],
        ),
        case(
            "a refused body with a request in it",
            format!(
                "PUT /v2/a/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{hidden}",
                hidden.len()
            ),
            &[400, 200],
        ),
        case(
            "a manifest said to be huge",
            format!(
                "PUT /v2/a/manifests/x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
                u64::MAX - 2
            ),
            &[413],
        ),
    ]
}

/// Send a request and the honest one behind it; all that comes back until the server closes.
async fn answers(served: &Served, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // The server may have heard enough before all of it is sent.
    let _ = stream.write_all(&[bytes, HONEST.as_bytes()].concat()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn tm27_hostile_requests_are_refused_and_hide_no_other() {
    const LARGE: usize = 8 << 10;
    let served = Served::start(Access::open()).await;
    let digest = served.push_blob("seen", b"0123456789").await;
    let cases: Vec<Case> = targets(&digest).into_iter().chain(heads()).chain(bodies()).collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case { name, bytes, statuses } in cases {
        let answer = answers(&served, &bytes).await;
        let found: Vec<u16> = answer
            .match_indices("HTTP/1.1 ")
            .map(|(at, sign)| answer[at + sign.len()..].get(..3).unwrap().parse().unwrap())
            .collect();
        // Of one that was cut off while it was still sending, the answer may be lost on the way.
        let cut_off = bytes.len() > LARGE && found.is_empty();
        if found != statuses && !cut_off {
            wrong.push(format!("{name}: {found:?}, not {statuses:?}"));
        }
        assert!(!answer.contains("repositories"), "{name}: a second request was read out of the first");
        assert_eq!(served.send("GET", "/v2/").await.status(), 200, "{name}: the server is gone");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let listed = served.send("GET", "/v2/_catalog").await.text().await.unwrap();
    assert_eq!(listed, r#"{"repositories":[]}"#, "a manifest was written");
    let kept = served.send("GET", &format!("/v2/seen/blobs/{digest}")).await;
    assert_eq!(kept.text().await.unwrap(), "0123456789");
}
