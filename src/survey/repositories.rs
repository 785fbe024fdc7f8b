//! The commits of repositories that an `ADD` fetches, looked up where they are.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::dockerfile::Source;
use crate::family::Family;

/// Asks repositories what their names point at; `cli` has one that lets Git ask.
#[async_trait]
pub(crate) trait Repositories: Send + Sync {
    /// The whole commit that a branch, a tag or another name points at; the default branch where none is given.
    ///
    /// # Errors
    /// Where that cannot be found out, and why, without a password of the address.
    async fn commit(&self, repository: &str, name: Option<&str>) -> Result<String, String>;
}

/// No repository can be reached.
#[cfg(test)]
pub(crate) struct Unreachable;

#[cfg(test)]
#[async_trait]
impl Repositories for Unreachable {
    async fn commit(&self, _: &str, _: Option<&str>) -> Result<String, String> {
        Err("no repository is looked up here".to_owned())
    }
}

/// The commit of each repository that the family fetches, by its address without a password. Each name is asked for once,
/// so that all folders of it are of the same commit; what is `settled` is not asked for.
pub(super) async fn commits(
    family: &Family,
    repositories: &dyn Repositories,
    settled: &BTreeMap<String, String>,
) -> BTreeMap<String, Result<String, String>> {
    let builds = family.recipes().flat_map(|recipe| recipe.platforms.values());
    let mut wanted = BTreeMap::new();
    let mut found = BTreeMap::new();
    for source in builds.flat_map(|build| &build.needs.sources) {
        let Source::Remote(remote) = source else { continue };
        let Some(Ok(git)) = remote.git() else { continue };
        if git.commit().is_some() {
            continue;
        }
        match settled.get(&remote.shown()) {
            Some(commit) => {
                found.insert(remote.shown(), Ok(commit.clone()));
            }
            None => {
                wanted.insert(remote.shown(), (git.repository, git.name));
            }
        }
    }
    let asked: BTreeSet<&(String, Option<String>)> = wanted.values().collect();
    let answers = join_all(asked.into_iter().map(async |asked| {
        let (repository, name) = asked;
        (asked, repositories.commit(repository, name.as_deref()).await)
    }));
    let answers: BTreeMap<_, _> = answers.await.into_iter().collect();
    found.extend(
        wanted.iter().filter_map(|(shown, asked)| Some((shown.clone(), answers.get(asked)?.clone()))),
    );
    found
}
