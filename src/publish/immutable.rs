//! Tags that are declared immutable never change once they are public (I-P7).
//!
//! The check is against what the target has, so that it holds whatever built the images and whoever published them
//! before. It comes before anything is written.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::diag::{Diagnostic, Kind, Problems, Result};

use super::journal::Move;
use super::look::tag_at;
use super::publication::{CONCURRENCY, Publication, Step, Target};
use super::release::Release;

/// A problem for each immutable tag that is public and would change.
pub(super) fn immutable_violations(release: &Release, registry: &str, moves: &[Move]) -> Vec<Diagnostic> {
    let refused = moves.iter().filter_map(|Move { repository, tag, old, new, .. }| {
        let (old, new) = (old.as_ref().filter(|old| Some(*old) != new.as_ref())?, new.as_ref()?);
        let pattern = release.immutable_by(repository, tag)?;
        let message = format!("the tag {registry}/{repository}:{tag} is immutable, and would change");
        let found = Diagnostic::new(Kind::Policy, message);
        let found = found.because(format!("`{pattern}` stands in `immutable` under `[tags]`"));
        Some(found.because(format!("it points at {}, and would point at {}", old.short(), new.short())))
    });
    let mut refused: Vec<Diagnostic> = refused.collect();
    if let Some(last) = refused.last_mut() {
        last.hints.push("publish under a tag that is new, such as one with `{commit}` in it".to_owned());
        last.hints.push("or, where it is meant to move, take it out of `immutable`".to_owned());
    }
    refused
}

impl Publication {
    /// Refuses to change immutable tags, before anything is written. Asks the target for those tags alone.
    ///
    /// # Errors
    /// Of kind [`Kind::Policy`] where one would change; and where the target fails.
    pub(crate) async fn keep_immutable(&self, target: Target<'_>) -> Result<()> {
        let immutable = self.tags.iter().filter_map(|step| match step {
            Step::Tag { repository, tag, document } => {
                self.release.immutable_by(repository, tag).map(|_| (repository, tag, document.digest()))
            }
            Step::Blob { .. } | Step::Document { .. } => None,
        });
        let looks = immutable.map(|(repository, tag, new)| async move {
            let old = tag_at(target, repository, tag).await?;
            let (repository, tag) = (repository.clone(), tag.clone());
            Ok::<_, Diagnostic>(Move { repository, tag, old, new: Some(new.clone()), immutable: true })
        });
        let looks: Vec<_> = looks.collect();
        let moves: Vec<Move> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
        Problems::check(immutable_violations(&self.release, target.registry, &moves))
    }
}

#[cfg(test)]
mod tests {
    use crate::family::Divergence;
    use crate::oci::watched::Watched;
    use crate::oci::{Memory, Repository};
    use crate::publish::fixture::{AMD, ARM, Fixture, SCOPE, homes};
    use crate::publish::*;

    /// A family with one image and its variant, at one of two states of its sources.
    async fn family(state: &str, immutable: &[&str]) -> Fixture {
        let mut fixture = Fixture::new(Divergence::Withhold)
            .image(&format!("base{state}"), None, &[(AMD, Some("v1")), (ARM, Some("v1"))])
            .await
            .image(&format!("base{state}:cuda"), None, &[(AMD, Some("v1"))])
            .await;
        fixture.family.tags.immutable =
            immutable.iter().map(|text| text.parse().expect("a pattern")).collect();
        for recipe in fixture.family.recipes.values_mut() {
            recipe.repository = "o/base".parse().expect("repository");
            recipe.common_tags = vec!["latest".to_owned(), "{commit}".to_owned(), "{date}".to_owned()];
        }
        fixture
    }

    /// What keeps a family from being published over another state of it, and what was written.
    async fn refused(immutable: &[&str], again: &str) -> (Vec<String>, u8) {
        let target = Memory::new();
        family("", immutable).await.publish(&target).await.expect("published");
        let fixture = family(again, immutable).await;
        let scope: Repository = SCOPE.parse().expect("scope");
        let source = Source { store: &fixture.store, repository: &scope, home: None };
        let release = fixture.assemble().expect("release");
        let publication = Publication::prepare(release, &homes(), &source).await.expect("publication");
        let watched = Watched::new(target);
        let kept =
            publication.keep_immutable(Target { store: &watched, fresh: &watched, registry: "r.io" }).await;
        assert_eq!(watched.writes(), Vec::<String>::new());
        match kept {
            Ok(()) => (Vec::new(), 0),
            Err(problems) => {
                let named = |text: &str| text.split(' ').nth(2).unwrap_or_default().to_owned();
                (problems.iter().map(|problem| named(&problem.message)).collect(), problems.exit_code())
            }
        }
    }

    #[tokio::test]
    async fn i_p7_an_immutable_tag_never_changes_once_it_is_public() {
        let (tags, code) = refused(&["{commit}"], "2").await;
        let expected = ["amd64-0123456789ab", "arm64-0123456789ab", "0123456789ab"].map(str::to_owned);
        assert_eq!(code, 4);
        for tag in &expected {
            assert!(tags.contains(&format!("r.io/o/base:{tag}")), "{tag} of {tags:?}");
        }
        // Those of the variant are meant too.
        assert!(tags.contains(&"r.io/o/base:amd64-cuda-0123456789ab".to_owned()), "{tags:?}");
        assert_eq!(tags.len(), 5, "{tags:?}");
        let (tags, code) = refused(&["v*", "latest"], "2").await;
        assert_eq!((tags.len(), code), (10, 4), "{tags:?}");
    }

    #[tokio::test]
    async fn i_p7_what_is_the_same_or_may_move_is_not_refused() {
        assert_eq!(refused(&["*"], "").await, (Vec::new(), 0), "the same images under the same tags");
        assert_eq!(refused(&["2024-*", "w1"], "2").await, (Vec::new(), 0));
        assert_eq!(refused(&[], "2").await, (Vec::new(), 0));
    }
}
