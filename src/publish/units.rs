//! What of a release is published as a whole or not at all.
//!
//! A family that is one unit (the default) is published only where every chosen image is complete. Where each image is
//! a unit, those of one repository are published by themselves, parents before children, and what is withheld stays
//! away alone.

use crate::family::{Together, by_repository};

use super::release::Release;

/// The releases that a release is published as, in the order in which they are.
///
/// None where nothing is complete, and none where something is withheld from a family that goes as a whole.
pub(crate) fn units(release: Release, together: Together) -> Vec<Release> {
    match together {
        _ if release.images.is_empty() => Vec::new(),
        Together::Family if release.withheld.is_empty() => vec![release],
        Together::Family => Vec::new(),
        Together::Image => apart(release),
    }
}

fn apart(release: Release) -> Vec<Release> {
    let images = release.images.iter();
    let images = images.map(|image| (&image.unit, &image.repository, image.parents.iter().collect()));
    let places = by_repository(images);
    let mut units: Vec<Release> = Vec::new();
    for (image, at) in release.images.into_iter().zip(places) {
        if at == units.len() {
            units.push(Release::default());
        }
        units[at].images.push(image);
    }
    for withheld in release.tags_withheld {
        let of_repository =
            |unit: &&mut Release| unit.images.iter().any(|image| image.repository == withheld.repository);
        if let Some(unit) = units.iter_mut().find(of_repository) {
            unit.tags_withheld.push(withheld);
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::family::Divergence;
    use crate::publish::fixture::{AMD, ARM, Fixture};

    fn names(units: &[Release]) -> Vec<Vec<String>> {
        let of_unit = |unit: &Release| unit.images.iter().map(|image| image.unit.to_string()).collect();
        units.iter().map(of_unit).collect()
    }

    async fn family(of_arm: Option<&str>) -> Release {
        let fixture = Fixture::new(Divergence::Withhold)
            .image("base", None, &[(AMD, Some("v1")), (ARM, Some("v1"))])
            .await
            .image("leaf", Some("base"), &[(AMD, Some("v1")), (ARM, of_arm)])
            .await
            .image("leaf:cuda", Some("leaf"), &[(AMD, Some("v1"))])
            .await
            .image("other", None, &[(AMD, Some("v1"))])
            .await;
        fixture.assemble().expect("release")
    }

    #[tokio::test]
    async fn s4_row_15_a_family_is_published_as_a_whole_or_not_at_all() {
        let whole = units(family(Some("v1")).await, Together::Family);
        assert_eq!(names(&whole), [["base", "leaf", "leaf:cuda", "other"]]);
        let lacking = family(None).await;
        assert_eq!((lacking.images.len(), lacking.withheld.len()), (2, 2));
        assert_eq!(names(&units(lacking, Together::Family)), Vec::<Vec<String>>::new());
    }

    #[tokio::test]
    async fn images_are_published_by_themselves_where_they_are_the_units() {
        let whole = units(family(Some("v2")).await, Together::Image);
        assert_eq!(names(&whole), [vec!["base"], vec!["leaf", "leaf:cuda"], vec!["other"]]);
        let of_leaf: Vec<&str> = whole[1].tags_withheld.iter().map(|tag| tag.tag.as_str()).collect();
        assert_eq!(of_leaf, ["v1", "v2"], "what stays where it is goes with its image");
        assert!(whole[0].tags_withheld.is_empty() && whole[2].tags_withheld.is_empty());
        let lacking = units(family(None).await, Together::Image);
        assert_eq!(names(&lacking), [["base"], ["other"]]);
    }

    #[tokio::test]
    async fn i_p5_no_unit_brings_a_child_before_its_parents() {
        let fixture = Fixture::new(Divergence::Withhold)
            .image("base", None, &[(AMD, Some("v1"))])
            .await
            .image("leaf", Some("base"), &[(AMD, Some("v1"))])
            .await
            .image("base:late", Some("leaf"), &[(AMD, Some("v1"))])
            .await
            .image("base:last", None, &[(AMD, Some("v1"))])
            .await;
        let units = units(fixture.assemble().expect("release"), Together::Image);
        assert_eq!(names(&units), [vec!["base"], vec!["leaf"], vec!["base:late", "base:last"]]);
        let mut brought = BTreeSet::new();
        for unit in &units {
            brought.extend(unit.images.iter().map(|image| image.unit.clone()));
            assert!(unit.images.iter().all(|image| image.parents.is_subset(&brought)));
        }
    }
}
