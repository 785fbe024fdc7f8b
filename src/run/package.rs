//! The version of a package in an image, read out of its layers: what a tagger with `package` asks for.

use crate::config::PackageName;
use crate::contents::{Cache, ImagePackages, NoVersion};
use crate::diag::{Diagnostic, did_you_mean};
use crate::oci::{Digest, Error};
use crate::record::Records;

/// Where packages are read.
#[derive(Clone, Copy)]
pub(super) struct Packages<'a> {
    pub(super) records: &'a Records,
    /// What the layers of this run have said already.
    pub(super) cache: &'a Cache,
}

impl Packages<'_> {
    /// Those of an image.
    pub(super) async fn of(&self, image: &Digest) -> Result<ImagePackages, Diagnostic> {
        let Self { records, cache } = self;
        let reading = async {
            let document = records.store.read_document(&records.scope, &image.clone().into()).await?;
            cache.packages(&*records.store, &records.scope, &document.manifest()?.layers).await
        };
        let failed = |error: Error| Diagnostic::of_store(format!("read the packages of {image}"), &error);
        reading.await.map_err(failed)
    }
}

/// Why there is no version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// In short, as the end of a sentence.
    pub(super) why: String,
    /// What else there is to know.
    pub(super) causes: Vec<String>,
    /// What may have been meant.
    pub(super) hint: Option<String>,
}

/// The version of a package.
pub(super) fn version(packages: &ImagePackages, wanted: &PackageName) -> Result<String, Missing> {
    for name in &wanted.names {
        match packages.version(wanted.manager, name) {
            Ok(version) => return Ok(version),
            Err(NoVersion::Absent) => {}
            Err(NoVersion::Several(versions)) => {
                let told = versions.iter().map(|(version, file)| format!("{version}, as {file} says"));
                let why = format!("found more than one version of `{wanted}`");
                return Err(Missing { why, causes: told.collect(), hint: None });
            }
        }
    }
    let names = packages.names(wanted.manager);
    let hint = wanted.names.first().and_then(|name| did_you_mean(name, names.iter().copied()));
    let unread = packages.unread.iter().map(|(path, why)| format!("{path} could not be read: {why}"));
    Err(Missing { why: format!("found no package `{wanted}`"), causes: unread.collect(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::layer_of;

    #[test]
    fn what_has_no_version_is_told_with_what_may_be_meant() {
        let meta = |name: &str, version: &str| format!("Name: {name}\nVersion: {version}\n");
        let image = ImagePackages::of([&layer_of(&[
            ("a/tensorflow_cpu-2.dist-info/METADATA", &meta("tensorflow_cpu", "2.19.0")),
            ("a/numpy-2.dist-info/METADATA", &meta("numpy", "2.0")),
            ("b/numpy-1.dist-info/METADATA", &meta("numpy", "1.0")),
            ("var/lib/rpm/Packages", "x"),
        ])]);
        let found = |text: &str| version(&image, &text.parse().expect(text));
        assert_eq!(found("pip:tensorflow|tensorflow-cpu"), Ok("2.19.0".to_owned()));
        let missing = found("pip:nunpy").expect_err("it is not there");
        assert_eq!(missing.why, "found no package `pip:nunpy`");
        assert_eq!(missing.hint.as_deref(), Some("did you mean `numpy`?"));
        assert!(missing.causes[0].contains("var/lib/rpm/Packages could not be read"), "{missing:?}");
        let several = found("pip:numpy").expect_err("two of them");
        assert_eq!(several.why, "found more than one version of `pip:numpy`");
        assert_eq!(
            several.causes,
            ["1.0, as b/numpy-1.dist-info/METADATA says", "2.0, as a/numpy-2.dist-info/METADATA says"]
        );
    }
}
