//! Every way for a blob to come in, with each algorithm, and how it comes out.

use polyarch::oci::{Algorithm, Completeness};

use super::{Registry, digest_of, fresh};
use crate::server::{code, header};

const CHUNK: usize = 1024;

/// The ways for the bytes of a blob to come in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Post,
    PostThenPut,
    Stream,
    /// In chunks, the last one by `PUT` or not, with or without a stray chunk before each.
    Chunks {
        last_by_put: bool,
        strays: bool,
    },
}

const WAYS: [Way; 7] = [
    Way::Post,
    Way::PostThenPut,
    Way::Stream,
    Way::Chunks { last_by_put: false, strays: false },
    Way::Chunks { last_by_put: true, strays: false },
    Way::Chunks { last_by_put: false, strays: true },
    Way::Chunks { last_by_put: true, strays: true },
];

impl Registry {
    /// Send a blob that way under a digest; the last answer.
    async fn send_blob(&self, way: Way, repository: &str, digest: &str, bytes: &[u8]) -> reqwest::Response {
        match way {
            Way::Post => {
                self.ask("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), bytes).await
            }
            Way::PostThenPut => {
                let session = self.begin(repository).await;
                self.ask("PUT", &format!("{session}?digest={digest}"), bytes).await
            }
            Way::Stream => {
                let session = self.begin(repository).await;
                let pieces: Vec<_> =
                    bytes.chunks(100).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
                let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
                let answer = self.request("PATCH", &session).body(body).send().await.unwrap();
                assert_eq!(answer.status(), 202);
                let session = header(&answer, "location");
                self.ask("PUT", &format!("{session}?digest={digest}"), b"").await
            }
            Way::Chunks { last_by_put, strays } => {
                self.send_chunks(repository, digest, bytes, last_by_put, strays).await
            }
        }
    }

    async fn send_chunks(
        &self,
        repository: &str,
        digest: &str,
        bytes: &[u8],
        last_by_put: bool,
        strays: bool,
    ) -> reqwest::Response {
        let mut session = self.begin(repository).await;
        let mut start = 0;
        while start < bytes.len() {
            let end = (start + CHUNK).min(bytes.len());
            let by_put = last_by_put && end == bytes.len();
            let (method, query) =
                if by_put { ("PUT", format!("?digest={digest}")) } else { ("PATCH", String::new()) };
            let chunk = async |from: usize, to: usize| {
                let request = self.request(method, &format!("{session}{query}"));
                let request = request.header("content-range", format!("{from}-{}", to - 1));
                request.body(bytes[from..to].to_vec()).send().await.unwrap()
            };
            if strays {
                let from = if end < bytes.len() { end } else { 0 };
                let refused = chunk(from, (from + CHUNK).min(bytes.len())).await;
                if from != start {
                    assert_eq!(refused.status(), 416);
                    let status = self.ask("GET", header(&refused, "location"), b"").await;
                    assert_eq!(status.status(), 204);
                    let last = if start == 0 { 0 } else { start - 1 };
                    assert_eq!(header(&status, "range"), format!("0-{last}"));
                }
            }
            let answer = chunk(start, end).await;
            if by_put {
                return answer;
            }
            assert_eq!(
                (answer.status().as_u16(), header(&answer, "range")),
                (202, &*format!("0-{}", end - 1))
            );
            session = header(&answer, "location").to_owned();
            start = end;
        }
        self.ask("PUT", &format!("{session}?digest={digest}"), b"").await
    }
}

#[tokio::test]
async fn blobs_come_in_by_every_way() {
    for registry in Registry::all(Completeness::Whole).await {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for way in WAYS {
                for length in [CHUNK * 3 - 5, CHUNK + 1] {
                    let bytes = fresh(length);
                    let digest = digest_of(algorithm, &bytes);
                    let answer = registry.send_blob(way, "one/repo", &digest.to_string(), &bytes).await;
                    assert_eq!(answer.status(), 201, "{way:?}");
                    assert_eq!(header(&answer, "docker-content-digest"), digest.to_string(), "{way:?}");
                    registry.expect(header(&answer, "location"), &digest, &bytes).await;
                    registry.delete(&format!("/v2/one/repo/blobs/{digest}")).await;
                }
            }
            for bytes in [b"".as_slice(), b"{}"] {
                for way in [Way::Post, Way::PostThenPut, Way::Stream] {
                    let digest = digest_of(algorithm, bytes);
                    let answer = registry.send_blob(way, "one/repo", &digest.to_string(), bytes).await;
                    assert_eq!(answer.status(), 201, "{way:?}");
                    registry.expect(header(&answer, "location"), &digest, bytes).await;
                    registry.delete(&format!("/v2/one/repo/blobs/{digest}")).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_digest_is_refused_by_every_way() {
    for registry in Registry::all(Completeness::Whole).await {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = digest_of(algorithm, &fresh(CHUNK));
            for way in WAYS {
                let answer =
                    registry.send_blob(way, "one/repo", &digest.to_string(), &fresh(CHUNK + 5)).await;
                assert_eq!(code(answer).await, (400, "DIGEST_INVALID".into()), "{way:?}");
                assert_eq!(registry.status("HEAD", &format!("/v2/one/repo/blobs/{digest}")).await, 404);
            }
        }
    }
}

#[tokio::test]
async fn blobs_are_mounted_from_a_named_repository_and_from_any() {
    for registry in Registry::all(Completeness::Whole).await {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for from in ["&from=two/repo", ""] {
                let bytes = fresh(512);
                let digest = digest_of(algorithm, &bytes);
                let mount = format!("/v2/one/repo/blobs/uploads/?mount={digest}{from}");
                let missing = registry.ask("POST", &mount, b"").await;
                assert_eq!(missing.status(), 202, "it is nowhere");
                let session = header(&missing, "location");
                assert_eq!(registry.status("DELETE", session).await, 204, "an upload can be cancelled");
                assert_eq!(registry.status("GET", session).await, 404);
                registry.push("two/repo", algorithm, &bytes).await;
                let mounted = registry.ask("POST", &mount, b"").await;
                assert_eq!(mounted.status(), 201, "`{from}`");
                assert_eq!(header(&mounted, "docker-content-digest"), digest.to_string());
                registry.delete(&format!("/v2/two/repo/blobs/{digest}")).await;
                registry.expect(header(&mounted, "location"), &digest, &bytes).await;
                registry.delete(&format!("/v2/one/repo/blobs/{digest}")).await;
            }
        }
    }
}

#[tokio::test]
async fn ranges_of_a_blob() {
    for registry in Registry::all(Completeness::Whole).await {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let bytes = fresh(2048);
            let digest = registry.push("one/repo", algorithm, &bytes).await;
            let path = format!("/v2/one/repo/blobs/{digest}");
            for (range, part) in [
                ("bytes=500-1499", Some(500..1500)),
                ("bytes=500-", Some(500..2048)),
                ("bytes=-500", Some(1548..2048)),
                ("bytes=2000-5000", Some(2000..2048)),
                ("bytes=500-0", None),
                ("bytes=5000-10000", None),
            ] {
                let answer = registry.request("GET", &path).header("range", range).send().await.unwrap();
                let Some(part) = part else {
                    assert_eq!(answer.status(), 416, "{range}");
                    continue;
                };
                let said = format!("bytes {}-{}/2048", part.start, part.end - 1);
                assert_eq!((answer.status().as_u16(), header(&answer, "content-range")), (206, &*said));
                assert_eq!(header(&answer, "content-length"), part.len().to_string());
                assert!(answer.bytes().await.unwrap() == bytes[part], "{range}");
            }
        }
    }
}
