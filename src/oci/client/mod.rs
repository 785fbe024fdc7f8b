//! A registry as a store: the OCI distribution specification, version 1.1, from the client's side.
//!
//! | file | what it knows |
//! |---|---|
//! | `request` | sending, asking again, redirects |
//! | `reach` | where a registry may lead us |
//! | `auth` | passwords and tokens |
//! | `answer` | bounded bodies, refusals |
//! | `upload`, `download` | blobs, resumed where they were cut |
//! | `list` | tags and repositories, page by page |
//! | `referrers` | what is about a document, with the tag schema for registries that do not list it |

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use url::Url;

use super::credentials::{Credentials, NoCredentials};
use super::{
    BlobReader, Descriptor, Digest, Document, Error, ErrorKind, MediaType, Pointer, Reference, Repository,
    Store, Tag, Upload,
};

mod answer;
mod auth;
mod download;
mod list;
mod reach;
mod referrers;
mod request;
mod upload;

use answer::Answer;
use request::{Again, Connection, Tries, Trouble};
use upload::BlobUpload;

/// A registry, and what has been learnt about it. A clone shares connections and tokens.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

/// How a registry is to be treated.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where logins are found.
    pub credentials: Arc<dyn Credentials>,
    /// When to speak http instead of https.
    pub plain_http: PlainHttp,
    /// How often a request is sent before giving up.
    pub attempts: usize,
    /// How long a registry that itself says "later" (429, 5xx) is asked again, beyond the number of attempts.
    pub patience: Duration,
    /// How long to wait between attempts.
    pub pauses: Pauses,
    /// How many bytes of a blob go in one request.
    pub chunk: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// What to call ourselves.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: Arc::new(NoCredentials),
            plain_http: PlainHttp::default(),
            attempts: 6,
            patience: Duration::from_secs(5 * 60),
            pauses: Pauses::default(),
            chunk: 16 << 20,
            idle: Duration::from_secs(60),
            user_agent: concat!("polyarch/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// When to speak http instead of https.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// To registries on this machine: 127.0.0.0/8, ::1 and `localhost`.
    #[default]
    Loopback,
    /// To every registry.
    Always,
    /// To none.
    Never,
}

/// Pauses between attempts: a random part of a span that doubles from `base` up to `cap`.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The first span.
    pub base: Duration,
    /// The longest span.
    pub cap: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(30) }
    }
}

impl Pauses {
    /// The pause after so many attempts.
    fn after(self, attempts: usize) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        Self::random(self.base.saturating_mul(1 << doublings).min(self.cap))
    }

    /// A random part of a span.
    fn random(span: Duration) -> Duration {
        let mut bytes = [0; 4];
        // Without randomness, half the span is as good as any.
        let part = aws_lc_rs::rand::fill(&mut bytes)
            .map_or(0.5, |()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
        span.mul_f64(part)
    }
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
    ) -> Result<Answer, Error> {
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
                    return Ok(answer);
                }
                Ok(answer) => {
                    let error = answer.refusal().await;
                    // A registry that has only just taken the content may not know it everywhere yet.
                    let knows = error.kind() == ErrorKind::MissingContent
                        && tries.made() < connection.options.attempts
                        && self.has_content(repository, document).await?;
                    if !knows {
                        return Err(error);
                    }
                    Trouble { error, again: Again::Connection }
                }
                Err(trouble) => trouble,
            };
            tries.again(trouble).await?;
        }
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
        let connection = &*self.connection;
        let doing = format!("mount blob {digest} of {from} in {repository}");
        let mut ask = connection.ask(Method::POST, repository, "blobs/uploads/", "pull,push", &doing)?;
        ask.scopes.insert(format!("repository:{from}:pull"));
        ask.url
            .query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.as_str());
        let answer = match connection.send(&ask).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::Denied => return Ok(false),
            Err(error) => return Err(error),
        };
        match answer.status().as_u16() {
            201 => upload::check_digest(&answer, digest, &doing).map(|()| true),
            202 => {
                // The registry began an upload instead; the caller begins its own.
                if let Ok(Some(location)) = upload::moved(&ask.url, &answer, &doing) {
                    let mut cancel = connection.ask_at(Method::DELETE, location, repository, &doing);
                    cancel.scopes = ask.scopes;
                    let _ = connection.once(&cancel).await;
                }
                Ok(false)
            }
            400..500 => Ok(false),
            _ => Err(answer.refusal().await),
        }
    }

    async fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.delete(repository, &format!("blobs/{digest}"), &format!("remove blob {digest} of {repository}"))
            .await
    }

    async fn resolve(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Descriptor>, Error> {
        let doing = format!("look up {pointer} of {repository}");
        let ask = self
            .connection
            .ask(Method::HEAD, repository, &format!("manifests/{pointer}"), "pull", &doing)?
            .header(ACCEPT, ACCEPTED);
        let answer = self.connection.send(&ask).await?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            405 => return Ok(Some(self.read_document(repository, pointer).await?.descriptor())),
            _ => return Err(answer.refusal().await),
        }
        if let Pointer::Digest(digest) = pointer {
            upload::check_digest(&answer, digest, &doing)?;
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
        Ok(document)
    }

    async fn write_document(
        &self,
        repository: &Repository,
        document: &Document,
        tags: &[Tag],
    ) -> Result<(), Error> {
        let mut left = tags;
        let mut answered = Vec::new();
        let with_tags;
        // A tag alone would have the registry choose the algorithm of the digest, so another than the usual one is
        // written by its name, with the tags beside it. Registries that know no such tags do not name them.
        if tags.is_empty() || document.digest().algorithm() != super::Algorithm::Sha256 {
            let pointer = Pointer::Digest(document.digest().clone());
            let answer = self.put_document(repository, document, &pointer, tags).await?;
            let moved: Vec<_> =
                answer.headers().get_all("oci-tag").iter().filter_map(|tag| tag.to_str().ok()).collect();
            with_tags = tags.iter().filter(|tag| !moved.contains(&tag.as_str())).cloned().collect::<Vec<_>>();
            left = &with_tags;
            answered.push(answer.header("oci-subject").is_some());
        }
        for tag in left {
            let answer = self.put_document(repository, document, &tag.clone().into(), &[]).await?;
            answered.push(answer.header("oci-subject").is_some());
        }
        let lists_referrers = answered.into_iter().all(|lists| lists);
        if !lists_referrers {
            self.note_referrer(repository, document).await?;
        }
        Ok(())
    }

    async fn remove_document(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let doing = format!("remove manifest {digest} of {repository}");
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
