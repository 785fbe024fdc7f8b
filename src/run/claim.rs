//! One build of a key over all runs that are at work over one folder (F-X1).
//!
//! A job that is about to build or to check claims its key in the folder of the store, and waits while another run has it;
//! then the records are looked at once more, and what stands by now is taken over by the rules of the plan: of a job whose
//! image stands already, what was found in it. Runs that share a store at a registry and no folder have the second look
//! alone, so two of them may build the same at one time.
//!
//! Nobody waits in a circle. A job claims one key, its own, once all that it stands on is there, and nothing waits for a
//! claim that has one. Who has one waits for its builder and for the store, whose locks are held by nobody who waits for
//! a claim, and for no slot and no other job: those it has. So each goes on, whoever waits for it, until its checks are
//! over or its process ends, with which the kernel lets go of the claim. Who waits has a slot that does nothing meanwhile,
//! and waits no longer than a build may take; then it builds as if it were alone.
//!
//! A claim is of a scope: no run of a pull request, whose tests may take as long as they like, holds up a trusted one.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::diag::Diagnostic;
use crate::event::EventKind;
use crate::oci::{Claim, Claimed, Digest, Error};
use crate::plan::{Decision, SecondLook, check_key};
use crate::record::{CheckRecord, ImageRecord, Records};
use crate::survey;

use super::ENGINE_SLACK;
use super::job::Work;

/// How long it is until a claim that another has is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// What a job finds when its turn has come to be built.
#[derive(Default)]
pub(super) struct Turn {
    /// The image that another run has made meanwhile.
    pub(super) image: Option<ImageRecord>,
    /// What that run has found in it, where the checks are those of this one.
    pub(super) checks: Option<CheckRecord>,
    /// No other run is at the same as long as this is held.
    _claim: Option<Claim>,
}

/// What other runs had to do with a job.
#[derive(Debug, Default)]
pub(super) struct Others {
    waited: OnceLock<Duration>,
    passed: OnceLock<()>,
}

impl Others {
    /// How long they were waited for, in milliseconds.
    pub(super) fn waited_milliseconds(&self) -> u64 {
        let waited = self.waited.get().copied().unwrap_or_default();
        u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether nothing was left to be done, as records of it stand by now.
    pub(super) fn have_passed_it(&self) -> bool {
        self.passed.get().is_some()
    }
}

impl Work<'_> {
    /// Wait until no other run is at the same, and look what stands then. What this run has made itself needs neither.
    /// Where the folder or the store fails in it, the job goes on as if it were alone.
    pub(super) async fn turn(&self) -> Turn {
        let look = SecondLook {
            planned: self.planned,
            recipe: self.recipe,
            parents: &self.parents,
            began_seconds: self.session.began_seconds,
            // What was built since the plan was made is not from the future.
            now_seconds: self.session.facts.now_seconds.map(|_| (self.session.clock)() / 1000),
        };
        let may_find = match &self.planned.decision {
            Decision::Check(_) => true,
            Decision::Build(_) if self.twin.is_none() => look.may_find(),
            Decision::Build(_) | Decision::Reuse(_) => return Turn::default(),
        };
        let turn = Turn { _claim: self.claim(may_find).await, ..Turn::default() };
        if let Decision::Check(image) = &self.planned.decision {
            let checks = self.checked_meanwhile(&self.session.records.anew(), image).await.ok().flatten();
            if checks.is_some() {
                let _ = self.others.passed.set(());
            }
            return Turn { checks, ..turn };
        }
        let Ok(Some((image, checks))) = self.made_meanwhile(&look).await else { return turn };
        match self.taken_over(image, checks.is_some()).await {
            Ok(image) => Turn { image: Some(image), checks, ..turn },
            Err(_) => turn,
        }
    }

    /// Claim the key. Whoever builds whatever stands has no use for waiting, and keeps others from building the same where it
    /// can.
    async fn claim(&self, waits: bool) -> Option<Claim> {
        let folder = self.session.claims.as_ref()?;
        let (scope, key) = (&self.session.records.scope, &self.planned.key);
        let name = Digest::of(format!("{scope} {key}").as_bytes());
        let own = self.session.run.to_string();
        let limit = Duration::from_secs(self.planned.terms.time_limit_seconds) + ENGINE_SLACK;
        let (begun, mut is_told) = (Instant::now(), false);
        let claim = loop {
            let run = match folder.claim(&name, &own).await {
                Ok(Claimed::Ours(claim)) => break Some(claim),
                Ok(Claimed::Theirs(run)) if waits && begun.elapsed() < limit => run,
                Ok(Claimed::Theirs(_)) | Err(_) => break None,
            };
            // Whoever has just claimed it says in a moment who it is; a try of this run that was given up lets go in one.
            let is_ours_or_new = run.as_ref().map_or(begun.elapsed() < TRY_AGAIN, |run| *run == own);
            if !is_told && !is_ours_or_new {
                (self.session.show)(EventKind::JobAwaits { job: self.job.to_string(), run });
                is_told = true;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        };
        if is_told {
            let _ = self.others.waited.set(begun.elapsed());
        }
        claim
    }

    /// What stands in place of its build by now.
    async fn made_meanwhile(
        &self,
        look: &SecondLook<'_>,
    ) -> Result<Option<(ImageRecord, Option<CheckRecord>)>, Error> {
        if !look.may_find() {
            return Ok(None);
        }
        let (records, key) = (self.session.records.anew(), &self.planned.key);
        let found = records.as_settled(records.image(key).await?, key, None).await?;
        let Some(image) = found.record.filter(|image| look.takes(image)) else { return Ok(None) };
        let images = || [image.image.clone()].into();
        let missing = survey::missing(&records, images()).await?;
        if !missing.is_empty() || !survey::lost(&records, images(), false).await?.is_empty() {
            return Ok(None);
        }
        let checks = self.checked_meanwhile(&records, &image).await?;
        Ok(Some((image, checks)))
    }

    /// What was found in an image by now, by the checks of this run.
    async fn checked_meanwhile(
        &self,
        records: &Records,
        image: &ImageRecord,
    ) -> Result<Option<CheckRecord>, Error> {
        let key = check_key(&image.image, self.recipe, &self.planned.check_files);
        Ok(records.checks(&key).await?.record)
    }

    /// Have an image of another run at hand, where something is still to be done with it.
    async fn taken_over(&self, image: ImageRecord, is_checked: bool) -> Result<ImageRecord, Diagnostic> {
        if !is_checked || self.session.taker.is_some() {
            self.bases.bring(&self.job.unit, &image.image).await?;
        }
        if is_checked {
            let _ = self.others.passed.set(());
        }
        Ok(ImageRecord { job: self.job.to_string(), ..image })
    }
}
