//! Scopes: who reads what of whom, and who writes where.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Act, Look, PLAIN, amd64, builds, files, once};
use crate::oci::{Digest, Memory, Pointer, Repository, Store};
use crate::plan::{Decision, Plan};
use crate::record::{Records, ScopeName};
use crate::run::fixture::{BASE, Site, base_image};

/// A family in a scope of a store, whose leaf is of this text.
fn site(store: &Arc<Memory>, elsewhere: &Arc<Memory>, scope: &str, leaf: &str) -> Site {
    let base = format!("FROM {BASE}\n");
    let leaf = format!("FROM a\nENV LEAF={leaf}\n");
    let table = files(&[("a", &base), ("b", &leaf)]);
    let mut site = Site::over(Some("tests = [{ run = \"id\" }]\n"), &table, store.clone(), elsewhere.clone());
    let scope: ScopeName = scope.parse().unwrap();
    site.records = Records::of_scope(store.clone(), &scope);
    site
}

/// Every tag of a repository, and what it points at.
async fn tags(store: &Memory, scope: &str) -> BTreeMap<String, Digest> {
    let repository: Repository = scope.parse().unwrap();
    let mut found = BTreeMap::new();
    for tag in store.tags(&repository, None, 1000).await.unwrap() {
        let target = store.resolve(&repository, &Pointer::Tag(tag.clone())).await.unwrap();
        found.insert(tag.to_string(), target.unwrap().digest);
    }
    found
}

/// What is planned for `a` and for `b`, in a word each.
fn decisions(plan: &Plan) -> String {
    let word = |decision: &Decision| match decision {
        Decision::Reuse(_) => "reuse",
        Decision::Check(_) => "check",
        Decision::Build(_) => "build",
    };
    plan.order.iter().map(|job| word(&plan.jobs[job].decision)).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn i_t1_tm1_a_run_in_another_scope_reads_the_trusted_one_and_writes_only_its_own() {
    let (store, elsewhere) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    base_image(&*elsewhere, &[amd64()]).await;
    let run = async |scope: &str, leaf: &str| {
        let site = site(&store, &elsewhere, scope, leaf);
        let decided = decisions(&site.plan().await.1);
        let (ran, steps) = once(&site, 2, Act::Build(1), Look::Pass, PLAIN).await;
        assert_eq!(ran.passed.len(), 2, "{scope} {leaf}");
        (decided, builds(&steps))
    };
    assert_eq!(run("trusted", "1").await, ("build build".to_owned(), 2));
    let trusted = tags(&store, "scopes/trusted").await;

    assert_eq!(run("pr-1", "1").await, ("reuse reuse".to_owned(), 0), "F-U6: the tree of the trusted run");
    assert_eq!(tags(&store, "scopes/pr-1").await, BTreeMap::new(), "F-U6: nothing is written");
    assert_eq!(run("pr-1", "2").await, ("reuse build".to_owned(), 1), "on the trusted parent");
    assert_eq!(run("pr-1", "2").await, ("reuse reuse".to_owned(), 0), "its own record");
    assert!(!tags(&store, "scopes/pr-1").await.is_empty());
    assert_eq!(tags(&store, "scopes/trusted").await, trusted, "the trusted scope is as it was");

    assert_eq!(run("pr-2", "2").await.0, "reuse build", "another run does not see it");
    assert_eq!(run("trusted", "2").await, ("reuse build".to_owned(), 1), "the trusted one does not");
}

#[tokio::test(start_paused = true)]
async fn tests_that_change_in_another_scope_are_run_on_the_trusted_image_and_kept_apart() {
    let (store, elsewhere) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    base_image(&*elsewhere, &[amd64()]).await;
    once(&site(&store, &elsewhere, "trusted", "1"), 2, Act::Build(1), Look::Pass, PLAIN).await;
    let trusted = tags(&store, "scopes/trusted").await;
    let mut changed = site(&store, &elsewhere, "pr-1", "1");
    let base = format!("FROM {BASE}\n");
    let table = files(&[("a", &base), ("b", "FROM a\nENV LEAF=1\n")]);
    changed.family = crate::run::fixture::family(Some("tests = [{ run = \"other\" }]\n"), &table);
    assert_eq!(decisions(&changed.plan().await.1), "check check");
    let (ran, steps) = once(&changed, 2, Act::Build(1), Look::Pass, PLAIN).await;
    assert_eq!((ran.passed.len(), builds(&steps)), (2, 0));
    assert_eq!(decisions(&changed.plan().await.1), "reuse reuse");
    assert_eq!(tags(&store, "scopes/trusted").await, trusted);
}
