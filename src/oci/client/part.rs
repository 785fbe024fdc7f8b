//! Bytes of a blob on their way out: read from where they are while they are sent, and never held.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use tokio::time::Instant;

use super::traffic::Count;
use crate::oci::store::Origin;
use crate::oci::{BlobReader, Digest, Error, ErrorKind, Hasher};

/// How fast a registry is at least with what it was sent, in bytes a second: it may hash and move a blob before it
/// answers.
const SLOWEST_ANSWER: u64 = 4 << 20;

/// Bytes of a blob, from one place to another in it. It can be read as often as it must be sent.
pub(super) struct Part<'a> {
    origin: &'a Origin<'a>,
    digest: &'a Digest,
    size: u64,
    start: u64,
    end: u64,
    check: &'a Check,
}

/// The check of one blob over all its parts, however often each is sent.
pub(super) struct Check(Arc<Mutex<Checked>>);

struct Checked {
    /// `None` once the digest was compared.
    hasher: Option<Hasher>,
    /// How many bytes were hashed.
    at: u64,
    failure: Option<Error>,
}

impl Check {
    /// Nothing is read yet.
    pub(super) fn new(digest: &Digest) -> Self {
        let hasher = Some(Hasher::new(digest.algorithm()));
        Self(Arc::new(Mutex::new(Checked { hasher, at: 0, failure: None })))
    }
}

impl Checked {
    /// Take in bytes that begin at a place; those before were seen already, or a part is sent again.
    fn take(&mut self, start: u64, piece: &Bytes) {
        let known = self.at.saturating_sub(start);
        if let (Some(hasher), Ok(known)) = (&mut self.hasher, usize::try_from(known))
            && start <= self.at
            && known < piece.len()
        {
            hasher.update(&piece[known..]);
            self.at += (piece.len() - known) as u64;
        }
    }

    /// Compare, where all was seen.
    fn compare(&mut self, digest: &Digest, size: u64) -> Result<(), Error> {
        if self.at < size {
            return Ok(());
        }
        match self.hasher.take().map(|hasher| hasher.finish()) {
            Some(found) if found != *digest => {
                let what = format!("blob {digest} has in truth the digest {found} where it comes from");
                Err(Error::new(ErrorKind::Mismatch, what))
            }
            _ => Ok(()),
        }
    }
}

fn locked(checked: &Mutex<Checked>) -> MutexGuard<'_, Checked> {
    checked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a stream is.
struct Reading {
    stream: BoxStream<'static, Result<Bytes, Error>>,
    at: u64,
    end: u64,
    size: u64,
    digest: Digest,
    checked: Arc<Mutex<Checked>>,
    pulse: Pulse,
    count: Arc<Count>,
}

impl<'a> Part<'a> {
    /// The bytes from `start` to `end` of a blob of a size.
    pub(super) fn new(
        origin: &'a Origin<'a>,
        digest: &'a Digest,
        size: u64,
        range: (u64, u64),
        check: &'a Check,
    ) -> Self {
        Self { origin, digest, size, start: range.0, end: range.1, check }
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Why reading ended, where it was not the receiver's fault.
    pub(super) fn failure(&self) -> Option<Error> {
        locked(&self.check.0).failure.take()
    }

    /// Read it from its beginning.
    pub(super) async fn open(
        &self,
        pulse: &Pulse,
        count: &Arc<Count>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let Origin { store, repository } = *self.origin;
        let reader = match (self.start, self.end) {
            (start, end) if start == end => BlobReader::of(Bytes::new()),
            (0, end) if end == self.size => store.read_blob(repository, self.digest, None).await?,
            (start, end) => store.read_blob(repository, self.digest, Some(start..end)).await?,
        };
        let reading = Reading {
            stream: reader.stream,
            at: self.start,
            end: self.end,
            size: self.size,
            digest: self.digest.clone(),
            checked: self.check.0.clone(),
            pulse: pulse.clone(),
            count: count.clone(),
        };
        let stream = try_unfold(reading, |mut reading| async move {
            match reading.next().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, reading))),
                Err(error) => {
                    let told = Error::new(error.kind(), error.to_string());
                    locked(&reading.checked).failure = Some(error);
                    Err(told)
                }
            }
        });
        Ok(stream.boxed())
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.pulse.beat();
        let (digest, end) = (&self.digest, self.end);
        let wrong = |why: &str| Err(Error::new(ErrorKind::Mismatch, format!("read blob {digest}: {why}")));
        match self.stream.next().await.transpose()? {
            Some(piece) if self.at + piece.len() as u64 > end => wrong("it is larger than was said"),
            Some(piece) => {
                let mut checked = locked(&self.checked);
                checked.take(self.at, &piece);
                self.at += piece.len() as u64;
                // The last bytes of a blob that is another one are not sent.
                checked.compare(&self.digest, self.size)?;
                drop(checked);
                self.count.sent(piece.len());
                self.pulse.beat();
                if self.at == end {
                    self.pulse.wait_longer(Duration::from_secs(self.size / SLOWEST_ANSWER));
                }
                Ok(Some(piece))
            }
            None if self.at < end => wrong("it is smaller than was said"),
            None => Ok(None),
        }
    }
}

