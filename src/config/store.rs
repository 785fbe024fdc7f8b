//! Where results are kept: a folder, or repositories of a registry.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::oci::Repository;

use super::value::{Refused, Target};

/// What says that a registry is meant, where a name could be a folder's as well.
const SCHEME: &str = "registry://";

/// Where the results of builds are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorePlace {
    /// A folder.
    Folder(PathBuf),
    /// Repositories of a registry, which all begin so.
    Registry {
        /// `host` or `host:port`.
        registry: String,
        /// What stands before the names of the scopes, such as `owner/cache`.
        prefix: Repository,
    },
}

impl StorePlace {
    /// As it is written: `host[:port]/name…` where the first part could be a host's name, which has a dot or a colon in
    /// it or is `localhost`; else a folder. `registry://` before it, or `./`, says which is meant.
    ///
    /// # Errors
    /// Where a registry is meant, and it or the name of the repository is none.
    pub(crate) fn read(written: &OsStr) -> Result<Self, Refused> {
        // What is no text names no registry.
        written.to_str().map_or_else(|| Ok(Self::Folder(written.into())), str::parse)
    }
}

impl FromStr for StorePlace {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let rest = text.strip_prefix(SCHEME);
        let has_host = text.split_once('/').is_some_and(|(host, rest)| {
            let is_host = host.contains(['.', ':']) || host == "localhost";
            is_host && !host.starts_with('.') && !rest.is_empty()
        });
        let is_address = { text.trim_end_matches('/').rsplit_once(':') }.is_some_and(|(host, port)| {
            !host.contains('/') && !host.is_empty() && port.parse::<u16>().is_ok()
        });
        if rest.is_none() && !has_host && !is_address {
            return Ok(Self::Folder(text.into()));
        }
        let Target { registry, prefix } = rest.unwrap_or(text).parse()?;
        let prefix = prefix.ok_or_else(|| {
            Refused::new(format!("`{text}` names no repository; write one, as in `{registry}/owner/cache`"))
        })?;
        Ok(Self::Registry { registry, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whether_a_folder_or_a_registry_is_meant() {
        for (written, registry, prefix) in [
            ("registry.example/owner/cache", "registry.example", "owner/cache"),
            ("127.0.0.1:5000/cache", "127.0.0.1:5000", "cache"),
            ("localhost/cache", "localhost", "cache"),
            ("registry://localhost:5000/a/b/", "localhost:5000", "a/b"),
            ("docker.io/owner/cache", "docker.io", "owner/cache"),
        ] {
            let (registry, prefix) = (registry.to_owned(), prefix.parse().expect("a repository"));
            assert_eq!(written.parse(), Ok(StorePlace::Registry { registry, prefix }), "{written}");
        }
        for written in [
            "store",
            "./registry.example/x",
            "../x",
            "/var/lib/polyarch",
            "a/b",
            ".cache/x",
            "my.store",
            "./127.0.0.1:5000",
            "",
        ] {
            assert_eq!(written.parse(), Ok(StorePlace::Folder(written.into())), "{written}");
        }
        for written in [
            "registry://cache",
            "registry://host.example",
            "registry.example/Owner",
            "host.example/a//b",
            "127.0.0.1:5000",
            "registry.example:443/",
        ] {
            assert!(written.parse::<StorePlace>().is_err(), "{written}");
        }
    }
}
