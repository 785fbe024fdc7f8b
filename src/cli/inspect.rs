//! `polyarch inspect`: platforms, digests, sizes and layers of any image.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::diag::{Diagnostic, Result};
use crate::oci::{
    Digest, Document, Error, ErrorKind, ImageConfiguration, Pointer, Reference, Repository, Store,
};
use crate::report::size;

use super::workshop::Shelf;
use super::{Context, Ended, Format, registries};

/// Show the platforms, digests, sizes, labels and layers of an image
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch inspect tiny-stacks/base            of the embedded registry
  polyarch inspect 127.0.0.1:5000/a/b:latest   of another
  polyarch inspect --format json docker.io/library/ubuntu:24.04")]
pub(super) struct Options {
    /// A repository of the store, or a whole reference with its registry
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What there is to say of an image.
#[derive(Debug, Serialize)]
struct Inspection {
    reference: String,
    media_type: String,
    digest: Digest,
    images: Vec<Image>,
}

#[derive(Debug, Serialize)]
struct Image {
    platform: String,
    digest: Digest,
    config: Digest,
    bytes: u64,
    created: Option<String>,
    labels: BTreeMap<String, String>,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    digest: Digest,
    bytes: u64,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let (store, repository, pointer) = place(context, &options.reference).await?;
    let inspection = look(&*store, &repository, &pointer, &options.reference).await.map_err(|error| {
        let problem = match error.is_not_found() {
            true => Diagnostic::request(format!("there is no {repository}:{pointer}")),
            false => Diagnostic::surroundings(format!("look at {}", options.reference)),
        };
        problem.caused_by(&error).hint(match options.reference.parse::<Reference>() {
            Ok(reference) if options.reference.contains('/') => match error.kind() {
                ErrorKind::Denied => format!("log in: docker login {}", reference.registry()),
                ErrorKind::NotFound => {
                    format!("see whether the name is right, or log in: docker login {}", reference.registry())
                }
                _ => {
                    format!("see whether its registry answers: curl -I https://{}/v2/", reference.registry())
                }
            },
            _ => "see what is published: polyarch publish --dry-run".to_owned(),
        })
    })?;
    match options.format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&inspection)
                .map_err(|error| Diagnostic::new(crate::diag::Kind::Bug, "write JSON").caused_by(&error))?;
            context.ui.data(&format!("{json}\n"));
        }
        Format::Text => context.ui.data(&text(&inspection)),
    }
    Ok(Ended::Well)
}

/// A name without a registry means a repository of the store, if it is there.
async fn place(context: &Context, written: &str) -> Result<(std::sync::Arc<dyn Store>, Repository, Pointer)> {
    let wrong = |error: Error| {
        Diagnostic::request(format!("read the reference `{written}`"))
            .caused_by(&error)
            .hint("write it as `registry/owner/name:tag`, or see what is there: polyarch plan")
    };
    // A publication names the family's own store so.
    let written = written.strip_prefix("embedded/").unwrap_or(written);
    let reference: Reference = written.parse().map_err(wrong)?;
    if !written.starts_with(&format!("{}/", reference.registry())) {
        let shelf = Shelf::nothing(context)?.map_or_else(|| Shelf::meant(context), Ok)?;
        let plain = written.split(['@', ':']).next().unwrap_or(written);
        let repository: Repository = plain.parse().map_err(wrong)?;
        let found = shelf.store.resolve(&repository, &reference.pointer()).await.map_err(wrong)?;
        return match found {
            Some(_) => Ok((shelf.store, repository, reference.pointer())),
            None => {
                Err(Diagnostic::request(format!("the store has no {repository}:{}", reference.pointer()))
                    .hint("see what would be published: polyarch publish --dry-run")
                    .hint(format!("for an image elsewhere write its registry: polyarch inspect {reference}"))
                    .into())
            }
        };
    }
    let store = registries::lookups(context)?(reference.registry()).map_err(wrong)?;
    Ok((store, reference.repository().clone(), reference.pointer()))
}

async fn look(
    store: &dyn Store,
    repository: &Repository,
    pointer: &Pointer,
    written: &str,
) -> Result<Inspection, Error> {
    let document = store.read_document(repository, pointer).await?;
    let mut images = Vec::new();
    if document.is_index() {
        for entry in document.index()?.manifests {
            let image = store.read_document(repository, &entry.digest.clone().into()).await?;
            images.push(look_at(store, repository, &image).await?);
        }
    } else {
        images.push(look_at(store, repository, &document).await?);
    }
    let digest = document.digest().clone();
    Ok(Inspection {
        reference: written.to_owned(),
        media_type: document.media_type().to_owned(),
        digest,
        images,
    })
}

async fn look_at(store: &dyn Store, repository: &Repository, document: &Document) -> Result<Image, Error> {
    let manifest = document.manifest()?;
    let config = manifest.config.digest.clone();
    let configuration = match ImageConfiguration::read(store, repository, &manifest.config).await {
        // An artifact's configuration may be anything.
        Err(error) if error.kind() == ErrorKind::Invalid => ImageConfiguration::default(),
        read => read?,
    };
    Ok(Image {
        platform: configuration.platform().map_or_else(|| "unknown".to_owned(), |found| found.to_string()),
        digest: document.digest().clone(),
        config,
        bytes: manifest.layer_bytes(),
        labels: configuration.labels(),
        created: configuration.created,
        layers: manifest
            .layers
            .into_iter()
            .map(|layer| Layer { digest: layer.digest, bytes: layer.size })
            .collect(),
    })
}

fn text(inspection: &Inspection) -> String {
    let mut text =
        format!("{}\n  {}\n  {}\n", inspection.reference, inspection.digest, inspection.media_type);
    for image in &inspection.images {
        text.push_str(&format!("\n{}  {}  {}\n", image.platform, image.digest, size(image.bytes)));
        text.push_str(&format!("  config {}\n", image.config));
        for layer in &image.layers {
            text.push_str(&format!("  layer  {}  {}\n", layer.digest, size(layer.bytes)));
        }
        for (name, value) in &image.labels {
            text.push_str(&format!("  label  {name} = {value}\n"));
        }
    }
    text
}
