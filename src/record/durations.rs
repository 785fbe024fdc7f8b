//! How long jobs took, and how often they have failed: one small document under one tag of a scope. Only the order of
//! jobs, estimates, and what a scheduled run leaves alone for a while are made of it: no key depends on it, and where two runs write it at once what one of them has
//! seen is lost, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::family::JobId;
use crate::oci::{Digest, Document, Error};

use super::Records;
use super::note::Note;

/// The version of the format; a reader passes over others.
const VERSION: u32 = 1;
const NOTE: Note = Note { name: "durations" };
/// How many times are kept of a job on a builder.
const KEPT: usize = 5;
/// How long the document may be in bytes: registries refuse manifests of more than 4 MiB.
const BYTES_LIMIT: usize = 1 << 20;

/// How long jobs took, by `image:variant@platform`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durations {
    version: u32,
    jobs: BTreeMap<String, Vec<Taken>>,
    /// How often jobs have failed since they passed last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failures: BTreeMap<String, u32>,
    /// How they have failed since anything changed that they are made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failing: BTreeMap<String, Failing>,
}

/// How a job has failed in a row, while nothing changed that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failing {
    /// The digest of what was tried.
    pub(crate) tried: Digest,
    /// How often, in as many runs.
    pub(crate) times: u32,
    /// When it failed first, in seconds since 1970-01-01 UTC.
    pub(crate) since_seconds: u64,
    /// When it failed last.
    pub(crate) last_seconds: u64,
}

/// How long one job took on one builder, the last few times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The builder.
    pub(crate) builder: String,
    /// Whether it was made by emulation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) emulated: bool,
    /// Whether only its checks were run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) checks_only: bool,
    /// Milliseconds, the last time last.
    pub(crate) milliseconds: Vec<u64>,
}

impl Taken {
    /// An average that forgets: each time counts half as much as the next one.
    pub(crate) fn average(&self) -> u64 {
        let mut times = self.milliseconds.iter().copied();
        let first = times.next().unwrap_or_default();
        times.fold(first, |average, time| average / 2 + time / 2 + (average % 2 + time % 2) / 2)
    }
}

impl Durations {
    /// What is known of a job.
    pub(crate) fn of(&self, job: &JobId) -> &[Taken] {
        self.jobs.get(&job.to_string()).map_or(&[], Vec::as_slice)
    }

    /// How often a job has failed in a row, in as many runs.
    pub(crate) fn failures(&self, job: &JobId) -> u32 {
        self.failures.get(&job.to_string()).copied().unwrap_or_default()
    }

    /// How a job has failed in a row, while nothing changed that it is made of.
    pub(crate) fn failing(&self, job: &JobId) -> Option<&Failing> {
        self.failing.get(&job.to_string())
    }

    /// Remember that a job has failed now, and what was tried.
    pub(crate) fn failed(&mut self, job: &JobId, tried: &Digest, now_seconds: u64) {
        let times = self.failures.entry(job.to_string()).or_default();
        *times = times.saturating_add(1);
        let before = self.failing.remove(&job.to_string()).filter(|before| before.tried == *tried);
        let failing = Failing {
            tried: tried.clone(),
            times: before.as_ref().map_or(0, |before| before.times).saturating_add(1),
            since_seconds: before.map_or(now_seconds, |before| before.since_seconds.min(now_seconds)),
            last_seconds: now_seconds,
        };
        self.failing.insert(job.to_string(), failing);
    }

    /// What is known of all jobs, of those too that the family does not have any more.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Taken> {
        self.jobs.values().flatten()
    }

    /// What is known of each job.
    pub(crate) fn by_job(&self) -> impl Iterator<Item = &[Taken]> {
        self.jobs.values().map(Vec::as_slice)
    }

    /// Remember one more time that it took to pass.
    pub(crate) fn add(&mut self, job: &JobId, newest: Taken) {
        self.failures.remove(&job.to_string());
        self.failing.remove(&job.to_string());
        let known = self.jobs.entry(job.to_string()).or_default();
        let same = |one: &&mut Taken| {
            (&one.builder, one.emulated, one.checks_only)
                == (&newest.builder, newest.emulated, newest.checks_only)
        };
        match known.iter_mut().find(same) {
            Some(one) => {
                one.milliseconds.extend(newest.milliseconds);
                let forgotten = one.milliseconds.len().saturating_sub(KEPT);
                one.milliseconds.drain(..forgotten);
            }
            None => known.push(newest),
        }
    }

    fn document(&self) -> Result<Document, Error> {
        let mut kept = Self { version: VERSION, ..self.clone() };
        let mut text = NOTE.text(&kept)?;
        while text.len() > BYTES_LIMIT {
            // Of families as large as that half of it must do.
            halve(&mut kept.jobs);
            halve(&mut kept.failures);
            halve(&mut kept.failing);
            text = NOTE.text(&kept)?;
        }
        Ok(NOTE.document(text))
    }
}

