//! The database of dpkg: stanzas of fields, `deb-control(5)` and `dpkg-query(1)`.

use super::{Manager, Package, fields, tidy};

/// Packages of a `status` file, or of one file of `status.d`, where what stands there is installed.
pub(super) fn packages(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(package).collect()
}

fn package(stanza: &str) -> Option<Package> {
    let fields = fields(stanza);
    let field = |name: &str| fields.get(name).map(String::as_str);
    // "want flag status": a package that was removed leaves its configuration.
    if field("status").is_some_and(|status| status.split_whitespace().last() != Some("installed")) {
        return None;
    }
    let package = Package::new(Manager::Deb, field("package")?, field("version")?)?;
    let package = package.with("arch", field("architecture"));
    let (supplier, homepage) = (field("maintainer").and_then(tidy), field("homepage").and_then(tidy));
    Some(Package { supplier, homepage, ..package })
}
