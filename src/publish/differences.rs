//! Versions in one image that differ between its platforms.
//!
//! A tag says it where a tagger asks. Much of what an image holds has no tag, and drifts as well: two platforms are built
//! minutes apart, and a package changes in between. What differs is shown, or refused where the configuration wants that.
//! A package that one platform does not have is no difference: many are there for one alone, and that is meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Kind};
use crate::family::{CheckKind, Recipe, Unit};
use crate::oci::Platform;
use crate::record::{Description, Passed};

/// How many differences of one image are told one by one.
const TOLD: usize = 10;

/// Names of what is in an image, and the version of each.
pub(crate) type Versions = BTreeMap<String, String>;

/// Something that has other versions on other platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionDifference {
    /// The image.
    pub(crate) unit: Unit,
    /// What: a tagger's template, or a heading and a package.
    pub(crate) name: String,
    /// Its version on each platform that has it.
    pub(crate) versions: BTreeMap<Platform, String>,
}

/// What differs between the platforms of an image, by name.
pub(crate) fn differences(unit: &Unit, found: &BTreeMap<Platform, Versions>) -> Vec<VersionDifference> {
    let names: BTreeSet<&String> = found.values().flat_map(BTreeMap::keys).collect();
    let all = names.into_iter().map(|name| {
        let versions = found
            .iter()
            .filter_map(|(platform, versions)| Some((platform.clone(), versions.get(name)?.clone())));
        VersionDifference { unit: unit.clone(), name: name.clone(), versions: versions.collect() }
    });
    all.filter(|one| one.versions.values().collect::<BTreeSet<_>>().len() > 1).collect()
}

/// What the checks of an image found on each platform: what its taggers made, and the packages that its descriptions
/// list.
pub(super) fn recorded(
    recipe: &Recipe,
    passed: &BTreeMap<&Platform, &Passed>,
) -> BTreeMap<Platform, Versions> {
    let templates: Vec<&str> = { recipe.checks.iter() }
        .filter_map(|check| match &check.kind {
            CheckKind::Tagger { template, .. } => Some(template.as_str()),
            _ => None,
        })
        .collect();
    let of_platform = |passed: &Passed| {
        let tags = templates.iter().zip(&passed.checks.tags);
        let tags = tags.map(|(template, tag)| (format!("tag {template}"), tag.clone()));
        let packages = passed.checks.descriptions.iter().flat_map(|Description { title, pieces }| {
            let lines = pieces.iter().flat_map(|piece| piece.text.lines());
            lines.filter_map(package).map(move |(name, version)| (format!("{title}: {name}"), version))
        });
        tags.chain(packages).collect()
    };
    passed.iter().map(|(platform, passed)| ((*platform).clone(), of_platform(passed))).collect()
}

/// Name and version of a line of a list of packages: `bash/stable,now 5.2-2 amd64 [installed]`, `numpy  2.1.0`.
fn package(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    let name = name.split_once('/').map_or(name, |(name, _)| name);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_version = version.starts_with(|c: char| c.is_ascii_digit());
    (is_name && is_version && !name.ends_with(':')).then(|| (name.to_owned(), version.to_owned()))
}

/// One warning for each image that has differences.
pub(crate) fn shown(differences: &[VersionDifference]) -> Vec<Diagnostic> {
    let of_units = by_unit(differences).into_iter();
    let told = of_units.map(|(unit, found)| {
        let told: Vec<String> = found.iter().take(TOLD).map(|one| one.told()).collect();
        let more = found.len().saturating_sub(TOLD);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Diagnostic::warning(format!("{unit} differs between its platforms: {}{more}", told.join("; ")))
    });
    told.collect()
}

/// One problem for each image that has differences.
pub(crate) fn refused(differences: &[VersionDifference]) -> Vec<Diagnostic> {
    let told = by_unit(differences).into_iter().map(|(unit, found)| {
        let problem = Diagnostic::new(Kind::Policy, format!("{unit} differs between its platforms"));
        let problem = found.iter().take(TOLD).fold(problem, |problem, one| problem.because(one.told()));
        match found.len().saturating_sub(TOLD) {
            0 => problem,
            more => problem.because(format!("and {more} more")),
        }
    });
    let mut told: Vec<Diagnostic> = told.collect();
    if let Some(last) = told.last_mut() {
        last.hints.push(
            "build its platforms again, so that they get the same: polyarch build --no-cache".to_owned(),
        );
        last.hints.push("or publish all the same: `differences = \"show\"` under `[publish]`".to_owned());
    }
    told
}

