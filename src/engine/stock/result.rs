//! Take in what a build returned: by digest, whatever was said of it.

use std::path::Path;

use futures_util::StreamExt as _;
use tokio_util::io::ReaderStream;

use super::{RESULT, Stock, blob, read_document};
use crate::diag::Diagnostic;
use crate::engine::{BuildOrder, Built};
use crate::oci::{BlobReader, Descriptor, Document, Error, ErrorKind, MediaType, Repository};

/// A layer is read in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

impl Stock {
    /// Take the result of a build into the store, under the tag of the order. What is there already does not move.
    ///
    /// # Errors
    /// Where the result is not one image, its bytes are not those of its digests, or the store fails.
    pub(in crate::engine) async fn take_in(&self, order: &BuildOrder) -> Result<Built, Diagnostic> {
        let failed = |error: Error| {
            Diagnostic::surroundings(format!("take in what the build of {} returned", order.title))
                .caused_by(&error)
                .hint("look at the engine: polyarch doctor")
        };
        let layout = order.scratch.join(RESULT);
        let document = only_image(&layout).map_err(failed)?;
        let manifest = document.manifest().map_err(failed)?;
        let scope = &order.store.repository;
        for content in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.take(scope, &layout, content).await.map_err(failed)?;
        }
        self.store
            .write_document(scope, &document, std::slice::from_ref(&order.tag))
            .await
            .map_err(failed)?;
        Ok(Built { config: manifest.config.digest })
    }

    async fn take(&self, scope: &Repository, layout: &Path, content: &Descriptor) -> Result<(), Error> {
        self.take_file(scope, &blob(layout, &content.digest), content).await
    }

    /// Take in what stands in a file; what is there already does not move.
    pub(super) async fn take_file(
        &self,
        scope: &Repository,
        file: &Path,
        content: &Descriptor,
    ) -> Result<(), Error> {
        if self.store.blob_size(scope, &content.digest).await? == Some(content.size) {
            return Ok(());
        }
        let failed = |error| Error::io(format!("read blob {}", content.digest), error);
        let file = tokio::fs::File::open(file).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        if size != content.size {
            let what = format!("blob {} has {size} bytes, not {}", content.digest, content.size);
            return Err(Error::new(ErrorKind::Mismatch, what));
        }
        let digest = content.digest.clone();
        let pieces = ReaderStream::with_capacity(file, PIECE_BYTES);
        let stream =
            pieces.map(move |piece| piece.map_err(|error| Error::io(format!("read blob {digest}"), error)));
        let reader = BlobReader { size, stream: stream.boxed() };
        reader.move_into(&*self.store, scope, &content.digest).await.map(drop)
    }
}

/// The manifest of the one image in an OCI image layout.
fn only_image(layout: &Path) -> Result<Document, Error> {
    let read = |file: &Path| {
        read_document(file).map_err(|error| Error::io(format!("read {}", file.display()), error))
    };
    let index = Document::new(MediaType::INDEX, read(&layout.join("index.json"))?).index()?;
    match index.manifests.as_slice() {
        [image] if MediaType::is_manifest(&image.media_type) => {
            let bytes = read(&blob(layout, &image.digest))?;
            Document::with_digest(&image.media_type, bytes, image.digest.clone())
        }
        others => {
            let what = match others {
                [_] => "an index".to_owned(),
                more => crate::diag::count(more.len(), "image"),
            };
            Err(Error::new(ErrorKind::Invalid, format!("it returned {what} where one image was asked for")))
        }
    }
}
