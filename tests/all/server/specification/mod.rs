//! What the distribution specification asks of a registry, 1.1 and the version in development, over the folder
//! store, with and without a password. These checks are ours, made from the text of the specification; the official
//! suite is run by `scripts/conformance` where it can be had.

mod blobs;
mod documents;

use std::sync::Arc;

use polyarch::oci::server::{Access, Rights, User, router_keeping};
use polyarch::oci::{Algorithm, Completeness, Digest, Hasher, Layout};
use reqwest::{RequestBuilder, Response};
use tempfile::TempDir;

use super::{Served, header};

/// A registry over a folder, and how it is asked.
struct Registry {
    served: Served,
    login: bool,
    _folder: TempDir,
}

impl Registry {
    /// One for each way of asking, to which incomplete manifests may be pushed.
    async fn all(content: Completeness) -> [Self; 2] {
        let without = Self::start(Access::open(), content, false).await;
        let access = Access::new(Rights::default(), vec![User::new("user", "word", Rights::all())]);
        [without, Self::start(access, content, true).await]
    }

    async fn start(access: Access, content: Completeness, login: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path().join("store")).unwrap();
        let served = Served::of(router_keeping(Arc::new(layout), access, content)).await;
        Self { served, login, _folder: folder }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.served.ask(method, path);
        if self.login { request.basic_auth("user", Some("word")) } else { request }
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Response {
        self.request(method, path).body(body.to_vec()).send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, b"").await.status().as_u16()
    }

    /// Begin an upload; the path of its session.
    async fn begin(&self, repository: &str) -> String {
        let answer = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), b"").await;
        assert_eq!(answer.status(), 202);
        header(&answer, "location").to_owned()
    }

    /// `HEAD` and `GET` of content say the same and give these bytes.
    async fn expect(&self, path: &str, digest: &Digest, bytes: &[u8]) {
        for method in ["HEAD", "GET"] {
            let answer = self.ask(method, path, b"").await;
            assert_eq!(answer.status(), 200, "{method} {path}");
            assert_eq!(header(&answer, "content-length"), bytes.len().to_string(), "{method} {path}");
            assert_eq!(header(&answer, "docker-content-digest"), digest.to_string(), "{method} {path}");
            let body = answer.bytes().await.unwrap();
            assert!(body == if method == "GET" { bytes } else { b"" }, "{method} {path}");
        }
    }

    /// Delete it, and find it gone at once.
    async fn delete(&self, path: &str) {
        assert_eq!(self.status("DELETE", path).await, 202, "{path}");
        assert_eq!(self.status("HEAD", path).await, 404, "{path}");
        assert_eq!(self.status("DELETE", path).await, 404, "{path}, again");
    }

    /// Push a blob in one request.
    async fn push(&self, repository: &str, algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let digest = digest_of(algorithm, bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(self.ask("POST", &path, bytes).await.status(), 201);
        digest
    }
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// Bytes that no other call has given: uploads of one check must not help another.
fn fresh(length: usize) -> Vec<u8> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut state = NUMBER.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is() {
    for registry in Registry::all(Completeness::Whole).await {
        assert_eq!(registry.status("GET", "/v2/").await, 200);
        let digest = digest_of(Algorithm::Sha256, &fresh(9));
        for (path, status) in [
            ("tags/list".to_owned(), 404),
            (format!("blobs/{digest}"), 404),
            (format!("manifests/{digest}"), 404),
            ("manifests/missing".into(), 404),
            ("manifests/sha256:baddigeststring".into(), 400),
            (format!("referrers/{digest}"), 200),
        ] {
            assert_eq!(registry.status("GET", &format!("/v2/empty/one/{path}")).await, status, "{path}");
        }
        let bad = registry.ask("PUT", "/v2/empty/one/manifests/sha256:baddigeststring", b"{}").await;
        assert_eq!(super::code(bad).await, (400, "DIGEST_INVALID".into()));
    }
}
