//! What npm and its like installed: `node_modules/NAME/package.json`, one file a package.

use serde::Deserialize;
use serde_json::Value;

use super::{Manager, Package, tidy};

/// As much of a manifest as counts here. What people write there has many forms.
#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    license: Value,
    #[serde(default)]
    author: Value,
    #[serde(default)]
    homepage: Value,
}

/// Whether a file called `package.json` in this folder is that of an installed package: `a` or `@scope/a` right below a
/// `node_modules`.
pub(super) fn is_installed(folder: &str) -> bool {
    let mut parts = folder.rsplit('/').skip(1);
    match parts.next() {
        Some("node_modules") => true,
        Some(scope) => scope.starts_with('@') && parts.next() == Some("node_modules"),
        None => false,
    }
}

/// The package that a manifest describes; `None` for other files that stand there.
pub(super) fn package(json: &[u8]) -> Option<Package> {
    let manifest: Manifest = serde_json::from_slice(json).ok()?;
    let text = |value: &Value, key: &str| value.as_str().or_else(|| value.get(key)?.as_str()).and_then(tidy);
    let package = Package::new(Manager::Npm, &manifest.name, &manifest.version)?;
    let (license, supplier) = (text(&manifest.license, "type"), text(&manifest.author, "name"));
    Some(Package { license, supplier, homepage: text(&manifest.homepage, "url"), ..package })
}