/// When something last came or went, in milliseconds since the start.
#[derive(Clone)]
pub(super) struct Pulse {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// It beats now.
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    fn beat(&self) {
        self.last.fetch_max(self.milliseconds(), Ordering::Relaxed);
    }

    /// What comes next may take so much longer.
    pub(super) fn wait_longer(&self, by: Duration) {
        let more = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(self.milliseconds().saturating_add(more), Ordering::Relaxed);
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// The result of some work, unless the pulse stops for so long.
pub(super) async fn within<T>(work: impl Future<Output = T>, pulse: &Pulse, idle: Duration) -> Option<T> {
    let mut work = pin!(work);
    loop {
        let until = pulse.last() + idle;
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = tokio::time::sleep_until(until) => {}
        }
        if pulse.last() + idle <= Instant::now() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Memory, Repository, Store};

    async fn read(part: &Part<'_>) -> Result<Vec<u8>, Error> {
        let mut stream = part.open(&Pulse::start(), &Arc::default()).await?;
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn parts_in_any_order_and_again_are_one_check() {
        let store = Memory::new();
        let repository: Repository = "a/b".parse().expect("repository");
        let bytes: Bytes = (0..=255).collect::<Vec<u8>>().into();
        let digest = store.write_blob(&repository, bytes.clone()).await.expect("blob");
        let origin = Origin { store: &store, repository: &repository };
        let check = Check::new(&digest);
        for (start, end) in [(0, 100), (0, 50), (50, 150), (150, 256), (200, 256), (0, 256)] {
            let part = Part::new(&origin, &digest, 256, (start, end), &check);
            let (from, to) = (usize::try_from(start).expect("small"), usize::try_from(end).expect("small"));
            assert_eq!(read(&part).await.expect("a part"), &bytes[from..to]);
        }
        assert!(locked(&check.0).hasher.is_none(), "the digest was compared");
    }

    #[tokio::test]
    async fn f_r19_a_blob_that_is_another_is_never_whole() {
        let store = Memory::new();
        let repository: Repository = "a/b".parse().expect("repository");
        let digest = store.write_blob(&repository, Bytes::from_static(b"right")).await.expect("blob");
        let origin = Origin { store: &store, repository: &repository };
        for size in [4, 6] {
            let check = Check::new(&digest);
            let part = Part::new(&origin, &digest, size, (0, size), &check);
            let error = read(&part).await.expect_err("of another size");
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            assert!(part.failure().is_some());
        }
        let check = Check::new(&Digest::of(b"left"));
        locked(&check.0).take(0, &Bytes::from_static(b"wrong"));
        assert!(locked(&check.0).compare(&digest, 5).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn f_r18_only_a_pulse_that_stops_ends_the_work() {
        let pulse = Pulse::start();
        let beats = pulse.clone();
        let slow = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                beats.beat();
            }
        };
        assert!(within(slow, &pulse, Duration::from_secs(6)).await.is_some());
        let start = Instant::now();
        let silent = within(std::future::pending::<()>(), &pulse, Duration::from_secs(6)).await;
        assert!(silent.is_none() && start.elapsed() <= Duration::from_secs(7));
    }
}
