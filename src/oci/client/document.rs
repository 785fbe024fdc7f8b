//! Manifests and indexes on their way to a registry, and the tags that are moved to them.
//!
//! Several tags go in one request where the registry knows that (`?tag=` of the specification's next version), which
//! is learnt from its first answer to such a request; elsewhere each goes in a request of its own. Conditions go as
//! `If-Match` and `If-None-Match` (RFC 9110, section 13.1). The specification has none for tags, so a registry may
//! pass over them: [`Known::keeps_conditions`](super::known::Known::keeps_conditions) says whether this one does not.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use serde::Deserialize;

use super::Client;
use super::answer::Answer;
use super::request::Ask;
use super::tries::{Again, Tries, Trouble};
use crate::oci::{
    Algorithm, Completeness, Condition, Document, Error, ErrorKind, MediaType, Pointer, Repository, Store,
    Tag, Terms,
};

/// As many tags are moved by one request.
const TAGS_AT_ONCE: usize = 100;

/// What a registry said when it took a document.
pub(super) struct Written {
    /// It lists referrers itself, or there is nothing to list.
    lists_referrers: bool,
    /// The tags that it moved by the same request, as it names them.
    tags: Vec<String>,
}

impl Client {
    /// Write a document, and move tags to it.
    ///
    /// # Errors
    /// As [`Store::write_document_on`] has them.
    pub(super) async fn write(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        if terms.content != Completeness::Whole {
            let what = "write a document without its content: a registry elsewhere is not asked for that";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let by_digest = Pointer::Digest(document.digest().clone());
        let (mut left, mut lists_referrers) = (tags.to_vec(), true);
        // A tag alone would have the registry choose the algorithm of the digest, so another than the usual one is
        // written by its name, with the tags beside it.
        let by_name = tags.is_empty() || document.digest().algorithm() != Algorithm::Sha256;
        for some in tags.chunks(TAGS_AT_ONCE) {
            if !by_name && !self.takes_tags_together(some, &terms.tags) {
                continue;
            }
            let written = self.put(repository, document, &by_digest, some, terms).await?;
            let moved: Vec<&Tag> =
                some.iter().filter(|tag| written.tags.iter().any(|moved| moved == tag.as_str())).collect();
            self.connection.known.learn_tags_together(moved.len() == some.len());
            left.retain(|tag| !moved.contains(&tag));
            lists_referrers &= written.lists_referrers;
        }
        if tags.is_empty() {
            let written = self.put(repository, document, &by_digest, &[], &Terms::default()).await?;
            lists_referrers &= written.lists_referrers;
        }
        for tag in left {
            let written = self.put(repository, document, &tag.into(), &[], terms).await?;
            lists_referrers &= written.lists_referrers;
        }
        if !lists_referrers {
            self.note_referrer(repository, document).await?;
        }
        Ok(())
    }

    /// Whether several tags are to go in one request: it is known that they can, or there is only that way to learn
    /// it. A condition of tags would mean something else to those who take it for one of the digest in the path.
    fn takes_tags_together(&self, tags: &[Tag], condition: &Condition) -> bool {
        let known = &self.connection.known;
        let unheard = known.keeps_conditions() || *condition == Condition::Any;
        tags.len() > 1 && known.tags_together().unwrap_or(unheard)
    }

    /// PUT a document under a pointer, until the registry has it or, where it is to be tried once, once; `tags` are to be moved by the same request.
    pub(super) async fn put(
        &self,
        repository: &Repository,
        document: &Document,
        pointer: &Pointer,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<Written, Error> {
        let connection = &*self.connection;
        let doing = format!("write manifest {pointer} of {repository}");
        let size = document.bytes().len();
        if size > Document::BYTES_LIMIT {
            // Registries cut the connection in the middle of it, which looks as if it were to be tried again.
            let what = format!("{doing}: it has {size} bytes; at most {} are sent", Document::BYTES_LIMIT);
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        let ask = connection
            .ask(Method::PUT, repository, &format!("manifests/{pointer}"), "pull,push", &doing)?
            .header(CONTENT_TYPE, document.media_type())
            .body(document.bytes().clone());
        let mut ask = on_condition(ask, &terms.tags);
        for tag in tags {
            ask.url.query_pairs_mut().append_pair("tag", tag.as_str());
        }
        let moved: Vec<Pointer> = match pointer {
            Pointer::Tag(_) => vec![pointer.clone()],
            Pointer::Digest(_) => tags.iter().cloned().map(Pointer::Tag).collect(),
        };
        let mut tries = Tries::new(connection);
        loop {
            let trouble = match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => {
                    check_same(&answer, document, &doing)?;
                    connection.known.wrote(repository, pointer);
                    return Ok(Written {
                        lists_referrers: answer.header("oci-subject").is_some() || !has_subject(document),
                        tags: named_tags(&answer),
                    });
                }
                Ok(answer) => {
                    let error = answer.refusal().await;
                    // They were moved by the try whose answer was lost.
                    if error.kind() == ErrorKind::Moved
                        && tries.made() > 1
                        && self.all_stand(repository, document, &moved).await?
                    {
                        let tags = tags.iter().map(Tag::to_string).collect();
                        return Ok(Written { lists_referrers: !has_subject(document), tags });
                    }
                    self.settling(error, repository, document).await?
                }
                Err(trouble) => trouble,
            };
            // What was refused with 429 was not looked at, and what was said of tags and referrers is not known.
            let looks =
                !matches!(trouble.again, Again::Later(429, _)) && tags.is_empty() && !has_subject(document);
            if terms.once {
                return Err(tries.given_back(trouble));
            }
            tries.again(trouble).await?;
            if looks && self.all_stand(repository, document, std::slice::from_ref(pointer)).await? {
                connection.known.wrote(repository, pointer);
                return Ok(Written { lists_referrers: true, tags: Vec::new() });
            }
        }
    }

    /// Whether all pointers point at a document already.
    async fn all_stand(
        &self,
        repository: &Repository,
        document: &Document,
        pointers: &[Pointer],
    ) -> Result<bool, Error> {
        for pointer in pointers {
            let found = self.resolve(repository, pointer).await?;
            if found.is_none_or(|found| found.digest != *document.digest()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A refusal of a document whose content the registry has only just taken, and may not know everywhere yet.
    async fn settling(
        &self,
        error: Error,
        repository: &Repository,
        document: &Document,
    ) -> Result<Trouble, Error> {
        if error.kind() == ErrorKind::MissingContent {
            if self.has_content(repository, document).await? {
                return Ok(Trouble { error, again: Again::Settling });
            }
            self.connection.known.forget_blobs();
        }
        Err(refused_document(error, document))
    }

    /// Whether everything that a document refers to is there.
    async fn has_content(&self, repository: &Repository, document: &Document) -> Result<bool, Error> {
        if document.is_index() {
            for manifest in document.index()?.manifests {
                if self.resolve(repository, &manifest.digest.into()).await?.is_none() {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for blob in document.blobs()? {
            if self.blob_size(repository, &blob.digest).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A request that is to be carried out only where its tags point as is said.
fn on_condition(ask: Ask, condition: &Condition) -> Ask {
    match condition {
        Condition::Any => ask,
        Condition::Missing => ask.header(IF_NONE_MATCH, "*"),
        Condition::Present => ask.header(IF_MATCH, "*"),
        Condition::OneOf(digests) => {
            let quoted: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
            ask.header(IF_MATCH, &quoted.join(", "))
        }
    }
}

/// The tags that a registry says it moved.
fn named_tags(answer: &Answer) -> Vec<String> {
    let tags = answer.headers().get_all("oci-tag").iter();
    tags.filter_map(|tag| tag.to_str().ok().map(str::to_owned)).collect()
}

/// Whether a document is about another.
fn has_subject(document: &Document) -> bool {
    #[derive(Deserialize)]
    struct About {
        subject: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<About>(document.bytes()).is_ok_and(|about| about.subject.is_some())
}

/// A refusal of an index, with what some registries do not take in one.
fn refused_document(error: Error, document: &Document) -> Error {
    let kinds = [ErrorKind::Invalid, ErrorKind::Unsupported, ErrorKind::Failed];
    if !document.is_index() || !kinds.contains(&error.kind()) {
        return error;
    }
    let children = document.index().map(|index| index.manifests).unwrap_or_default();
    let unusual = children.iter().find(|child| {
        let attests = child.annotations.contains_key("vnd.docker.reference.type");
        attests || child.artifact_type.is_some() || !MediaType::is_manifest(&child.media_type)
    });
    let text = match unusual {
        Some(child) => format!(
            "{error}; {} in the index is no plain image (attestation, artifact or index), and not every registry \
             takes those: build without attestations, or publish to another registry",
            child.digest.short()
        ),
        None => format!("{error}; not every registry takes an index of several platforms"),
    };
    Error::new(error.kind(), text).because(error)
}

/// Compare the digest that the registry gave a document with that of its bytes, whatever the algorithm.
fn check_same(answer: &Answer, document: &Document, doing: &str) -> Result<(), Error> {
    let Some(named) = answer.digest()? else { return Ok(()) };
    Document::with_digest(document.media_type(), document.bytes().clone(), named.clone()).map(drop).map_err(
        |_| {
            Error::new(
                ErrorKind::Mismatch,
                format!("{doing}: {} became {named} at the registry", document.digest()),
            )
        },
    )
}
