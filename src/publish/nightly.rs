//! The tags of nightly builds, each moved alone: none is moved back by a run that began before the one which moved it
//! last (F-X6).
//!
//! A list under a reserved tag of the repository says which run has claimed which tag, and for which image. A run brings
//! its image, claims the tag, moves it, and reads the list again: where a newer run has claimed the tag meanwhile, what
//! that one wants is put there. Whoever is the last to write the tag reads the list after that, and so it is right in
//! the end whatever the order, also where a registry keeps no conditions.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::{
    Condition, Descriptor, Digest, Document, Error, ErrorKind, Manifest, MediaType, Memory, Origin, Pointer,
    Repository, Store, Tag, Terms,
};

use super::generation::Generation;
use super::journal::EMPTY;
use super::look::digest_at;

/// The tag that the list of a repository stands under.
pub(crate) const NIGHTLY_LIST: &str = "polyarch-nightly";
/// What kind of artifact the list is, and the annotation that it is.
const ARTIFACT: &str = "application/vnd.polyarch.nightly.v1+json";
const CLAIMS: &str = "dev.polyarch.nightly";
/// How often a list is read again that others write at the same time.
const TRIES: usize = 20;

/// The nightly tags of a repository.
pub(crate) struct Nightly<'a> {
    /// The target.
    pub(crate) store: &'a dyn Store,
    /// The repository.
    pub(crate) repository: &'a Repository,
    /// How new the run is.
    pub(crate) generation: Generation,
}

/// What became of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It is at the image of this run now.
    Here,
    /// It was there before.
    Stood,
    /// It belongs to a newer run.
    Newer,
}

/// Who has claimed a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    generation: Generation,
    image: Digest,
}

/// The list as it stands.
#[derive(Default)]
struct List {
    claims: BTreeMap<Tag, Claim>,
    head: Option<Digest>,
}

impl Nightly<'_> {
    /// Move a tag to an image of this run, all of which is in the repository.
    ///
    /// # Errors
    /// Where the target fails, or has something else under the name of the list.
    pub(crate) async fn move_to(&self, tag: &Tag, image: &Document) -> Result<Moved, Error> {
        match self.claim(tag, image.digest()).await? {
            true => self.settle(tag, image).await,
            false => Ok(Moved::Newer),
        }
    }

    /// Puts the tag where the list says it belongs, until that is so after the last writing of either.
    async fn settle(&self, tag: &Tag, image: &Document) -> Result<Moved, Error> {
        let (mut wanted, mut became) = (image.clone(), Moved::Stood);
        for _ in 0..TRIES {
            if digest_at(self.store, self.repository, tag.clone()).await?.as_ref() != Some(wanted.digest()) {
                self.store.write_document(self.repository, &wanted, std::slice::from_ref(tag)).await?;
                became = Moved::Here;
            }
            match self.read().await?.claims.remove(tag) {
                Some(claim) if claim.generation > self.generation => {
                    if claim.image == *wanted.digest() {
                        return Ok(Moved::Newer);
                    }
                    let pointer = Pointer::Digest(claim.image);
                    wanted = self.store.read_document(self.repository, &pointer).await?;
                }
                Some(claim) if claim.generation == self.generation => return Ok(became),
                // Where no conditions are kept, an older run may have written over it.
                _ => {
                    let _ = self.claim(tag, image.digest()).await?;
                }
            }
        }
        Err(busy(tag))
    }

    /// Says in the list that a tag is for an image of this run; `false` where a newer run has it.
    async fn claim(&self, tag: &Tag, image: &Digest) -> Result<bool, Error> {
        let claim = Claim { generation: self.generation, image: image.clone() };
        for _ in 0..TRIES {
            let mut list = self.read().await?;
            match list.claims.get(tag) {
                Some(stands) if stands.generation > self.generation => return Ok(false),
                Some(stands) if *stands == claim => return Ok(true),
                _ => {}
            }
            list.claims.insert(tag.clone(), claim.clone());
            match self.write(&list).await {
                // Where no conditions are kept, another may have written over it.
                Ok(()) if self.store.keeps_conditions() => return Ok(true),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Moved => {}
                Err(error) => return Err(error),
            }
        }
        Err(busy(tag))
    }

    async fn read(&self) -> Result<List, Error> {
        let doing = "read the list of nightly tags";
        let document = match self.store.read_document(self.repository, &Pointer::Tag(list_tag())).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(List::default()),
            Err(error) => return Err(error),
        };
        let manifest = document.manifest()?;
        let text =
            manifest.annotations.get(CLAIMS).filter(|_| manifest.artifact_type.as_deref() == Some(ARTIFACT));
        let none =
            || Error::new(ErrorKind::Invalid, format!("{doing}: what stands under {NIGHTLY_LIST} is none"));
        let claims = serde_json::from_str(text.ok_or_else(none)?)
            .map_err(|error| Error::new(ErrorKind::Invalid, doing).because(error))?;
        Ok(List { claims, head: Some(document.digest().clone()) })
    }

    /// Writes the list, unless another has since it was read.
    async fn write(&self, list: &List) -> Result<(), Error> {
        let text = serde_json::to_string(&list.claims).map_err(|error| {
            Error::new(ErrorKind::Invalid, "write the list of nightly tags").because(error)
        })?;
        let config = Descriptor::of(MediaType::EMPTY, EMPTY);
        if list.head.is_none() {
            let memory = Memory::new();
            memory.write_blob(self.repository, Bytes::from_static(EMPTY)).await?;
            let origin = Origin { store: &memory, repository: self.repository };
            self.store.take_blob(self.repository, &config, None, &origin).await?;
        }
        let document = Document::of_manifest(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: Some(ARTIFACT.to_owned()),
            config,
            layers: Vec::new(),
            subject: None,
            annotations: BTreeMap::from([(CLAIMS.to_owned(), text)]),
        });
        let condition = list.head.clone().map_or(Condition::Missing, |head| Condition::OneOf(vec![head]));
        let terms = Terms { tags: condition, once: !self.store.keeps_conditions(), ..Terms::default() };
        self.store.write_document_on(self.repository, &document, &[list_tag()], &terms).await
    }
}

