//! Clients that hold on, send junk or send too much: raw sockets against the server as a program, with few files.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use polyarch::oci::Digest;
use polyarch::oci::server::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Served;
use super::program::Program;

/// A blob goes in and comes out while others hold on.
async fn works(program: &Program, number: usize) {
    let bytes = format!("blob {number}");
    let digest = Digest::of(bytes.as_bytes());
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let pushed =
        program.ask("POST", &path).body(bytes.clone()).timeout(Duration::from_secs(120)).send().await;
    assert_eq!(pushed.expect("an answer").status(), 201);
    let read = program.ask("GET", &format!("/v2/a/blobs/{digest}")).send().await.unwrap();
    assert_eq!(read.text().await.unwrap(), bytes);
}

async fn connect(program: &Program, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&program.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn f_e7_five_thousand_idle_connections_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("store"), &["--anonymous-writes"]);
    let mut idle = Vec::new();
    let most = open_files_allowed().saturating_sub(200).min(5_000);
    for number in 0..most {
        // Some say nothing, some begin a head and never end it.
        let bytes = if number % 2 == 0 { "" } else { "GET /v2/ HTTP/1.1\r\nhost: x\r\n" };
        idle.push(connect(&program, bytes).await);
        if number % 1_000 == 999 {
            works(&program, number).await;
        }
    }
    works(&program, most).await;
}

/// How many files this test may open: each connection is one here too.
fn open_files_allowed() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

#[tokio::test]
async fn f_e7_a_hundred_files_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_with_files(&folder.path().join("store"), 100);
    let mut held = Vec::new();
    for number in 0..300 {
        held.push(connect(&program, if number % 2 == 0 { "" } else { "GET /v2/" }).await);
    }
    works(&program, 0).await;
    let (mut begun, mut refused) = (0, 0);
    for _ in 0..120 {
        match program.ask("POST", "/v2/a/blobs/uploads/").send().await.unwrap().status().as_u16() {
            202 => begun += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(begun > 0 && refused > 0, "{begun} begun, {refused} refused");
    works(&program, 1).await;
}

#[tokio::test]
async fn tm27_heads_that_are_too_much_or_unclear_are_refused() {
    let served = Served::start(Access::open()).await;
    let long = "a".repeat(1 << 20);
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let body = "0\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nhost: x\r\n\r\n";
    for (name, request, statuses) in [
        ("a long path", format!("GET /v2/{long} HTTP/1.1\r\nhost: x\r\n\r\n"), vec![414, 431, 400]),
        ("a long header", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\na: {long}\r\n\r\n"), vec![431]),
        ("many headers", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{many}\r\n"), vec![431]),
        ("no HTTP", "\u{16}\u{3}\u{1}\r\n\r\n".into(), vec![400]),
        ("a space before a colon", "GET /v2/ HTTP/1.1\r\nhost : x\r\n\r\n".into(), vec![400]),
        (
            "two lengths",
            "POST /v2/ HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx".into(),
            vec![400],
        ),
        ("a length that is none", "POST /v2/ HTTP/1.1\r\ncontent-length: +1\r\n\r\nx".into(), vec![400]),
        (
            "an unknown coding",
            format!("POST /v2/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n{body}"),
            vec![400, 501],
        ),
        ("HTTP 3", "GET /v2/ HTTP/3.0\r\nhost: x\r\n\r\n".into(), vec![400, 505]),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // The server may have heard enough before all of it is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(status) => assert!(statuses.contains(&status), "{name}: {answer}"),
            // Cut off before the answer could be read.
            None => assert!(answer.is_empty(), "{name}: {answer}"),
        }
        assert!(!answer.contains("repositories"), "{name}: a second request was read out of the first");
    }
}

#[tokio::test]
async fn tm27_length_and_coding_together_smuggle_nothing() {
    let served = Served::start(Access::open()).await;
    let request = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\
        transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // RFC 9112, 6.1: chunked wins over the length. Then the second is a request of its own, and never half of one.
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert!(matches!(statuses[..], ["400"] | ["202"] | ["202", "200"]), "{answer}");
}

#[tokio::test]
async fn tm27_requests_in_a_row_are_answered_in_their_order() {
    let served = Served::start(Access::open()).await;
    let digest = served.push_blob("a", b"0123456789").await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut requests = one("/v2/") + &one(&format!("/v2/a/blobs/{digest}")) + &one("/v2/none");
    requests += "GET /v2/_catalog HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = served.raw(&requests).await;
    let places = ["{}", "0123456789", "NAME_UNKNOWN", "repositories"].map(|part| answer.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_e11_told_to_end_it_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("store"), &["--anonymous-writes"]);
    let _idle = connect(&program, "").await;
    works(&program, 0).await;
    let code = tokio::task::spawn_blocking(move || program.end()).await.unwrap();
    assert_eq!(code, Some(143), "terminated, as the exit codes say");
}

/// A program under a limit of open files.
#[expect(clippy::disallowed_methods, reason = "the program that is tested")]
pub(super) fn with_files(files: u32, program: &str, arguments: &[String]) -> Child {
    let mut shell = Command::new("/bin/sh");
    shell
        .env_clear()
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), program])
        .args(arguments);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}