fn by_unit(differences: &[VersionDifference]) -> BTreeMap<&Unit, Vec<&VersionDifference>> {
    let mut units: BTreeMap<&Unit, Vec<&VersionDifference>> = BTreeMap::new();
    for one in differences {
        units.entry(&one.unit).or_default().push(one);
    }
    units
}

impl VersionDifference {
    /// "python-{0} is 3.13.5 on linux/amd64 and 3.13.6 on linux/arm64"
    fn told(&self) -> String {
        let mut platforms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (platform, version) in &self.versions {
            platforms.entry(version).or_default().push(platform.to_string());
        }
        let parts = platforms.iter().map(|(version, on)| format!("{version} on {}", on.join(", ")));
        format!("{} is {}", self.name, parts.collect::<Vec<_>>().join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Divergence;
    use crate::publish::fixture::{AMD, ARM, Fixture};

    fn platform(text: &str) -> Platform {
        text.parse().expect("platform")
    }

    #[test]
    fn what_a_list_says_of_a_package_is_read() {
        let table = [
            ("bash/stable,now 5.2.15-2+b7 amd64 [installed]", Some(("bash", "5.2.15-2+b7"))),
            ("numpy                     2.1.0           py313h1  conda-forge", Some(("numpy", "2.1.0"))),
            ("libc6/stable 1:2.36 arm64", Some(("libc6", "1:2.36"))),
            ("Listing... Done", None),
            ("# packages in environment at /opt/conda:", None),
            ("active environment : base", None),
            ("version: 3", None),
            ("", None),
        ];
        for (line, expected) in table {
            let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
            assert_eq!(package(line), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn versions_that_differ_between_platforms_are_named() {
        let mut fixture = Fixture::new(Divergence::Withhold)
            .image("base", None, &[(AMD, Some("py-5")), (ARM, Some("py-6"))])
            .await
            .image("same", None, &[(AMD, Some("v1")), (ARM, Some("v1"))])
            .await;
        let lists = [
            (AMD, "bash/stable 5.1 amd64\ncurl/stable 8.0 amd64\nmkl/stable 1.0 amd64\n"),
            (ARM, "bash/stable 5.2 arm64\ncurl/stable 8.0 arm64\n"),
        ];
        for (on, list) in lists {
            let job = "base".parse::<Unit>().expect("unit").on(&platform(on));
            let record = fixture.passed.get_mut(&job).expect("it has passed");
            record.checks.descriptions = vec![Description::of("Apt", "apt list", list)];
        }
        let release = fixture.assemble().expect("release");
        let told: Vec<String> = shown(&release.differences).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["base differs between its platforms: Apt: bash is 5.1 on linux/amd64 and 5.2 on linux/arm64; \
              tag python-{0} is py-5 on linux/amd64 and py-6 on linux/arm64"]
        );
        let refused = refused(&release.differences);
        assert_eq!((refused.len(), refused[0].kind, refused[0].causes.len()), (1, Kind::Policy, 2));
        assert!(refused[0].hints.iter().any(|hint| hint.contains("--no-cache")), "{:?}", refused[0].hints);
    }

    #[test]
    fn many_differences_are_counted() {
        let unit: Unit = "base".parse().expect("unit");
        let on =
            |version: &str| (0..25).map(|at| (format!("p{at:02}"), version.to_owned())).collect::<Versions>();
        let found = BTreeMap::from([(platform(AMD), on("1")), (platform(ARM), on("2"))]);
        let found = differences(&unit, &found);
        assert_eq!(found.len(), 25);
        assert!(shown(&found)[0].message.ends_with("; and 15 more"), "{:?}", shown(&found));
        assert_eq!(refused(&found)[0].causes.len(), TOLD + 1);
    }
}
