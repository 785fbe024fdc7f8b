//! Folders that only this user can look into: secrets, log-ins and work in progress lie there.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Make a folder of mode 0700, and those above it; one that is there stays as it is.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
