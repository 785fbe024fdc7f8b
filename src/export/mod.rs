//! Images of the store as files that others load: archives as `docker save` writes them, and OCI image layouts in a tar.
//!
//! ```text
//! records ──archives──▶ Archive ──write──▶ part ──place──▶ NAME, then exports.json
//!           names,      one file,          beside it,       by renaming, the index last
//!           clashes     printed by --dry-run  whole, synced
//! ```
//!
//! What is written depends on the images and their names alone: no clock, no name of a user, no number of cores. So
//! the same images give the same bytes, and a file that stands as it would be written is left alone.
//!
//! | | `docker` | `oci` |
//! |---|---|---|
//! | layers | unpacked, as `docker save` of old and `podman load` have them; each must have its diffID | as they are in the store: same digests |
//! | images | one platform | any number of platforms, as one index |
//! | names | `RepoTags` of `manifest.json`, letter for letter | annotations of `index.json` |

mod docker;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gzip;
mod index;
mod layout;
mod pack;
mod plan;
mod reading;
mod write;
#[cfg(test)]
mod tests;

pub(crate) use folder::{Folder, Staged};
pub(crate) use index::Index;
pub(crate) use layout::LAYOUT;
pub(crate) use plan::{Archive, Asked, Overrides, archives};
pub(crate) use reading::Blobs;
pub(crate) use write::{Entry, Progress, Step, pack};
