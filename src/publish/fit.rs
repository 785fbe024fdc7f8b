//! Whether what is about to be published is what was built and tested for its platform, under its present key (I-P3).
//!
//! Records are found by key and written by the runs themselves, so that none of this happens by itself. It happens where
//! a store is shared, copied or mended by hand, and each of it would be public.

use std::collections::BTreeMap;

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Result, count};
use crate::family::{CheckKind, JobId, Recipe};
use crate::oci::{Digest, Document, ImageConfiguration, Platform};
use crate::record::Passed;

use super::publication::Source;

/// Takes away the records that stand under another key than their job has now, and says which.
pub(crate) fn of_other_keys(
    passed: &mut BTreeMap<JobId, Passed>,
    keys: &BTreeMap<JobId, Digest>,
) -> Vec<Diagnostic> {
    let is_other = |key: &Digest, passed: &Passed| *key != passed.image.key && stands(Defence::RecordKeys);
    let other = |job: &JobId, passed: &Passed| keys.get(job).filter(|key| is_other(key, passed)).cloned();
    let found = passed.iter().filter_map(|(job, passed)| {
        let key = other(job, passed)?;
        let message = format!("the record of {job} is of another key, and is passed over");
        let why = format!("it has {}, and the tree has {}", passed.image.key.short(), key.short());
        Some(Diagnostic::warning(message).because(why))
    });
    let found = found.collect();
    passed.retain(|job, passed| other(job, passed).is_none());
    found
}

/// Why a record is not that of an image that was built and tested for a platform, if it is not.
pub(super) fn misfit(recipe: &Recipe, platform: &Platform, passed: &Passed) -> Option<String> {
    let (image, checks) = (&passed.image, &passed.checks);
    if image.platform != *platform {
        return Some(format!("the record of {platform} is of an image for {}", image.platform));
    }
    if checks.image != image.image && stands(Defence::RecordKeys) {
        return Some(format!(
            "{platform} is untested: its tests saw {}, and {} was built",
            checks.image.short(),
            image.image.short()
        ));
    }
    let wanted = |kind: fn(&CheckKind) -> bool| recipe.checks.iter().filter(|one| kind(&one.kind)).count();
    let tests = wanted(|kind| matches!(kind, CheckKind::Test { .. }));
    let taggers = wanted(|kind| matches!(kind, CheckKind::Tagger { .. }));
    if checks.tests.len() < tests || checks.tags.len() < taggers {
        let (passed, all) = (checks.tests.len() + checks.tags.len(), tests + taggers);
        return Some(format!("{platform} is untested: {passed} of its {all} tests and taggers are recorded"));
    }
    None
}

/// Refuses what is no manifest of one image: an index of an engine, with its attestations, can be in no index of ours.
pub(super) fn one_image(document: &Document, platform: &Platform) -> Result<(), Diagnostic> {
    let Ok(index) = document.index() else { return Ok(()) };
    if !document.is_index() {
        return Ok(());
    }
    let attestation = |entry: &Platform| entry.os() == "unknown";
    let attestations =
        index.manifests.iter().filter(|entry| entry.platform.as_ref().is_some_and(attestation)).count();
    let what = format!("what was built for {platform} is an index, not one image");
    let all = index.manifests.len();
    Err(Diagnostic::surroundings(what)
        .because(format!("{} of its {} are attestations", attestations, count(all, "manifest")))
        .hint("build it again: polyarch build"))
}

