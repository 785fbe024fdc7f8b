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
//! | `document` | manifests and indexes to the registry, and tags, on condition where it keeps conditions |
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
mod document;
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

pub use gate::Gates;
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
            Mount::There(_) => Ok(true),
            // Where the registry began an upload instead, it is thrown away: the caller begins its own.
            Mount::Begun(_) | Mount::Refused => Ok(false),
        }
    }

    async fn mount_whole(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<bool, Error> {
        // Others tell no size with a mount: a request for nothing.
        if !self.keeps_conditions() {
            return Ok(false);
        }
        match Session::mount(&self.connection, repository, &blob.digest, from).await? {
            Mount::There(Some(size)) if size == blob.size => {
                let holders = self.connection.known.holders(&blob.digest);
                holders.lock().await.insert(repository.clone());
                Ok(true)
            }
            Mount::There(_) | Mount::Begun(_) | Mount::Refused => Ok(false),
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
        self.write(repository, document, tags, terms).await
    }

    fn keeps_conditions(&self) -> bool {
        self.connection.known.keeps_conditions()
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
