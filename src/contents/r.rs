//! What is installed for R: `DESCRIPTION`, one file a package, in a folder of its name.
//!
//! Writing R Extensions, "The DESCRIPTION file". Only what is installed has a field `Built`: sources have none.

use super::{Manager, Package, fields, tidy};

/// The package that a `DESCRIPTION` describes; `None` where it is not installed.
pub(super) fn package(text: &str) -> Option<Package> {
    let fields = fields(text);
    let field = |name: &str| fields.get(name).map(String::as_str);
    field("built")?;
    let package = Package::new(Manager::Cran, field("package")?, field("version")?)?;
    let (license, supplier) = (field("license").and_then(tidy), field("maintainer").and_then(tidy));
    // There may be several addresses.
    let homepage = field("url").and_then(|urls| urls.split([',', ' ']).next()).and_then(tidy);
    Some(Package { license, supplier, homepage, ..package })
}
