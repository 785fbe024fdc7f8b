//! What one store writes another takes in.

use super::*;

fn is_incomplete(result: Result<Vec<Arrived>, Fault>) -> bool {
    matches!(result, Err(Fault::Incomplete { missing: 1, .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_layer_moves_once_and_every_digest_stays() {
    let (from, to) = (shop(), shop());
    let base = built(&from, JOB, &["low layer", "base"], &[]).await;
    let leaf = built(&from, "leaf@linux/amd64", &["low layer", "base", "leaf"], &[&base]).await;
    let (base_file, leaf_file) = (file(&from, &base).await, file(&from, &leaf).await);
    let holds = |file: &[u8], layer: &str| file.windows(layer.len()).any(|bytes| bytes == layer.as_bytes());
    assert!(holds(&base_file, "low layer") && holds(&leaf_file, "leaf"));
    assert!(!holds(&leaf_file, "low layer"), "it comes with the image that the leaf stands on");
    // In any order, and more than once.
    for _ in 0..2 {
        let arrived = take(&to, &[&leaf_file, &base_file]).await.expect("both");
        let jobs: Vec<(&str, bool)> =
            arrived.iter().map(|arrived| (arrived.job.as_str(), arrived.is_checked)).collect();
        assert_eq!(jobs, [("leaf@linux/amd64", true), (JOB, true)]);
    }
    for record in [&base, &leaf] {
        assert_eq!(to.image(&record.key).await.expect("a store").record.as_ref(), Some(record));
        let found = checks(record);
        assert_eq!(to.checks(&found.key).await.expect("a store").record, Some(found));
    }
    assert_eq!(names(&to).await, names(&from).await, "the latest records too");
    assert_eq!(file(&to, &leaf).await, leaf_file, "it goes on from there byte for byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_file_stands_on_comes_with_it_or_is_there() {
    let (from, to) = (shop(), shop());
    let base = built(&from, JOB, &["base"], &[]).await;
    let leaf = built(&from, "leaf@linux/amd64", &["base", "leaf"], &[&base]).await;
    let (base_file, leaf_file) = (file(&from, &base).await, file(&from, &leaf).await);
    assert!(is_incomplete(take(&to, &[&leaf_file]).await));
    assert_eq!(names(&to).await, Vec::<String>::new(), "nothing is named that is not whole");
    take(&to, &[&base_file]).await.expect("it stands on nothing");
    take(&to, &[&leaf_file]).await.expect("what it stands on is there");
    // Another scope of the same store has it: it is not sent again.
    let beside = Records::of_scope(to.store.clone(), &"pr-1".parse().expect("a scope"));
    take(&beside, &[&leaf_file]).await.expect("what it stands on is in the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_checks_have_not_passed_comes_without_them() {
    let (from, to) = (shop(), shop());
    let base = built(&from, JOB, &["base"], &[]).await;
    let delta = Delta::read(&from, &base, None).await.expect("what it has added");
    assert!(!delta.is_checked());
    assert_eq!(delta.bytes(), 4 + configuration("amd64", 1).len() as u64);
    let (blobs, work) =
        (Blobs::new(from.store, from.scope, tokio::runtime::Handle::current()), delta.entries());
    let written = tokio::task::spawn_blocking(move || {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let plain = crate::config::Compression::None;
        pack(work, plain, &blobs, file.reopen().expect("it"), 1, &|_| {}).expect("it is written");
        std::fs::read(file.path()).expect("its bytes")
    });
    let arrived = take(&to, &[&written.await.expect("it ends")]).await.expect("it comes");
    assert!(!arrived[0].is_checked);
    assert_eq!(to.checks(&checks(&base).key).await.expect("a store").record, None);
}
