//! What a client hears: errors as the status and the JSON that the distribution specification has for them.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::oci::{Error, ErrorKind};

/// An answer of this server.
pub(super) type Answer = Response<Body>;

/// The error codes of the specification, and some of our own for what it does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    /// Ours: a tag does not point where `If-Match` says.
    PreconditionFailed,
    /// Ours: a manifest refers to the blob.
    InUse,
    SizeInvalid,
    TooManyRequests,
    Unauthorized,
    Unsupported,
    /// Ours: the disk under the store is full.
    StoreFull,
    /// Ours: the store failed, perhaps only now.
    StoreFailed,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::InUse => "IN_USE",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::StoreFull => "STORE_FULL",
            Self::StoreFailed => "STORE_FAILED",
        }
    }
}

/// What a request was about, which settles the code of an error that the store reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    Blob,
    Upload,
    Document,
    Listing,
}

/// A request that was not granted: status, code, words, and headers that help.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Code,
    message: String,
    detail: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with its words.
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: Value::Null, headers: Vec::new() }
    }

    /// A request that does not follow the specification.
    pub(super) fn invalid(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The method does not go with the path.
    pub(super) fn method(allowed: &'static str) -> Self {
        let words = format!("only {allowed} can be asked of this path");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, words)
            .with(axum::http::header::ALLOW, allowed)
    }

    /// An error of the store, in the words of the specification.
    pub(super) fn of(about: About, error: &Error) -> Self {
        let (unknown, invalid) = match about {
            About::Blob => (Code::BlobUnknown, Code::DigestInvalid),
            About::Upload => (Code::BlobUploadUnknown, Code::BlobUploadInvalid),
            About::Document => (Code::ManifestUnknown, Code::ManifestInvalid),
            About::Listing => (Code::NameUnknown, Code::NameInvalid),
        };
        let (status, code) = match error.kind() {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, unknown),
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, invalid),
            ErrorKind::Mismatch => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            ErrorKind::MissingContent => (StatusCode::BAD_REQUEST, Code::ManifestBlobUnknown),
            ErrorKind::Denied => (StatusCode::FORBIDDEN, Code::Denied),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            ErrorKind::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported),
            ErrorKind::OutOfOrder(_) => (StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
            ErrorKind::Moved => (StatusCode::PRECONDITION_FAILED, Code::PreconditionFailed),
            // The specification knows no other answer to a blob that cannot be deleted.
            ErrorKind::InUse => (StatusCode::METHOD_NOT_ALLOWED, Code::InUse),
            ErrorKind::Full => (StatusCode::INSUFFICIENT_STORAGE, Code::StoreFull),
            ErrorKind::Passing => (StatusCode::SERVICE_UNAVAILABLE, Code::StoreFailed),
            ErrorKind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, Code::StoreFailed),
        };
        let refusal = Self::new(status, code, error.to_string()).because(error);
        match error.kind() {
            ErrorKind::Passing => refusal.with(axum::http::header::RETRY_AFTER, "1"),
            ErrorKind::InUse => refusal.with(axum::http::header::ALLOW, "HEAD, GET"),
            _ => refusal,
        }
    }

    /// An error while something stored was read: what does not fit its digest is then our damage, not the
    /// client's mistake.
    pub(super) fn reading(about: About, error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Mismatch => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::StoreFailed, error.to_string())
                    .because(error)
            }
            _ => Self::of(about, error),
        }
    }

    /// The same, with one more header.
    pub(super) fn with(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((name, value));
        }
        self
    }

    /// Nobody reads our log but the client: what lay under a failure goes with it.
    fn because(mut self, error: &Error) -> Self {
        let first = std::error::Error::source(error);
        let causes: Vec<Value> = std::iter::successors(first, |cause| cause.source())
            .map(|cause| Value::from(cause.to_string()))
            .collect();
        if !causes.is_empty() {
            self.detail = json!({ "causes": causes });
        }
        self
    }

    /// As it goes over the wire.
    pub(super) fn answer(self) -> Answer {
        let error = json!({ "code": self.code.text(), "message": self.message, "detail": self.detail });
        let mut answer = json_answer(self.status, "application/json", &json!({ "errors": [error] }));
        answer.headers_mut().extend(self.headers);
        answer
    }
}

/// An answer with nothing in it but its headers.
pub(super) fn empty(status: StatusCode, headers: &[(HeaderName, String)]) -> Answer {
    with_body(status, headers, Body::empty())
}

/// An answer with headers and a body. A value that no header can hold is left out.
pub(super) fn with_body(status: StatusCode, headers: &[(HeaderName, String)], body: Body) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().append(name, value);
        }
    }
    answer
}

/// An answer of JSON.
pub(super) fn json_answer(status: StatusCode, media_type: &'static str, value: &Value) -> Answer {
    with_body(status, &[(CONTENT_TYPE, media_type.to_owned())], Body::from(value.to_string()))
}

/// The digest of what an answer is about.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_e6_a_full_disk_is_507_with_its_cause() {
        let under = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let refusal = Refusal::of(About::Blob, &Error::io("write blob", under));
        assert_eq!(refusal.status, StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(refusal.code.text(), "STORE_FULL");
        assert!(refusal.detail["causes"][0].is_string(), "{}", refusal.detail);
    }

    #[test]
    fn damage_in_the_store_is_not_the_fault_of_who_reads() {
        let error = Error::new(ErrorKind::Mismatch, "read");
        assert_eq!(Refusal::of(About::Blob, &error).status, StatusCode::BAD_REQUEST);
        assert_eq!(Refusal::reading(About::Blob, &error).status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
