//! What a proposal has built is signed at its end, and published once it is merged: two jobs that build nothing.

use std::io::Read as _;

use crate::ci::{self, Beginning, Event, Pushed};
use crate::cli::plan::What;
use crate::cli::publish::standing;
use crate::cli::workspace::Workspace;
use crate::cli::{Context, Ended, promote as promotion, sign as signing, workshop};
use crate::diag::{Diagnostic, Result, count};
use crate::record::ScopeName;

use super::files::Files;
use super::{as_settled, is_foreign, logged_in, take_in};

/// How long the file with what began a run may be, in bytes.
const EVENT_BYTES_LIMIT: u64 = 32 << 20;

/// Bring what a run has built to the store, and sign it there.
///
/// # Errors
/// Where only the tree says where the store is, nothing can be written there, or what came in is not whole.
pub(super) async fn sign(context: &Context, files: &Files) -> Result<Ended> {
    let Some(signer) = signing::signer_of_job(context)? else {
        context.ui.note("this job was given no key: nothing is signed, and nothing of it will be promoted");
        return Ok(Ended::Well);
    };
    let context = logged_in_at_store(context)?;
    if let Some(why) = take_in(&context, files).await? {
        return Err(Diagnostic::surroundings("bring what was built to the store, to sign it there")
            .because(why)
            .hint("give the environment of this job a login that may write its scope there")
            .into());
    }
    let Some(planning) = as_settled(&context, files, None).await? else { return Ok(Ended::Well) };
    context.signals.unless_stopped(signing::sign(&context, &planning, Some(&signer))).await
}

/// Take what a proposal has built that was merged by the commit that was pushed into the trusted scope, where the jobs after
/// this one find it; what does not count is left to them.
///
/// # Errors
/// Where nobody is named whose word counts, or the store fails.
pub(super) async fn promote(context: &Context, beginning: Option<&Beginning>) -> Result<Ended> {
    let Some(from) = merged(context, beginning)? else {
        context.ui.note("no proposal was merged by what began this run: nothing is promoted");
        return Ok(Ended::Well);
    };
    if is_foreign(context, beginning)? {
        return Ok(Ended::Well);
    }
    let context = logged_in_at_store(context)?;
    let (planning, _) = promotion::adopted(&context, What::default(), &from, false).await?;
    let number = standing(&planning.plan).len();
    context
        .ui
        .note(&format!("{} of `{from}` and before stand, and are not built again", count(number, "image")));
    Ok(Ended::Well)
}

/// The same with the login for the registry where results are kept.
///
/// # Errors
/// Where they are kept at none: nobody would find there what this job does.
fn logged_in_at_store(context: &Context) -> Result<Context> {
    let workspace = Workspace::read(context, &Default::default())?;
    let Some(registry) = workshop::registry(context, &workspace) else {
        return Err(no_store_at_registry().into());
    };
    // What a proposal calls a password might be another secret of this job.
    let names = workspace.ci.login.as_ref().filter(|_| context.common.scope.is_trusted());
    Ok(logged_in(context, Some(registry.to_owned()), names))
}

/// What is wrong where results are to be signed and promoted, and no registry keeps them.
pub(in crate::cli) fn no_store_at_registry() -> Diagnostic {
    Diagnostic::request("what is signed and promoted has to be in a store at a registry, and there is none")
        .hint("name one in polyarch.toml, which everybody may read: store = \"registry.example/owner/cache\"")
}

/// The scope of the proposal that a push to the branch that is published has brought in.
fn merged(context: &Context, beginning: Option<&Beginning>) -> Result<Option<ScopeName>> {
    let is_own = |beginning: &&Beginning| beginning.event == Event::Own && beginning.release.is_none();
    let beginning = beginning.filter(is_own).filter(|_| context.common.scope.is_trusted());
    let Some(service) = beginning.map(|beginning| beginning.service) else { return Ok(None) };
    let failed =
        |error: &dyn std::error::Error| Diagnostic::surroundings("read what began this run").caused_by(error);
    let message = match service.pushed() {
        Some(Pushed::Message(name)) => context.environment.text(name),
        Some(Pushed::Event(name)) => match context.environment.value(name) {
            Some(file) => {
                let mut text = String::new();
                let opened = std::fs::File::open(file).map_err(|error| failed(&error))?;
                opened.take(EVENT_BYTES_LIMIT).read_to_string(&mut text).map_err(|error| failed(&error))?;
                ci::message(&text).map_err(|error| failed(&error))?
            }
            None => None,
        },
        None => None,
    };
    let scope = message.and_then(|message| ci::merged(service, &message));
    Ok(scope.map(|scope| scope.parse::<ScopeName>()).transpose().map_err(|error| failed(&error))?)
}
