//! What a registry answers: bounded bodies, its own words made safe to print, and what kind of failure it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::traffic::Count;
use super::tries::{Again, Trouble};
use crate::oci::{Digest, Error, ErrorKind};

/// How much of an answer that refuses is read.
pub(super) const REFUSAL_BYTES: usize = 64 << 10;

/// How much of a registry's own words is shown.
const WORDS_CHARACTERS: usize = 300;

/// A registry's answer whose body has not been read.
pub(super) struct Answer {
    response: reqwest::Response,
    idle: Duration,
    count: Arc<Count>,
    doing: String,
}

#[derive(Default, Deserialize)]
struct Refusals {
    #[serde(default)]
    errors: Vec<Refusal>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// An answer to what was being done, whose body may pause for so long.
    pub(super) fn new(response: reqwest::Response, idle: Duration, count: Arc<Count>, doing: &str) -> Self {
        Self { response, idle, count, doing: doing.to_owned() }
    }

    /// This answer, unless it says "later" or that the registry itself failed.
    pub(super) async fn unless_later(self) -> Result<Self, Trouble> {
        let status = self.status().as_u16();
        if !passes(status) {
            return Ok(self);
        }
        let after = self.retry_after();
        Err(Trouble { error: self.refusal().await, again: Again::Later(status, after) })
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// One header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The length of the body as announced.
    pub(super) fn length(&self) -> Option<u64> {
        number(self.header(CONTENT_LENGTH.as_str())?)
    }

    /// The digest that the registry says the content has.
    pub(super) fn digest(&self) -> Result<Option<Digest>, Error> {
        self.header("docker-content-digest").map(str::parse).transpose()
    }

    /// The next piece of the body.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Trouble> {
        let cut = |why: Error| Trouble { error: why, again: Again::Connection };
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(piece)) => {
                self.count.received(piece.as_ref().map_or(0, Bytes::len));
                Ok(piece)
            }
            Ok(Err(error)) => {
                Err(cut(passing(&self.doing, "the connection was cut within the answer")
                    .because(error.without_url())))
            }
            Err(_) => Err(cut(passing(
                &self.doing,
                &format!("the registry sent nothing for {} s", self.idle.as_secs_f32()),
            ))),
        }
    }

    /// The whole body, which may have so many bytes.
    pub(super) async fn body(&mut self, limit: usize) -> Result<Bytes, Trouble> {
        let large = |doing: &str| {
            Error::new(
                ErrorKind::TooLarge,
                format!("{}: the answer has more than {limit} bytes, which is the limit", doing),
            )
        };
        if self.length().is_some_and(|length| length > limit as u64) {
            return Err(large(&self.doing).into());
        }
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if all.len() + piece.len() > limit {
                return Err(large(&self.doing).into());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// This answer as an error, in the registry's own words as far as they can be had.
    pub(super) async fn refusal(mut self) -> Error {
        let mut body = BytesMut::new();
        while let Ok(Some(piece)) = self.piece().await {
            body.extend_from_slice(&piece);
            if body.len() >= REFUSAL_BYTES {
                break;
            }
        }
        body.truncate(REFUSAL_BYTES);
        let refusals: Refusals = serde_json::from_slice(&body).unwrap_or_default();
        let refusal = refusals.errors.into_iter().next().unwrap_or_default();
        let status = self.status();
        let words = [refusal.code.as_str(), refusal.message.as_str()]
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect::<Vec<_>>()
            .join(": ");
        let told = if words.is_empty() { String::new() } else { format!(" ({})", sanitized(&words)) };
        Error::new(
            kind(status, &refusal.code, &refusal.message),
            format!("{}: the registry answered {status}{told}", self.doing),
        )
    }

    /// How long the registry wants to be left alone: in seconds, or until a date by its own clock.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?.trim();
        if let Some(seconds) = number(text) {
            return Some(Duration::from_secs(seconds));
        }
        let at = rfc2822::parse(text).ok()?.timestamp();
        // By the registry's own clock where it tells it, so that ours may be wrong.
        let now = self.header(DATE.as_str()).and_then(|date| rfc2822::parse(date.trim()).ok());
        let now = now.map_or_else(jiff::Timestamp::now, |now| now.timestamp());
        Some(Duration::from_secs(u64::try_from(at.as_second() - now.as_second()).unwrap_or(0)))
    }
}

/// A number as headers have it: digits and nothing else, no sign either.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// What a status and the registry's code for it mean to a caller.
fn kind(status: StatusCode, code: &str, message: &str) -> ErrorKind {
    match (status.as_u16(), code) {
        // Some refuse what does not fit as they refuse a wrong password; a login would not help.
        (400..=499, _) if status != StatusCode::TOO_MANY_REQUESTS && no_room(message) => ErrorKind::Full,
        (413, _) => ErrorKind::TooLarge,
        (_, "DIGEST_INVALID" | "SIZE_INVALID") => ErrorKind::Mismatch,
        (_, "MANIFEST_BLOB_UNKNOWN") | (400, "BLOB_UNKNOWN" | "MANIFEST_UNKNOWN") => {
            ErrorKind::MissingContent
        }
        (401 | 403, _) => ErrorKind::Denied,
        (404 | 410, _) => ErrorKind::NotFound,
        (405 | 501, _) | (_, "UNSUPPORTED") => ErrorKind::Unsupported,
        (412, _) => ErrorKind::Moved,
        (507, _) => ErrorKind::Full,
        (status, _) if passes(status) => ErrorKind::Passing,
        (400 | 416, _) => ErrorKind::Invalid,
        _ => ErrorKind::Failed,
    }
}

/// Whether a refusal says that the place is full: registries have no code for it, only words.
fn no_room(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let says = |words: &str| message.contains(words);
    says("quota")
        || says("no space left")
        || (says("storage") && (says("exceed") || says("limit") || says("full")))
}

/// Whether a status may be another one when asked again.
pub(super) fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 499) || (status >= 500 && !matches!(status, 501 | 505 | 507))
}

/// Another's words on one line, without what could steer a terminal.
pub(super) fn sanitized(words: &str) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let safe = words.chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter });
    let mut safe = safe.filter(|letter| !steers(*letter));
    let mut text: String = safe.by_ref().take(WORDS_CHARACTERS).collect();
    if safe.next().is_some() {
        text.push('…');
    }
    text
}

/// A failure that may pass.
pub(super) fn passing(doing: &str, why: &str) -> Error {
    Error::new(ErrorKind::Passing, format!("{doing}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_alone() {
        let most = u64::MAX.to_string();
        for (text, expected) in [("0", Some(0)), (" 12 ", Some(12)), (&most, Some(u64::MAX))] {
            assert_eq!(number(text), expected, "{text:?}");
        }
        for text in ["", "+5", "-5", "1.5", "1e3", "0x1", "1 2", "18446744073709551616"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }
}
