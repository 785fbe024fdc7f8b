//! Other registries that get what is published, under which names; and how deep names may be.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Mirror, Recipe, Unit};
use crate::config::{FamilyFile, SCOPES, Target, Written};
use crate::diag::Diagnostic;
use crate::oci::Repository;

/// A registry that gets all that is published at the first, after it: the same digests under the same tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorRegistry {
    /// `host[:port]`.
    pub(crate) registry: String,
    /// What each repository of the first is called here.
    pub(crate) repositories: BTreeMap<Repository, Repository>,
}

/// The mirrors of a family, and what is wrong with them.
pub(super) fn mirrors(
    recipes: &BTreeMap<Unit, Recipe>,
    copies: &BTreeMap<Unit, Mirror>,
    file: Option<&FamilyFile>,
) -> (Vec<MirrorRegistry>, Vec<Diagnostic>) {
    let Some(file) = file else { return (Vec::new(), Vec::new()) };
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    let mut earlier: Vec<&Target> = Vec::new();
    let repositories: Vec<&Repository> = { recipes.values() }
        .map(|recipe| &recipe.repository)
        .chain(copies.values().map(|copy| &copy.repository))
        .collect();
    for written in &file.publish.mirrors {
        let wrong =
            |message: String, hint: &str| Diagnostic::request(message).at(file.place(written)).hint(hint);
        let Some(registry) = file.registry.as_ref().map(|registry| &registry.value) else {
            let message = "there is a mirror, but no registry whose images it gets".to_owned();
            problems.push(wrong(message, "write `registry = \"HOST/OWNER\"` at the top of the file"));
            break;
        };
        let mirror = &written.value;
        if mirror == registry || earlier.contains(&mirror) {
            problems.push(wrong(format!("{} is named twice", shown(mirror)), "remove it here"));
            continue;
        }
        earlier.push(mirror);
        match names(&repositories, registry, mirror) {
            Ok(repositories) => all.push(MirrorRegistry { registry: mirror.registry.clone(), repositories }),
            Err(message) => problems.push(wrong(message, "choose another owner for the mirror")),
        }
    }
    (all, problems)
}

/// What each repository is called at a mirror: its name below the owner there instead of here.
fn names(
    repositories: &[&Repository],
    registry: &Target,
    mirror: &Target,
) -> Result<BTreeMap<Repository, Repository>, String> {
    let mut named: BTreeMap<Repository, Repository> = BTreeMap::new();
    for &repository in repositories {
        let own =
            registry.prefix.as_ref().and_then(|prefix| repository.as_str().strip_prefix(prefix.as_str()));
        let own = own.and_then(|rest| rest.strip_prefix('/')).unwrap_or(repository.as_str());
        let there: Result<Repository, _> =
            mirror.prefix.as_ref().map_or_else(|| own.parse(), |prefix| prefix.join(own));
        let there = there.map_err(|error| error.to_string())?;
        if mirror.has_two_levels() && levels(&there) != 2 {
            return Err(format!(
                "{repository} would be {there} at {}, where an image is named owner/image",
                mirror.registry
            ));
        }
        if there.as_str().starts_with(SCOPES) {
            return Err(format!(
                "{repository} would be {there} at {}, but under `{SCOPES}` a store keeps its records",
                mirror.registry
            ));
        }
        let other = named.iter().find(|(other, name)| **name == there && *other != repository);
        if let Some((other, _)) = other {
            return Err(format!("{other} and {repository} would both be {there} at {}", mirror.registry));
        }
        named.insert(repository.clone(), there);
    }
    Ok(named)
}

/// Images whose repositories are deeper or flatter than their registry takes.
pub(super) fn too_deep(
    recipes: &BTreeMap<Unit, Recipe>,
    copies: &BTreeMap<Unit, Mirror>,
    drafts: &BTreeMap<Unit, Draft<'_>>,
    file: Option<&FamilyFile>,
) -> Vec<Diagnostic> {
    let registry =
        file.and_then(|file| file.registry.as_ref()).map(|registry: &Written<Target>| &registry.value);
    // What is wrong with the owner alone was said when the file was read.
    let Some(registry) = registry.filter(|one| one.has_two_levels()) else { return Vec::new() };
    let owner = registry.prefix.as_ref().map_or_else(|| "OWNER".to_owned(), ToString::to_string);
    let told = |unit: &Unit, repository: &Repository| {
        let message = format!(
            "`{unit}` would be published as {}/{repository}, where an image is named owner/image",
            registry.registry
        );
        let flat = repository.as_str().replace('/', "-");
        let name = flat.strip_prefix(&format!("{owner}-")).unwrap_or(&flat);
        Diagnostic::request(message)
            .hint(format!("write `repository = \"{owner}/{name}\"` in `[image.\"{}\"]`", unit.image))
    };
    let built = recipes.values().filter(|recipe| levels(&recipe.repository) != 2);
    let built =
        built.map(|recipe| told(&recipe.unit, &recipe.repository).at(drafts[&recipe.unit].place(file)));
    let copied = copies.values().filter(|copy| levels(&copy.repository) != 2);
    let copied = copied.map(|copy| copy.at(file, told(&copy.unit, &copy.repository)));
    built.chain(copied).collect()
}

