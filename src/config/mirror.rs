//! An image of the family that is a copy of one elsewhere: what may be said of it, and what would mean nothing.

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Reading, Section};
use super::written::Written;
use super::{ImageSetting, template};
use crate::diag::Diagnostic;
use crate::oci::Reference;

/// What is said of images that are built, and means nothing to a copy.
const OF_BUILDS: [&str; 15] = [
    "folder",
    "dockerfile",
    "target",
    "platforms",
    "args",
    "labels",
    "secrets",
    "ssh",
    "tests",
    "describe",
    "time-limit",
    "disk",
    "needs",
    "emulate",
    "on",
];

impl Reading {
    /// `mirror = "docker.io/library/elasticsearch:7.9.3"`, with `tags` and `repository`.
    pub(super) fn mirror(
        &self,
        named: &Written<String>,
        value: &Spanned<DeValue<'_>>,
        mut section: Section<'_, '_>,
    ) -> Option<ImageSetting> {
        let source = self.parsed::<Reference>("mirror", value);
        let written = section.value("tags");
        let tags = section.list::<String>("tags");
        let repository = section.parsed("repository");
        for (key, span) in section.written().filter(|(key, _)| OF_BUILDS.contains(key) || *key == "variants")
        {
            let problem = Diagnostic::request(format!("`{key}` does not go with `mirror`"))
                .because("the image is copied as it is: nothing of it is built or changed");
            self.wrong(&span, problem.hint(format!("remove `{key}`, or `mirror`")));
        }
        for key in OF_BUILDS.into_iter().chain(["variants"]) {
            section.value(key);
        }
        section.finish();
        let source = source?;
        tags.iter().flatten().for_each(|tag| self.template(tag, template::COMMON, 0));
        let no_tag = match written {
            Some(list) => list.get_ref().as_array().is_some_and(|tags| tags.is_empty()),
            None => source.value.digest().is_some() && source.value.tag().is_none(),
        };
        if no_tag {
            let problem = Diagnostic::request(format!("the mirror `{}` has no tag", named.value));
            self.wrong(&source.span, problem.hint("name some: `tags = [\"7.9.3\", \"latest\"]`"));
        }
        Some(ImageSetting {
            named: named.clone(),
            mirror: Some(source),
            mirror_tags: tags,
            repository,
            ..ImageSetting::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{FamilyFile, ImageSetting};
    use crate::diag::Result;

    fn parse(text: &str) -> Result<FamilyFile> {
        FamilyFile::parse(Path::new("polyarch.toml"), text)
    }

    fn first(text: &str) -> ImageSetting {
        parse(text).expect("it is right").image.into_values().next().expect("an image")
    }

    #[test]
    fn a_mirror_has_a_source_and_perhaps_tags_and_a_repository() {
        let plain = first("[image.search]\nmirror = \"elasticsearch:7.9.3\"");
        let source = plain.mirror.expect("a mirror").value.to_string();
        assert_eq!(
            (source.as_str(), plain.mirror_tags.is_none()),
            ("docker.io/library/elasticsearch:7.9.3", true)
        );
        let full = first(
            "[image.search]\nmirror = \"q.io/a/b\"\ntags = [\"7.9.3\", \"{commit}\"]\nrepository = \"c/d\"",
        );
        let tags: Vec<String> = full.mirror_tags.iter().flatten().map(|tag| tag.value.clone()).collect();
        assert_eq!(tags, ["7.9.3", "{commit}"]);
        assert_eq!(full.repository.expect("a repository").value.as_str(), "c/d");
    }

    #[test]
    fn f_c6_what_means_nothing_to_a_copy_is_an_error_with_its_place() {
        let digest = format!("q.io/a/b@sha256:{}", "a".repeat(64));
        for (text, words, line) in [
            (
                "mirror = \"q.io/a/b\"\nplatforms = [\"linux/amd64\"]",
                "`platforms` does not go with `mirror`",
                3,
            ),
            ("tests = [\"true\"]\nmirror = \"q.io/a/b\"", "`tests` does not go with `mirror`", 2),
            ("mirror = \"q.io/a/b\"\nvariants.x = {}", "`variants` does not go with `mirror`", 3),
            ("mirror = \"q.io/a/b\"\nmirrors = 1", "there is no setting `mirrors`", 3),
            ("mirror = \"q.io/a/b\"\ntags = [{ tag = \"x\" }]", "wants a text", 3),
            ("mirror = \"q.io/a/b\"\ntags = [\"a b\"]", "cannot be a tag", 3),
            ("mirror = \"q.io/a/b\"\ntags = [\"{version}\"]", "version", 3),
            ("mirror = \"q.io/a/b\"\ntags = []", "the mirror `search` has no tag", 2),
            (&format!("mirror = \"{digest}\""), "the mirror `search` has no tag", 2),
            ("mirror = \"Q.io/A/b\"", "is no repository name", 2),
            ("mirror = 7", "wants a text", 2),
            ("variants.x = { mirror = \"q.io/a/b\" }", "there is no setting `mirror`", 2),
        ] {
            let problems = parse(&format!("[image.search]\n{text}")).expect_err(text);
            let problem = problems.iter().next().expect("a problem");
            assert!(problem.message.contains(words), "{text}: {problem}");
            assert_eq!(problem.place.as_ref().map(|place| place.line), Some(line), "{text}: {problem}");
        }
    }
}
