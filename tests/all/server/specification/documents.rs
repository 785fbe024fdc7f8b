//! Manifests and indexes of every shape: pushed by digest and tag, listed, read, referred to, deleted.

use std::collections::BTreeMap;

use polyarch::oci::{Algorithm, Completeness, Digest, MediaType};
use serde_json::{Value, json};

use super::{Registry, digest_of, fresh};
use crate::server::{code, header};

const REPOSITORY: &str = "one/repo";

/// Documents to push, in order, and what they stand on.
struct Family {
    algorithm: Algorithm,
    blobs: BTreeMap<Digest, Vec<u8>>,
    documents: Vec<(Digest, String, &'static str)>,
}

impl Family {
    fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, blobs: BTreeMap::new(), documents: Vec::new() }
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest_of(self.algorithm, &bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.blobs.insert(digest, bytes);
        descriptor
    }

    /// An image with so many layers, and these fields beside the usual ones; its descriptor.
    fn image(&mut self, layers: usize, fields: &Value) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", fresh(80));
        let layers: Vec<Value> =
            (0..layers).map(|_| self.blob("application/vnd.oci.image.layer.v1.tar", fresh(200))).collect();
        self.document(MediaType::MANIFEST, json!({ "config": config, "layers": layers }), fields)
    }

    fn index(&mut self, manifests: &[Value], fields: &Value) -> Value {
        self.document(MediaType::INDEX, json!({ "manifests": manifests }), fields)
    }

    fn document(&mut self, media_type: &'static str, mut document: Value, fields: &Value) -> Value {
        document["schemaVersion"] = json!(2);
        document["mediaType"] = json!(media_type);
        for (name, value) in fields.as_object().unwrap() {
            document[name] = value.clone();
        }
        let text = document.to_string();
        let digest = digest_of(self.algorithm, text.as_bytes());
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": text.len() });
        self.documents.push((digest, text, media_type));
        descriptor
    }
}

/// Families of every shape, by the tag that the last document of each gets.
fn families(algorithm: Algorithm) -> Vec<(&'static str, Family)> {
    let none = json!({});
    let artifact = json!({ "artifactType": "application/vnd.example.one", "annotations": { "a": "b" } });
    let mut made: Vec<(&'static str, Family)> = Vec::new();
    let mut add = |tag, make: &dyn Fn(&mut Family)| {
        let mut family = Family::new(algorithm);
        make(&mut family);
        made.push((tag, family));
    };
    add("image", &|family| drop(family.image(2, &none)));
    add("no-layers", &|family| drop(family.image(0, &none)));
    add("artifact", &|family| drop(family.image(1, &artifact)));
    add("custom-fields", &|family| drop(family.image(1, &json!({ "org.example.extra": { "x": [1, 2] } }))));
    add("large", &|family| {
        let notes: BTreeMap<String, String> =
            (0..390).map(|at| (format!("note-{at}"), "A".repeat(10_000))).collect();
        family.image(1, &json!({ "annotations": notes }));
    });
    add("index", &|family| {
        let children = [family.image(1, &none), family.image(1, &none)];
        family.index(&children, &none);
    });
    add("nested", &|family| {
        let child = [family.image(1, &none)];
        let inner = [family.index(&child, &none)];
        family.index(&inner, &none);
    });
    add("empty-index", &|family| drop(family.index(&[], &none)));
    add("data", &|family| {
        let mut config = family.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        config["data"] = json!("e30=");
        family.document(MediaType::MANIFEST, json!({ "config": config, "layers": [] }), &none);
    });
    add("not-distributable", &|family| {
        let config = family.blob("application/vnd.oci.image.config.v1+json", fresh(80));
        let media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let away = json!({ "mediaType": media_type, "digest": Digest::of(b"away"), "size": 9,
            "urls": ["https://store.example.com/away"] });
        let here = family.blob("application/vnd.oci.image.layer.v1.tar", fresh(200));
        family.document(MediaType::MANIFEST, json!({ "config": config, "layers": [away, here] }), &none);
    });
    add("subjects", &|family| {
        let subject = family.image(1, &none);
        let mut about = artifact.clone();
        about["subject"] = subject.clone();
        family.image(1, &json!({ "subject": subject }));
        family.image(1, &about);
        about["artifactType"] = json!("application/vnd.example.two");
        family.index(&[], &about);
    });
    add("missing-subject", &|family| {
        let missing =
            json!({ "mediaType": MediaType::MANIFEST, "digest": digest_of(algorithm, b"gone"), "size": 9 });
        let mut about = artifact.clone();
        about["subject"] = missing;
        family.image(1, &about);
    });
    made
}

async fn push(registry: &Registry, family: &Family, tag: &str, by_parameter: bool) {
    for bytes in family.blobs.values() {
        registry.push(REPOSITORY, family.algorithm, bytes).await;
    }
    let last = family.documents.len() - 1;
    for (at, (digest, text, media_type)) in family.documents.iter().enumerate() {
        let mut targets = vec![format!("/v2/{REPOSITORY}/manifests/{digest}")];
        match by_parameter {
            true if at == last => targets[0] += &format!("?tag={tag}&tag={tag}-again"),
            false if at == last && family.algorithm == Algorithm::Sha256 => {
                targets.push(format!("/v2/{REPOSITORY}/manifests/{tag}"));
            }
            _ => {}
        }
        for path in targets {
            let request = registry.request("PUT", &path).header("content-type", *media_type);
            let answer = request.body(text.clone()).send().await.unwrap();
            assert_eq!(answer.status(), 201, "{path}");
            assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
            let subject = serde_json::from_str::<Value>(text).unwrap()["subject"]["digest"].clone();
            assert_eq!(header(&answer, "oci-subject"), subject.as_str().unwrap_or_default());
            let tags: Vec<&str> =
                answer.headers().get_all("oci-tag").iter().map(|value| value.to_str().unwrap()).collect();
            if by_parameter && at == last {
                assert_eq!(tags, [tag, &format!("{tag}-again")]);
            }
            registry.expect(header(&answer, "location"), digest, text.as_bytes()).await;
        }
    }
}

async fn referrers(registry: &Registry, family: &Family) {
    let mut expected: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (digest, text, _) in &family.documents {
        let document: Value = serde_json::from_str(text).unwrap();
        let Some(subject) = document["subject"]["digest"].as_str() else { continue };
        let kind = document["artifactType"].as_str().or(document["config"]["mediaType"].as_str());
        let of = expected.entry(subject.to_owned()).or_default();
        of.insert(digest.to_string(), kind.unwrap_or_default().to_owned());
    }
    for (subject, of) in expected {
        let list = async |query: &str| {
            let path = format!("/v2/{REPOSITORY}/referrers/{subject}{query}");
            let answer = registry.ask("GET", &path, b"").await;
            assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, MediaType::INDEX));
            assert_eq!(
                header(&answer, "oci-filters-applied"),
                if query.is_empty() { "" } else { "artifactType" }
            );
            let index: Value = answer.json().await.unwrap();
            assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(MediaType::INDEX)));
            let found = index["manifests"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found.map(|one| (text(&one["digest"]), text(&one["artifactType"]))).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(list("").await, of);
        for kind in of.values() {
            let mut only = of.clone();
            only.retain(|_, found| found == kind);
            assert_eq!(
                list(&format!("?artifactType={}", kind.replace('/', "%2F").replace('+', "%2B"))).await,
                only
            );
        }
    }
}

