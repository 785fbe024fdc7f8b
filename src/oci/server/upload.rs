//! Blobs on their way in: sessions that move strictly forward, and the short ways around them.
//!
//! A session belongs to one request at a time; a second one at once is refused and changes nothing. What the
//! store has taken is safe, also when the client goes away in the middle or the server is started again: the client
//! asks for the status and goes on.

use axum::http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE, RETRY_AFTER};
use axum::http::{Method, StatusCode};

use super::access::{Caller, Right};
use super::answer::{About, Answer, CONTENT_DIGEST, Code, Refusal, empty};
use super::request::Request;
use super::route::SessionName;
use super::session::{Uploads, new_name, unknown};
use crate::oci::rules::BLOB_SIZE;
use crate::oci::{Digest, Error, Repository, Store, Upload};

fn wrong(error: &Error) -> Refusal {
    Refusal::of(About::Upload, error)
}

fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error: Error| Refusal::invalid(Code::DigestInvalid, error.to_string()))
}

/// `POST` to the uploads of a repository: mount, whole blob at once, or a new session.
pub(super) async fn start(
    store: &dyn Store,
    caller: Caller<'_>,
    uploads: &Uploads,
    request: &mut Request,
    repository: &Repository,
) -> Result<Answer, Refusal> {
    if *request.head.method() != Method::POST {
        return Err(Refusal::method("POST"));
    }
    if let Some(text) = request.head.parameter("mount") {
        let digest = digest_of(text)?;
        let from = request.head.parameter("from");
        if let Some(size) = mounted(store, caller, repository, &digest, from).await? {
            let mut answer = created(repository, &digest);
            answer.headers_mut().insert(HeaderName::from_static(BLOB_SIZE), size.into());
            return Ok(answer);
        }
    } else if let Some(text) = request.head.parameter("digest") {
        let digest = digest_of(text)?;
        let mut upload = store.start_upload(repository).await.map_err(|error| wrong(&error))?;
        receive(&mut *upload, request, None).await?;
        upload.finish(&digest).await.map_err(|error| wrong(&error))?;
        return Ok(created(repository, &digest));
    }
    let name = new_name()?;
    let upload = store.start_upload_as(repository, name.upload()).await.map_err(|error| wrong(&error))?;
    uploads.add(repository, name, upload)?;
    Ok(progress(StatusCode::ACCEPTED, repository, name, 0))
}

/// The size of the blob where it is in the repository now, without a byte sent. Any doubt means a plain upload, and so does a
/// source that the caller may not read (TM17): who knows a digest does not yet know the bytes.
async fn mounted(
    store: &dyn Store,
    caller: Caller<'_>,
    repository: &Repository,
    digest: &Digest,
    from: Option<&str>,
) -> Result<Option<u64>, Refusal> {
    let sources = match from {
        Some(text) => text.parse::<Repository>().into_iter().collect(),
        None => store.holders(digest).await.map_err(|error| wrong(&error))?,
    };
    for from in sources.iter().filter(|from| caller.may(Right::Read, from)) {
        match store.mount_blob(repository, digest, from).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(wrong(&error)),
        }
    }
    store.blob_size(repository, digest).await.map_err(|error| wrong(&error))
}

/// `PATCH`, `PUT`, `GET` and `DELETE` of a session.
pub(super) async fn answer(
    store: &dyn Store,
    uploads: &Uploads,
    request: &mut Request,
    repository: &Repository,
    name: SessionName,
) -> Result<Answer, Refusal> {
    let session = uploads.find(store, repository, name).await?;
    let mut held = session.upload.try_lock().map_err(|_| {
        let words = "another request is working on this upload";
        Refusal::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, words).with(RETRY_AFTER, "1")
    })?;
    let upload = held.as_mut().ok_or_else(unknown)?;
    match *request.head.method() {
        Method::GET => Ok(progress(StatusCode::NO_CONTENT, repository, name, upload.written())),
        Method::DELETE => {
            *held = None;
            uploads.forget(name);
            Ok(empty(StatusCode::NO_CONTENT, &[]))
        }
        Method::PATCH => {
            let place = Chunk::place(request, repository, name, upload.written())?;
            let received = receive(&mut **upload, request, place).await;
            session.touch();
            keep_or_forget(uploads, name, &mut held, received)?;
            let written = held.as_ref().ok_or_else(unknown)?.written();
            Ok(progress(StatusCode::ACCEPTED, repository, name, written))
        }
        Method::PUT => {
            let text = request.head.parameter("digest");
            let text = text.ok_or_else(|| Refusal::invalid(Code::DigestInvalid, "`?digest=` is missing"))?;
            let digest = digest_of(text)?;
            let place = Chunk::place(request, repository, name, upload.written())?;
            let received = receive(&mut **upload, request, place).await;
            keep_or_forget(uploads, name, &mut held, received)?;
            let upload = held.take().ok_or_else(unknown)?;
            let finished = upload.finish(&digest).await;
            uploads.forget(name);
            finished.map_err(|error| wrong(&error))?;
            Ok(created(repository, &digest))
        }
        _ => Err(Refusal::method("GET, PATCH, PUT, DELETE")),
    }
}

/// Why bytes stopped coming.
enum Stopped {
    /// The client's doing: what came is safe and the session lives.
    Client(Refusal),
    /// The store's doing: nobody knows what it has.
    Store(Refusal),
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Client(refusal) | Stopped::Store(refusal) => refusal,
        }
    }
}