/// Refuses an image whose own configuration says that it is for another platform.
///
/// # Errors
/// Where it says so, or where the store has no such configuration.
pub(super) async fn is_for(
    source: &Source<'_>,
    document: &Document,
    platform: &Platform,
) -> Result<(), Diagnostic> {
    let manifest = document.manifest().map_err(|error| {
        Diagnostic::surroundings(format!("{} is no manifest", document.digest())).caused_by(&error)
    })?;
    let read = ImageConfiguration::read(source.store, source.repository, &manifest.config).await;
    let configuration = read.map_err(|error| {
        let what =
            format!("cannot read the configuration {} for {platform} from the store", manifest.config.digest);
        Diagnostic::surroundings(what).caused_by(&error).hint("build it again: polyarch build")
    })?;
    match configuration.platform() {
        Some(said) if said == *platform => Ok(()),
        said => {
            let said = said.map_or_else(|| "no platform".to_owned(), |said| said.to_string());
            let what = format!("the image {} is not for {platform}", document.digest());
            Err(Diagnostic::surroundings(what)
                .because(format!("its configuration says {said}"))
                .hint("build it again: polyarch build"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Problems;
    use crate::family::{Action, Check, Divergence};
    use crate::oci::{Descriptor, ImageIndex, Manifest, MediaType, Memory, Repository, Store};
    use crate::publish::fixture::{AMD, ARM, Fixture, SCOPE, configuration, homes, publisher};
    use crate::publish::{Publication, Target, assemble, fixture, units};

    const ARM_LEAF: &str = "leaf@linux/arm64";

    fn scope() -> Repository {
        SCOPE.parse().expect("scope")
    }

    async fn family(of_arm: Option<&str>) -> Fixture {
        Fixture::new(Divergence::Withhold)
            .image("base", None, &[(AMD, Some("v1")), (ARM, Some("v1"))])
            .await
            .image("leaf", Some("base"), &[(AMD, Some("v1")), (ARM, of_arm)])
            .await
    }

    fn arm_leaf(fixture: &mut Fixture) -> &mut Passed {
        fixture.passed.get_mut(&ARM_LEAF.parse().expect("job")).expect("it has passed")
    }

    /// Publishes as the program does, and says why the leaf stays away or what went wrong; nothing may be public.
    async fn refused(fixture: &Fixture) -> String {
        let target = Memory::new();
        let source = Source { store: &fixture.store, repository: &scope(), home: None };
        let publish = async || {
            let release = fixture.assemble()?;
            let withheld = release.withheld.first().map(|withheld| withheld.reason.clone());
            for publication in
                Publication::prepare_each(units(release, fixture.family.publish.together), &homes(), &source)
                    .await?
            {
                let target = Target { store: &target, fresh: &target, registry: "r.io" };
                publication
                    .carry_out(&source, target, &publisher(1), std::future::pending(), &|_| {})
                    .await?;
            }
            Ok::<_, Problems>(withheld)
        };
        let said = match publish().await {
            Ok(withheld) => withheld.unwrap_or_default(),
            Err(problems) => {
                assert_eq!(problems.exit_code(), 3, "{problems}");
                problems.to_string()
            }
        };
        let repositories = target.repositories(None, 10).await.expect("repositories");
        let is_public = !repositories.is_empty();
        assert_eq!(is_public, said.is_empty(), "{repositories:?}: {said}");
        said
    }

    #[tokio::test]
    async fn i_p1_i_p3_tm29_what_is_not_built_and_tested_for_its_platform_keeps_the_family_back() {
        assert_eq!(refused(&family(Some("v1")).await).await, "");
        assert_eq!(refused(&family(None).await).await, "linux/arm64 has not passed");

        let mut of_another = family(Some("v1")).await;
        arm_leaf(&mut of_another).image.platform = "linux/arm/v7".parse().expect("platform");
        let told = refused(&of_another).await;
        assert_eq!(told, "the record of linux/arm64 is of an image for linux/arm/v7");

        let mut untested = family(Some("v1")).await;
        arm_leaf(&mut untested).checks.image = Digest::of(b"what was tested");
        let told = refused(&untested).await;
        assert!(told.starts_with("linux/arm64 is untested: its tests saw"), "{told}");

        let mut half = family(Some("v1")).await;
        let leaf = half.family.order[1].clone();
        let test = CheckKind::Test { action: Action::Image("true".to_owned()), stdout: None };
        let test = Check { declared_by: leaf.clone(), kind: test, time_limit_seconds: 1 };
        half.family.recipes.get_mut(&leaf).expect("leaf").checks.push(test);
        arm_leaf(&mut half).checks.tests.clear();
        let told = refused(&half).await;
        assert_eq!(told, "linux/amd64 is untested: 1 of its 2 tests and taggers are recorded");
    }

    #[tokio::test]
    async fn i_p3_an_image_whose_configuration_names_another_platform_is_not_published() {
        let mut fixture = family(Some("v1")).await;
        let job: JobId = ARM_LEAF.parse().expect("job");
        let config = configuration(&job, &AMD.parse().expect("platform"));
        fixture.store.write_blob(&scope(), config.clone()).await.expect("blob");
        let image = arm_leaf(&mut fixture).image.image.clone();
        let manifest = fixture.store.read_document(&scope(), &image.into()).await.expect("manifest");
        let manifest = manifest.manifest().expect("manifest");
        let manifest = Manifest { config: Descriptor::of(MediaType::CONFIG, &config), ..manifest };
        let document = Document::of_manifest(&manifest);
        fixture.store.write_document(&scope(), &document, &[]).await.expect("written");
        // A record that agrees with it in everything, as that of a build of a lying engine would.
        let record = arm_leaf(&mut fixture);
        record.image.image = document.digest().clone();
        record.image.size = document.bytes().len() as u64;
        record.image.config = Digest::of(&config);
        record.checks.image = document.digest().clone();
        let told = refused(&fixture).await;
        assert!(told.contains("is not for linux/arm64: its configuration says linux/amd64"), "{told}");
    }

    #[tokio::test]
    async fn i_p3_an_index_with_an_attestation_is_not_taken_for_an_image() {
        let mut fixture = family(Some("v1")).await;
        let image = arm_leaf(&mut fixture).image.image.clone();
        let entry = |platform: &str| {
            let mut entry = Descriptor::new(MediaType::MANIFEST, image.clone(), 1);
            entry.platform = platform.parse().ok();
            entry
        };
        let mut attestation = entry(ARM);
        attestation.platform = Some(Platform::from_fields("unknown", "unknown", None));
        let index = Document::of_index(&ImageIndex::new(vec![entry(ARM), attestation]));
        fixture.store.write_document(&scope(), &index, &[]).await.expect("written");
        let record = arm_leaf(&mut fixture);
        record.image.image = index.digest().clone();
        record.checks.image = index.digest().clone();
        let told = refused(&fixture).await;
        assert!(told.contains("for linux/arm64 is an index, not one image: 1 of its 2 manifests"), "{told}");
    }

    #[tokio::test]
    async fn tm29_a_record_under_another_key_counts_as_none() {
        let mut fixture = family(Some("v1")).await;
        let keys = fixture.passed.iter().map(|(job, passed)| (job.clone(), passed.image.key.clone()));
        let mut keys: BTreeMap<JobId, Digest> = keys.collect();
        assert_eq!(of_other_keys(&mut fixture.passed, &keys), []);
        keys.insert(ARM_LEAF.parse().expect("job"), Digest::of(b"the present key"));
        let told = of_other_keys(&mut fixture.passed, &keys);
        assert_eq!(told.len(), 1);
        assert!(told[0].message.contains("leaf@linux/arm64 is of another key"), "{}", told[0]);
        let chosen = fixture.family.order.iter().cloned().collect();
        let release =
            assemble(&fixture.family, &chosen, &fixture.planned(), &fixture.passed, &fixture::facts());
        assert_eq!(release.expect("release").withheld[0].reason, "linux/arm64 has not passed");
    }
}
