//! Publications carried out one after the other at a target: content, statements, tags.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::event::EventKind;
use crate::family::JobId;
use crate::publish::{Publication, Published, Publisher, Source};
use crate::record::Passed;

use super::Context;
use super::plan::Planning;
use super::publish::watched;
use super::sign::Signing;
use super::workshop::Target;

/// What publications of one command have in common, wherever they go.
pub(super) struct Carrying<'a> {
    pub(super) planning: &'a Planning,
    /// Who publishes.
    pub(super) publisher: Publisher<'static>,
    /// How what is published is signed, if it is.
    pub(super) signing: Option<Signing>,
    /// What statements are made of.
    pub(super) records: BTreeMap<JobId, Passed>,
    pub(super) show: &'a (dyn Fn(EventKind) + Send + Sync),
}

impl Carrying<'_> {
    /// Carries every publication out, in order. Nothing is written where an immutable tag would change.
    ///
    /// # Errors
    /// Those of the first that fails; of kind [`Kind::Incomplete`] where others were carried out before it.
    pub(super) async fn carry_out(
        &self,
        context: &Context,
        publications: &[Publication],
        source: &Source<'_>,
        target: &Target,
    ) -> Result<()> {
        for publication in publications {
            context.signals.unless_stopped(publication.keep_immutable(target.towards())).await?;
        }
        for (done, publication) in publications.iter().enumerate() {
            let carried_out = self.one(context, publication, source, target).await;
            carried_out.map_err(|problems| after_others(problems, done, publications.len()))?;
        }
        Ok(())
    }

    async fn one(
        &self,
        context: &Context,
        publication: &Publication,
        source: &Source<'_>,
        target: &Target,
    ) -> Result<()> {
        let (planning, release, records) = (self.planning, publication.release(), &self.records);
        let saying = async {
            match &self.signing {
                Some(signing) => signing.attach(context, planning, release, records, target).await,
                None => Ok(()),
            }
        };
        let (stop, towards) = (context.signals.stop(), target.towards());
        let work = publication.carry_out_saying(source, towards, &self.publisher, saying, stop, self.show);
        let _: Published = watched(context, publication.bytes_at_most(), &target.name, work).await?;
        if let Some(signing) = &self.signing {
            let saying = signing.attach_by_cosign(context, planning, release, records, target);
            let said = context.signals.unless_stopped(saying).await;
            said.map_err(|problems| unsigned(&problems))?;
        }
        Ok(())
    }
}

/// Tags have moved, and something is not said yet: what was asked for is incomplete, whatever failed.
fn unsigned(problems: &Problems) -> Problems {
    let message = "published, but not all of it is signed";
    problems.under(&Diagnostic::new(Kind::Incomplete, message).again())
}

/// A failure after other units are published: what was asked for is incomplete, however far this one came.
fn after_others(problems: Problems, done: usize, all: usize) -> Problems {
    if done == 0 {
        return problems;
    }
    let before = format!("{done} of {} are done", count(all, "publication"));
    let problem = Diagnostic::new(Kind::Incomplete, "not all of the images are published").because(before);
    problems.and(problem.again().into())
}
