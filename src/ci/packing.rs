//! Fewer jobs than images, for a service that takes no more: images that run alike and stand equally high share a job.
//!
//! None of them stands on another, so that what a job waits for is never behind it (I-Y4). Those upon the same parents come
//! together, so that few wait for more than their own.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::{BuildJob, LONGEST_MINUTES, id_of};

/// The same builds with up to so many images in a job; parents come first, as they did.
pub(super) fn packed(builds: &[BuildJob], size: usize) -> Vec<BuildJob> {
    if size <= 1 {
        return builds.to_vec();
    }
    let mut heights = BTreeMap::<&str, usize>::new();
    let mut alike = BTreeMap::<_, Vec<&BuildJob>>::new();
    for build in builds {
        let below =
            build.parents.iter().chain(&build.beside).filter_map(|parent| heights.get(parent.as_str()));
        let height = below.max().map_or(0, |height| height + 1);
        heights.insert(&build.id, height);
        let platforms: BTreeSet<_> = build.jobs.iter().map(|job| &job.platform).collect();
        let terms = (height, build.downstream, platforms, &build.runner, &build.secrets);
        alike.entry(terms).or_default().push(build);
    }
    let mut groups = Vec::new();
    for mut builds in alike.into_values() {
        builds.sort_by_key(|build| &build.parents);
        groups.extend(builds.chunks(size).map(<[&BuildJob]>::to_vec));
    }
    let ids: BTreeMap<&str, String> = groups.iter().flat_map(|group| named(group)).collect();
    groups.iter().map(|group| one(group, &ids)).collect()
}

/// What the job of each of these is called.
fn named<'a>(group: &[&'a BuildJob]) -> Vec<(&'a str, String)> {
    let alone: Vec<&str> = group.iter().map(|build| build.id.as_str()).collect();
    let id = id_of(&alone);
    alone.into_iter().map(|one| (one, id.clone())).collect()
}

/// One job of builds that are alike.
fn one(group: &[&BuildJob], ids: &BTreeMap<&str, String>) -> BuildJob {
    let those = |ids_of: fn(&BuildJob) -> &[String]| -> Vec<String> {
        let all = group.iter().flat_map(|build| ids_of(build)).filter_map(|id| ids.get(id.as_str()));
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let first = group[0];
    BuildJob {
        id: ids[first.id.as_str()].clone(),
        jobs: group.iter().flat_map(|build| build.jobs.clone()).collect(),
        parents: those(|build| &build.parents),
        beside: those(|build| &build.beside),
        ancestors: those(|build| &build.ancestors),
        minutes: group.iter().map(|build| build.minutes).sum::<u64>().min(LONGEST_MINUTES),
        ..first.clone()
    }
}
