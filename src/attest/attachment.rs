//! What is attached to images: each statement a document of its own whose subject is the image (a referrer).
//!
//! OCI image specification 1.1, "Guidelines for Artifact Usage". Nothing of the image changes, and whoever copies an
//! image with its referrers copies these. A signature is different each time it is made; so what stands already by
//! the same key is found first, and a second publication writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::diag::Diagnostic;
use crate::oci::{Descriptor, Digest, Document, Error, ErrorKind, Manifest, MediaType, Repository, Store};

use super::bundle::{self, BUNDLE};
use super::key::{PrivateKey, PublicKey};
use super::statement::{Kind, Statement};

/// How many subjects are worked on at once.
const CONCURRENCY: usize = 8;
/// How many documents about one subject are read in search of one statement: who may write may attach many.
const CANDIDATES_LIMIT: usize = 64;
/// What cosign calls the type of a statement in a manifest's annotations.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const CONTENT: &str = "dev.sigstore.bundle.content";

/// One manifest or index of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// Its repository.
    pub(crate) repository: Repository,
    /// What it is.
    pub(crate) document: Descriptor,
    /// It is the image of one platform, and no index.
    pub(crate) is_image: bool,
}

/// Which statements are wanted beside the signature, which always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Bills of materials.
    pub(crate) bill: bool,
    /// Provenance.
    pub(crate) provenance: bool,
}

/// One statement that should stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// The repository.
    pub(crate) repository: Repository,
    /// What it is about.
    pub(crate) subject: Digest,
    /// What is said.
    pub(crate) kind: Kind,
}

/// Every statement that a release should have: a signature on each manifest and index, the rest on each manifest.
pub(crate) fn wanted(released: &[Released], kinds: Kinds) -> BTreeSet<Wanted> {
    let of = |one: &Released| {
        let rest = [(Kind::Bill, kinds.bill), (Kind::Provenance, kinds.provenance)];
        let rest = rest.into_iter().filter(|(_, wanted)| *wanted && one.is_image).map(|(kind, _)| kind);
        let (repository, subject) = (one.repository.clone(), one.document.digest.clone());
        let all: Vec<Wanted> = std::iter::once(Kind::Signature)
            .chain(rest)
            .map(|kind| Wanted { repository: repository.clone(), subject: subject.clone(), kind })
            .collect();
        all
    };
    released.iter().flat_map(of).collect()
}

/// By whom a statement must be signed.
#[derive(Clone, Copy)]
pub(crate) enum Signer<'a> {
    /// By one of these keys.
    Keys(&'a [PublicKey]),
    /// By anyone with a certificate: what it says is not proved here.
    AnyCertificate,
}

/// Whether a statement stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// One stands that is signed as it should be.
    Stands,
    /// Nobody says it.
    Missing,
    /// It is said, but not as it should be: why not, of each that says it.
    Refused(BTreeSet<&'static str>),
}

/// How each statement stands at a target. Looks, and never writes.
///
/// # Errors
/// Where the target fails.
pub(crate) async fn standing(
    target: &dyn Store,
    signer: Signer<'_>,
    wanted: &BTreeSet<Wanted>,
) -> Result<BTreeMap<Wanted, Standing>, Error> {
    let mut by_subject: BTreeMap<(&Repository, &Digest), Vec<&Wanted>> = BTreeMap::new();
    for one in wanted {
        by_subject.entry((&one.repository, &one.subject)).or_default().push(one);
    }
    let looks: Vec<_> = by_subject.values().map(|about| look(target, signer, about)).collect();
    let found: Vec<Vec<(Wanted, Standing)>> = stream::iter(looks).buffered(CONCURRENCY).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether a referrer may say something of a kind, as far as the list of them says.
fn is_listed_as(referrer: &Descriptor, kind: Kind) -> bool {
    match referrer.annotations.get(PREDICATE_TYPE) {
        Some(said) => said == kind.predicate_type(),
        // Not every registry lists them.
        None => referrer.artifact_type.as_deref().is_none_or(|kind| kind == BUNDLE),
    }
}

/// How statements about one subject stand.
async fn look(
    target: &dyn Store,
    signer: Signer<'_>,
    about: &[&Wanted],
) -> Result<Vec<(Wanted, Standing)>, Error> {
    let Some(first) = about.first() else { return Ok(Vec::new()) };
    let referrers = target.referrers(&first.repository, &first.subject).await?;
    let mut found = Vec::new();
    for one in about {
        let says = |referrer: &&Descriptor| is_listed_as(referrer, one.kind);
        let mut refused = BTreeSet::new();
        let mut stands = false;
        for referrer in referrers.iter().filter(says).take(CANDIDATES_LIMIT) {
            match check(target, signer, one, referrer).await? {
                Ok(()) => {
                    stands = true;
                    break;
                }
                // Those of another kind are not of this one; they were read only because the list does not say.
                Err(_) if !referrer.annotations.contains_key(PREDICATE_TYPE) => {}
                Err(why) => drop(refused.insert(why)),
            }
        }
        let standing = match (stands, refused.is_empty()) {
            (true, _) => Standing::Stands,
            (false, true) => Standing::Missing,
            (false, false) => Standing::Refused(refused),
        };
        found.push(((*one).clone(), standing));
    }
    Ok(found)
}

/// Whether a referrer says what is wanted; the inner error is why not.
async fn check(
    target: &dyn Store,
    signer: Signer<'_>,
    wanted: &Wanted,
    referrer: &Descriptor,
) -> Result<Result<(), &'static str>, Error> {
    let Some((bundle, _)) = read_bundle(target, &wanted.repository, referrer).await? else {
        return Ok(Err("it is no Sigstore bundle"));
    };
    Ok(match signer {
        Signer::Keys(keys) => bundle::check(&bundle, keys, wanted.kind, &wanted.subject),
        Signer::AnyCertificate => {
            let claims = bundle::claims_certificate(&bundle, wanted.kind, &wanted.subject);
            if claims { Ok(()) } else { Err("it is not signed by a certificate") }
        }
    })
}

