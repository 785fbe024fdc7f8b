//! `polyarch delete`: remove tags from a registry, after a look at what that does.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use crate::diag::{Diagnostic, Problems, Result, Severity};
use crate::oci::Repository;
use crate::publish::{Removals, Target, Unwanted};

use super::place::{Named, Places};
use super::{Context, Ended};

/// Remove tags from a registry; without --yes only say what would go
///
/// A tag is removed and nothing else: the image stays, with its other tags. Everything is looked at before the first is
/// removed, and after each it is looked whether it and nothing else is gone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch delete quay.io/jupyter/base-notebook:wrong        what would go, and what stays
  polyarch delete --yes quay.io/jupyter/base-notebook:wrong
  polyarch delete --yes registry.example/a:v1@sha256:9b6a…   only if it still points there
  polyarch delete --with-tags registry.example/a@sha256:9b6a…

A name begins with its registry; `embedded/` is the family's own store. Not every registry removes tags; one that does \
    not is named, and nothing is written to it in their place.")]
pub(super) struct Options {
    /// What to remove, as REGISTRY/NAME:TAG, REGISTRY/NAME:TAG@DIGEST or, with --with-tags, REGISTRY/NAME@DIGEST
    #[arg(value_name = "REFERENCE", required = true)]
    references: Vec<String>,
    /// Remove it
    #[arg(long)]
    yes: bool,
    /// Remove manifests named by their digest too, each with every tag that points at it
    #[arg(long)]
    with_tags: bool,
}

/// What is wanted of each repository.
type Wanted = BTreeMap<(String, Repository), (Named, BTreeSet<Unwanted>)>;

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    context.refuse_untrusted("deleting")?;
    let wanted = wanted(options)?;
    let mut places = Places::new(context)?;
    let mut prepared = Vec::new();
    for (named, unwanted) in wanted.values() {
        let store = places.store(named)?;
        let target = Target { store: &*store, fresh: &*store, registry: &named.registry };
        let preparing = Removals::prepare(named.repository(), unwanted, target);
        let removals = context.signals.unless_stopped(preparing).await?;
        prepared.push((named, removals, store));
    }
    let absent: Vec<Diagnostic> =
        prepared.iter().flat_map(|(_, removals, _)| removals.absent.clone()).collect();
    // Some may be gone because this very command was stopped on its way.
    let all: usize = wanted.values().map(|(_, unwanted)| unwanted.len()).sum();
    let lacks = !absent.is_empty();
    match options.yes && absent.len() < all {
        true => absent.iter().for_each(|one| {
            context.ui.warning(&Diagnostic { severity: Severity::Warning, ..one.clone() });
        }),
        false => Problems::check(absent)?,
    }
    if !options.yes {
        for (named, removals, _) in &prepared {
            let lines = removals.lines(&named.registry);
            context.ui.data(&lines.into_iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        let with_tags = if options.with_tags { " --with-tags" } else { "" };
        let again = options.references.join(" ");
        context.ui.note("nothing was removed");
        context.ui.note(&format!("remove it: polyarch delete --yes{with_tags} {again}"));
        return Ok(Ended::Well);
    }
    let mut fresh = Places::new(context)?;
    for (at, (named, removals, store)) in prepared.iter().enumerate() {
        let again = if named.own { store.clone() } else { fresh.store(named)? };
        let target = Target { store: &**store, fresh: &**store, registry: &named.registry };
        let fresh = Target { store: &*again, fresh: &*again, registry: &named.registry };
        let told = |line: &str| context.ui.data(&format!("removed {line}\n"));
        let work = removals.carry_out(target, fresh, &told);
        context.signals.unless_stopped(work).await.map_err(|problems| {
            let left = prepared.iter().skip(at + 1);
            let left: Vec<String> =
                left.flat_map(|(named, removals, _)| removals.references(&named.registry)).collect();
            match left.is_empty() {
                true => problems,
                false => {
                    let told = problems.iter().cloned();
                    let told = told.map(|one| one.because(format!("not begun: {}", left.join(", "))));
                    Problems::check(told.collect()).err().unwrap_or(problems)
                }
            }
        })?;
    }
    // What was named and is not there is told above: it may be misspelt, or gone already.
    Ok(if lacks { Ended::With(1) } else { Ended::Well })
}

/// The references by repository, or all that is wrong with them.
fn wanted(options: &Options) -> Result<Wanted> {
    let mut wanted = Wanted::new();
    let mut problems = Vec::new();
    for written in &options.references {
        let read =
            Named::read(written).and_then(|named| Ok((unwanted(written, &named, options.with_tags)?, named)));
        match read {
            Ok((unwanted, named)) => {
                let key = (named.registry.clone(), named.repository().clone());
                wanted.entry(key).or_insert_with(|| (named, BTreeSet::new())).1.insert(unwanted);
            }
            Err(found) => problems.extend(found.iter().cloned()),
        }
    }
    Problems::check(problems).map(|()| wanted)
}

fn unwanted(written: &str, named: &Named, with_tags: bool) -> Result<Unwanted, Diagnostic> {
    named.not_a_scope("removing from")?;
    match (named.reference.tag(), named.reference.digest()) {
        (Some(tag), digest) => Ok(Unwanted::Tag(tag.clone(), digest.cloned())),
        (None, Some(digest)) if with_tags => Ok(Unwanted::Manifest(digest.clone())),
        (None, Some(_)) => Err(Diagnostic::request(format!("`{written}` names an image and no tag"))
            .because("with it every tag would go that points at it")
            .hint(format!("see which those are: polyarch delete --with-tags {written}"))),
        (None, None) => Err(Diagnostic::request(format!("`{written}` names no tag"))
            .because("what is removed is said in full, `latest` too")
            .hint(format!("name it: polyarch delete {written}:TAG"))),
    }
}
