//! Say what an image reference in a Dockerfile means: an image of the family, or one from elsewhere.
//!
//! | written | with a registry configured | without |
//! |---|---|---|
//! | `registry/owner/image` | of the family where registry and owner are the configured ones | of the family, whatever they are |
//! | `owner/image` | of the family where the owner is the configured one | of the family |
//! | `image` | of the family | of the family |
//! | `docker.io/library/image` | from elsewhere, unless configured | from elsewhere |
//!
//! and then by its tag: none, `latest` or a fixed tag that every image gets is the image itself; `variant` or
//! `variant-latest` is a variant; any other tag is an older publication and so from elsewhere, as is a digest. An
//! image that is named like itself with an owner (`FROM bitnami/python` in the folder `python`) means the other one.
//! A mirror goes by the same names, and by none, `latest` or one of its tags means the image that it is a copy of.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImageName, Mirror, Unit, Use};
use crate::config::Target;
use crate::diag::{Diagnostic, did_you_mean};
use crate::oci::{Reference, Repository};

/// The names that the family goes by.
pub(super) struct Names {
    target: Option<Target>,
    replace: BTreeMap<Reference, Reference>,
    by_repository: BTreeMap<Repository, ImageName>,
    images: BTreeMap<String, ImageName>,
    units: BTreeSet<Unit>,
    /// Copies of images elsewhere: who stands on one stands on the image itself.
    mirrors: BTreeMap<ImageName, Mirror>,
    /// Tags without names in them that every image gets.
    fixed_tags: BTreeSet<String>,
}

/// What a reference means, and what is odd about it.
pub(super) struct Meaning {
    pub(super) meant: Use,
    pub(super) odd: Option<Diagnostic>,
}

impl Names {
    pub(super) fn new(
        target: Option<Target>,
        replace: BTreeMap<Reference, Reference>,
        units: &BTreeMap<Unit, Repository>,
        fixed_tags: impl Iterator<Item = String>,
    ) -> Self {
        Self {
            target,
            replace,
            by_repository: units
                .iter()
                .map(|(unit, repository)| (repository.clone(), unit.image.clone()))
                .collect(),
            images: units.keys().map(|unit| (unit.image.to_string(), unit.image.clone())).collect(),
            units: units.keys().cloned().collect(),
            mirrors: BTreeMap::new(),
            fixed_tags: fixed_tags.chain(["latest".to_owned()]).collect(),
        }
    }

    /// The same, and those of copies of images elsewhere.
    pub(super) fn with_mirrors(mut self, mirrors: &BTreeMap<Unit, Mirror>) -> Self {
        for mirror in mirrors.values() {
            let image = &mirror.unit.image;
            self.by_repository.entry(mirror.repository.clone()).or_insert_with(|| image.clone());
            self.images.entry(image.to_string()).or_insert_with(|| image.clone());
            self.mirrors.insert(image.clone(), mirror.clone());
        }
        self
    }

    /// What a reference means to the unit whose Dockerfile it stands in.
    pub(super) fn meaning(&self, written: &str, reader: &Unit) -> Result<Meaning, Diagnostic> {
        let reference: Reference = written.parse().map_err(|error: crate::oci::Error| {
            let lower = written.to_lowercase();
            let right = if lower.parse::<Reference>().is_ok() { &lower } else { "registry/owner/name:tag" };
            Diagnostic::request(format!("{reader} uses an image that cannot be: {error}"))
                .hint(format!("write it as `{right}`"))
        })?;
        let outside = |odd| {
            let meant = self.replace.get(&reference).unwrap_or(&reference).clone();
            Meaning { meant: Use::Outside(meant), odd }
        };
        if self.replace.contains_key(&reference) || reference.digest().is_some() {
            return Ok(outside(None));
        }
        let Some(image) = self.image(written, &reference) else {
            return self.stranger(&reference, reader).map(outside);
        };
        if let Some(mirror) = self.mirrors.get(image) {
            let meant = mirror.is_meant_by(reference.tag().map(|tag| tag.as_str()));
            let mirrored = Meaning { meant: Use::Outside(mirror.source.clone()), odd: None };
            return Ok(if meant { mirrored } else { outside(None) });
        }
        let Some(unit) = self.unit(image, &reference)? else { return Ok(outside(None)) };
        let owned = self.target.is_none() && written.contains('/');
        if unit == *reader && owned {
            return Ok(outside(None));
        }
        Ok(Meaning { meant: Use::Family(unit), odd: None })
    }

