//! A registry as a store: the OCI distribution specification, version 1.1, from the client's side.
//!
//! | file | what it knows |
//! |---|---|
//! | `request` | one exchange: sending, redirects, time limits |
//! | `tries`, `gate` | asking again, one request at a time and all of them together |
//! | `reach`, `proxy` | where a registry may lead us, and the way out |
//! | `auth` | passwords and tokens |
//! | `answer` | bounded bodies, refusals |
//! | `push`, `part`, `session` | a blob from where it is to the registry, holding nothing |
//! | `upload`, `download` | blobs piece by piece, resumed where they were cut |
//! | `known` | what is there, and was just written |
//! | `list` | tags and repositories, page by page |
//! | `referrers` | what is about a document, with the tag schema for registries that do not list it |
//! | `notice`, `traffic` | what a person should hear, and what it cost |

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use url::Url;

use super::rules::Contents;
use super::store::{Origin, Taken};
use super::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, MediaType, Pointer, Reference, Repository,
    Store, Tag, Terms, Upload,
};

mod answer;
mod auth;
mod download;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod gate;
mod known;
mod list;
mod notice;
mod options;
mod part;
mod proxy;
mod push;
mod reach;
mod referrers;
mod request;
mod session;
mod traffic;
mod tries;
mod upload;

pub use notice::{Listener, Notice};
pub use options::{ClientOptions, Pauses, PlainHttp};
pub use proxy::Proxies;
pub use traffic::{Amount, Traffic};

use answer::{Answer, passing};
use request::Connection;
use session::{Mount, Session, check_digest};
use tries::{Again, Tries, Trouble};
use upload::BlobUpload;

/// A registry, and what has been learnt about it. A clone shares connections and tokens.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

