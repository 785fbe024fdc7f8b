//! `polyarch sign`: the last job of a run, which builds nothing and alone has the key. It recomputes the keys from the
//! tree, reads what stands for them again byte for byte, and signs the records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use crate::attest::{Cosign, PrivateKey, RecordSigner};
use crate::cli::plan::{Planning, What};
use crate::cli::publish::standing;
use crate::cli::workspace::Workspace;
use crate::cli::{Context, Ended, recorder, workshop};
use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind, Result, count};
use crate::family::JobId;
use crate::oci::{Digest, Error, broken};
use crate::plan::Decision;
use crate::record::{Kept, RecordKind};
use crate::trust::Signature;

use super::{for_cosign, key_in};

/// The variable that holds the key as PEM text.
pub(super) const KEY: &str = "POLYARCH_SIGN_KEY";

/// Sign the records of a scope for `polyarch promote`; nothing is built
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  polyarch sign --scope pr-12 --dry-run        what would be signed, and the digest of the tree
  polyarch sign --scope pr-12 --sign-key sign.key
  polyarch sign --scope pr-12 --keyless --tree sha256:…")]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    what: What,
    /// Sign with the key in this file; POLYARCH_SIGN_KEY may hold it too
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Sign without a key, by cosign with the identity that the surroundings give
    #[arg(long, conflicts_with = "sign_key")]
    keyless: bool,
    /// Sign only where the tree has this digest: the one that was approved
    #[arg(long, value_name = "DIGEST")]
    tree: Option<Digest>,
    /// Only say what would be signed
    #[arg(long)]
    dry_run: bool,
}

pub(in crate::cli) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let signer = match options.dry_run {
        true => None,
        // Before anything is read: a job without a key is told so at once.
        false => Some(signer(context, options)?),
    };
    own_store(context)?;
    let planning = Planning::make(context, &options.what).await?;
    approved(options.tree.as_ref(), &planning.tree())?;
    sign(context, &planning, signer.as_ref()).await
}

/// Who signs in a job of a pipeline, where the store is one that the tree has not named: before anything is asked of it.
/// `None` where the job was given no key.
///
/// # Errors
/// Where it is none, or only the tree says where the records are.
pub(in crate::cli) fn signer_of_job(context: &Context) -> Result<Option<RecordSigner>> {
    own_store(context)?;
    match context.environment.value(KEY).is_some_and(|key| !key.is_empty()) {
        true => signer(context, &Options::default()).map(Some),
        false => Ok(None),
    }
}

/// Sign what stands of a plan; only say what would be signed where nobody does.
///
/// # Errors
/// Where the store fails, or what signs.
pub(in crate::cli) async fn sign(
    context: &Context,
    planning: &Planning,
    signer: Option<&RecordSigner>,
) -> Result<Ended> {
    let tree = planning.tree();
    let whole = whole(context, planning).await?;
    let records = planning.shelf.records();
    // One may stand in the folder and at the registry, and is signed in both.
    let mut signed = BTreeSet::new();
    let mut would = Vec::new();
    for Own { job, kind, key, kept } in own_records(planning, &whole).await? {
        let Some(signer) = signer else {
            would.push(format!("sign {job} {}\n", kept.digest()));
            continue;
        };
        let before = signer.own().signatures(&kept).await.map_err(|error| failed(&error))?;
        if !before.iter().any(Signature::is_known) {
            let signature = signer.sign(&kept, &tree, recorder::now() / 1_000).await?;
            records.keep_signed(kind, &key, &kept, signature).await.map_err(|error| failed(&error))?;
            signed.insert(key);
        }
    }
    let is_published = |job: &&JobId| !planning.workspace.family.is_downstream(&job.unit);
    let incomplete = planning.plan.jobs.keys().filter(is_published).any(|job| !whole.contains(job));
    let passed = standing(&planning.plan);
    if !signed.is_empty() && !incomplete && passed.len() == planning.workspace.family.jobs().count() {
        records.keep_signed_roll(&passed).await.map_err(|error| failed(&error))?;
    }
    would.dedup();
    match signed.len() {
        _ if signer.is_none() => context.ui.data(&format!("tree {tree}\n{}", would.concat())),
        0 if whole.is_empty() => {
            let scope = &planning.shelf.scope;
            context.ui.note(&format!("nothing is signed: no record of this tree stands in the scope {scope}"))
        }
        0 => context.ui.note("signed already"),
        several => context.ui.note(&format!("signed: {}", count(several, "record"))),
    }
    Ok(if incomplete { Ended::With(1) } else { Ended::Well })
}

