//! Attacks on a served store by requests of the attacker's own, with the password that a pull request's run has.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use polyarch::oci::Digest;

use crate::Scenario;
use crate::ground::Site;

const ACCESS: &str =
    "[users.pull]\npassword-file = \"pull\"\nread = [\"scopes/trusted\"]\nwrite = [\"scopes/pr-6\"]\n";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, attack: fn(&Site) -> bool| Scenario { name, defence: "ServerRights", attack };
    vec![
        of("TM1 a record put into the trusted scope", |site| {
            let evil = site.record("pr-6", "image", "parent@linux/386");
            let path = format!("/v2/scopes/trusted/manifests/{}", evil.tag);
            let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[]}}");
            ask(site, "PUT", &path, Some(INDEX), text.as_bytes())
        }),
        of("TM1 a blob put into the trusted scope", |site| {
            let path = format!("/v2/scopes/trusted/blobs/uploads/?digest={}", Digest::of(b"evil"));
            ask(site, "POST", &path, Some("application/octet-stream"), b"evil")
        }),
        of("TM1 an upload begun in the trusted scope", |site| {
            ask(site, "POST", "/v2/scopes/trusted/blobs/uploads/", None, b"")
        }),
        of("TM1 content of another pull request read by mounting it", |site| {
            let record = site.record("pr-1", "image", "child@linux/386");
            let config = record.said["config"].as_str().expect("a digest").to_owned();
            let path = format!("/v2/scopes/pr-1/blobs/{config}");
            ask(site, "GET", &path, None, b"")
        }),
        of("F-U3 a public tag written past the program", |site| {
            let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[]}}");
            ask(site, "PUT", "/v2/two/child/manifests/latest", Some(INDEX), text.as_bytes())
        }),
        of("F-U3 the journal of publications overwritten", |site| {
            let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[]}}");
            let path = "/v2/two/parent/manifests/polyarch-publications";
            ask(site, "PUT", path, Some(INDEX), text.as_bytes())
        }),
        of("F-U3 a record of another pull request removed", |site| {
            let record = site.record("pr-1", "image", "child@linux/386");
            ask(site, "DELETE", &format!("/v2/scopes/pr-1/manifests/{}", record.tag), None, b"")
        }),
    ]
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server of the site's store; it ends with this.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a request with the password of the pull request's run is granted.
fn ask(site: &Site, method: &str, path: &str, media_type: Option<&str>, body: &[u8]) -> bool {
    std::fs::write(site.place.folder().join("pull"), "word").expect("a password");
    let access = site.place.folder().join("access.toml");
    std::fs::write(&access, ACCESS).expect("who may what");
    let store = site.place.store().display().to_string();
    let arguments =
        ["--store", &store, "serve", "--listen", "127.0.0.1:0", "--access", access.to_str().expect("a path")];
    let mut served = Served(site.place.start(&arguments));
    let mut line = String::new();
    BufReader::new(served.0.stdout.take().expect("what it prints")).read_line(&mut line).expect("an address");
    let mut stream = TcpStream::connect(line.trim()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let login = STANDARD.encode("pull:word");
    let kind = media_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: store\r\nAuthorization: Basic {login}\r\n{kind}\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("asked");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.split(' ').nth(1).unwrap_or_default();
    assert!(code.len() == 3, "no answer: {answer}");
    code.starts_with('2')
}
