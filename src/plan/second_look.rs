//! What others have built since a plan was made: whether it stands in place of a build that the plan has (F-X1).
//!
//! The rules are those of the plan itself, but that what was asked for anew was asked for when the run began:
//!
//! | the plan builds it because | a record of its key stands in place of that |
//! |---|---|
//! | it is asked for (`--no-reuse`), or its image comes too slowly | never |
//! | an input is not known | never |
//! | it is refreshed, by `--refresh` or by its age | where it was built since the run began |
//! | of anything else | whenever it was built, within `fresh-for` |
//!
//! In each case its parents' images are those of this run, and it was made natively, or emulation is allowed.

use std::collections::BTreeMap;

use crate::family::{Recipe, Unit};
use crate::oci::Digest;
use crate::record::ImageRecord;

use super::fresh::stale;
use super::{Decision, Planned, Reason};

/// A job whose turn has come, with all that it stands on.
#[derive(Clone, Copy)]
pub(crate) struct SecondLook<'a> {
    /// What is planned for it.
    pub(crate) planned: &'a Planned,
    /// How it is built.
    pub(crate) recipe: &'a Recipe,
    /// The images of its parents in this run.
    pub(crate) parents: &'a BTreeMap<Unit, Digest>,
    /// When the run began, in seconds since 1970-01-01 UTC.
    pub(crate) began_seconds: u64,
    /// The time in seconds since 1970-01-01 UTC, where the age of records counts.
    pub(crate) now_seconds: Option<u64>,
}

impl SecondLook<'_> {
    /// Whether a record may stand in place of its build at all.
    pub(crate) fn may_find(&self) -> bool {
        use Reason::{Asked, BaseUnknown, FrontendUnknown, RepositoryUnknown, Slow};
        let Decision::Build(reasons) = &self.planned.decision else { return false };
        let whatever_stands = |reason: &Reason| {
            let is_unknown =
                matches!(reason, BaseUnknown { .. } | RepositoryUnknown { .. } | FrontendUnknown { .. });
            is_unknown || matches!(reason, Asked | Slow)
        };
        !reasons.iter().any(whatever_stands)
    }

    /// Whether this record of its key, whose image is whole, stands in place of its build.
    pub(crate) fn takes(&self, record: &ImageRecord) -> bool {
        let is_made_right = !record.emulated || self.planned.terms.emulation.is_allowed();
        self.may_find() && is_made_right && self.is_fresh(record) && self.stands_on_the_same(record)
    }

    fn is_fresh(&self, record: &ImageRecord) -> bool {
        use Reason::{FromTheFuture, Refresh, TooOld};
        let Decision::Build(reasons) = &self.planned.decision else { return false };
        let of_age = |reason: &Reason| matches!(reason, Refresh | TooOld { .. } | FromTheFuture { .. });
        let is_refreshed = reasons.iter().any(of_age);
        let limit = self.recipe.fresh_for_seconds.zip(self.now_seconds);
        let is_stale = limit.is_some_and(|(limit, now)| stale(limit, now, record.built_at_seconds).is_some());
        !is_stale && (!is_refreshed || record.built_at_seconds >= self.began_seconds)
    }

    /// Law 3: children share the layers that are published.
    fn stands_on_the_same(&self, record: &ImageRecord) -> bool {
        self.parents.iter().all(|(unit, image)| {
            record.parents.get(&unit.to_string()).is_none_or(|built_on| built_on == image)
        })
    }
}