fn signer(context: &Context, options: &Options) -> Result<RecordSigner> {
    if options.keyless {
        let cosign = Cosign::find(&context.environment.search_path(), for_cosign(context))?;
        return Ok(RecordSigner::Identity(cosign));
    }
    let key = match (&options.sign_key, context.environment.value(KEY)) {
        (Some(file), _) => key_in(file)?,
        (None, Some(text)) => PrivateKey::parse(text.as_encoded_bytes(), &format!("the variable {KEY}"))?,
        (None, None) => {
            return Err(Diagnostic::request("sign records: no key is named")
                .hint("name one: polyarch sign --sign-key sign.key")
                .hint(format!("or give it: export {KEY}=\"$(cat sign.key)\""))
                .into());
        }
    };
    Ok(RecordSigner::Key(Box::new(key)))
}

/// Law 11: what somebody proposes does not say where the records are that are signed: in a store of theirs would stand
/// records of theirs, for the same keys.
fn own_store(context: &Context) -> Result<()> {
    if context.common.scope.is_trusted() || !stands(Defence::SignedStore) {
        return Ok(());
    }
    let workspace = Workspace::read(context, &Default::default())?;
    if !workshop::is_named_by_family(context, &workspace) {
        return Ok(());
    }
    let problem = "sign the records: only the tree that is to be signed says where they are";
    Err(Diagnostic::new(Kind::Policy, problem)
        .hint("name the store yourself: polyarch sign --store PLACE, or POLYARCH_STORE")
        .into())
}

/// F-U12: what was pushed after the approval is not what was approved.
fn approved(approved: Option<&Digest>, tree: &Digest) -> Result<()> {
    match approved {
        Some(approved) if approved != tree && stands(Defence::ApprovedTree) => {
            let problem = "sign the records: the tree is not the one that was approved";
            Err(Diagnostic::new(Kind::Policy, problem)
                .because(format!("approved is {approved}, and this is {tree}"))
                .hint("see what would be signed, and have it approved: polyarch sign --dry-run")
                .into())
        }
        _ => Ok(()),
    }
}

/// The jobs whose records stand and whose content is what it says; of each other a person is told why not.
async fn whole(context: &Context, planning: &Planning) -> Result<BTreeSet<JobId>> {
    let mut standing = BTreeMap::new();
    for (job, planned) in &planning.plan.jobs {
        match &planned.decision {
            Decision::Reuse(passed) => drop(standing.insert(job.clone(), passed.image.image.clone())),
            Decision::Check(_) | Decision::Build(_) => {
                context.ui.warning(&unsigned(job, &planning.why_not(job).unwrap_or_default()));
            }
        }
    }
    let records = planning.shelf.records();
    let images = standing.values().cloned().collect();
    let broken = broken(&*records.store, &records.scope, &images).await.map_err(|error| failed(&error))?;
    standing.retain(|job, image| match broken.get(image) {
        None => true,
        Some(what) => {
            context.ui.warning(&unsigned(job, &format!("{what} is broken in the store")));
            false
        }
    });
    Ok(standing.into_keys().collect())
}

fn unsigned(job: &JobId, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("{job} is not signed: {why}")).hint(format!("build it: polyarch build {job}"))
}

/// A record of the scope itself.
struct Own {
    job: JobId,
    kind: RecordKind,
    key: Digest,
    kept: Kept,
}

/// The records of these jobs that stand in the scope itself. What was read from behind it is not its own.
async fn own_records(planning: &Planning, jobs: &BTreeSet<JobId>) -> Result<Vec<Own>> {
    let records = planning.shelf.records().alone();
    let mut found = Vec::new();
    for job in jobs {
        let Decision::Reuse(passed) = &planning.plan.jobs[job].decision else { continue };
        for (kind, key) in passed.keys() {
            let kept = records.kept(kind, key).await.map_err(|error| failed(&error))?;
            // What stands there now is what was read for the plan, or it is another's doing.
            let is_same = |kept: &Kept| match kind {
                RecordKind::Image => kept.read(key).as_ref() == Some(&passed.image),
                RecordKind::Checks => kept.read(key).as_ref() == Some(&passed.checks),
            };
            let same = kept.into_iter().filter(is_same);
            found.extend(same.map(|kept| Own { job: job.clone(), kind, key: key.clone(), kept }));
        }
    }
    Ok(found)
}

fn failed(error: &Error) -> Diagnostic {
    Diagnostic::surroundings("sign the records in the store").caused_by(error)
}
