//! `polyarch promote`: publish the very bytes that a trusted run built and tested for the tree that is here. No engine
//! is called.

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Result};
use crate::family::JobId;
use crate::oci::{Error, broken};
use crate::plan::{Decision, Plan, Reason};
use crate::record::ScopeName;
use crate::survey::lost;
use crate::trust::Doubt;

use super::plan::{Planning, What};
use super::{Context, Ended, publish, recorder};

/// How many jobs' records are brought into the trusted scope at once.
const JOBS_AT_ONCE: usize = 8;

/// Publish what a trusted run of the same tree built and tested, without building
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch promote --from pr-12 --trust-key ../sign.pub --dry-run
  polyarch promote --from pr-12 --trust-key ../sign.pub
  polyarch promote --from pr-12 --trust-issuer https://token.actions.githubusercontent.com \\
    --trust-identity https://github.com/owner/images/.github/workflows/images.yml@refs/pull/12/merge")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// The scope that the run wrote
    #[arg(long, value_name = "SCOPE")]
    from: ScopeName,
    #[command(flatten)]
    aim: publish::Aim,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let (planning, left) = adopted(context, options.what.clone(), &options.from, options.aim.dry_run).await?;
    let passed = publish::standing(&planning.plan);
    let wanted = options.aim.wanted();
    let ended = publish::publish(context, &planning, passed, &wanted, &recorder::shown(&context.ui)).await?;
    Ok(if left { Ended::With(1) } else { ended })
}

/// Take what counts of a scope into the trusted one, where everybody finds it, unless it is only said what would be. What
/// does not count is told of; whether there is such.
///
/// # Errors
/// Where nobody is named whose word counts, or a store fails.
pub(super) async fn adopted(
    context: &Context,
    what: What,
    from: &ScopeName,
    dry_run: bool,
) -> Result<(Planning, bool)> {
    context.refuse_untrusted("promote")?;
    let what = What { from: Some(from.clone()), ..what };
    let mut planning = context.signals.unless_stopped(Planning::make_now(context, &what)).await?;
    if planning.shelf.witness.is_none() {
        return Err(Diagnostic::request("promote: nobody is named whose word counts")
            .hint("name the key of the run that signed: polyarch promote --trust-key ../sign.pub")
            .into());
    }
    if !dry_run {
        planning.shelf.writable()?;
    }
    context.signals.unless_stopped(miss_what_is_lost(&mut planning, !dry_run)).await?;
    if !dry_run {
        context.signals.unless_stopped(doubt_what_is_broken(&mut planning)).await?;
    }
    let left = tell(context, &planning);
    if !dry_run {
        context.signals.unless_stopped(adopt(&planning)).await?;
    }
    Ok((planning, left))
}

/// Says of each job that no record counts for why not; whether there is one.
fn tell(context: &Context, planning: &Planning) -> bool {
    let order = planning.plan.order.iter();
    let left: Vec<_> = order.filter_map(|job| Some((job, planning.why_not(job)?))).collect();
    for (place, (job, why)) in left.iter().enumerate() {
        let mut warning = Diagnostic::warning(format!("{job} is not promoted: {why}"));
        if is_lost(&planning.plan, job) {
            warning = warning.hint(format!("make it whole: polyarch build {job} --no-reuse"));
        }
        if is_unsigned(&planning.plan, job) {
            let scope = planning.shelf.from.as_ref().map(|scope| format!(" --scope {scope}"));
            warning = warning.hint(format!(
                "where a trusted run has built it, have that one sign it: polyarch sign{} --sign-key sign.key",
                scope.unwrap_or_default()
            ));
        }
        if place + 1 == left.len() {
            warning = warning.hint("build what is left, and publish: polyarch build --publish");
        }
        context.ui.warning(&warning);
    }
    !left.is_empty()
}

/// Whether the store has lost something of the image of a job.
fn is_lost(plan: &Plan, job: &JobId) -> bool {
    is_built_for(plan, job, |reason| matches!(reason, Reason::ContentMissing(_)))
}

/// Whether all that a job lacks may be a signature.
fn is_unsigned(plan: &Plan, job: &JobId) -> bool {
    is_built_for(plan, job, |reason| matches!(reason, Reason::Doubted(Doubt::Unsigned)))
}

fn is_built_for(plan: &Plan, job: &JobId, reason: impl Fn(&Reason) -> bool) -> bool {
    match plan.jobs.get(job).map(|planned| &planned.decision) {
        Some(Decision::Build(reasons)) => reasons.iter().any(reason),
        _ => false,
    }
}

/// Looks whether the registry has all that would be promoted: what it has lost something of counts no more, and what
/// stands on it. Where it is promoted, its blobs come into the trusted scope with that.
async fn miss_what_is_lost(planning: &mut Planning, brings: bool) -> Result<()> {
    let images = publish::standing(&planning.plan).into_values().map(|passed| passed.image.image).collect();
    let lost = lost(&planning.shelf.records(), images, brings).await.map_err(|error| {
        Diagnostic::surroundings("look whether the registry has what is promoted").caused_by(&error)
    })?;
    if !lost.is_empty() {
        planning.facts.missing.extend(lost);
        planning.plan = Plan::new(&planning.workspace.family, &planning.facts, &planning.request);
    }
    Ok(())
}

/// Reads what would be promoted from the folder again, byte for byte: what is broken counts no more.
async fn doubt_what_is_broken(planning: &mut Planning) -> Result<()> {
    if !stands(Defence::Rehash) {
        return Ok(());
    }
    let records = planning.shelf.records();
    let standing = publish::standing(&planning.plan);
    // A registry hashed what it holds when it took it, and mounts it: nothing of that passes through here.
    let images = standing.values().map(|passed| &passed.image.image);
    let images = images.filter(|image| !records.stands_far(image)).cloned().collect();
    let broken = broken(&*records.store, &records.scope, &images).await.map_err(|error| failed(&error))?;
    if broken.is_empty() {
        return Ok(());
    }
    for passed in standing.values() {
        if let Some(what) = broken.get(&passed.image.image) {
            let key = &passed.image.key;
            planning.facts.images.remove(key);
            planning.facts.doubts.insert(key.clone(), Doubt::Broken(what.to_string()));
        }
    }
    planning.plan = Plan::new(&planning.workspace.family, &planning.facts, &planning.request);
    Ok(())
}

/// Keeps what is promoted in the trusted scope, with what is signed of it: nobody builds it again.
async fn adopt(planning: &Planning) -> Result<()> {
    let records = planning.shelf.records();
    let standing = publish::standing(&planning.plan);
    let adopted = standing.iter().map(async |(job, passed)| {
        // The image is there when its second record comes.
        for (kind, key) in passed.keys() {
            records.adopt(kind, key, job).await?;
        }
        Ok(())
    });
    let adopted = stream::iter(adopted.collect::<Vec<_>>()).buffer_unordered(JOBS_AT_ONCE);
    adopted.try_collect::<()>().await.map_err(|error| failed(&error))?;
    match standing.len() == planning.workspace.family.jobs().count() {
        true => Ok(records.keep_roll(&standing).await.map_err(|error| failed(&error))?),
        false => Ok(()),
    }
}

fn failed(error: &Error) -> Diagnostic {
    Diagnostic::surroundings("bring what is promoted into the trusted scope").caused_by(error)
}