/// The bundle of a referrer, and the document that holds it; `None` where it is not there, too large or of another form.
async fn read_bundle(
    target: &dyn Store,
    repository: &Repository,
    referrer: &Descriptor,
) -> Result<Option<(Bytes, Document)>, Error> {
    let gone = |error: Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Mismatch | ErrorKind::TooLarge | ErrorKind::Invalid => Ok(None),
        _ => Err(error),
    };
    let document = match target.read_document(repository, &referrer.digest.clone().into()).await {
        Ok(document) => document,
        Err(error) => return gone(error),
    };
    let manifest = document.manifest().ok().filter(|_| !document.is_index());
    let Some([layer]) = manifest.as_ref().map(|manifest| manifest.layers.as_slice()) else {
        return Ok(None);
    };
    if layer.media_type != BUNDLE || layer.size > bundle::BYTES_LIMIT {
        return Ok(None);
    }
    let reading = async {
        let reader = target.read_blob(repository, &layer.digest, None).await?;
        reader.collect(&layer.digest, bundle::BYTES_LIMIT).await
    };
    reading.await.map(|bundle| Some((bundle, document))).or_else(gone)
}

/// A statement, signed, as the content that it will be.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Where it goes.
    pub(crate) repository: Repository,
    /// What it is about.
    pub(crate) subject: Digest,
    /// Its manifest.
    pub(crate) manifest: Document,
    /// The blobs that the manifest names.
    pub(crate) blobs: Vec<Bytes>,
}

impl Attachment {
    /// Says something about a document of a release, and signs it.
    ///
    /// # Errors
    /// Where there are no random numbers.
    pub(crate) fn sign(
        key: &PrivateKey,
        about: &Released,
        kind: Kind,
        predicate: Value,
    ) -> Result<Self, Diagnostic> {
        let statement = Statement::new(kind, &about.document.digest, predicate);
        Ok(Self::holding(about, kind, Bytes::from(bundle::sign(key, &statement)?)))
    }

    /// What says something of a kind about a document, in a bundle that was made.
    fn holding(about: &Released, kind: Kind, bundle: Bytes) -> Self {
        let subject = about.document.digest.clone();
        let empty = Bytes::from_static(b"{}");
        let annotations = [(CONTENT, "dsse-envelope"), (PREDICATE_TYPE, kind.predicate_type())];
        let manifest = Document::of_manifest(&Manifest {
            artifact_type: Some(BUNDLE.to_owned()),
            // Without its platform: this is about the document, wherever it is listed.
            subject: Some(Descriptor::new(&about.document.media_type, subject.clone(), about.document.size)),
            annotations: annotations
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..Manifest::new(Descriptor::of(MediaType::EMPTY, &empty), vec![Descriptor::of(BUNDLE, &bundle)])
        });
        Self { repository: about.repository.clone(), subject, manifest, blobs: vec![empty, bundle] }
    }
}

