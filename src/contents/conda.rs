//! What conda installed: `conda-meta/*.json`, one file a package.

use serde::Deserialize;

use super::{Manager, Package, tidy};

/// As much of a record as counts here. Texts may be absent or null.
#[derive(Deserialize)]
struct Record {
    name: String,
    version: String,
    build: Option<String>,
    build_string: Option<String>,
    channel: Option<String>,
    subdir: Option<String>,
    license: Option<String>,
}

/// The package that a record describes; `None` for other files that stand there.
pub(super) fn package(json: &[u8]) -> Option<Package> {
    let record: Record = serde_json::from_slice(json).ok()?;
    let build = record.build.or(record.build_string);
    let package = Package::new(Manager::Conda, &record.name, &record.version)?
        .with("build", build.as_deref())
        // An address may hold a token of its user: only its last part is a name.
        .with("channel", record.channel.as_deref().and_then(channel))
        .with("subdir", record.subdir.as_deref());
    Some(Package { license: record.license.as_deref().and_then(tidy), ..package })
}

/// The name of a channel: `conda-forge` of `https://conda.anaconda.org/conda-forge/linux-64`.
fn channel(written: &str) -> Option<&str> {
    let path = written.split_once("://").map_or(written, |(_, rest)| rest);
    let mut parts = path.trim_end_matches('/').rsplit('/');
    let last = parts.next()?;
    let is_subdir = last == "noarch" || ["linux-", "osx-", "win-"].iter().any(|os| last.starts_with(os));
    if is_subdir { parts.next() } else { Some(last) }
}
