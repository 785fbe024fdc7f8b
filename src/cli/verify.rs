//! `polyarch verify`: does the registry equal the plan?

use std::path::PathBuf;

use clap::Args;

use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::publish::{self, Publication, Source};

use super::plan::{Planning, What};
use super::publish::{homes, prepare, standing, target};
use super::workshop::trusted;
use super::{Context, Ended, mirror_registries, sign};

/// Compare what is published with what this tree would publish
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch verify
  polyarch verify base-notebook --to 127.0.0.1:5000")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Look at this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Check signatures by the public key in this file
    #[arg(long, value_name = "FILE")]
    verify_key: Option<PathBuf>,
}

/// How many differences are told one by one.
const DIFFERENCES_SHOWN: usize = 20;

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let refused = planning.plan.refused_as_emulated();
    let missing: Vec<Diagnostic> = planning
        .request
        .selected
        .iter()
        .chain(planning.plan.order.iter().filter(|_| planning.request.selected.is_empty()))
        .filter(|job| !matches!(planning.plan.jobs[*job].decision, crate::plan::Decision::Reuse(_)))
        .map(|job| match refused.contains(job) {
            true => {
                let why = "it, or an image that it stands on, was made by emulation, which is refused here";
                Diagnostic::new(Kind::Failed, format!("no record stands for {job}"))
                    .because(why)
                    .hint("use it all the same: polyarch verify --emulate=allow")
            }
            false => {
                Diagnostic::new(Kind::Failed, format!("{job} is not built")).hint("build it: polyarch build")
            }
        })
        .collect();
    let target = target(context, &planning.workspace, &planning.shelf, options.to.as_deref())?;
    let passed = standing(&planning.plan);
    let publication = prepare(context, &planning, passed, &target).await?;
    let keys = sign::public_keys(context, &planning.workspace, options.verify_key.as_deref())?;
    let kinds = sign::kinds(&planning.workspace);
    let mut differences = publish::verify(&publication, target.towards()).await?;
    if let Some(keys) = &keys {
        differences.extend(sign::differences(keys, kinds, publication.release(), &target).await?);
    }
    let source_scope = trusted();
    for mirror in mirror_registries::mirrors(&planning, options.to.as_deref()) {
        let target = mirror_registries::target(context, mirror)?;
        let source =
            Source { store: &*planning.shelf.store, repository: &source_scope, within_target: false };
        let homes = homes(&planning.workspace.family)?.renamed(&mirror.repositories);
        let release = publication.release().renamed(&mirror.repositories);
        let there = Publication::prepare(release, &homes, &source).await?;
        differences.extend(publish::verify(&there, target.towards()).await?);
        if let Some(keys) = &keys {
            differences.extend(sign::differences(keys, kinds, there.release(), &target).await?);
        }
    }
    let family = &planning.workspace.family;
    let copies = publication.release().withheld.iter().filter(|one| family.mirrors.contains_key(&one.unit));
    let unknown = copies.map(|one| {
        let message = format!("it is not known what the mirror `{}` is a copy of", one.unit);
        Diagnostic::new(Kind::Failed, message).because(&one.reason)
    });
    let missing = missing.into_iter().chain(unknown);
    let hidden = differences.len().saturating_sub(DIFFERENCES_SHOWN);
    let shown = differences.into_iter().take(DIFFERENCES_SHOWN);
    let shown = shown.map(|difference| Diagnostic::new(Kind::Failed, difference.to_string()));
    let more = (hidden > 0).then(|| {
        Diagnostic::new(Kind::Failed, format!("and {} more", crate::diag::count(hidden, "difference")))
    });
    let mut found: Vec<Diagnostic> = missing.chain(shown).chain(more).collect();
    if let Some(last) = found.last_mut() {
        last.hints.push("see what would be done: polyarch publish --dry-run".to_owned());
    }
    let tags = publication.release().tag_count();
    Problems::check(found)?;
    let signed = if keys.is_some() { ", all signed" } else { "" };
    let tags = crate::diag::count(tags, "tag");
    context.ui.data(&format!("{} equals the plan: {tags}{signed}\n", target.name));
    Ok(Ended::Well)
}