async fn tags(registry: &Registry) -> Vec<String> {
    let list = registry.ask("GET", &format!("/v2/{REPOSITORY}/tags/list"), b"").await;
    let list: Value = list.json().await.unwrap();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

/// The whole life of each family in a repository.
async fn live(registry: &Registry, algorithm: Algorithm, by_parameter: bool) {
    for (tag, family) in families(algorithm) {
        push(registry, &family, tag, by_parameter).await;
        let tagged = by_parameter || algorithm == Algorithm::Sha256;
        let (digest, text, _) = family.documents.last().unwrap();
        if tagged {
            registry.expect(&format!("/v2/{REPOSITORY}/manifests/{tag}"), digest, text.as_bytes()).await;
            let all = tags(registry).await;
            assert!(all.contains(&tag.to_owned()) && all.is_sorted(), "{all:?}");
            for (at, last) in all.iter().enumerate() {
                let path = format!("/v2/{REPOSITORY}/tags/list?last={last}");
                let rest: Value = registry.ask("GET", &path, b"").await.json().await.unwrap();
                assert_eq!(rest["tags"], json!(all[at + 1..]));
            }
        }
        for (digest, bytes) in &family.blobs {
            registry.expect(&format!("/v2/{REPOSITORY}/blobs/{digest}"), digest, bytes).await;
        }
        referrers(registry, &family).await;
        for tag in tags(registry).await {
            registry.delete(&format!("/v2/{REPOSITORY}/manifests/{tag}")).await;
        }
        for (digest, ..) in family.documents.iter().rev() {
            registry.delete(&format!("/v2/{REPOSITORY}/manifests/{digest}")).await;
        }
        for digest in family.blobs.keys() {
            registry.delete(&format!("/v2/{REPOSITORY}/blobs/{digest}")).await;
        }
    }
}

#[tokio::test]
async fn documents_of_every_shape_live_and_go() {
    for registry in Registry::all(Completeness::Whole).await {
        live(&registry, Algorithm::Sha256, false).await;
        live(&registry, Algorithm::Sha512, false).await;
    }
}

#[tokio::test]
async fn documents_of_every_shape_are_pushed_with_several_tags() {
    for registry in Registry::all(Completeness::Whole).await {
        live(&registry, Algorithm::Sha256, true).await;
        live(&registry, Algorithm::Sha512, true).await;
    }
}

#[tokio::test]
async fn f_e9_what_is_not_whole_is_kept_only_where_that_was_asked_for() {
    for (content, status) in [(Completeness::Whole, 400), (Completeness::Sparse, 201)] {
        for registry in Registry::all(content).await {
            let mut family = Family::new(Algorithm::Sha256);
            let absent =
                [json!({ "mediaType": MediaType::MANIFEST, "digest": Digest::of(b"away"), "size": 9 })];
            family.index(&absent, &json!({}));
            family.image(1, &json!({}));
            for (digest, text, media_type) in &family.documents {
                let path = format!("/v2/{REPOSITORY}/manifests/{digest}?tag=t");
                let request = registry.request("PUT", &path).header("content-type", *media_type);
                let answer = request.body(text.clone()).send().await.unwrap();
                assert_eq!(answer.status(), status);
                if status == 400 {
                    assert_eq!(code(answer).await.1, "MANIFEST_BLOB_UNKNOWN");
                } else {
                    registry.expect(&format!("/v2/{REPOSITORY}/manifests/t"), digest, text.as_bytes()).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_document_with_another_digest_is_refused() {
    for registry in Registry::all(Completeness::Whole).await {
        let mut family = Family::new(Algorithm::Sha256);
        family.index(&[], &json!({}));
        let (digest, text, media_type) = &family.documents[0];
        let path = format!("/v2/{REPOSITORY}/manifests/{digest}");
        let request = registry.request("PUT", &path).header("content-type", *media_type);
        let answer = request.body(format!("{text}  ")).send().await.unwrap();
        assert_eq!(code(answer).await, (400, "DIGEST_INVALID".into()));
        assert_eq!(registry.status("GET", &path).await, 404);
    }
}
