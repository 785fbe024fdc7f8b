//! The database of apk: stanzas of lines with a letter, a colon and a value.

use super::{Manager, Package, tidy};

/// Packages of an `installed` file.
pub(super) fn packages(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(package).collect()
}

fn package(stanza: &str) -> Option<Package> {
    let field = |letter: char| {
        let mut lines = stanza.lines();
        lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
    };
    let package = Package::new(Manager::Apk, field('P')?, field('V')?)?.with("arch", field('A'));
    let (license, supplier) = (field('L').and_then(tidy), field('m').and_then(tidy));
    Some(Package { license, supplier, homepage: field('U').and_then(tidy), ..package })
}
