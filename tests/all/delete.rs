//! `polyarch delete` at our server, and at Debian's docker-registry, which removes no tags.

use polyarch::oci::server::{Access, Rights};
use polyarch::oci::{Client, Document, Repository, Store, Tag};

use crate::client::registries::Registry;
use crate::images;
use crate::program::{Answer, Place};

fn name() -> Repository {
    "o/leaf".parse().unwrap()
}

/// One image under three tags.
async fn image(client: &Client) -> Document {
    images::image(client, &name(), "{}", "layer", &["latest", "v1", "v2"]).await
}

async fn tags(registry: &Registry) -> Vec<String> {
    let tags = registry.client().tags(&name(), None, 100).await.unwrap();
    tags.iter().map(ToString::to_string).collect()
}

fn run(place: &Place, arguments: &[&str]) -> Answer {
    tokio::task::block_in_place(|| place.run(&[&["delete"], arguments].concat()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_looked_at_first_and_then_goes_alone() {
    let (place, registry) = (Place::new(), Registry::ours().await);
    let digest = image(&registry.client()).await.digest().clone();
    let (v1, v2) = (format!("{}/o/leaf:v1", registry.address), format!("{}/o/leaf:v2", registry.address));
    let answer = run(&place, &[&v1, &v2]).well();
    let expected = format!(
        "tag       {v1} at {digest}; there stay: latest\ntag       {v2} at {digest}; there stay: latest\n"
    );
    assert_eq!(answer.stdout, expected);
    assert!(answer.stderr.contains(&format!("polyarch delete --yes {v1} {v2}")), "{}", answer.stderr);
    assert_eq!(tags(&registry).await, ["latest", "v1", "v2"]);

    let answer = run(&place, &["--yes", &v1]).well();
    assert_eq!(answer.stdout, format!("removed tag       {v1} at {digest}; there stay: latest, v2\n"));
    assert_eq!(tags(&registry).await, ["latest", "v2"]);
    // The same command goes on where it was stopped.
    let answer = run(&place, &["--yes", &v1, &v2]).ended(1);
    assert!(answer.stderr.contains(&format!("there is no {v1}")), "{}", answer.stderr);
    assert_eq!(tags(&registry).await, ["latest"]);
    let _ = run(&place, &["--yes", &v1, &v2]).ended(2);

    let by_digest = format!("{}/o/leaf@{digest}", registry.address);
    let answer = run(&place, &["--yes", &by_digest]).ended(2);
    assert!(answer.stderr.contains("polyarch delete --with-tags"), "{}", answer.stderr);
    let answer = run(&place, &["--yes", "--with-tags", &by_digest]).well();
    assert!(answer.stdout.contains("with it go the tags: latest"), "{}", answer.stdout);
    assert_eq!(tags(&registry).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_registry_removes_no_tags_nothing_is_done_in_their_place() {
    let place = Place::new();
    let Some(registry) = Registry::debian("delete::docker_registry").await else { return };
    let digest = image(&registry.client()).await.digest().clone();
    let (v1, v2) = (format!("{}/o/leaf:v1", registry.address), format!("{}/o/leaf:v2", registry.address));
    let answer = run(&place, &["--yes", &v1, &v2]).ended(3);
    assert!(answer.stderr.contains("does not remove tags as registries should"), "{}", answer.stderr);
    assert!(answer.stderr.contains(&format!("--with-tags {}/o/leaf@{digest}", registry.address)));
    assert!(answer.stderr.contains(&format!("not begun: {v2}")), "{}", answer.stderr);
    assert_eq!(answer.stdout, "");
    assert_eq!(tags(&registry).await, ["latest", "v1", "v2"], "no tag is gone");
    let found = registry.client().resolve(&name(), &"v1".parse::<Tag>().unwrap().into()).await.unwrap();
    assert_eq!(found.map(|found| found.digest), Some(digest), "and none points elsewhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_go_or_is_not_said_in_full_is_refused_and_nothing_goes() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let registry = Registry::ours().await;
    image(&registry.client()).await;
    let at = |rest: &str| format!("{}/{rest}", registry.address);
    for (reference, code, words) in [
        (at("o/leaf"), 2, "names no tag"),
        (at("o/leaf:gone"), 2, "there is no"),
        (at("o/none:v1"), 2, "there is no"),
        ("o/leaf:v1".to_owned(), 2, "does not say which registry"),
        (at("o/leaf:.v1"), 2, "read the reference"),
        (at("o/leaf:polyarch-publications"), 4, "the journals of publications"),
        (at("scopes/trusted:x"), 4, "builds keep their results"),
        ("embedded/scopes/trusted:x".to_owned(), 4, "builds keep their results"),
    ] {
        let answer = run(&place, &["--yes", &reference]).ended(code);
        assert!(answer.stderr.contains(words) && answer.stderr.contains("hint:"), "{}", answer.stderr);
    }
    let together = run(&place, &["--yes", &at("o/leaf:v1"), "o/leaf:v1", &at("scopes/a:b")]).ended(2);
    assert!(together.stderr.contains("which registry") && together.stderr.contains("builds keep"));
    assert_eq!(tags(&registry).await, ["latest", "v1", "v2"]);

    let closed = Registry::ours_with(Access::new(Rights::reading(), Vec::new())).await;
    let answer = run(&place, &["--yes", &format!("{}/o/leaf:v1", closed.address)]).ended(2);
    assert!(answer.stderr.contains("there is no"), "{}", answer.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_own_store_too() {
    let place = Place::with(&[("a/Dockerfile", "FROM scratch\n")]);
    let registry = Registry::ours().await;
    image(&registry.client()).await;
    let copy = ["mirror", &format!("{}/o/leaf:v1", registry.address), "embedded/leaf", "--tag", "v3"];
    let _ = tokio::task::block_in_place(|| place.run(&copy)).well();
    let _ = run(&place, &["--yes", "embedded/leaf:v3"]).well();
    let answer = run(&place, &["embedded/leaf:v3"]).ended(2);
    assert!(answer.stderr.contains("there is no embedded/leaf:v3"), "{}", answer.stderr);
}