impl Client {
    /// A registry by its name: `host` or `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// Where that is no name of a registry.
    pub fn new(registry: &str, options: ClientOptions) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, format!("`{registry}` is no registry; write host or host:port"))
        };
        // A reference checks the name.
        Reference::new(registry, "x".parse()?)?;
        // Docker's own registry answers under another name than its images carry.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let secure = Url::parse(&format!("https://{host}/")).map_err(|error| wrong().because(error))?;
        let plain = match options.plain_http {
            PlainHttp::Loopback => reach::is_loopback(&secure),
            PlainHttp::Always => true,
            PlainHttp::Never => false,
        };
        let base = match plain {
            true => Url::parse(&format!("http://{host}/")).map_err(|error| wrong().because(error))?,
            false => secure,
        };
        Ok(Self { connection: Arc::new(Connection::new(registry, base, options)?) })
    }

    /// The registry as it was named.
    pub fn registry(&self) -> &str {
        &self.connection.registry
    }

    /// Requests and bytes so far, by host.
    pub fn traffic(&self) -> &Traffic {
        &self.connection.options.traffic
    }

    /// Forget logins and tokens, as after a new `docker login`.
    pub async fn forget(&self) {
        self.connection.auth.forget().await;
    }

    /// PUT a document under a pointer, until the registry has it; `tags` are to be moved by the same request.
    async fn put_document(
        &self,
        repository: &Repository,
        document: &Document,
        pointer: &Pointer,
        tags: &[Tag],
    ) -> Result<Written, Error> {
        let connection = &*self.connection;
        let doing = format!("write manifest {pointer} of {repository}");
        let mut ask = connection
            .ask(Method::PUT, repository, &format!("manifests/{pointer}"), "pull,push", &doing)?
            .header(CONTENT_TYPE, document.media_type())
            .body(document.bytes().clone());
        for tag in tags {
            ask.url.query_pairs_mut().append_pair("tag", tag.as_str());
        }
        let mut tries = Tries::new(connection);
        loop {
            let trouble = match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => {
                    check_same(&answer, document, &doing)?;
                    connection.known.wrote(repository, pointer);
                    return Ok(Written {
                        lists_referrers: answer.header("oci-subject").is_some(),
                        tags: named_tags(&answer),
                    });
                }
                Ok(answer) => self.settling(answer.refusal().await, repository, document).await?,
                Err(trouble) => trouble,
            };
            // What was refused with 429 was not looked at, and what was said of tags and referrers is not known.
            let looks =
                !matches!(trouble.again, Again::Later(429, _)) && tags.is_empty() && !has_subject(document);
            tries.again(trouble).await?;
            if looks && self.stands(repository, document, pointer).await? {
                connection.known.wrote(repository, pointer);
                return Ok(Written { lists_referrers: true, tags: Vec::new() });
            }
        }
    }

    /// Whether a pointer points at a document already.
    async fn stands(
        &self,
        repository: &Repository,
        document: &Document,
        pointer: &Pointer,
    ) -> Result<bool, Error> {
        let found = self.resolve(repository, pointer).await?;
        Ok(found.is_some_and(|found| found.digest == *document.digest()))
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
        let manifest = document.manifest()?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if self.blob_size(repository, &blob.digest).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn delete(&self, repository: &Repository, path: &str, doing: &str) -> Result<(), Error> {
        let connection = &*self.connection;
        let ask = connection.ask(Method::DELETE, repository, path, "delete,pull,push", doing)?;
        let mut tries = Tries::new(connection);
        loop {
            match connection.once(&ask).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                // Gone at the second try means that the first one worked.
                Ok(answer) if answer.status().as_u16() == 404 && tries.made() > 1 => return Ok(()),
                Ok(answer) => return Err(answer.refusal().await),
                Err(trouble) => tries.again(trouble).await?,
            }
            // Perhaps all went well and only the answer was lost.
            let look =
                connection.ask(Method::HEAD, repository, path, "pull", doing)?.header(ACCEPT, ACCEPTED);
            if connection.send(&look).await?.status().as_u16() == 404 {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Store for Client {
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        blob_size(&self.connection, repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, Error> {
        download::read(&self.connection, repository, digest, range).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(BlobUpload::new(self.connection.clone(), repository.clone())))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, Error> {
        match Session::mount(&self.connection, repository, digest, from).await? {
            Mount::There => Ok(true),
            // Where the registry began an upload instead, it is thrown away: the caller begins its own.
            Mount::Begun(_) | Mount::Refused => Ok(false),
        }
    }

    async fn take_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: Option<&Repository>,
        origin: &Origin<'_>,
    ) -> Result<Taken, Error> {
        push::take(&self.connection, repository, blob, from, origin).await
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.connection.known.forget_blob(digest);
        self.delete(repository, &format!("blobs/{digest}"), &format!("remove blob {digest} of {repository}"))
            .await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        let doing = format!("look up {pointer} of {repository}");
        let ask = self
            .connection
            .ask(Method::HEAD, repository, &format!("manifests/{pointer}"), "pull", &doing)?
            .header(ACCEPT, ACCEPTED);
        let mut tries = Tries::new(&self.connection);
        let answer = loop {
            let answer = self.connection.send(&ask).await?;
            match answer.status().as_u16() {
                200 => break answer,
                // What we have just written may not be seen everywhere yet.
                404 if self.connection.known.wrote_lately(repository, pointer) => {
                    let error = passing(&doing, "the registry took it and does not show it yet");
                    if tries.again(Trouble { error, again: Again::Settling }).await.is_err() {
                        return Ok(None);
                    }
                }
                404 => return Ok(None),
                405 => return Ok(Some(self.read_document(repository, pointer).await?.descriptor())),
                _ => return Err(answer.refusal().await),
            }
        };
        if let Pointer::Digest(digest) = pointer {
            check_digest(&answer, digest, &doing)?;
        }
        let digest = match pointer {
            Pointer::Digest(digest) => Some(digest.clone()),
            Pointer::Tag(_) => answer.digest()?,
        };
        match (media_type(&answer), digest, answer.length()) {
            (Some(media_type), Some(digest), Some(size)) => {
                Ok(Some(Descriptor::new(&media_type, digest, size)))
            }
            _ => Ok(Some(self.read_document(repository, pointer).await?.descriptor())),
        }
    }

    async fn read_document(&self, repository: &Repository, pointer: &Pointer) -> Result<Document, Error> {
        let doing = format!("read manifest {pointer} of {repository}");
        let ask = self
            .connection
            .ask(Method::GET, repository, &format!("manifests/{pointer}"), "pull", &doing)?
            .header(ACCEPT, ACCEPTED);
        let (answer, bytes) = self.connection.send_whole(&ask, Document::BYTES_LIMIT).await?;
        if !answer.status().is_success() {
            return Err(answer.refusal().await);
        }
        let media_type = agreed_media_type(&answer, &bytes, &doing)?;
        let document = match pointer {
            Pointer::Digest(digest) => Document::with_digest(&media_type, bytes, digest.clone())?,
            Pointer::Tag(_) => match answer.digest()? {
                Some(digest) => Document::with_digest(&media_type, bytes, digest)?,
                None => Document::new(&media_type, bytes),
            },
        };
        // What can be read in two ways is not read at all.
        Contents::of(&document)?;
        Ok(document)
    }

    async fn write_document_on(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
        terms: &Terms,
    ) -> Result<(), Error> {
        if *terms != Terms::default() {
            let what = "write a document on terms: a registry elsewhere is not asked for that";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let mut left = tags;
        let mut answered = Vec::new();
        let with_tags;
        // A tag alone would have the registry choose the algorithm of the digest, so another than the usual one is
        // written by its name, with the tags beside it. Registries that know no such tags do not name them.
        if tags.is_empty() || document.digest().algorithm() != super::Algorithm::Sha256 {
            let pointer = Pointer::Digest(document.digest().clone());
            let written = self.put_document(repository, document, &pointer, tags).await?;
            let moved = |tag: &&Tag| !written.tags.iter().any(|moved| moved == tag.as_str());
            with_tags = tags.iter().filter(moved).cloned().collect::<Vec<_>>();
            left = &with_tags;
            answered.push(written.lists_referrers);
        }
        for tag in left {
            let written = self.put_document(repository, document, &tag.clone().into(), &[]).await?;
            answered.push(written.lists_referrers);
        }
        let lists_referrers = answered.into_iter().all(|lists| lists);
        if !lists_referrers {
            self.note_referrer(repository, document).await?;
        }
        Ok(())
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let doing = format!("remove manifest {digest} of {repository}");
        self.connection.known.removed(repository, &digest.to_string());
        self.delete(repository, &format!("manifests/{digest}"), &doing).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        list::tags(&self.connection, repository, after, limit).await
    }

    async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), Error> {
        let doing = format!("remove tag {tag} of {repository}");
        self.connection.known.removed(repository, tag.as_str());
        self.delete(repository, &format!("manifests/{tag}"), &doing).await
    }

    async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, Error> {
        list::repositories(&self.connection, after, limit).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        self.list_referrers(repository, subject).await
    }
}

/// What a registry said when it took a document.
struct Written {
    /// It lists referrers itself, or there is nothing to list.
    lists_referrers: bool,
    /// The tags that it moved by the same request.
    tags: Vec<String>,
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

/// The media types of documents that are understood.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The size of a blob, by HEAD.
async fn blob_size(
    connection: &Connection,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<u64>, Error> {
    let doing = format!("look up blob {digest} of {repository}");
    let ask = connection.ask(Method::HEAD, repository, &format!("blobs/{digest}"), "pull", &doing)?;
    let answer = connection.send(&ask).await?;
    match answer.status().as_u16() {
        200 => match answer.length() {
            Some(size) => Ok(Some(size)),
            None => Err(Error::new(
                ErrorKind::Failed,
                format!("{doing}: the registry does not say how large it is"),
            )),
        },
        404 => Ok(None),
        _ => Err(answer.refusal().await),
    }
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

/// The media type of an answer, without parameters.
fn media_type(answer: &Answer) -> Option<String> {
    let text = answer.header(CONTENT_TYPE.as_str())?;
    let text = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (MediaType::is_index(&text) || MediaType::is_manifest(&text)).then_some(text)
}

/// The media type of a document, on which header and bytes must agree where both speak: one document, one meaning.
fn agreed_media_type(answer: &Answer, bytes: &Bytes, doing: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let inside = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    match (media_type(answer), inside) {
        (Some(outside), Some(inside)) if outside != inside => Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "{doing}: the registry calls it {outside}, the document itself {}",
                answer::sanitized(&inside)
            ),
        )),
        (Some(media_type), _) => Ok(media_type),
        (None, Some(media_type))
            if MediaType::is_index(&media_type) || MediaType::is_manifest(&media_type) =>
        {
            Ok(media_type)
        }
        _ => Err(Error::new(ErrorKind::Unsupported, format!("{doing}: it is neither an image nor an index"))),
    }
}
