//! A request as the handlers see it: parsed query, and a body that is read piece by piece and never without end.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header::{AsHeaderName, CONTENT_LENGTH, EXPECT, HeaderName};
use axum::http::{Method, request::Parts};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::answer::{Code, Refusal};

/// How long a client may think between two pieces of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// How slow a body may be on the whole, in bytes a second, once a while has gone: a byte a minute holds up a place.
const SLOWEST: u64 = 256;
const SLOW_START: Duration = Duration::from_secs(60);
/// How many bytes of a body are read in all before it is answered with a refusal: a client that is still
/// sending would see a broken pipe and never the answer.
const DRAIN_BYTES: u64 = 16 << 20;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The head of a request: all but its body.
pub(super) struct Head {
    parts: Parts,
    query: Vec<(String, String)>,
}

/// One request.
pub(super) struct Request {
    /// What it says before its body.
    pub(super) head: Head,
    body: BodyDataStream,
    begun: Instant,
    read_bytes: u64,
    at_end: bool,
}

impl Head {
    /// Its method.
    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The text of a header, where it has one.
    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A header that names conditions, several lines joined; empty, which matches nothing, where it is no text.
    pub(super) fn conditions(&self, name: HeaderName) -> Option<String> {
        let mut lines = self.parts.headers.get_all(name).iter().peekable();
        lines.peek()?;
        let texts: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default().trim()).collect();
        Some(texts.join(","))
    }

    /// The value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that may stand there several times.
    pub(super) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// How many bytes the client says it will send.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }
}

impl Request {
    /// A request whose body has not been touched.
    pub(super) fn new(parts: Parts, body: Body) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let head = Head { parts, query };
        Self { head, body: body.into_data_stream(), begun: Instant::now(), read_bytes: 0, at_end: false }
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// Where the client went away or thinks too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let lost = |why: String| Refusal::invalid(Code::SizeInvalid, why);
        if self.at_end {
            return Ok(None);
        }
        match timeout(PIECE_TIMEOUT, self.body.next()).await {
            Ok(Some(Ok(piece))) => {
                self.read_bytes += piece.len() as u64;
                let taken = self.begun.elapsed();
                if taken > SLOW_START && self.read_bytes < SLOWEST * taken.as_secs() {
                    self.at_end = true;
                    return Err(lost(format!("the body comes at less than {SLOWEST} bytes a second")));
                }
                Ok(Some(piece))
            }
            Ok(None) => {
                self.at_end = true;
                Ok(None)
            }
            Ok(Some(Err(error))) => {
                self.at_end = true;
                Err(lost(format!("the body ended early: {error}")))
            }
            Err(_) => {
                self.at_end = true;
                Err(lost(format!("no byte of the body came in {} seconds", PIECE_TIMEOUT.as_secs())))
            }
        }
    }

    /// Read what is left of the body, within bounds. `false` where there is more: the connection must close.
    pub(super) async fn drain(&mut self) -> bool {
        let waits = self.read_bytes == 0 && self.head.header(EXPECT).is_some();
        if waits {
            return self.at_end;
        }
        let all = async {
            while self.read_bytes <= DRAIN_BYTES {
                match self.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        };
        timeout(DRAIN_TIMEOUT, all).await.unwrap_or(false)
    }
}
