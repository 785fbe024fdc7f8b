//! Which content and which tags go to a target, in which order, and whether they are there.
//!
//! Three steps, each a value that can be printed before the next one acts:
//!
//! ```text
//! records ──assemble──▶ Release ──Publication::prepare──▶ Publication ──carry_out──▶ target
//!                       one index an image,               ordered steps:              content first,
//!                       tags, what is withheld            blobs, manifests,           tags last,
//!                                                         indexes, tags               read back
//! ```
//!
//! An index exists only when all its declared platforms do, and its bytes depend on them alone. A tag is written
//! only once everything that can be reached from it is known to be in the tag's own repository. Killed anywhere,
//! the same command does what is missing.

mod about;
mod carry_out;
mod content;
mod desk;
mod draft;
mod generation;
mod journal;
mod lease;
mod look;
mod differences;
mod fit;
mod immutable;
mod mend;
mod moves;
mod mirror;
mod mirrored;
mod nightly;
mod parents;
mod preview;
mod publication;
mod reading;
mod release;
mod removal;
mod rollback;
mod standing;
mod tags;
mod transaction;
mod units;
mod verify;

pub(crate) use carry_out::Published;
pub(crate) use differences::{refused as refused_differences, shown as shown_differences};
pub(crate) use fit::of_other_keys;
pub(crate) use generation::Generation;
pub(crate) use journal::{Listed, State};
pub(crate) use mend::{OWN, failure, is_here};
pub(crate) use mirror::{MirrorSource, MirrorWish, Mirroring, lost};
pub(crate) use nightly::{Moved, NIGHTLY_LIST, Nightly};
pub(crate) use preview::{Count, Preview};
pub(crate) use publication::{Homes, Publication, Source, Target, Totals};
pub(crate) use release::{PlatformImage, Release, Withheld, assemble, index_of, platform_image};
pub(crate) use removal::{Removals, Unwanted};
pub(crate) use rollback::{Rollback, publications};
pub(crate) use tags::{RunFacts, common_values, foreseen, is_reserved, of_platform, render};
pub(crate) use transaction::Publisher;
pub(crate) use units::units;
pub(crate) use verify::{Row, Verdict, unfinished, verify};

#[cfg(test)]
mod fickle;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watched;