/// After bytes came or failed to: a session whose store failed ends.
fn keep_or_forget(
    uploads: &Uploads,
    name: SessionName,
    held: &mut Option<Box<dyn Upload>>,
    received: Result<(), Stopped>,
) -> Result<(), Refusal> {
    if let Err(Stopped::Store(_)) = received {
        *held = None;
        uploads.forget(name);
    }
    received.map_err(Refusal::from)
}

/// Hand the body to the store, piece by piece; of a chunk exactly the bytes that it announced.
async fn receive(
    upload: &mut dyn Upload,
    request: &mut Request,
    chunk: Option<Chunk>,
) -> Result<(), Stopped> {
    let received = take(upload, request, chunk).await;
    if !matches!(received, Err(Stopped::Store(_))) {
        // What a client is told of must be there after a crash.
        upload.pause().await.map_err(|error| Stopped::Store(wrong(&error)))?;
    }
    received
}

async fn take(upload: &mut dyn Upload, request: &mut Request, chunk: Option<Chunk>) -> Result<(), Stopped> {
    let mut left = chunk.map_or(u64::MAX, |chunk| chunk.length);
    while let Some(piece) = request.next().await.map_err(Stopped::Client)? {
        if piece.is_empty() {
            continue;
        }
        if piece.len() as u64 > left {
            let words = "the body has more bytes than its Content-Range says";
            return Err(Stopped::Client(Refusal::invalid(Code::SizeInvalid, words)));
        }
        left -= piece.len() as u64;
        upload.write(piece).await.map_err(|error| Stopped::Store(wrong(&error)))?;
    }
    if chunk.is_some() && left > 0 {
        let words = format!("{left} bytes of the chunk did not come");
        return Err(Stopped::Client(Refusal::invalid(Code::SizeInvalid, words)));
    }
    Ok(())
}

/// A chunk as `Content-Range` announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its first byte.
    pub(super) start: u64,
    /// How many bytes it has, at least one.
    pub(super) length: u64,
}

impl Chunk {
    /// `0-99`, as the distribution specification writes it, and `bytes 0-99/*`, as HTTP does.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let (text, total) = text.split_once('/').unwrap_or((text, "*"));
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (start, last) = (number(first)?, number(last)?);
        if total != "*" {
            number(total)?;
        }
        // Its end can be counted, too.
        let length = last.checked_add(1)?.checked_sub(start).filter(|length| *length > 0)?;
        Some(Self { start, length })
    }

    /// The chunk of a request, if it names one, and only where the upload stands: nothing is read or changed
    /// when it lies elsewhere.
    fn place(
        request: &Request,
        repository: &Repository,
        name: SessionName,
        written: u64,
    ) -> Result<Option<Self>, Refusal> {
        let Some(text) = request.head.header(CONTENT_RANGE) else { return Ok(None) };
        // An empty last chunk has no range that could be written down; some clients send `0--1` or the like.
        if request.head.content_length() == Some(0) {
            return Ok(None);
        }
        let refuse = |words: String| {
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, words)
                .with(LOCATION, location(repository, name));
            match safe(written) {
                Some((header, value)) => refusal.with(header, value),
                None => refusal,
            }
        };
        let chunk = Self::parse(text).ok_or_else(|| refuse(format!("`{text}` is no Content-Range")))?;
        if chunk.start != written {
            return Err(refuse(format!(
                "the chunk begins at {} and the upload has {written} bytes",
                chunk.start
            )));
        }
        match request.head.content_length() {
            Some(length) if length != chunk.length => {
                let words = format!("Content-Range has {} bytes and Content-Length {length}", chunk.length);
                Err(Refusal::invalid(Code::SizeInvalid, words))
            }
            _ => Ok(Some(chunk)),
        }
    }
}

fn location(repository: &Repository, name: SessionName) -> String {
    format!("/v2/{repository}/blobs/uploads/{}", name)
}

/// The header that says which bytes are safe; none before the first byte, for `0-0` is also one byte.
fn safe(written: u64) -> Option<(HeaderName, String)> {
    written.checked_sub(1).map(|last| (RANGE, format!("0-{last}")))
}

fn progress(status: StatusCode, repository: &Repository, name: SessionName, written: u64) -> Answer {
    let mut headers = vec![
        (LOCATION, location(repository, name)),
        (HeaderName::from_static("docker-upload-uuid"), name.to_string()),
    ];
    // Docker's client cannot do without the header, and other registries write nothing as `0-0`.
    headers.push(safe(written).unwrap_or((RANGE, "0-0".to_owned())));
    empty(status, &headers)
}

fn created(repository: &Repository, digest: &Digest) -> Answer {
    let location = format!("/v2/{repository}/blobs/{digest}");
    empty(StatusCode::CREATED, &[(LOCATION, location), (CONTENT_DIGEST, digest.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_r4_a_chunk_says_where_it_lies() {
        let chunk = |start, length| Some(Chunk { start, length });
        let most = format!("0-{}", u64::MAX);
        let table = [
            ("0-99", chunk(0, 100)),
            ("bytes 100-100/*", chunk(100, 1)),
            ("bytes=1-2", chunk(1, 2)),
            ("bytes 1-2/9", chunk(1, 2)),
            ("bytes 1-2/+9", None),
            ("2-1", None),
            ("-1", None),
            ("1-", None),
            ("+1-2", None),
            ("", None),
            (&most, None),
        ];
        for (text, expected) in table {
            assert_eq!(Chunk::parse(text), expected, "{text}");
        }
    }
}
