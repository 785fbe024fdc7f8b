//! Images of the family that are copies of images elsewhere: named and published like its own, and never built.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{repository, reserved};
use super::tag_length::{LONGEST, rendered};
use super::{Build, Family, ImageName, JobId, Sources, Unit, checks};
use crate::config::{FamilyFile, ImageSetting};
use crate::diag::Diagnostic;
use crate::oci::{Reference, Repository};

/// A copy of an image elsewhere, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The image; a mirror has no variants.
    pub(crate) unit: Unit,
    /// The repository that it is published in, without the registry.
    pub(crate) repository: Repository,
    /// The image elsewhere.
    pub(crate) source: Reference,
    /// Templates of its tags: text, `{commit}`, `{date}`; at least one.
    pub(crate) tags: Vec<String>,
}

impl Mirror {
    /// Whether a tag in a Dockerfile means this copy and not another publication of the same repository.
    pub(super) fn is_meant_by(&self, tag: Option<&str>) -> bool {
        tag.is_none_or(|tag| tag == "latest" || self.tags.iter().any(|own| own == tag))
    }
}

impl Mirror {
    /// A problem, where the configuration names the mirror.
    pub(super) fn at(&self, file: Option<&FamilyFile>, problem: Diagnostic) -> Diagnostic {
        let named = |file: &FamilyFile| {
            let mut settings = file.image.iter();
            let (_, setting) = settings.find(|(name, _)| name.as_str() == self.unit.image.as_str())?;
            Some(file.place(&setting.named))
        };
        match file.and_then(named) {
            Some(place) => problem.at(place),
            None => problem,
        }
    }

    /// Another image of its repository gets one of its tags.
    pub(super) fn clash(&self, first: &Unit, tag: &str) -> Diagnostic {
        let message = format!("`{first}` and `{}` would both be {}:{tag}", self.unit, self.repository);
        Diagnostic::request(message).hint("give one of them another `repository` or other `tags`")
    }
}

impl Family {
    /// Where every image and variant is published: those that are built, parents before children, then the copies.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = (&Unit, &Repository)> {
        let built = self.recipes().map(|recipe| (&recipe.unit, &recipe.repository));
        built.chain(self.mirrors.values().map(|mirror| (&mirror.unit, &mirror.repository)))
    }

    /// The mirrors whose images some jobs use.
    pub(crate) fn mirrors_under<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> Vec<&Mirror> {
        let builds = jobs.filter_map(|job| self.recipe(&job.unit)?.platforms.get(&job.platform));
        let used: BTreeSet<&Reference> = builds.flat_map(Build::outside).collect();
        self.mirrors.values().filter(|mirror| used.contains(&mirror.source)).collect()
    }
}

/// All mirrors that the configuration names, and what is wrong with some.
pub(super) fn mirrors(sources: &Sources) -> (BTreeMap<Unit, Mirror>, Vec<Diagnostic>) {
    let (mut mirrors, mut problems) = (BTreeMap::new(), Vec::new());
    let Some(file) = &sources.file else { return (mirrors, problems) };
    for (name, setting) in &file.image {
        match mirror(name, setting, sources, file, &mut problems) {
            Some(Ok(mirror)) => drop(mirrors.insert(mirror.unit.clone(), mirror)),
            Some(Err(error)) => {
                problems.push(Diagnostic::request(error.to_string()).at(file.place(&setting.named)));
            }
            None => {}
        }
    }
    problems.extend(same_tags(&mirrors, file));
    (mirrors, problems)
}

