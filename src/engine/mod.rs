//! What builds and runs containers: one file an engine, behind one trait.

mod building;
pub(crate) mod docker;
mod emulation;
mod failure;
mod floor;
mod guard;
pub(crate) mod host;
mod labels;
mod layers;
mod lines;
mod login;
mod offspring;
mod order;
pub(crate) mod podman;
mod private;
pub(crate) mod process;
mod redact;
mod room;
pub(crate) mod ssh;
mod stock;
mod version;

use std::ffi::OsString;

use async_trait::async_trait;

pub(crate) use failure::is_full_disk;
pub(crate) use floor::check_sessions;
pub(crate) use order::{
    BuildFailure, BuildOrder, Built, ContainerOrder, Deed, EngineFacts, Finished, ImageStore, OwnCaches,
    Progress, RunId, SecretFile, StoreAddress,
};

pub(crate) use labels::below as labels_below;
pub(crate) use layers::{CacheOrder, LayerCache};
pub(crate) use private::private_folder;
pub(crate) use process::{Output, Program, find_all};
pub(crate) use redact::Redactor;
pub(crate) use room::{LEAST_ROOM, Room};
pub(crate) use stock::{Delivery, Stock};

use crate::diag::Diagnostic;

/// A container engine at one address.
#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// What it is called in messages, such as `docker at unix:///var/run/docker.sock`.
    fn name(&self) -> String;

    /// What it is and can do.
    ///
    /// # Errors
    /// Where it does not answer or cannot build; with the hint that mends it.
    async fn probe(&self) -> Result<EngineFacts, Diagnostic>;

    /// Build one image for one platform and push it to the store, as a tag of the order's.
    async fn build(&self, order: &BuildOrder, progress: &Progress<'_>) -> Result<Built, BuildFailure>;

    /// Run a command in a fresh container of an image of the store, or upon it as a build does, and wait for it.
    ///
    /// # Errors
    /// Where the engine failed; a command that fails is a [`Finished`] with its exit code.
    async fn run(&self, order: &ContainerOrder) -> Result<Finished, Diagnostic>;

    /// Have an image of the store in the engine under a name, so that host tests and people can use it.
    async fn load(
        &self,
        store: &StoreAddress,
        image: &crate::oci::Digest,
        name: &str,
    ) -> Result<(), Diagnostic>;

    /// Remove every container of a run, and every image name that a run gave; `None` is any run that is no more.
    ///
    /// What is removed is named, for the log.
    async fn sweep(&self, run: Option<&RunId>) -> Result<Vec<String>, Diagnostic>;

    /// Remove the names of images that were pulled from the store at an address. Whoever is served there is the only
    /// one to pull from it: what the engine has of it before is what a run that was killed has left.
    ///
    /// What is removed is named, for the log.
    async fn sweep_pulled(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic>;

    /// Make room on its disk: remove what is ours there and in no use. What is removed is named.
    ///
    /// # Errors
    /// Where the engine does not say what there is.
    async fn free(&self, store: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        self.sweep_pulled(store).await
    }

    /// What a client on this machine must have in its environment to speak to this very engine.
    fn client_variables(&self) -> Vec<(OsString, OsString)> {
        Vec::new()
    }

    /// What [`Self::sweep`] of every run that is over, and [`Self::sweep_pulled`], would remove.
    async fn leftovers(&self, _: &StoreAddress) -> Result<Vec<String>, Diagnostic> {
        Ok(Vec::new())
    }

    /// Whether it answers now.
    async fn answers(&self) -> bool {
        true
    }

    /// Comes back only once the engine no longer answers, within 20 s of its last sign of life; what is known of it.
    /// One that cannot go without its callers hearing of it never comes back.
    async fn lost(&self) -> Diagnostic {
        std::future::pending().await
    }

    /// Comes back once an engine that was lost answers again; an engine that is never lost never does.
    async fn returned(&self) {
        std::future::pending().await
    }

    /// How content comes to it and back, once it was asked what it is.
    fn delivery(&self) -> Delivery {
        Delivery::Registry
    }

    /// Whether it runs containers, and keeps images for others to use; one that only builds does neither.
    fn runs_containers(&self) -> bool {
        true
    }

    /// How much room there is now where it keeps images; `None` where that cannot be seen from here.
    async fn room(&self) -> Option<Room> {
        None
    }

    /// How much there was some seconds ago, where asking takes longer than that is worth; else now.
    async fn recent_room(&self) -> Option<Room> {
        self.room().await
    }
}
