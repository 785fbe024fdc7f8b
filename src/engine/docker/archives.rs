//! Images that come to an engine as archives, and go from it so: where it does not reach the store.
//!
//! The classic image store knows no image of an archive by digest, but gives each one its configuration's digest for an id.
//! So images have a name there that is the run's own, given anew by that id right before each use: whatever else
//! bore the name does not count.

use std::sync::atomic::Ordering;

use super::{ANSWER_BYTES, Docker, TRANSFER};
use crate::diag::{Diagnostic, Kind};
use crate::engine::process::Output;
use crate::engine::stock::Layers;
use crate::engine::{BuildOrder, ContainerOrder, Delivery, Engine as _, RunId, Stock, StoreAddress};
use crate::oci::{Digest, Error};

/// The name by which an engine has the image of a container.
///
/// # Errors
/// Where the run's name does not fit into a tag.
pub(super) fn image_of(docker: &Docker, order: &ContainerOrder) -> Result<String, Diagnostic> {
    match docker.delivery() {
        Delivery::Registry | Delivery::Session => Ok(order.store.at(&order.image)),
        Delivery::Archives => name_in(&order.run, &order.store, &order.image),
    }
}

/// The name of an image in a run: the one of a build whose number is made of the digest.
fn name_in(run: &RunId, store: &StoreAddress, image: &Digest) -> Result<String, Diagnostic> {
    /// 48 bits; builds of a run are numbered from 1.
    const DIGITS: usize = 12;
    let number = image.hex().get(..DIGITS).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let tag = run.build_tag(number.unwrap_or_default());
    let tag = tag.map_err(|error: Error| Diagnostic::new(Kind::Bug, "name an image").caused_by(&error))?;
    Ok(format!("{}/{}:{tag}", store.registry, store.repository))
}

/// Have all images of an order in an engine with the classic image store; the order that names them as they are there.
///
/// # Errors
/// Where the store or the engine fails.
pub(super) async fn bring(
    docker: &Docker,
    stock: &Stock,
    order: &BuildOrder,
) -> Result<BuildOrder, Diagnostic> {
    let run = RunId::of_build_tag(order.tag.as_str())
        .ok_or_else(|| Diagnostic::new(Kind::Bug, format!("{} is the tag of no build", order.tag)))?;
    let mut dockerfile = order.dockerfile.clone();
    for image in &order.images {
        let name = name_in(&run, &order.store, image)?;
        have(docker, stock, &order.store, image, &name).await?;
        dockerfile = dockerfile.replace(&order.store.at(image), &name);
    }
    Ok(BuildOrder { dockerfile, ..order.clone() })
}

/// Have an image in an engine under a name: what the engine has already is named, the rest loaded.
///
/// # Errors
/// Where the store or the engine fails.
pub(super) async fn have(
    docker: &Docker,
    stock: &Stock,
    store: &StoreAddress,
    image: &Digest,
    name: &str,
) -> Result<(), Diagnostic> {
    if docker.delivery() == Delivery::Archives {
        let id = stock.configuration_of(&store.repository, image).await?;
        let named = docker.ask(&["tag", &id.to_string(), name]).await?;
        if named.ended.success() {
            return Ok(());
        }
    }
    // Without its layers first: an engine that has built it, or upon it, has them.
    let mut output = load(docker, Layers::Found, stock, store, image, name).await?;
    if !output.ended.success() {
        output = load(docker, Layers::Brought, stock, store, image, name).await?;
    }
    match output.ended.success() {
        true => Ok(()),
        false => Err(docker.refused(format!("load {name}"), &output)),
    }
}

async fn load(
    docker: &Docker,
    layers: Layers,
    stock: &Stock,
    store: &StoreAddress,
    image: &Digest,
    name: &str,
) -> Result<Output, Diagnostic> {
    let number = docker.containers.fetch_add(1, Ordering::Relaxed);
    let file = docker.environment.scratch.join(format!("image-{number}.tar"));
    stock.archive(&store.repository, image, name, layers, &file).await?;
    let config = docker.config(None).await?;
    let client = &docker.client().await?.path;
    let loading = docker.program(client, &config, TRANSFER).arguments(["load", "--quiet", "--input"]);
    let output = loading.argument(&file).capture(ANSWER_BYTES).await;
    // What cannot be removed goes with the run.
    let _ = std::fs::remove_file(&file);
    output
}
