//! Blobs on their way here: a stream that goes on where a cut connection left it.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, RANGE};
use std::sync::Arc;

use super::answer::{Answer, number, passing};
use super::request::{Ask, Connection};
use super::tries::{Tries, Trouble};
use crate::oci::{BlobReader, Digest, Error, ErrorKind, Repository};

/// Where a download is: the next byte and the end, counted from the start of the blob.
struct Download {
    connection: Arc<Connection>,
    ask: Ask,
    answer: Option<Answer>,
    at: u64,
    end: u64,
    /// Bytes to pass over, where a registry answers a range with the whole.
    skip: u64,
}

/// Begin to read a blob or a range of it.
pub(super) async fn read(
    connection: &Arc<Connection>,
    repository: &Repository,
    digest: &Digest,
    range: Option<Range<u64>>,
) -> Result<BlobReader, Error> {
    let doing = format!("read blob {digest} of {repository}");
    let ask = connection
        .ask(Method::GET, repository, &format!("blobs/{digest}"), "pull", &doing)?
        .header(ACCEPT_ENCODING, "identity");
    let outside = || Error::new(ErrorKind::Invalid, format!("{doing}: the range is not within the blob"));
    if let Some(range) = &range
        && range.start >= range.end
    {
        // HTTP cannot ask for nothing.
        let known = super::blob_size(connection, repository, digest)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, doing.clone()))?;
        return match range.start == range.end && range.start <= known {
            true => Ok(BlobReader::of(Bytes::new())),
            false => Err(outside()),
        };
    }
    let first = range.as_ref().map_or_else(
        || ask.clone(),
        |range| ask.clone().header(RANGE, &format!("bytes={}-{}", range.start, range.end - 1)),
    );
    let answer = connection.send(&first).await?;
    let whole = match answer.status().as_u16() {
        200 => match answer.length() {
            Some(length) => length,
            None => super::blob_size(connection, repository, digest)
                .await?
                .ok_or_else(|| passing(&doing, "the registry does not say how large it is"))?,
        },
        206 => content_range(&answer).and_then(|(_, total)| total).unwrap_or(u64::MAX),
        416 => return Err(outside()),
        _ => return Err(answer.refusal().await),
    };
    check_encoding(&answer, &doing)?;
    let wanted = range.unwrap_or(0..whole);
    if wanted.end > whole {
        return Err(outside());
    }
    let skip = offset(&answer, wanted.start, &doing)?;
    let size = wanted.end - wanted.start;
    let download = Download {
        connection: connection.clone(),
        ask,
        answer: Some(answer),
        at: wanted.start,
        end: wanted.end,
        skip,
    };
    Ok(BlobReader { size, stream: download.stream() })
}

impl Download {
    fn stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        try_unfold(self, |mut download| async move {
            let piece = download.next().await?;
            Ok(piece.map(|piece| (piece, download)))
        })
        .boxed()
    }

    /// The next bytes, from a new connection where the last one was cut. Tries are counted from the last progress.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let connection = self.connection.clone();
        let mut tries = Tries::new(&connection);
        while self.at < self.end {
            match self.piece(&connection).await {
                Ok(piece) => return Ok(Some(piece)),
                Err(trouble) => {
                    self.answer = None;
                    tries.again(trouble).await?;
                }
            }
        }
        Ok(None)
    }

    async fn piece(&mut self, connection: &Connection) -> Result<Bytes, Trouble> {
        loop {
            let answer = match &mut self.answer {
                Some(answer) => answer,
                empty => {
                    let range = format!("bytes={}-{}", self.at, self.end - 1);
                    let answer = connection.once(&self.ask.clone().header(RANGE, &range)).await?;
                    if !matches!(answer.status().as_u16(), 200 | 206) {
                        return Err(answer.refusal().await.into());
                    }
                    check_encoding(&answer, &self.ask.doing)?;
                    self.skip = offset(&answer, self.at, &self.ask.doing)?;
                    empty.insert(answer)
                }
            };
            let Some(mut piece) = answer.piece().await? else {
                let error = passing(&self.ask.doing, "the answer ended before the blob did");
                return Err(Trouble::connection(error));
            };
            let skipped = self.skip.min(piece.len() as u64);
            self.skip -= skipped;
            piece = piece.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            piece.truncate(room);
            if !piece.is_empty() {
                self.at += piece.len() as u64;
                return Ok(piece);
            }
        }
    }
}

/// How many bytes stand before the wanted one in an answer.
pub(super) fn offset(answer: &Answer, wanted: u64, doing: &str) -> Result<u64, Error> {
    match (answer.status().as_u16(), content_range(answer)) {
        (206, Some((start, _))) if start == wanted => Ok(0),
        (206, _) => Err(Error::new(ErrorKind::Mismatch, format!("{doing}: the registry sent another range"))),
        _ => Ok(wanted),
    }
}

/// The first byte and the whole size that `Content-Range` tells; nothing of one that RFC 9110 calls invalid.
pub(super) fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (range, total) =
        answer.header(CONTENT_RANGE.as_str())?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last) = (number(start)?, number(last)?);
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    (start <= last && total.is_none_or(|total| last < total)).then_some((start, total))
}

/// Compressed on the way, bytes are not those of the digest.
fn check_encoding(answer: &Answer, doing: &str) -> Result<(), Error> {
    match answer.header(CONTENT_ENCODING.as_str()) {
        None | Some("identity" | "") => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Mismatch,
            format!("{doing}: the registry compressed it on the way, though asked not to"),
        )),
    }
}
