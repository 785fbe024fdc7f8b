//! Manifests and indexes, in and out, as the bytes that they are.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::{Method, StatusCode};
use serde::Deserialize;

use super::answer::{About, Answer, CONTENT_DIGEST, Code, Refusal, empty, with_body};
use super::request::{Head, Request};
use crate::oci::{
    Completeness, Condition, Descriptor, Document, Error, MediaType, Pointer, Repository, Store, Tag, Terms,
};

/// How many tags one push may move.
const TAGS: usize = 1_000;

/// `HEAD`, `GET`, `PUT` and `DELETE` of a manifest or index.
pub(super) async fn answer(
    store: &dyn Store,
    content: Completeness,
    request: &mut Request,
    repository: &Repository,
    pointer: &Pointer,
) -> Result<Answer, Refusal> {
    match *request.head.method() {
        Method::HEAD => head(store, repository, pointer).await,
        Method::GET => get(store, repository, pointer).await,
        Method::PUT => put(store, content, request, repository, pointer).await,
        Method::DELETE => delete(store, &request.head, repository, pointer).await,
        _ => Err(Refusal::method("HEAD, GET, PUT, DELETE")),
    }
}

async fn found(store: &dyn Store, repository: &Repository, pointer: &Pointer) -> Result<Descriptor, Refusal> {
    let found = store.resolve(repository, pointer).await;
    found.map_err(|error| Refusal::reading(About::Document, &error))?.ok_or_else(|| {
        let words = format!("{repository} has no manifest {pointer}");
        Refusal::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, words)
    })
}

/// The headers that `HEAD` and `GET` have in common. `Accept` is no filter: what is stored is given.
fn headers(descriptor: &Descriptor) -> [(HeaderName, String); 4] {
    [
        (CONTENT_TYPE, descriptor.media_type.clone()),
        (CONTENT_LENGTH, descriptor.size.to_string()),
        (CONTENT_DIGEST, descriptor.digest.to_string()),
        (ETAG, format!("\"{}\"", descriptor.digest)),
    ]
}

async fn head(store: &dyn Store, repository: &Repository, pointer: &Pointer) -> Result<Answer, Refusal> {
    Ok(empty(StatusCode::OK, &headers(&found(store, repository, pointer).await?)))
}

async fn get(store: &dyn Store, repository: &Repository, pointer: &Pointer) -> Result<Answer, Refusal> {
    let document = store.read_document(repository, pointer).await;
    let document = document.map_err(|error| Refusal::reading(About::Document, &error))?;
    let body = Body::from(document.bytes().clone());
    Ok(with_body(StatusCode::OK, &headers(&document.descriptor()), body))
}

async fn put(
    store: &dyn Store,
    content: Completeness,
    request: &mut Request,
    repository: &Repository,
    pointer: &Pointer,
) -> Result<Answer, Refusal> {
    let tags = tags(&request.head, pointer)?;
    let terms = Terms { tags: condition(&request.head, !tags.is_empty())?, content, once: false };
    let bytes = body(request).await?;
    let shape: Shape = serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::invalid(Code::ManifestInvalid, format!("the manifest is no JSON object: {error}"))
    })?;
    let media_type = media_type(request.head.header(CONTENT_TYPE), &shape)?;
    let wrong = |error: Error| Refusal::of(About::Document, &error);
    let document = match pointer {
        Pointer::Digest(digest) => {
            Document::with_digest(&media_type, bytes, digest.clone()).map_err(wrong)?
        }
        Pointer::Tag(_) => Document::new(&media_type, bytes),
    };
    store.write_document_on(repository, &document, &tags, &terms).await.map_err(wrong)?;
    let mut headers = vec![
        (LOCATION, format!("/v2/{repository}/manifests/{}", document.digest())),
        (CONTENT_DIGEST, document.digest().to_string()),
    ];
    if let Some(subject) = shape.subject {
        headers.push((HeaderName::from_static("oci-subject"), subject.digest.to_string()));
    }
    let moved = tags.iter().map(|tag| (HeaderName::from_static("oci-tag"), tag.to_string()));
    headers.extend(moved);
    Ok(empty(StatusCode::CREATED, &headers))
}

