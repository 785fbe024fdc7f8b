//! `polyarch mirror`: copy an image between registries, byte for byte.

use clap::Args;

use crate::diag::{Diagnostic, Kind, Result, count};
use crate::oci::{Document, Origin, Pointer, Store, Tag, Tree};
use crate::publish::{MirrorSource, MirrorWish, Mirroring, Target, failure, is_reserved};
use crate::report::size;

use super::place::{Named, Places};
use super::publish::watched;
use super::{Context, Ended};

/// Copy an image between registries, byte for byte, with all its platforms
///
/// The copy has the digest of its source. Everything that its index names goes along, and so do signatures, SBOMs and
/// whatever else is about it. Nothing that is there already is sent; tags move when all the content is there, and all
/// is read back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch mirror docker.io/library/elasticsearch:7.9.3 docker.io/hysds/elasticsearch
  polyarch mirror quay.io/jupyter/base-notebook:2026-11-20 registry.example/base-notebook:stable --tag 2026
  polyarch mirror --dry-run SOURCE TARGET             exactly what would be done
  polyarch mirror embedded/tiny-stacks/base:latest 127.0.0.1:5000/tiny/base

A name begins with its registry; `embedded/` is the family's own store.")]
pub(super) struct Options {
    /// The image to copy, as REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to, as REGISTRY/NAME or REGISTRY/NAME:TAG; the tag is that of the source unless one is given
    #[arg(value_name = "TARGET")]
    target: String,
    /// One more tag of the copy; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Refuse (exit code 4) where a tag is there already and is another image
    #[arg(long)]
    if_missing: bool,
    /// Leave signatures, SBOMs and whatever else is about the image behind
    #[arg(long)]
    no_referrers: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let (source, target) = (Named::read(&options.source)?, Named::read(&options.target)?);
    target.not_a_scope("mirroring to")?;
    context.refuse_untrusted("mirroring")?;
    let tags = tags(options, &source, &target)?;
    let mut places = Places::new(context)?;
    let (source_store, target_store) = (places.store(&source)?, places.store(&target)?);
    let _lease = match source.own || target.own {
        true => context.signals.unless_stopped(places.shelf()?.lease()).await?,
        false => None,
    };
    let origin = Origin { store: &*source_store, repository: source.repository() };
    let from = MirrorSource { origin, registry: &source.registry, name: &options.source };
    let towards = Target { store: &*target_store, fresh: &*target_store, registry: &target.registry };
    let wish = MirrorWish {
        repository: target.repository().clone(),
        tags: tags.clone(),
        referrers: !options.no_referrers,
        if_missing: options.if_missing,
    };
    let preparing = async {
        let root = root(&source, &*source_store).await?;
        let prepared = Mirroring::prepare(from, &root, wish, towards).await?;
        let lines = match options.dry_run {
            true => prepared.dry_run(towards).await?,
            false => Vec::new(),
        };
        Ok((prepared, lines))
    };
    let (prepared, lines) = context.signals.unless_stopped(preparing).await?;
    prepared.warnings(towards).iter().for_each(|warning| context.ui.warning(warning));
    let digest = prepared.tree.root().digest();
    if options.dry_run {
        let lines: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        context.ui.data(&format!("{lines}{}\n", total(&prepared.tree)));
        return Ok(Ended::Well);
    }
    context.ui.note(&format!("copy {} ({digest}): {}", options.source, contents(&prepared.tree)));
    // Another client, which has seen nothing of what this one wrote.
    let fresh = if target.own { target_store.clone() } else { Places::new(context)?.store(&target)? };
    let again = Target { store: &*fresh, fresh: &*fresh, registry: &target.registry };
    let mount = (source.registry == target.registry).then(|| source.repository());
    let work = prepared.carry_out(from, towards, again, mount, context.signals.stop());
    let mirrored = watched(context, prepared.tree.bytes(), &target.registry, work).await?;
    let copied = mirrored.copied;
    context.ui.note(&format!(
        "mirrored and read back: {} ({}) and {} moved, {} of {} moved",
        count(copied.blobs, "blob"),
        size(copied.bytes),
        count(copied.documents, "manifest"),
        mirrored.tags_moved,
        count(prepared.tag_count(), "tag"),
    ));
    let lines = tags.iter().map(|tag| format!("{}@{digest}\n", target.at(&Pointer::Tag(tag.clone()))));
    context.ui.data(&lines.collect::<String>());
    Ok(Ended::Well)
}

/// The tags of the copy: those given, else that of the source.
fn tags(options: &Options, source: &Named, target: &Named) -> Result<Vec<Tag>> {
    if let Some(digest) = target.reference.digest() {
        return Err(Diagnostic::request(format!("the target `{}` names a digest", options.target))
            .because(format!("a copy has the digest of its source, whatever {digest} is"))
            .hint(format!("name a tag, or none: polyarch mirror {} {}", options.source, target.name()))
            .into());
    }
    let given = options.tag.iter().map(|text| {
        text.parse::<Tag>().map_err(|error| {
            Diagnostic::request(format!("read the tag `{text}`"))
                .caused_by(&error)
                .hint("give a tag alone, as in: --tag 7.9.3")
        })
    });
    let given = given.collect::<Result<Vec<Tag>, Diagnostic>>()?;
    let mut tags: Vec<Tag> = target.reference.tag().cloned().into_iter().chain(given).collect();
    if tags.is_empty() {
        match (source.reference.tag().cloned(), source.reference.pointer()) {
            (Some(tag), _) | (None, Pointer::Tag(tag)) => tags.push(tag),
            (None, Pointer::Digest(_)) => {
                let example = format!("{}:TAG", target.name());
                return Err(Diagnostic::request(
                    "the copy has no tag, since the source is named by its digest",
                )
                .hint(format!("name one: polyarch mirror {} {example}", options.source))
                .into());
            }
        }
    }
    if let Some(tag) = tags.iter().find(|tag| is_reserved(tag.as_str())) {
        let message = format!("mirroring to {}:{tag} is refused", target.name());
        return Err(Diagnostic::new(Kind::Policy, message)
            .because("the journals of publications stand under that tag, and nobody else writes it")
            .hint("name another tag")
            .into());
    }
    let mut seen = std::collections::BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    Ok(tags)
}

/// The document that is copied.
async fn root(source: &Named, store: &dyn Store) -> Result<Document> {
    let pointer = source.reference.pointer();
    let name = source.at(&pointer);
    let read = store.read_document(source.repository(), &pointer).await;
    let problem = |error: crate::oci::Error| match error.is_not_found() {
        true => Diagnostic::request(format!("there is no {name}"))
            .caused_by(&error)
            .hint(format!("see whether the name is right, or log in: docker login {}", source.registry)),
        false => failure(format!("cannot read {name}"), &source.registry, &error),
    };
    Ok(read.map_err(problem)?)
}

/// What goes along.
fn contents(tree: &Tree) -> String {
    let about = match tree.attached() {
        0 => String::new(),
        attached => format!(", {attached} of them about the image"),
    };
    format!(
        "{} ({}), {}{about}",
        count(tree.blobs().len(), "blob"),
        size(tree.bytes()),
        count(tree.documents().len(), "manifest"),
    )
}

/// The last line of `--dry-run`.
fn total(tree: &Tree) -> String {
    format!("total     {} with {}", tree.root().digest(), contents(tree))
}
