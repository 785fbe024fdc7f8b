//! Rights by repository, asked of over the wire.

use polyarch::oci::Digest;
use polyarch::oci::server::{Access, Rights, Scope, User};
use reqwest::Response;
use serde_json::{Value, json};

use super::{Served, code, header, image};

const REPOSITORIES: [&str; 5] = ["base", "private", "scopes/trusted", "team/a", "team/b"];
const USERS: [&str; 5] = ["all", "reader", "team", "private", ""];

fn below(names: &[&str]) -> Vec<Scope> {
    names.iter().map(|name| Scope::Below(name.parse().unwrap())).collect()
}

fn access() -> Access {
    let rights =
        |read: &[&str], write: &[&str]| Rights { read: below(read), write: below(write), spared: vec![] };
    let users = [
        ("all", Rights::all()),
        ("reader", Rights::reading()),
        ("team", rights(&["base"], &["team"])),
        ("private", rights(&[], &["private"])),
    ];
    let users = users.map(|(name, rights)| User::new(name, "word", rights));
    Access::new(rights(&["base"], &[]), users.into())
}

fn reads(user: &str, repository: &str) -> bool {
    match user {
        "all" | "reader" => true,
        "team" => repository == "base" || repository.starts_with("team/"),
        "private" => repository == "private",
        _ => repository == "base",
    }
}

fn writes(user: &str, repository: &str) -> bool {
    match user {
        "all" => true,
        "team" => repository.starts_with("team/"),
        "private" => repository == "private",
        _ => false,
    }
}

async fn ask(served: &Served, user: &str, method: &str, path: &str, body: &str) -> Response {
    let mut request = served.ask(method, path).body(body.to_owned());
    if !user.is_empty() {
        request = request.basic_auth(user, Some("word"));
    }
    request.send().await.unwrap()
}

/// What a refusal looks like: 401 where a password would help, else 403.
fn refused(user: &str) -> u16 {
    if user.is_empty() { 401 } else { 403 }
}

#[tokio::test]
async fn tm17_who_may_not_read_gets_nothing_by_any_way() {
    let served = Served::start(access()).await;
    let layer = |repository: &str| format!("the layer of {repository}");
    for repository in REPOSITORIES {
        for bytes in [layer(repository), "{}".to_owned()] {
            let digest = Digest::of(bytes.as_bytes());
            let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            assert_eq!(ask(&served, "all", "POST", &path, &bytes).await.status(), 201);
        }
        let image = image(&Digest::of(b"{}"), &json!({ "of": repository }), None);
        let pushed = ask(&served, "all", "PUT", &format!("/v2/{repository}/manifests/t"), &image).await;
        assert_eq!(pushed.status(), 201);
    }
    for user in USERS {
        for repository in REPOSITORIES {
            let digest = Digest::of(layer(repository).as_bytes());
            let expected = if reads(user, repository) { 200 } else { refused(user) };
            for what in [
                format!("blobs/{digest}"),
                "manifests/t".into(),
                "manifests/unknown".into(),
                "tags/list".into(),
                format!("referrers/{digest}"),
            ] {
                for method in ["GET", "HEAD"] {
                    let answer =
                        ask(&served, user, method, &format!("/v2/{repository}/{what}"), "").await.status();
                    let expected = if what.ends_with("unknown") && expected == 200 { 404 } else { expected };
                    assert_eq!(answer, expected, "{method} {what} of {repository} by `{user}`");
                }
            }
        }
        let list = ask(&served, user, "GET", "/v2/_catalog?n=9", "").await.json::<Value>().await.unwrap();
        let mut visible = REPOSITORIES.to_vec();
        visible.retain(|repository| reads(user, repository));
        assert_eq!(list["repositories"], json!(visible), "what `{user}` sees");
    }
}

#[tokio::test]
async fn tm17_a_mount_needs_the_right_to_read_the_source() {
    let served = Served::start(access()).await;
    let layer = |repository: &str| format!("the layer of {repository}");
    for repository in REPOSITORIES {
        let digest = Digest::of(layer(repository).as_bytes());
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(ask(&served, "all", "POST", &path, &layer(repository)).await.status(), 201);
    }
    for (user, target) in [("all", "other"), ("team", "team/new"), ("private", "private/new")] {
        for source in REPOSITORIES {
            let digest = Digest::of(layer(source).as_bytes());
            for (number, from) in [format!("&from={source}"), String::new()].iter().enumerate() {
                let path = format!("/v2/{target}/{number}/blobs/uploads/?mount={digest}{from}");
                let expected = if reads(user, source) { 201 } else { 202 };
                let mounted = ask(&served, user, "POST", &path, "").await;
                assert_eq!(mounted.status(), expected, "`{from}` of {source} by {user}");
            }
        }
    }
    let digest = Digest::of(layer("base").as_bytes());
    for (user, target) in [("reader", "team/x"), ("team", "base"), ("", "team/x")] {
        let path = format!("/v2/{target}/blobs/uploads/?mount={digest}&from=base");
        assert_eq!(ask(&served, user, "POST", &path, "").await.status(), refused(user));
    }
}

#[tokio::test]
async fn i_r5_who_may_not_write_changes_nothing() {
    let served = Served::start(access()).await;
    let digest = Digest::of(b"{}");
    for repository in REPOSITORIES {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        ask(&served, "all", "POST", &path, "{}").await;
        let image = image(&digest, &json!({}), None);
        ask(&served, "all", "PUT", &format!("/v2/{repository}/manifests/t"), &image).await;
    }
    for user in USERS {
        for repository in REPOSITORIES.into_iter().filter(|repository| !writes(user, repository)) {
            let other = image(&digest, &json!({ "by": user }), None);
            let blob = format!("blobs/{digest}");
            for (method, what, body) in [
                ("POST", "blobs/uploads/", ""),
                ("GET", "blobs/uploads/0123456789abcdef0123456789abcdef", ""),
                ("PUT", "manifests/t", other.as_str()),
                ("DELETE", "manifests/t", ""),
                ("DELETE", &blob, ""),
            ] {
                let path = format!("/v2/{repository}/{what}");
                let answer = ask(&served, user, method, &path, body).await.status();
                assert_eq!(answer, refused(user), "{method} {what} of {repository} by `{user}`");
            }
            let tag = ask(&served, "all", "HEAD", &format!("/v2/{repository}/manifests/t"), "").await;
            let kept = Digest::of(image(&digest, &json!({}), None).as_bytes());
            assert_eq!(header(&tag, "docker-content-digest"), kept.to_string());
        }
    }
}

#[tokio::test]
async fn records_are_spared_from_those_who_send_no_password() {
    let spared = below(&["scopes"]);
    let served = Served::start(Access::new(Rights { spared, ..Rights::all() }, vec![])).await;
    let digest = Digest::of(b"{}");
    for (repository, status) in [("mine", 201), ("scopes2", 201), ("scopes/trusted", 403), ("scopes", 403)] {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = ask(&served, "", "POST", &path, "{}").await;
        assert_eq!(answer.status(), status, "{repository}");
        if status == 403 {
            assert_eq!(code(answer).await, (403, "DENIED".into()));
        }
    }
}
