//! Records that others of the same inputs have replaced: whoever carries out a plan that was settled before has the very
//! images that stood then, and those that runs of the same plan have made or taken since.

use crate::oci::{Digest, Document, Error, Origin, Tag, Terms, image_stands};

use super::caches::kept_at;
use super::note::Note;
use super::{Found, ImageRecord, Kept, Records, is_of_kind, parse, tag};

/// The image that the runs of a plan have for a key.
const OF_A_PLAN: Note = Note { name: "plan" };

impl Records {
    /// The same in a run that carries out a plan file, where it does.
    #[must_use]
    pub(crate) fn carrying_out(self, plan: Option<Digest>) -> Self {
        Self { plan, ..self }
    }

    /// Note this very image for every later run of the plan that is carried out, with the time in seconds since
    /// 1970-01-01 UTC. Where another one has noted its own meanwhile, that is the image of the plan, unless it is lost. Whoever
    /// comes second goes on with its own, which has passed as well; no run after it uses that one.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn note_for_plan(&self, image: &ImageRecord, now_seconds: u64) -> Result<(), Error> {
        let Some(tag) = self.tag_of_plan(&image.key) else { return Ok(()) };
        if self.image_of_plan(&image.key).await?.as_ref() == Some(&image.image) {
            return Ok(());
        }
        let document = kept_at(&OF_A_PLAN.document(image.image.to_string()), now_seconds)?;
        self.bring_empty().await?;
        let is_lost = async |standing: &Document| {
            let noted = OF_A_PLAN.read(standing).and_then(|text| text.parse::<Digest>().ok());
            match noted {
                Some(noted) => Ok(!self.anew().can_be_had(&image.key, &noted).await?),
                None => Ok(true),
            }
        };
        self.keep_over(&document, &tag, is_lost).await.map(drop)
    }

    /// Whether a record under an image key of this very image counts, and all of it is there.
    async fn can_be_had(&self, key: &Digest, image: &Digest) -> Result<bool, Error> {
        let found = self.image(key).await?;
        let found = self.as_settled(found, key, Some(image)).await?;
        let is_it = found.record.is_some_and(|record| record.image == *image);
        Ok(is_it && image_stands(&*self.store, &self.scope, image).await?)
    }

    /// What was found under an image key, or what stood there when the plan was settled that is carried out, or what its
    /// runs have had since.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn as_settled(
        &self,
        found: Found<ImageRecord>,
        key: &Digest,
        stood: Option<&Digest>,
    ) -> Result<Found<ImageRecord>, Error> {
        let is_it = |image: &Digest| found.record.as_ref().is_some_and(|record| record.image == *image);
        let image = match stood {
            Some(image) => Some(image.clone()),
            None => self.image_of_plan(key).await?,
        };
        let Some(image) = image.filter(|image| !is_it(image)) else { return Ok(found) };
        Ok(self.replaced(key, &image).await?.map_or(found, Found::of))
    }

    /// The image that runs of the plan that is carried out have for a key, where one has made or taken it.
    ///
    /// # Errors
    /// Where the store fails.
    async fn image_of_plan(&self, key: &Digest) -> Result<Option<Digest>, Error> {
        let Some(tag) = self.tag_of_plan(key) else { return Ok(None) };
        for scope in [self.shared(), &self.scope] {
            let document = self.document(scope, &tag).await?;
            if let Some(text) = document.and_then(|document| OF_A_PLAN.read(&document)) {
                return Ok(text.parse().ok());
            }
        }
        Ok(None)
    }

    fn tag_of_plan(&self, key: &Digest) -> Option<Tag> {
        let plan = self.plan.as_ref()?;
        Some(tag(OF_A_PLAN.name, &Digest::of(format!("{plan} {key}").as_bytes())))
    }

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

/// Whether it is the tag of an image that the runs of a plan have.
pub(super) fn is_of_a_plan(tag: &Tag) -> bool {
    is_of_kind(tag, OF_A_PLAN.name)
}
