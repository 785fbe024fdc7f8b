//! The configuration of an image: what it runs on, and what its files come to.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Descriptor, Error, ErrorKind, Platform, Repository, Store};

/// An image configuration, as far as it matters here: OCI image specification, "Image Configuration".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfiguration {
    os: String,
    architecture: String,
    variant: Option<String>,
    /// When it was made, as RFC 3339 has it.
    pub created: Option<String>,
    config: Option<Execution>,
    rootfs: RootFileSystem,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Execution {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    /// Docker's own; the specification reserves the name.
    #[serde(rename = "OnBuild")]
    on_build: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RootFileSystem {
    /// `null` where an image has no layer.
    diff_ids: Option<Vec<String>>,
}

impl ImageConfiguration {
    /// The largest that is read, in bytes: 4 MiB.
    pub const BYTES_LIMIT: u64 = 4 << 20;

    /// Read the configuration that a manifest names.
    ///
    /// # Errors
    /// `TooLarge` past [`Self::BYTES_LIMIT`], `Mismatch` where the bytes are others, `Invalid` where they are no
    /// configuration, and where the store fails.
    pub async fn read(
        store: &dyn Store,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<Self, Error> {
        let reader = store.read_blob(repository, &config.digest, None).await?;
        let bytes = reader.collect(&config.digest, Self::BYTES_LIMIT).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("read image configuration {} of {repository}", config.digest);
            Error::new(ErrorKind::Invalid, what).because(error)
        })
    }

    /// What it runs on; `None` where it does not say.
    pub fn platform(&self) -> Option<Platform> {
        let says = !self.os.is_empty() && !self.architecture.is_empty();
        says.then(|| Platform::from_fields(&self.os, &self.architecture, self.variant.as_deref()))
    }

    /// The digests of its uncompressed layers, lowest first.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.rootfs.diff_ids.iter().flatten().map(String::as_str)
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default()
    }

    /// The instructions that it leaves to whatever is built on it.
    pub fn triggers(&self) -> Vec<String> {
        self.config.as_ref().and_then(|config| config.on_build.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ImageConfiguration {
        serde_json::from_str(text).expect("a configuration")
    }

    #[test]
    fn what_is_said_is_read() {
        let found = read(
            r#"{"os": "linux", "architecture": "arm", "variant": "v7", "created": "2026-01-02T03:04:05Z",
                "config": {"Labels": {"a": "b"}, "OnBuild": ["RUN x"]}, "rootfs": {"diff_ids": ["sha256:1"]}}"#,
        );
        assert_eq!(found.platform().map(|platform| platform.to_string()).as_deref(), Some("linux/arm/v7"));
        assert_eq!(found.layers().collect::<Vec<_>>(), ["sha256:1"]);
        assert_eq!(found.labels(), BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(found.triggers(), ["RUN x"]);
        assert_eq!(found.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    }

    #[test]
    fn what_engines_leave_empty_is_nothing() {
        let found = read(
            r#"{"os": "linux", "architecture": "amd64", "config": {"Labels": null, "OnBuild": null},
                "rootfs": {"type": "layers", "diff_ids": null}}"#,
        );
        assert_eq!((found.layers().count(), found.labels().len(), found.triggers().len()), (0, 0, 0));
        let found = read(r#"{"os": "linux", "config": null}"#);
        assert_eq!((found.triggers(), found.platform()), (Vec::new(), None));
    }
}
