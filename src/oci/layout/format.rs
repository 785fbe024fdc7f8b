//! The version stamp of a store: `store.json`, which says who may write it and who may read it (F-S16).
//!
//! A change of the format that older programs would misread raises `format`; one that they would misread even when
//! they only read raises `readers`, too. The stamp is written when a store is made and never changed by a program
//! that does not know its format.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folders;
use crate::oci::{Error, ErrorKind};

/// The format that this program writes.
const FORMAT: u32 = 1;

/// What the stamp says. Fields of newer programs may stand beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    /// The format of the store: who writes knows it.
    format: u32,
    /// The oldest format whose programs can read the store.
    readers: u32,
}

impl Format {
    /// The format of the stores that we make.
    pub(super) const OURS: Self = Self { format: FORMAT, readers: FORMAT };

    /// What the stamp of a store says; `None` where there is none.
    ///
    /// # Errors
    /// `Unsupported` where we cannot even read such a store, `Failed` where the stamp is damaged.
    pub(super) fn read(stamp: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = folders::read_small(stamp)? else { return Ok(None) };
        let found: Self = serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("`{}` does not say which format the store has", stamp.display());
            Error::new(ErrorKind::Failed, what).because(error)
        })?;
        if found.readers > FORMAT {
            let (format, readers) = (found.format, found.readers);
            let what = format!(
                "`{}` says that the store has format {format}, which a polyarch of format {readers} or later can \
                 read; this one knows format {FORMAT}",
                stamp.display()
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(Some(found))
    }

    /// The text of the stamp.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        format!("{{\"format\":{},\"readers\":{}}}\n", self.format, self.readers).into_bytes()
    }

    /// Whether we may write.
    pub(super) fn is_writable(self) -> bool {
        self.format <= FORMAT
    }

    /// Refuse to write a store of a newer format.
    pub(super) fn writable(self, root: &Path) -> Result<(), Error> {
        match self.is_writable() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the store `{}` has format {} and this polyarch writes format {FORMAT}: it can only be read; \
                     write it with a newer polyarch",
                    root.display(),
                    self.format
                ),
            )),
        }
    }
}