fn levels(repository: &Repository) -> usize {
    repository.as_str().split('/').count()
}

fn shown(target: &Target) -> String {
    match &target.prefix {
        Some(prefix) => format!("{}/{prefix}", target.registry),
        None => target.registry.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::diag::Problems;
    use crate::family::{Family, Found, Sources};

    fn resolve(config: &str) -> Result<Family, Problems> {
        let found = |path: &str| Found { path: PathBuf::from(path), text: "FROM scratch\n".to_owned() };
        Family::resolve(&Sources {
            name: "stacks".to_owned(),
            file: Some(FamilyFile::parse(Path::new("polyarch.toml"), config).expect("it can be read")),
            dockerfiles: vec![found("base/Dockerfile"), found("tools/deep/Dockerfile")],
            args: BTreeMap::new(),
            root_image: None,
            release: None,
            machine: "linux/amd64".parse().expect("platform"),
        })
    }

    fn wrong(config: &str) -> String {
        let problems = resolve(config).expect_err("it is wrong");
        assert_eq!(problems.exit_code(), 2);
        assert!(problems.iter().all(|problem| !problem.hints.is_empty()), "{problems}");
        problems.to_string()
    }

    #[test]
    fn s4_row_30_a_mirror_has_the_same_names_below_its_own_owner() {
        let config = "registry = \"quay.io/jupyter\"\n[publish]\nmirrors = [\"ghcr.io/o/p\", \"127.0.0.1:5000\"]\n\
            [image.base]\nrepository = \"other/base\"\n";
        let family = resolve(config).expect("a family");
        let shown: Vec<String> = { family.publish.mirrors.iter() }
            .flat_map(|mirror| {
                mirror.repositories.iter().map(|(name, there)| format!("{name} {}/{there}", mirror.registry))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "jupyter/deep ghcr.io/o/p/deep",
                "other/base ghcr.io/o/p/other/base",
                "jupyter/deep 127.0.0.1:5000/deep",
                "other/base 127.0.0.1:5000/other/base",
            ]
        );
    }

    #[test]
    fn mirrors_that_cannot_be_are_told_with_their_place() {
        let table = [
            ("[publish]\nmirrors = [\"a.io/b\"]", "polyarch.toml:2:12: there is a mirror, but no registry"),
            ("registry = \"a.io/b\"\n[publish]\nmirrors = [\"a.io/b\"]", "3:12: a.io/b is named twice"),
            (
                "registry = \"a.io/b\"\n[publish]\nmirrors = [\"c.io/b\", \"c.io/b\"]",
                "3:22: c.io/b is named twice",
            ),
            (
                "registry = \"a.io/b\"\n[publish]\nmirrors = [\"c.io\"]\n[image.base]\nrepository = \"deep\"",
                "deep and b/deep would both be deep at c.io",
            ),
            (
                "registry = \"a.io/b\"\n[publish]\nmirrors = [\"docker.io/o/p\"]",
                "b/base would be o/p/base at docker.io, where an image is named owner/image",
            ),
            (
                "registry = \"a.io/b\"\n[publish]\nmirrors = [\"c.io\", \"127.0.0.1:6615/scopes\"]",
                "polyarch.toml:3:20: b/base would be scopes/base at 127.0.0.1:6615, but under `scopes/` a store keeps",
            ),
        ];
        for (config, told) in table {
            let wrong = wrong(config);
            assert!(wrong.contains(told), "{config}: {wrong}");
        }
    }

    #[test]
    fn an_image_deeper_than_docker_hub_takes_is_told() {
        let config = "registry = \"docker.io/o\"\n[image.base]\nrepository = \"o/stacks/base\"\n";
        let wrong = wrong(config);
        assert!(wrong.contains("polyarch.toml:2:"), "{wrong}");
        assert!(wrong.contains("docker.io/o/stacks/base, where an image is named owner/image"), "{wrong}");
    }
}