fn mirror(
    name: &Repository,
    setting: &ImageSetting,
    sources: &Sources,
    file: &FamilyFile,
    problems: &mut Vec<Diagnostic>,
) -> Option<Result<Mirror, crate::oci::Error>> {
    let source = &setting.mirror.as_ref()?.value;
    let place = file.place(&setting.named);
    let named = || {
        let image: ImageName = name.as_str().parse()?;
        let repository = repository(sources, &image, &[setting])?;
        Ok((Unit { image, variant: None }, repository))
    };
    let (unit, repository) = match named() {
        Ok(named) => named,
        Err(error) => return Some(Err(error)),
    };
    problems.extend(reserved(sources, &repository, &[setting], place.clone()));
    let own = || vec![source.tag().map_or("latest", |tag| tag.as_str()).to_owned()];
    let written = setting.mirror_tags.as_ref();
    let templates = written.map_or_else(own, |tags| tags.iter().map(|tag| tag.value.clone()).collect());
    let told = problems.len();
    let tags: BTreeSet<String> =
        templates.iter().map(|tag| checks::with_names(tag, &unit, problems)).collect();
    if problems.len() == told {
        problems.extend(tags.iter().filter_map(|tag| too_long(tag, &unit)));
    }
    problems.iter_mut().skip(told).for_each(|problem| problem.place = Some(place.clone()));
    Some(Ok(Mirror { unit, repository, source: source.clone(), tags: tags.into_iter().collect() }))
}

/// The problem with a tag that gets too long with a commit and a date in it.
fn too_long(template: &str, unit: &Unit) -> Option<Diagnostic> {
    let length = rendered(template).chars().count();
    let message = format!("the tag template `{template}` makes a tag of `{unit}` of {length} characters");
    let problem = Diagnostic::request(message).because(format!("a tag has at most {LONGEST}"));
    (length > LONGEST).then(|| problem.hint("shorten it"))
}

