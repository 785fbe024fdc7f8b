//! What is promoted is what was tested, whatever the family is made of: I-T7. No engine is there that could be called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::record::{Records, ScopeName};

const FROM: &str = "scopes/pr-1";
/// How many families are made up.
const CASES: u32 = 48;

/// An image that stands on one of those before it, by its number, and the platforms that it has not passed on.
type Made = (Option<usize>, [bool; 2]);

fn families() -> impl Strategy<Value = Vec<Made>> {
    let missed = || prop::bool::weighted(0.1);
    vec((proptest::option::of(any::<usize>()), [missed(), missed()]), 1..7)
}

/// The family, with what has passed of it in the scope of a proposal alone: images and records.
async fn proposed(images: &[Made]) -> Fixture {
    let mut fixture = Fixture::new(Divergence::Withhold);
    fixture.scope = FROM;
    for (at, (parent, missed)) in images.iter().enumerate() {
        let parent = parent.and_then(|number| number.checked_rem(at)).map(|number| format!("i{number}"));
        let value = |platform: usize| (!missed[platform]).then_some("v1");
        let made = [(AMD, value(0)), (ARM, value(1))];
        fixture = fixture.image(&format!("i{at}"), parent.as_deref(), &made).await;
    }
    let records = Records::of_scope(Arc::new(fixture.store.clone()), &scope("pr-1"));
    for (job, passed) in &mut fixture.passed {
        passed.image.key = Digest::of(format!("key of {job}").as_bytes());
        passed.checks.key = Digest::of(format!("checks of {job}").as_bytes());
        records.keep_image(&passed.image).await.expect("kept");
        records.keep_checks(&passed.checks, &passed.image).await.expect("kept");
    }
    fixture
}

fn scope(name: &str) -> ScopeName {
    name.parse().expect("a scope")
}

/// An image with all that it leads to in a repository, byte for byte: its manifest, its configuration and its layers.
async fn bytes(store: &Memory, repository: &str, image: &Digest) -> Vec<Bytes> {
    let repository: Repository = repository.parse().expect("a repository");
    let pointer = Pointer::Digest(image.clone());
    let document = store.read_document(&repository, &pointer).await.expect("a manifest");
    let mut all = vec![document.bytes().clone()];
    for blob in document.blobs().expect("blobs") {
        let content = store.read_blob(&repository, &blob.digest, None).await.expect("a blob");
        all.push(content.collect(&blob.digest, 1 << 20).await.expect("its bytes"));
    }
    all
}

/// The records of a scope by their tags, byte for byte.
async fn records_in(fixture: &Fixture, scope: &str) -> BTreeMap<Tag, Bytes> {
    let scope: Repository = scope.parse().expect("a scope");
    let mut all = BTreeMap::new();
    for tag in fixture.store.tags(&scope, None, 1_000).await.expect("tags") {
        let record = fixture.store.read_document(&scope, &Pointer::Tag(tag.clone())).await.expect("a record");
        all.insert(tag, record.bytes().clone());
    }
    all
}

/// Promotes it, the jobs in this order, and publishes; on how many platforms images are published, or what is amiss.
async fn promote(images: &[Made], order: &[prop::sample::Index]) -> Result<usize, TestCaseError> {
    let fixture = proposed(images).await;
    let mut jobs: Vec<&JobId> = fixture.passed.keys().collect();
    let mut before = BTreeMap::new();
    for (job, passed) in &fixture.passed {
        before.insert(job, bytes(&fixture.store, FROM, &passed.image.image).await);
    }
    let records_before = records_in(&fixture, FROM).await;
    // Each record stands under its key and as the latest of its job.
    prop_assert_eq!(records_before.len(), 4 * fixture.passed.len());

    let records = Records::of_scope(Arc::new(fixture.store.clone()), &ScopeName::trusted());
    let records = records.before(&scope("pr-1"));
    for at in order {
        if jobs.is_empty() {
            break;
        }
        let job = jobs.swap_remove(at.index(jobs.len()));
        for (kind, key) in fixture.passed[job].keys() {
            records.adopt(kind, key, job).await.expect("adopted");
        }
    }
    prop_assert_eq!(jobs.len(), 0);
    prop_assert_eq!(&records_in(&fixture, SCOPE).await, &records_before, "a record has changed");
    prop_assert_eq!(&records_in(&fixture, FROM).await, &records_before);
    for (job, passed) in &fixture.passed {
        let adopted = bytes(&fixture.store, SCOPE, &passed.image.image).await;
        prop_assert_eq!(&adopted, &before[job], "{} is another in the trusted scope", job);
    }
    let release = fixture.assemble().expect("a release");
    if release.images.is_empty() {
        // No image has passed on all its platforms, so that there is nothing to publish.
        return Ok(0);
    }
    let (target, mut published) = (Memory::new(), 0);
    fixture.publish(&target).await.expect("published");
    for image in release.images {
        let repository = image.repository.as_str();
        let index = tags_of(&target).await[&format!("{repository}:latest")].clone();
        let document =
            target.read_document(&image.repository, &Pointer::Digest(index)).await.expect("an index");
        for entry in document.index().expect("an index").manifests {
            let job = image.unit.on(entry.platform.as_ref().expect("a platform"));
            prop_assert_eq!(&entry.digest, &fixture.passed[&job].image.image, "{}", job);
            let there = bytes(&target, repository, &entry.digest).await;
            prop_assert_eq!(&there, &before[&job], "{} is another where it is published", job);
            published += 1;
        }
    }
    let complete = images.iter().all(|(_, missed)| *missed == [false; 2]);
    prop_assert!(!complete || published == 2 * images.len(), "{} of {:?}", published, images);
    Ok(published)
}

#[test]
fn i_t7_what_is_promoted_is_byte_for_byte_what_was_tested() {
    let published = AtomicUsize::new(0);
    let orders = vec(any::<prop::sample::Index>(), 12);
    let mut cases = TestRunner::new(ProptestConfig::with_cases(CASES));
    let held = cases.run(&(families(), orders), |(images, order)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let platforms = runtime.block_on(promote(&images, &order))?;
        published.fetch_add(usize::from(platforms > 0), Ordering::Relaxed);
        Ok(())
    });
    held.unwrap_or_else(|amiss| panic!("{amiss}"));
    let published = published.into_inner();
    assert!(published > CASES as usize / 2, "of {CASES} families only {published} have something to publish");
}
