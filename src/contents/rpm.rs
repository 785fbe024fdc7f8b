//! The database of rpm since 4.16: headers of packages, kept by SQLite.
//!
//! RPM 4 file format, "Header". Every number in them is checked before it is used.

use super::{Manager, Package, sqlite, tidy};

/// How many entries a header may have, and how many packages a database.
const ENTRIES_LIMIT: usize = 10_000;
const PACKAGES_LIMIT: usize = 200_000;
/// Tags of a header.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const URL: u32 = 1020;
const ARCH: u32 = 1022;
/// The types of values that are read.
const INT32: u32 = 4;
const STRINGS: [u32; 3] = [6, 8, 9];

/// The packages of an `rpmdb.sqlite`.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn packages(file: &[u8]) -> Result<Vec<Package>, &'static str> {
    let rows = sqlite::blobs(file, "Packages", PACKAGES_LIMIT)?;
    Ok(rows.iter().filter_map(|header| package(header)).collect())
}

/// The package that a header describes; `None` for the keys that rpm keeps as packages, and what is no header.
fn package(header: &[u8]) -> Option<Package> {
    let header = Header::read(header)?;
    let name = header.text(NAME).filter(|name| name != "gpg-pubkey")?;
    let epoch = header.number(EPOCH).map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let release = header.text(RELEASE).map(|release| format!("-{release}")).unwrap_or_default();
    let version = format!("{epoch}{}{release}", header.text(VERSION)?);
    let package = Package::new(Manager::Rpm, &name, &version)?.with("arch", header.text(ARCH).as_deref());
    let more = |tag| header.text(tag).as_deref().and_then(tidy);
    Some(Package { license: more(LICENSE), supplier: more(VENDOR), homepage: more(URL), ..package })
}

/// A header as a database keeps it: two counts, entries of 16 bytes, and the bytes that those point into.
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (entries, length) = (big(bytes, 0)? as usize, big(bytes, 4)? as usize);
        if entries > ENTRIES_LIMIT {
            return None;
        }
        let (entries, data) = bytes.get(8..)?.split_at_checked(entries * 16)?;
        Some(Self { entries, data: data.get(..length)? })
    }

    /// The type of a tag's value, and where it begins.
    fn find(&self, tag: u32) -> Option<(u32, &'a [u8])> {
        let entry = self.entries.chunks_exact(16).find(|entry| big(entry, 0) == Some(tag))?;
        Some((big(entry, 4)?, self.data.get(big(entry, 8)? as usize..)?))
    }

    /// A text, or the first of several.
    fn text(&self, tag: u32) -> Option<String> {
        let (_, value) = self.find(tag).filter(|(kind, _)| STRINGS.contains(kind))?;
        let end = value.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (_, value) = self.find(tag).filter(|(kind, _)| *kind == INT32)?;
        big(value, 0)
    }
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Headers that rpm 4.18 wrote, between rows that are none, in pages so small that the table is a tree and that
    /// every header goes on over several of them.
    const DATABASE: &[u8] = include_bytes!("rpmdb.sqlite");

    #[test]
    fn packages_are_read_out_of_a_database_that_rpm_made() {
        let found = packages(DATABASE).expect("a database");
        let told: Vec<String> = { found.iter() }
            .map(|package| format!("{} {} {}", package.name, package.version, package.qualifiers["arch"]))
            .collect();
        assert_eq!(
            told,
            [
                "demo-1 1:1.1-2.fc40 noarch",
                "demo-2 2:1.2-2.fc40 noarch",
                "demo-3 0:1.3-2.fc40 noarch",
                "demo-4 1:1.4-2.fc40 noarch",
                "demo-5 2:1.5-2.fc40 noarch",
            ]
        );
        assert_eq!(found[0].license.as_deref(), Some("MIT AND Zlib"));
        assert_eq!(found[0].supplier.as_deref(), Some("Vendor 1"));
        assert_eq!(found[0].homepage.as_deref(), Some("https://example.org/1"));
    }

    #[test]
    fn what_is_no_database_is_refused_and_circles_end() {
        assert!(packages(b"").is_err());
        assert!(packages(&DATABASE[..DATABASE.len() / 2]).is_err());
        let mut circle = DATABASE.to_vec();
        let root = 512;
        assert_eq!(circle[root], 5, "the table is a tree");
        circle[root + 8..root + 12].copy_from_slice(&2_u32.to_be_bytes());
        assert_eq!(packages(&circle).err(), Some("its pages go round in circles"));
    }

    proptest! {
        #[test]
        fn any_change_of_a_database_is_read_or_refused(
            changes in proptest::collection::vec((0..DATABASE.len(), any::<u8>()), 1..20),
        ) {
            let mut bytes = DATABASE.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let _ = packages(&bytes);
        }
    }
}
