//! Blobs on their way out: whole or in ranges, streamed.

use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
};
use axum::http::{Method, StatusCode};

use super::answer::{About, Answer, CONTENT_DIGEST, Code, Refusal, empty, with_body};
use super::request::Head;
use crate::oci::{Digest, Error, Repository, Store};

/// `HEAD`, `GET` and `DELETE` of a blob.
pub(super) async fn answer(
    store: &dyn Store,
    head: &Head,
    repository: &Repository,
    digest: &Digest,
) -> Result<Answer, Refusal> {
    match *head.method() {
        Method::HEAD | Method::GET => read(store, head, repository, digest).await,
        Method::DELETE => {
            size(store, repository, digest).await?;
            let removed = store.remove_blob(repository, digest).await;
            removed.map_err(|error| Refusal::of(About::Blob, &error))?;
            Ok(empty(StatusCode::ACCEPTED, &[]))
        }
        _ => Err(Refusal::method("HEAD, GET, DELETE")),
    }
}

async fn size(store: &dyn Store, repository: &Repository, digest: &Digest) -> Result<u64, Refusal> {
    let size = store.blob_size(repository, digest).await;
    size.map_err(|error| Refusal::reading(About::Blob, &error))?.ok_or_else(|| {
        let words = format!("{repository} has no blob {digest}");
        Refusal::new(StatusCode::NOT_FOUND, Code::BlobUnknown, words)
    })
}

async fn read(
    store: &dyn Store,
    head: &Head,
    repository: &Repository,
    digest: &Digest,
) -> Result<Answer, Refusal> {
    let size = size(store, repository, digest).await?;
    let mut headers = vec![
        (CONTENT_DIGEST, digest.to_string()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, format!("\"{digest}\"")),
        (CACHE_CONTROL, "max-age=31536000, immutable".to_owned()),
    ];
    if *head.method() == Method::HEAD {
        headers.push((CONTENT_LENGTH, size.to_string()));
        return Ok(empty(StatusCode::OK, &headers));
    }
    let (status, range) = match Wanted::parse(head.header(RANGE), size) {
        Wanted::All => (StatusCode::OK, None),
        Wanted::Part(range) => {
            headers.push((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
            (StatusCode::PARTIAL_CONTENT, Some(range))
        }
        Wanted::Nothing => {
            let words = format!("the blob has {size} bytes; the range lies outside of them");
            return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, words)
                .with(CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let wrong = |error: Error| Refusal::reading(About::Blob, &error);
    let reader = store.read_blob(repository, digest, range).await.map_err(wrong)?;
    headers.push((CONTENT_LENGTH, reader.size.to_string()));
    Ok(with_body(status, &headers, Body::from_stream(reader.stream)))
}

/// What a `Range` header asks for of so many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range, or one that we do not read: RFC 9110 says to ignore it. Several ranges at once are such. One that
    /// ends before it begins may be ignored or refused; clients are better served by the refusal.
    All,
    /// A range of the bytes, never empty.
    Part(Range<u64>),
    /// A range with no byte in it.
    Nothing,
}

impl Wanted {
    /// Read the header of a request for a blob of a size.
    pub(super) fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header
            .and_then(|text| text.split_once('='))
            .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))
            .and_then(|(_, range)| range.trim().split_once('-'))
        else {
            return Self::All;
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        match (digits(first), digits(last)) {
            (true, true) if number(first) > number(last) => Self::Nothing,
            (true, true) => Self::part(number(first)..number(last).saturating_add(1).min(size)),
            (true, false) if last.is_empty() => Self::part(number(first)..size),
            (false, true) if first.is_empty() => Self::part(size.saturating_sub(number(last))..size),
            _ => Self::All,
        }
    }

    fn part(range: Range<u64>) -> Self {
        if range.is_empty() { Self::Nothing } else { Self::Part(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        let huge = format!("bytes=5-{}0", u64::MAX);
        let table = [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-5", Wanted::Part(2..6)),
            ("Bytes=2-", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=9-99", Wanted::Part(9..10)),
            (&huge, Wanted::Part(5..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-12", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Nothing),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("", Wanted::All),
        ];
        for (header, wanted) in table {
            assert_eq!(Wanted::parse(Some(header), 10), wanted, "{header}");
        }
        assert_eq!(Wanted::parse(None, 10), Wanted::All);
        assert_eq!(Wanted::parse(Some("bytes=0-0"), 0), Wanted::Nothing);
    }
}
