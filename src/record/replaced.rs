//! Records that others of the same inputs have replaced: whoever carries out a plan that was settled before has the very
//! images that stood then.

use crate::oci::{Digest, Error, Origin, Tag, Terms, image_stands};

use super::{ImageRecord, Kept, Records, parse, tag};

impl Records {
    /// The record under an image key of this very image, where another one has replaced it.
    ///
    /// # Errors
    /// Where the store fails. A record that cannot be used, or does not count, is none.
    pub(crate) async fn replaced(&self, key: &Digest, image: &Digest) -> Result<Option<ImageRecord>, Error> {
        let tag = replaced_tag(key, image);
        for scope in self.scopes() {
            let Some(document) = self.document(scope, &tag).await? else { continue };
            let record = parse::<ImageRecord>(&document, Some(key)).ok();
            let Some(record) = record.filter(|record| record.image == *image) else { continue };
            if self.word(&Kept::of(scope, document)).await?.is_ok() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Keep the record that another is about to replace in the run's own scope, under a tag of its image. One whose image is
    /// not whole any more is of no use to anybody.
    pub(super) async fn set_aside(&self, coming: &ImageRecord) -> Result<(), Error> {
        let standing = tag("image", &coming.key);
        let there = self.far.as_ref().map(|far| far.own());
        for scope in [Some(&self.scope), there].into_iter().flatten() {
            let far = self.far.as_ref().filter(|far| far.is_there(scope));
            // Whatever a list of tags said when this run began.
            let document = match far {
                Some(far) => far.read(scope, &standing).await?,
                None => self.document(scope, &standing).await?,
            };
            let Some(document) = document else { continue };
            let Ok(before) = parse::<ImageRecord>(&document, Some(&coming.key)) else { continue };
            if before.image == coming.image || !image_stands(&*self.store, scope, &before.image).await? {
                continue;
            }
            let tags = [replaced_tag(&before.key, &before.image)];
            match far {
                None => self.store.write_document(scope, &document, &tags).await?,
                Some(far) => {
                    let origin = Origin { store: &*self.store, repository: scope };
                    far.give(&origin, &document, &tags, &Terms::default()).await?;
                }
            }
        }
        Ok(())
    }
}

/// What a record that was replaced stands under.
fn replaced_tag(key: &Digest, image: &Digest) -> Tag {
    tag("replaced", &Digest::of(format!("{key} {image}").as_bytes()))
}