/// Writes attachments: of each its blobs, then its manifest. What they are about need not be there yet.
///
/// Those of one subject go one after another, since a registry without the referrers interface has a list of them
/// under the tag `sha256-<hex>`, which is read, added to and written.
///
/// # Errors
/// Where the target fails; what is written stands.
pub(crate) async fn attach(target: &dyn Store, attachments: &[Attachment]) -> Result<(), Error> {
    let mut by_subject: BTreeMap<(&Repository, &Digest), Vec<&Attachment>> = BTreeMap::new();
    for one in attachments {
        by_subject.entry((&one.repository, &one.subject)).or_default().push(one);
    }
    let work = by_subject.into_values().map(|several| async move {
        for one in several {
            for blob in &one.blobs {
                target.write_blob(&one.repository, blob.clone()).await?;
            }
            target.write_document(&one.repository, &one.manifest, &[]).await?;
        }
        Ok(())
    });
    stream::iter(work.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::key::tests::{private, stranger};
    use crate::oci::Memory;
    use crate::oci::watched::Watched;
    use serde_json::json;

    const ALL: Kinds = Kinds { bill: true, provenance: true };

    fn repository() -> Repository {
        "a/b".parse().expect("a name")
    }

    fn released() -> Vec<Released> {
        let of = |bytes: &[u8], media_type, is_image| Released {
            repository: repository(),
            document: Descriptor::of(media_type, bytes),
            is_image,
        };
        vec![of(b"image", MediaType::MANIFEST, true), of(b"index", MediaType::INDEX, false)]
    }

    async fn publish(store: &Memory, key: &PrivateKey, released: &[Released]) {
        let mut made = Vec::new();
        for one in released {
            for wanted in wanted(std::slice::from_ref(one), ALL) {
                made.push(Attachment::sign(key, one, wanted.kind, json!({})).expect("signed"));
            }
        }
        attach(store, &made).await.expect("attached");
    }

    async fn stand(store: &Memory) -> Vec<Standing> {
        let keys = [private().public()];
        let found = standing(store, Signer::Keys(&keys), &wanted(&released(), ALL)).await.expect("looked");
        found.into_values().collect()
    }

    #[test]
    fn every_image_and_index_is_signed_and_images_alone_are_described() {
        let kinds = |which| wanted(&released(), which).into_iter().map(|one| one.kind).collect::<Vec<_>>();
        assert_eq!(kinds(Kinds { bill: false, provenance: false }), [Kind::Signature; 2]);
        assert_eq!(kinds(ALL).len(), 4);
    }

    #[tokio::test]
    async fn s_4_20_what_is_attached_stands_and_what_a_stranger_signed_does_not() {
        let store = Memory::new();
        assert_eq!(stand(&store).await, vec![Standing::Missing; 4]);
        publish(&store, &stranger(), &released()).await;
        let refused = Standing::Refused(["it has no signature of this key"].into());
        assert_eq!(stand(&store).await, vec![refused; 4]);
        publish(&store, &private(), &released()).await;
        assert_eq!(stand(&store).await, vec![Standing::Stands; 4]);
    }

    /// A signature of one image, listed as being about another, is not believed.
    #[tokio::test]
    async fn tm_29_a_signature_moved_to_another_image_is_refused() {
        let store = Memory::new();
        let [image, index] = released().try_into().expect("two");
        let mut moved = Attachment::sign(&private(), &index, Kind::Signature, json!({})).expect("signed");
        let mut manifest = moved.manifest.manifest().expect("a manifest");
        manifest.subject = Some(image.document.clone());
        moved.manifest = Document::of_manifest(&manifest);
        attach(&store, &[moved]).await.expect("attached");
        let keys = [private().public()];
        let about = wanted(&[image], Kinds { bill: false, provenance: false });
        let found = standing(&store, Signer::Keys(&keys), &about).await.expect("looked");
        let refused = Standing::Refused(["it is about something else"].into());
        assert_eq!(found.into_values().collect::<Vec<_>>(), [refused]);
    }

    /// Whoever may write cannot make a look read without end.
    #[tokio::test]
    async fn many_referrers_are_read_up_to_a_limit() {
        let store = Memory::new();
        let image = &released()[0];
        let forged: Vec<Attachment> = (0..2 * CANDIDATES_LIMIT)
            .map(|n| {
                Attachment::sign(&stranger(), image, Kind::Signature, json!({ "n": n })).expect("signed")
            })
            .collect();
        attach(&store, &forged).await.expect("attached");
        let store = Watched::new(store);
        let keys = [private().public()];
        let about = wanted(std::slice::from_ref(image), Kinds { bill: false, provenance: false });
        let found = standing(&store, Signer::Keys(&keys), &about).await.expect("looked");
        assert!(matches!(found.into_values().next(), Some(Standing::Refused(_))));
        assert_eq!(store.calls(), 1 + 2 * CANDIDATES_LIMIT, "a list, then a manifest and a bundle of each");
    }

    /// What a manifest names is there before the manifest; and of what stands nothing is written again.
    #[tokio::test]
    async fn blobs_are_written_before_the_manifest_that_names_them() {
        let store = Watched::new(Memory::new());
        let one = Attachment::sign(&private(), &released()[0], Kind::Signature, json!({})).expect("signed");
        attach(&store, &[one]).await.expect("attached");
        assert_eq!(store.writes(), ["blob a/b", "blob a/b", "manifest a/b"]);
    }
}