fn busy(tag: &Tag) -> Error {
    Error::new(ErrorKind::Passing, format!("claim {tag}: others write the list of nightly tags all the time"))
}

fn list_tag() -> Tag {
    NIGHTLY_LIST.parse().expect("the reserved name is a tag")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::fixture;

    fn at<'a>(store: &'a dyn Store, repository: &'a Repository, run: u64) -> Nightly<'a> {
        let generation = Generation { commit_seconds: 7, run_milliseconds: run };
        Nightly { store, repository, generation }
    }

    /// A registry with an old image and a new one, and the name of a tag.
    async fn registry() -> (Memory, Repository, Document, Document, Tag) {
        let (store, repository) = (Memory::new(), "family/leaf".parse().unwrap());
        let (mut images, tag) = (Vec::new(), "nightly-amd64".parse().unwrap());
        for name in ["old", "new"] {
            images.push(fixture::image(&store, &repository, name, name, &[]).await);
        }
        let (new, old) = (images.pop().unwrap(), images.pop().unwrap());
        (store, repository, old, new, tag)
    }

    #[tokio::test]
    async fn f_x6_an_old_run_that_ends_late_moves_no_nightly_tag_back() {
        let (store, repository, old, new, amd) = registry().await;
        let (arm, run): (Tag, _) = ("nightly-arm64".parse().unwrap(), |run| at(&store, &repository, run));
        let stands = async || digest_at(&store, &repository, amd.clone()).await.unwrap().unwrap();
        assert_eq!(run(1).move_to(&amd, &old).await.unwrap(), Moved::Here);
        assert_eq!(run(1).move_to(&amd, &old).await.unwrap(), Moved::Stood, "tried again");
        assert_eq!(run(2).move_to(&amd, &new).await.unwrap(), Moved::Here);
        assert_eq!(run(1).move_to(&amd, &old).await.unwrap(), Moved::Newer);
        assert_eq!(stands().await, *new.digest());
        assert_eq!(run(1).move_to(&arm, &old).await.unwrap(), Moved::Here, "of another platform");
        assert_eq!(run(3).move_to(&amd, &old).await.unwrap(), Moved::Here, "a newer one that has it again");
        assert_eq!(stands().await, *old.digest());
    }

    #[tokio::test]
    async fn f_x6_of_two_nightly_runs_at_once_the_newer_has_the_tag_whoever_is_last() {
        // Each takes two steps: the claim, and the tag with the look back.
        for order in ["oonn", "onon", "onno", "noon", "nono", "nnoo"] {
            let (store, repository, old, new, tag) = registry().await;
            let (older, newer) = (at(&store, &repository, 1), at(&store, &repository, 2));
            let (mut claimed, mut began) = ([false; 2], [false; 2]);
            for step in order.bytes().map(|step| usize::from(step == b'n')) {
                let (run, image) = [(&older, &old), (&newer, &new)][step];
                match std::mem::replace(&mut began[step], true) {
                    false => claimed[step] = run.claim(&tag, image.digest()).await.unwrap(),
                    true if claimed[step] => {
                        let became = run.settle(&tag, image).await.unwrap();
                        assert!(step == 0 || became != Moved::Newer, "{order}");
                    }
                    true => assert_eq!(step, 0, "{order}"),
                }
            }
            let stands = digest_at(&store, &repository, tag).await.unwrap();
            assert_eq!(stands.as_ref(), Some(new.digest()), "{order}");
        }
    }

    #[tokio::test]
    async fn what_is_no_list_is_not_written_over() {
        let (store, repository, old, _, tag) = registry().await;
        store.write_document(&repository, &old, &[list_tag()]).await.unwrap();
        let told = at(&store, &repository, 1).move_to(&tag, &old).await.unwrap_err();
        assert!(told.to_string().contains("what stands under polyarch-nightly is none"), "{told}");
        assert_eq!(digest_at(&store, &repository, tag).await.unwrap(), None);
    }
}
