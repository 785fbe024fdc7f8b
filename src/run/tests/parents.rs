//! Parents that come too slowly from the registry of the store.

use std::sync::Arc;
use std::time::Duration;

use super::far::{elsewhere, machine, run};
use crate::family::JobId;
use crate::oci::Memory;
use crate::oci::watched::Watched;
use crate::plan::{Decision, Plan, Request};
use crate::record::Taken;
use crate::run::bring_parents;

/// The jobs that are built by a machine with a new leaf, where each blob takes so long to come and builds took so long
/// before; and how many warnings there were.
async fn built(delay_seconds: u64, floor_bytes: u64, taken_seconds: Option<u64>) -> (Vec<String>, usize) {
    let (shared, elsewhere) = (Arc::new(Memory::new()), elsewhere().await);
    run(&machine(&Arc::new(Memory::new()), shared.clone(), &elsewhere, "trusted", "1")).await;
    let slow = Arc::new(Watched::slow(shared.as_ref().clone(), Duration::from_secs(delay_seconds)));
    let site = machine(&Arc::new(Memory::new()), slow, &elsewhere, "trusted", "2");
    let (mut facts, _) = site.plan().await;
    facts.durations = Default::default();
    for job in site.family.jobs().filter(|_| taken_seconds.is_some()) {
        facts.durations.add(&job, taken(taken_seconds.unwrap_or_default()));
    }
    let mut request = Request::default();
    let mut plan = Plan::new(&site.family, &facts, &request);
    let outside = (&site.family, &facts);
    let planned = (&mut plan, &mut request);
    let warnings = bring_parents(&site.records, outside, planned, floor_bytes).await;
    let is_built = |job: &&JobId| matches!(plan.jobs[*job].decision, Decision::Build(_));
    (plan.order.iter().filter(is_built).map(ToString::to_string).collect(), warnings.len())
}

fn taken(seconds: u64) -> Taken {
    Taken {
        builder: "one".to_owned(),
        emulated: false,
        checks_only: false,
        milliseconds: vec![seconds * 1_000],
    }
}

#[tokio::test(start_paused = true)]
async fn s3_25_a_parent_slower_than_its_floor_is_built_where_that_was_quicker() {
    let jobs = |names: &[&str]| names.iter().map(|name| format!("{name}@linux/amd64")).collect::<Vec<_>>();
    let leaf = (jobs(&["b"]), 0);
    // The parent, and with it the other leaf that stands on it.
    let all = (jobs(&["a", "b", "c"]), 1);
    assert_eq!(built(3_600, 1 << 40, Some(60)).await, all);
    assert_eq!(built(0, 1 << 40, Some(60)).await, leaf, "it came sooner than it is built");
    assert_eq!(built(3_600, 1, Some(60)).await.1, 1, "a few bytes take an hour");
    assert_eq!(built(30, 1 << 40, Some(3_600)).await, leaf, "slow, and building takes longer");
    assert_eq!(built(3_600, 1 << 40, None).await, leaf, "nobody knows how long building takes");
}
