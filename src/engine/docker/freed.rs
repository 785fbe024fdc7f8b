//! Make room on an engine's disk: what is ours there and in no use. The cache of builds is shared with everybody who builds
//! there, and an entry does not say whose it is; ours for certain is what came from the store, and what stands on that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Docker, container};
use crate::diag::Diagnostic;
use crate::engine::{Deed, StoreAddress};

/// How many entries of the cache are removed at most: each is a call of the client.
const ENTRIES: usize = 256;

/// One entry of an engine's cache of builds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Entry {
    #[serde(rename = "ID")]
    id: String,
    parent: String,
    description: String,
    /// The client writes `true` or `false`.
    in_use: String,
}

/// Remove the images of the store that no container uses, and what builds have kept that stands on such.
pub(super) async fn free(docker: &Docker, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
    let mut freed = container::sweep_pulled(docker, store, Deed::Remove).await?;
    let listed = docker.ask(&["system", "df", "--verbose", "--format", "{{json .BuildCache}}"]).await?;
    if !listed.ended.success() {
        return Err(docker.refused("ask what builds have cached", &listed));
    }
    let entries: Vec<Entry> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    for id in ours(&entries, &store.registry).into_iter().take(ENTRIES) {
        let filter = format!("id={id}");
        let pruned = docker.ask(&["builder", "prune", "--force", "--all", "--filter", &filter]).await?;
        // One that has come into use meanwhile is passed over without a word.
        if pruned.text().contains(id) {
            freed.push(format!("cache entry {id}"));
        }
    }
    Ok(freed)
}

/// The entries that came from a registry or stand on such, and that nothing uses: those that others stand on last.
fn ours<'e>(entries: &'e [Entry], registry: &str) -> Vec<&'e str> {
    let by_id: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (&*entry.id, entry)).collect();
    let (pulled, copied) = (format!("pulled from {registry}/"), format!("--from={registry}/"));
    let is_root =
        |entry: &Entry| entry.description.starts_with(&pulled) || entry.description.contains(&copied);
    let mut found: Vec<(usize, &str)> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.in_use != "true") {
        let mut seen = BTreeSet::new();
        let mut next = Some(entry);
        let mut is_ours = false;
        while let Some(one) = next.filter(|one| seen.insert(&*one.id)) {
            is_ours |= is_root(one);
            next = by_id.get(&*one.parent).copied();
        }
        if is_ours {
            found.push((seen.len(), &entry.id));
        }
    }
    found.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    found.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_g6_i_x2_only_what_stands_on_the_store_is_freed_and_the_last_first() {
        let text = r#"[
            {"ID":"base","Parent":"","Description":"pulled from 127.0.0.1:5/scopes/trusted@sha256:1","InUse":"false"},
            {"ID":"step","Parent":"base","Description":"mount / from exec /bin/sh -c make","InUse":"false"},
            {"ID":"last","Parent":"step","Description":"mount / from exec /bin/sh -c true","InUse":"false"},
            {"ID":"busy","Parent":"base","Description":"mount / from exec /bin/sh -c sleep","InUse":"true"},
            {"ID":"copy","Parent":"theirs","Description":"[2/2] COPY --from=127.0.0.1:5/scopes/trusted@sha256:2 / /","InUse":"false"},
            {"ID":"theirs","Parent":"","Description":"pulled from docker.io/library/alpine@sha256:3","InUse":"false"},
            {"ID":"other","Parent":"","Description":"pulled from 127.0.0.1:55/scopes/trusted@sha256:4","InUse":"false"},
            {"ID":"round","Parent":"about","Description":"","InUse":"false"},
            {"ID":"about","Parent":"round","Description":"","InUse":"false"},
            {"ID":"files","Description":"local source for context","CacheType":"source.local"}
        ]"#;
        let entries: Vec<Entry> = serde_json::from_str(text).expect("what the client prints");
        assert_eq!(ours(&entries, "127.0.0.1:5"), ["last", "step", "copy", "base"]);
        assert!(ours(&entries, "127.0.0.1:6").is_empty());
    }
}