/// Let every other entry go.
fn halve<T>(entries: &mut BTreeMap<String, T>) {
    let mut at = 0;
    entries.retain(|_, _| {
        at += 1;
        at % 2 == 0
    });
}

impl Records {
    /// How long jobs took. What cannot be read is as if it were not there.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn durations(&self) -> Result<Durations, Error> {
        for scope in self.scopes() {
            let read = self.read_note::<Durations>(scope, &NOTE).await?;
            if let Some(known) = read.filter(|durations| durations.version == VERSION) {
                return Ok(known);
            }
        }
        Ok(Durations::default())
    }

    /// Remember how long some jobs took, and that others have failed now with what was tried of them, beside what is known
    /// already.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn remember(
        &self,
        taken: Vec<(JobId, Taken)>,
        failed: &[(JobId, Digest)],
        now_seconds: u64,
    ) -> Result<(), Error> {
        let mut durations = self.durations().await?;
        failed.iter().for_each(|(job, tried)| durations.failed(job, tried, now_seconds));
        for (job, taken) in taken {
            durations.add(&job, taken);
        }
        self.write_note(&NOTE, &durations.document()?).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Memory, Store};
    use crate::record::ScopeName;

    fn taken(builder: &str, milliseconds: u64) -> Taken {
        let milliseconds = vec![milliseconds];
        Taken { builder: builder.to_owned(), emulated: false, checks_only: false, milliseconds }
    }

    #[tokio::test]
    async fn the_last_few_times_of_a_job_on_a_builder_are_remembered() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let records = Records::new(store, "scopes/trusted".parse().unwrap());
        assert_eq!(records.durations().await.unwrap(), Durations::default());
        let job: JobId = "base@linux/amd64".parse().unwrap();
        for time in [800, 100, 100, 100, 100, 100] {
            records.remember(vec![(job.clone(), taken("one", time))], &[], 0).await.unwrap();
        }
        records.remember(vec![(job.clone(), taken("two", 7))], &[], 0).await.unwrap();
        let known = records.durations().await.unwrap();
        let [one, two] = known.of(&job) else { panic!("{known:?}") };
        assert_eq!((one.milliseconds.len(), one.average(), two.average()), (KEPT, 100, 7));
        assert_eq!(known.of(&"other@linux/amd64".parse().unwrap()), []);
        assert_eq!(known.all().count(), 2);
    }

    #[tokio::test]
    async fn failures_in_a_row_are_counted_until_one_passes() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let records = Records::of_scope(store, &ScopeName::trusted());
        let [one, two]: [JobId; 2] =
            ["one", "two"].map(|name| format!("{name}@linux/amd64").parse().unwrap());
        let tried = Digest::of(b"tried");
        let failed = [(one.clone(), tried.clone()), (two.clone(), tried.clone())];
        for now in [700, 800, 900] {
            records.remember(Vec::new(), &failed, now).await.unwrap();
        }
        records.remember(vec![(one.clone(), taken("builder", 5))], &[], 950).await.unwrap();
        let known = records.durations().await.unwrap();
        assert_eq!((known.failures(&one), known.failures(&two)), (0, 3));
        let failing = Failing { tried, times: 3, since_seconds: 700, last_seconds: 900 };
        assert_eq!((known.failing(&one), known.failing(&two)), (None, Some(&failing)));
        // Another try begins anew, and a clock that was set back leads to no time before the first failure.
        let other = Digest::of(b"another");
        for (tried, now, times, since) in [(&other, 1_000, 1, 1_000), (&other, 600, 2, 600)] {
            records.remember(Vec::new(), &[(two.clone(), tried.clone())], now).await.unwrap();
            let failing = Failing { tried: tried.clone(), times, since_seconds: since, last_seconds: now };
            assert_eq!(records.durations().await.unwrap().failing(&two), Some(&failing));
        }
    }

    #[test]
    fn the_average_forgets() {
        let times = |milliseconds: &[u64]| Taken { milliseconds: milliseconds.to_vec(), ..taken("one", 0) };
        assert_eq!(times(&[]).average(), 0);
        assert_eq!(times(&[800, 100, 100]).average(), 275);
        assert_eq!(times(&[u64::MAX, u64::MAX]).average(), u64::MAX);
    }

    #[test]
    fn the_document_stays_one_that_registries_take() {
        let mut durations = Durations::default();
        for at in 0..50_000 {
            let job: JobId = format!("image-{at}@linux/amd64").parse().unwrap();
            durations.add(&job, taken("a-builder", at));
            durations.failed(&job, &Digest::of(b"tried"), at);
        }
        let document = durations.document().unwrap();
        assert!(document.bytes().len() <= BYTES_LIMIT + BYTES_LIMIT / 2, "{}", document.bytes().len());
    }
}