/// The tags to move: the one in the path and every `?tag=`.
fn tags(head: &Head, pointer: &Pointer) -> Result<Vec<Tag>, Refusal> {
    let mut tags: Vec<Tag> = match pointer {
        Pointer::Tag(tag) => vec![tag.clone()],
        Pointer::Digest(_) => Vec::new(),
    };
    for text in head.parameters("tag") {
        let tag = text.parse();
        tags.push(tag.map_err(|error: Error| Refusal::invalid(Code::ManifestInvalid, error.to_string()))?);
    }
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS {
        let words = format!("one push moves at most {TAGS} tags");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::TooManyRequests, words));
    }
    Ok(tags)
}

/// Where the tags must point now: `If-Match` with the digests that `ETag` has, or `If-None-Match: *` for tags that
/// must be new (RFC 9110, section 13.1). What is no digest in quotes matches nothing.
fn condition(head: &Head, moves_tags: bool) -> Result<Condition, Refusal> {
    let refuse = |words: &str| Err(Refusal::invalid(Code::Unsupported, words));
    let condition = match (head.conditions(IF_MATCH), head.conditions(IF_NONE_MATCH)) {
        (None, None) => return Ok(Condition::Any),
        (Some(_), Some(_)) => return refuse("`If-Match` and `If-None-Match` do not go together"),
        (Some(text), None) if text == "*" => Condition::Present,
        (Some(text), None) => {
            let digests = text.split(',').map(|part| part.trim().trim_matches('"'));
            Condition::OneOf(digests.filter_map(|digest| digest.parse().ok()).collect())
        }
        (None, Some(text)) if text == "*" => Condition::Missing,
        (None, Some(_)) => return refuse("a push knows `If-None-Match: *` alone"),
    };
    match moves_tags {
        true => Ok(condition),
        false => refuse("conditions are about tags, and this request moves none"),
    }
}

/// The whole body, of which never more than the limit is kept.
async fn body(request: &mut Request) -> Result<Vec<u8>, Refusal> {
    let limit = Document::BYTES_LIMIT;
    let too_large = || {
        let words = format!("a manifest has at most {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, words)
    };
    if request.head.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = request.next().await? {
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// As much of a document as is needed to answer its push.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    subject: Option<Descriptor>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// What kind of document it is: the header says so, else its own field, else its shape. Header and field must
/// agree, or two readers would see two things (CVE-2021-41190).
fn media_type(header: Option<&str>, shape: &Shape) -> Result<String, Refusal> {
    let header = header.map(|text| text.split(';').next().unwrap_or_default().trim());
    let header = header.filter(|text| !text.is_empty());
    let named = match (header, shape.media_type.as_deref()) {
        (Some(header), Some(field)) if header != field => {
            let words = format!("Content-Type is `{header}` and mediaType `{field}`");
            return Err(Refusal::invalid(Code::ManifestInvalid, words));
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) if shape.manifests.is_some() && shape.config.is_none() => MediaType::INDEX,
        (None, None) => MediaType::MANIFEST,
    };
    match MediaType::is_index(named) || MediaType::is_manifest(named) {
        true => Ok(named.to_owned()),
        false => {
            let words = format!("`{named}` is neither an image manifest nor an image index");
            Err(Refusal::invalid(Code::ManifestInvalid, words))
        }
    }
}

async fn delete(
    store: &dyn Store,
    head: &Head,
    repository: &Repository,
    pointer: &Pointer,
) -> Result<Answer, Refusal> {
    // Better refused than passed over.
    condition(head, false)?;
    found(store, repository, pointer).await?;
    let removed = match pointer {
        Pointer::Tag(tag) => store.remove_tag(repository, tag).await,
        Pointer::Digest(digest) => store.remove_document(repository, digest).await,
    };
    removed.map_err(|error| Refusal::of(About::Document, &error))?;
    Ok(empty(StatusCode::ACCEPTED, &[]))
}
