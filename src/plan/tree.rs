//! The digest of a tree: everything of it that a run reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::family::Family;
use crate::oci::Digest;

use super::key::{check_key, digest_of};
use super::{Facts, keys};

/// The digest of what an approval is given for: the configuration and the Dockerfiles that were `read`, the files of
/// contexts and of tests, the build arguments. What stands outside, at registries, is not in it: what was approved stays
/// what it is when a base moves.
pub(crate) fn tree_digest(family: &Family, facts: &Facts, read: &BTreeMap<PathBuf, Digest>) -> Digest {
    let mut parts = vec!["tree 1".to_owned()];
    let mut put = |kind: &str, name: String, value: String| parts.extend([kind.to_owned(), name, value]);
    for (path, digest) in read {
        put("read", path.display().to_string(), digest.to_string());
    }
    for recipe in family.recipes() {
        let checks = check_key(&Digest::of(b""), recipe, facts.files_of_checks(&recipe.unit));
        put("checks", recipe.unit.to_string(), checks.to_string());
    }
    let from_outside = ["base:", "parent:", "frontend", "epoch", "remote:"];
    for (job, keyed) in keys(family, facts) {
        let own =
            keyed.inputs.iter().filter(|(name, _)| !from_outside.iter().any(|kind| name.starts_with(kind)));
        for (name, value) in own {
            put(&job.to_string(), name.clone(), value.clone());
        }
    }
    digest_of(parts.iter().map(String::as_str))
}