    fn image(&self, written: &str, reference: &Reference) -> Option<&ImageName> {
        let has_registry = written
            .split_once('/')
            .is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
        let path = reference.repository();
        let short = match has_registry {
            true => path.as_str(),
            false => path.as_str().strip_prefix("library/").unwrap_or(path.as_str()),
        };
        let Some(target) = &self.target else {
            let official =
                has_registry && reference.registry() == "docker.io" && short.starts_with("library/");
            return if official { None } else { self.by_last_parts(short) };
        };
        if reference.registry() == target.registry && has_registry {
            return self.by_repository.get(path);
        }
        if has_registry {
            return None;
        }
        let by_path = short.parse::<Repository>().ok().and_then(|path| self.by_repository.get(&path));
        by_path.or_else(|| self.images.get(short))
    }

    fn by_last_parts(&self, path: &str) -> Option<&ImageName> {
        let mut rest = path;
        loop {
            if let Some(image) = self.images.get(rest) {
                return Some(image);
            }
            rest = rest.split_once('/')?.1;
        }
    }

    /// The unit that the tag means; none for an older publication.
    fn unit(&self, image: &ImageName, reference: &Reference) -> Result<Option<Unit>, Diagnostic> {
        let itself = Unit { image: image.clone(), variant: None };
        let tag = reference.tag().map_or("latest", |tag| tag.as_str());
        if self.fixed_tags.contains(tag) {
            if self.units.contains(&itself) {
                return Ok(Some(itself));
            }
            let variants: Vec<String> = self.variants(image).map(|unit| format!("`{unit}`")).collect();
            let problem =
                Diagnostic::request(format!("`{reference}` is of the family, which has no plain `{image}`"));
            return Err(problem.hint(format!("name one of its variants: {}", variants.join(", "))));
        }
        let mut variants = self.variants(image);
        Ok(variants
            .find(|unit| {
                let variant = unit.variant.as_ref().map_or("", |variant| variant.as_str());
                let rest = tag.strip_prefix(variant);
                rest.is_some_and(|rest| {
                    rest.is_empty()
                        || rest.strip_prefix('-').is_some_and(|rest| self.fixed_tags.contains(rest))
                })
            })
            .cloned())
    }

    fn variants<'a>(&'a self, image: &'a ImageName) -> impl Iterator<Item = &'a Unit> {
        let first = Unit { image: image.clone(), variant: None };
        self.units
            .range(first..)
            .take_while(move |unit| unit.image == *image)
            .filter(|unit| unit.variant.is_some())
    }

    /// A reference to no image of the family: wrong where it is nearly one, odd where only the owner differs.
    fn stranger(&self, reference: &Reference, reader: &Unit) -> Result<Option<Diagnostic>, Diagnostic> {
        let Some(target) = &self.target else { return Ok(None) };
        let path = reference.repository().as_str();
        let ours =
            target.prefix.as_ref().and_then(|prefix| path.strip_prefix(prefix.as_str())?.strip_prefix('/'));
        if let (Some(name), true) = (ours, reference.registry() == target.registry) {
            let guess = did_you_mean(name, self.images.keys().map(String::as_str));
            return match guess {
                Some(guess) => Err(Diagnostic::request(format!(
                    "{reader} uses `{reference}`, which is no image of the family"
                ))
                .hint(guess)),
                None => Ok(None),
            };
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let official = reference.registry() == "docker.io" && path.starts_with("library/");
        let Some(image) = self.images.get(last).filter(|_| !official) else { return Ok(None) };
        let prefix = target.prefix.as_ref().map_or(String::new(), |prefix| format!("/{prefix}"));
        let ours = format!("{}{prefix}/{image}", target.registry);
        let odd = Diagnostic::warning(format!(
            "{reader} uses `{reference}` from elsewhere, not `{image}` of the family"
        ));
        Ok(Some(odd.hint(format!("if the family's own is meant, let its build arguments make it `{ours}`"))))
    }
}
