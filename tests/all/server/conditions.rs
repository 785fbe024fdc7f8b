//! Tags that move only from where the client says that they are, and blobs that stay as long as they are needed.

use std::sync::Arc;

use polyarch::oci::server::{Access, router};
use polyarch::oci::{Digest, Layout, MediaType};
use serde_json::json;

use super::{Served, code, header, image};

impl Served {
    async fn put_if(&self, path: &str, text: &str, conditions: &[(&str, &str)]) -> u16 {
        let mut request = self.ask("PUT", path).header("content-type", MediaType::MANIFEST);
        for (name, value) in conditions {
            request = request.header(*name, *value);
        }
        request.body(text.to_owned()).send().await.unwrap().status().as_u16()
    }

    async fn target(&self, tag: &str) -> String {
        let answer = self.send("HEAD", &format!("/v2/a/manifests/{tag}")).await;
        header(&answer, "etag").to_owned()
    }
}

/// A store in memory and one in a folder.
fn both_stores(folder: &std::path::Path) -> [Arc<dyn polyarch::oci::Store>; 2] {
    [Arc::new(polyarch::oci::Memory::new()), Arc::new(Layout::open(folder.join("store")).unwrap())]
}

#[tokio::test]
async fn f_e10_a_tag_moves_only_from_where_it_was_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    for store in both_stores(folder.path()) {
        let served = Served::of(router(store, Access::open())).await;
        let config = served.push_blob("a", b"{}").await;
        let [one, two, three] =
            [1, 2, 3].map(|number| image(&config, &json!({ "n": number.to_string() }), None));
        let etag = |text: &str| format!("\"{}\"", Digest::of(text.as_bytes()));
        let path = "/v2/a/manifests/t";
        assert_eq!(served.put_if(path, &one, &[("if-match", "*")]).await, 412, "it is not there yet");
        assert_eq!(served.put_if(path, &one, &[("if-none-match", "*")]).await, 201);
        assert_eq!(served.put_if(path, &two, &[("if-none-match", "*")]).await, 412);
        for wrong in [etag(&two).as_str(), "", "\"x\"", "W/\"x\"", "x, y"] {
            assert_eq!(served.put_if(path, &two, &[("if-match", wrong)]).await, 412, "{wrong}");
            assert_eq!(served.target("t").await, etag(&one), "unmoved");
        }
        let digest = Digest::of(two.as_bytes());
        let unwritten = served.send("HEAD", &format!("/v2/a/manifests/{digest}")).await;
        assert_eq!(unwritten.status(), 404, "nor is the document kept");
        let either = format!("{}, {}", etag(&three), etag(&one));
        assert_eq!(served.put_if(path, &two, &[("if-match", &either)]).await, 201);
        assert_eq!(served.put_if(path, &three, &[("if-match", "*")]).await, 201);
        assert_eq!(served.target("t").await, etag(&three));

        let many = format!("/v2/a/manifests/{}?tag=t&tag=u", Digest::of(one.as_bytes()));
        assert_eq!(served.put_if(&many, &one, &[("if-match", &etag(&three))]).await, 412, "`u` is not there");
        assert_eq!((served.target("t").await, served.target("u").await), (etag(&three), String::new()));
        for unclear in [
            vec![("if-none-match", etag(&one))],
            vec![("if-match", "*".to_owned()), ("if-none-match", "*".to_owned())],
        ] {
            let unclear: Vec<(&str, &str)> =
                unclear.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(served.put_if(path, &one, &unclear).await, 400);
        }
        let by_digest = format!("/v2/a/manifests/{}", Digest::of(one.as_bytes()));
        assert_eq!(served.put_if(&by_digest, &one, &[("if-match", "*")]).await, 400, "no tag, no condition");
        let deleted = served.ask("DELETE", path).header("if-match", etag(&one)).send().await.unwrap();
        assert_eq!(deleted.status(), 400, "better refused than passed over");
        assert_eq!(served.target("t").await, etag(&three));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_e10_of_many_at_once_one_wins_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // Two servers in one folder, as two processes would be.
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(Served::of(router(Arc::new(Layout::open(&path).unwrap()), Access::open())).await);
    }
    let config = servers[0].push_blob("a", b"{}").await;
    let first = image(&config, &json!({}), None);
    assert_eq!(servers[0].put_manifest("/v2/a/manifests/t", &first).await.status(), 201);
    let mut now = format!("\"{}\"", Digest::of(first.as_bytes()));
    for round in 0..5 {
        let push = async |number: usize| {
            let text = image(&config, &json!({ "by": format!("{round}-{number}") }), None);
            let served = &servers[number % 2];
            let status = served.put_if("/v2/a/manifests/t", &text, &[("if-match", &now)]).await;
            (status, format!("\"{}\"", Digest::of(text.as_bytes())))
        };
        let ends = futures_util::future::join_all((0..16).map(push)).await;
        let won: Vec<&String> =
            ends.iter().filter(|(status, _)| *status == 201).map(|(_, tag)| tag).collect();
        assert_eq!(won.len(), 1, "{ends:?}");
        assert!(ends.iter().all(|(status, _)| matches!(status, 201 | 412)), "{ends:?}");
        assert_eq!(servers[1].target("t").await, *won[0]);
        now = won[0].clone();
    }
}

#[tokio::test]
async fn f_e4_a_blob_stays_while_a_manifest_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    for store in both_stores(folder.path()) {
        let served = Served::of(router(store, Access::open())).await;
        served.push_image("a", "t").await;
        let blob = format!("/v2/a/blobs/{}", Digest::of(b"{}"));
        let refused = served.send("DELETE", &blob).await;
        assert_eq!(header(&refused, "allow"), "HEAD, GET");
        assert_eq!(code(refused).await, (405, "IN_USE".into()), "as end-10 of the specification may fail");
        assert_eq!(served.send("DELETE", "/v2/a/manifests/t").await.status(), 202, "the tag alone");
        assert_eq!(served.send("DELETE", &blob).await.status(), 405);
        let tags: serde_json::Value = served.send("GET", "/v2/a/tags/list").await.json().await.unwrap();
        assert_eq!(tags["tags"], json!([]));
        let manifest = image(&Digest::of(b"{}"), &json!({ "tag": "t" }), None);
        let manifest = format!("/v2/a/manifests/{}", Digest::of(manifest.as_bytes()));
        assert_eq!(served.send("DELETE", &manifest).await.status(), 202);
        assert_eq!(served.send("DELETE", &blob).await.status(), 202, "now nobody needs it");
        assert_eq!(served.send("HEAD", &blob).await.status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_e4_a_push_and_a_delete_at_once_leave_nothing_dangling() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path().join("store")).unwrap();
    let served = Served::of(router(Arc::new(layout), Access::open())).await;
    for round in 0..40 {
        let config = served.push_blob("a", b"{}").await;
        let text = image(&config, &json!({ "round": round.to_string() }), None);
        let blob = format!("/v2/a/blobs/{config}");
        let (pushed, deleted) =
            tokio::join!(served.put_manifest("/v2/a/manifests/t", &text), served.send("DELETE", &blob));
        let there = served.send("HEAD", &blob).await.status().as_u16();
        match (pushed.status().as_u16(), deleted.status().as_u16()) {
            (201, 405) => assert_eq!(there, 200),
            (400, 202) => assert_eq!(there, 404),
            other => panic!("{other:?}"),
        }
        let manifest = format!("/v2/a/manifests/{}", Digest::of(text.as_bytes()));
        served.send("DELETE", &manifest).await;
    }
}