/// Two mirrors that would be published under one name.
fn same_tags(mirrors: &BTreeMap<Unit, Mirror>, file: &FamilyFile) -> Vec<Diagnostic> {
    let mut made: BTreeMap<(&Repository, &str), &Unit> = BTreeMap::new();
    let mut problems = Vec::new();
    for mirror in mirrors.values() {
        for tag in &mirror.tags {
            let Some(first) = made.insert((&mirror.repository, tag), &mirror.unit) else { continue };
            problems.push(mirror.at(Some(file), mirror.clash(first, tag)));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::diag::Result;
    use crate::family::{Found, Use};

    fn family(config: &str, dockerfiles: &[(&str, &str)]) -> Result<Family> {
        let found = dockerfiles
            .iter()
            .map(|(path, text)| Found { path: PathBuf::from(path), text: (*text).to_owned() });
        Family::resolve(&Sources {
            name: "stacks".to_owned(),
            file: Some(FamilyFile::parse(Path::new("polyarch.toml"), config)?),
            dockerfiles: found.collect(),
            args: BTreeMap::new(),
            root_image: None,
            release: None,
            machine: "linux/amd64".parse().expect("platform"),
        })
    }

    const SEARCH: &str = "registry = \"q.io/o\"\n[image.search]\nmirror = \"elasticsearch:7.9.3\"\n";

    fn only(family: &Family) -> &Mirror {
        family.mirrors.values().next().expect("a mirror")
    }

    #[test]
    fn a_mirror_is_named_like_any_image_and_tagged_like_its_source() {
        let family = family(SEARCH, &[]).expect("a family of nothing but a mirror");
        let mirror = only(&family);
        assert_eq!((mirror.repository.as_str(), &mirror.tags[..]), ("o/search", &["7.9.3".to_owned()][..]));
        assert_eq!((family.recipes.len(), family.order.len()), (0, 0));
        let tagged = format!("{SEARCH}tags = [\"{{image}}-{{date}}\", \"x\", \"x\"]\nrepository = \"p/q\"\n");
        let family = self::family(&tagged, &[]).expect("a family");
        assert_eq!(only(&family).tags, ["search-{date}", "x"]);
        assert_eq!(only(&family).repository.as_str(), "p/q");
    }

    #[test]
    fn who_stands_on_a_mirror_stands_on_what_is_mirrored() {
        let meant = |written: &str| {
            let text = format!("FROM {written}\n");
            let family = family(SEARCH, &[("leaf/Dockerfile", &text)]).expect("a family");
            let build = family.recipes.values().flat_map(|recipe| recipe.platforms.values()).next();
            let uses = build.expect("a build").uses.values().next().cloned();
            let job = family.jobs().next().expect("a job");
            let under = family.mirrors_under(std::iter::once(&job)).len();
            match uses {
                Some(Use::Outside(reference)) => (reference.to_string(), under),
                other => panic!("{written}: {other:?}"),
            }
        };
        for written in ["search", "search:7.9.3", "o/search:latest", "q.io/o/search:7.9.3"] {
            assert_eq!(meant(written), ("docker.io/library/elasticsearch:7.9.3".to_owned(), 1), "{written}");
        }
        assert_eq!(meant("q.io/o/search:6"), ("q.io/o/search:6".to_owned(), 0), "an older publication");
        assert_eq!(meant("docker.io/library/search:8"), ("docker.io/library/search:8".to_owned(), 0));
    }

    #[test]
    fn what_cannot_be_a_mirror_is_told_with_its_place() {
        let both = family(SEARCH, &[("search/Dockerfile", "FROM scratch\n")]).expect_err("both");
        assert!(both.to_string().contains("`search` is a mirror, and search has a Dockerfile"), "{both}");
        let twice =
            format!("{SEARCH}[image.other]\nmirror = \"q.io/a/b:7.9.3\"\nrepository = \"o/search\"\n");
        let twice = family(&twice, &[]).expect_err("one tag of two mirrors");
        assert!(twice.to_string().contains("would both be o/search:7.9.3"), "{twice}");
        let scope = "[image.search]\nmirror = \"q.io/a/b:1\"\nrepository = \"scopes/trusted\"\n";
        let scope = family(scope, &[]).expect_err("a scope");
        assert!(scope.to_string().contains("scopes/"), "{scope}");
        let long = format!("{SEARCH}tags = [\"{{image}}{}\"]\n", "x".repeat(125));
        let long = family(&long, &[]).expect_err("no tag");
        assert!(long.to_string().contains("which is no tag"), "{long}");
        let later = format!("{SEARCH}tags = [\"{{commit}}-{}\"]\n", "x".repeat(116));
        let later = family(&later, &[]).expect_err("too long with a commit");
        assert!(later.to_string().contains("of 129 characters"), "{later}");
        let taken = format!("{SEARCH}tags = [\"latest\"]\nrepository = \"o/base\"\n");
        let taken = family(&taken, &[("base/Dockerfile", "FROM scratch\n")]).expect_err("one tag of two");
        assert!(taken.to_string().contains("`base` and `search` would both be o/base:latest"), "{taken}");
        let deep =
            "registry = \"docker.io/o\"\n[image.search]\nmirror = \"q.io/a/b:1\"\nrepository = \"o/p/q\"\n";
        let deep = family(deep, &[]).expect_err("Docker Hub has two levels");
        assert!(deep.to_string().contains("where an image is named owner/image"), "{deep}");
        for problems in [both, twice, scope, long, later, taken, deep] {
            assert!(problems.iter().all(|problem| problem.place.is_some()), "{problems}");
        }
    }

    #[test]
    fn a_mirror_is_of_the_family_for_mirror_registries_and_immutable_tags_too() {
        let more = "[publish]\nmirrors = [\"g.io/p\"]\n[tags]\nimmutable = [\"7.*\"]\n";
        let family = family(&format!("{SEARCH}{more}"), &[]).expect("a family");
        let names = family.publish.mirrors[0].repositories.iter();
        let names: Vec<(&str, &str)> = names.map(|(name, there)| (name.as_str(), there.as_str())).collect();
        assert_eq!(names, [("o/search", "p/search")]);
        assert!(family.warnings.is_empty(), "the pattern means something: {:?}", family.warnings);
        assert!(family.tags.immutable_by_itself("7.9.3").is_some());
        assert!(family.tags.immutable_by_itself("8").is_none());
        let places: Vec<&str> = family.repositories().map(|(_, repository)| repository.as_str()).collect();
        assert_eq!(places, ["o/search"]);
    }
}
