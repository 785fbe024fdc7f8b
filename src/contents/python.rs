//! What is installed for Python: core metadata, one file a distribution.
//!
//! Python packaging specifications, "Core metadata" and "Recording installed projects".

use super::{Manager, Package, fields, tidy};

/// The distribution that a `METADATA` or `PKG-INFO` describes. Only the header counts, up to the first empty line.
pub(super) fn package(text: &str) -> Option<Package> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let header = text.split("\n\n").next()?;
    let header = header.split("\r\n\r\n").next()?;
    let fields = fields(header);
    let field = |name: &str| fields.get(name).map(String::as_str).and_then(tidy);
    let known = |text: &String| text != "UNKNOWN";
    let package = Package::new(Manager::Pypi, fields.get("name")?, fields.get("version")?)?;
    let license = field("license-expression").or_else(|| field("license").filter(known));
    let supplier = field("author").or_else(|| field("author-email")).filter(known);
    Some(Package { license, supplier, homepage: field("home-page").filter(known), ..package })
}
