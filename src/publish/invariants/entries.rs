//! What must hold of the entries of an index that a tag points at: I-P3 and I-P6.

use std::collections::BTreeSet;

use futures_util::FutureExt;

use super::{Known, Shadow};
use crate::oci::{Descriptor, Digest, ImageConfiguration, Memory, Pointer, Repository, Store};

impl Shadow {
    /// Each entry is for the platform that its configuration names and that it was built and tested for, and the same
    /// images make the same index.
    pub(super) fn entries(
        &mut self,
        memory: &Memory,
        known: &Known,
        (repository, of): (&Repository, &Digest),
        name: &str,
    ) {
        let pointer = Pointer::Digest(of.clone());
        // What is missing is another fault.
        let Some(Ok(document)) = memory.read_document(repository, &pointer).now_or_never() else { return };
        let Ok(index) = document.index() else { return };
        let children: BTreeSet<Digest> = index.manifests.iter().map(|entry| entry.digest.clone()).collect();
        if children.is_empty() {
            return;
        }
        match self.joined.get(&children) {
            Some(joined) if joined == of => return,
            Some(joined) => {
                let (one, other) = (joined.short(), of.short());
                let what = format!("I-P6: {name} points at {other}, which joins the same images as {one}");
                self.broken(what);
            }
            None => {
                self.joined.insert(children, of.clone());
            }
        }
        for entry in &index.manifests {
            let platform = entry.platform.as_ref();
            let tested = known.get(&entry.digest).and_then(|content| content.tested.as_ref());
            if platform.is_none() || tested != platform {
                self.broken(format!("I-P3: {name} names {platform:?}, and that was tested for {tested:?}"));
            }
            let own = configured(memory, repository, entry);
            if own.is_some_and(|own| own.platform().as_ref() != platform) {
                self.broken(format!("I-P3: {name} names {platform:?}, and the configuration another"));
            }
        }
    }
}

/// The configuration of an image, where it is there.
fn configured(memory: &Memory, repository: &Repository, image: &Descriptor) -> Option<ImageConfiguration> {
    let pointer = Pointer::Digest(image.digest.clone());
    let manifest = memory.read_document(repository, &pointer).now_or_never()?.ok()?.manifest().ok()?;
    ImageConfiguration::read(memory, repository, &manifest.config).now_or_never()?.ok()
}
