//! How long jobs took: one small document under one tag of a scope. Only estimates are made of it: no key depends on
//! it, and where two runs write it at once the estimates of one of them are lost, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::family::JobId;
use crate::oci::{Descriptor, Document, Error, ErrorKind, Manifest, MediaType, Pointer, Tag};

use super::Records;

/// The version of the format; a reader passes over others.
const VERSION: u32 = 1;
const TAG: &str = "durations";
const ANNOTATION: &str = "dev.polyarch.durations";
const ARTIFACT: &str = "application/vnd.polyarch.durations.v1+json";
const EMPTY: &[u8] = b"{}";
/// How many times are kept of a job on a builder.
const KEPT: usize = 5;
/// How long the document may be in bytes: registries refuse manifests of more than 4 MiB.
const BYTES_LIMIT: usize = 1 << 20;

/// How long jobs took, by `image:variant@platform`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durations {
    version: u32,
    jobs: BTreeMap<String, Vec<Taken>>,
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

    /// What is known of all jobs, of those too that the family does not have any more.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Taken> {
        self.jobs.values().flatten()
    }

    /// What is known of each job.
    pub(crate) fn by_job(&self) -> impl Iterator<Item = &[Taken]> {
        self.jobs.values().map(Vec::as_slice)
    }

    /// Remember one more time.
    pub(crate) fn add(&mut self, job: &JobId, newest: Taken) {
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
        let wrong = |error| Error::new(ErrorKind::Invalid, "write how long jobs took").because(error);
        let mut kept = Self { version: VERSION, ..self.clone() };
        let mut text = serde_json::to_string(&kept).map_err(wrong)?;
        while text.len() > BYTES_LIMIT {
            // Of families as large as that half of the estimates must do.
            let mut at = 0;
            kept.jobs.retain(|_, _| {
                at += 1;
                at % 2 == 0
            });
            text = serde_json::to_string(&kept).map_err(wrong)?;
        }
        Ok(Document::of_manifest(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: Some(ARTIFACT.to_owned()),
            config: Descriptor::of(MediaType::EMPTY, EMPTY),
            layers: Vec::new(),
            subject: None,
            annotations: BTreeMap::from([(ANNOTATION.to_owned(), text)]),
        }))
    }
}

impl Records {
    /// How long jobs took. What cannot be read is as if it were not there.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn durations(&self) -> Result<Durations, Error> {
        let document = match self.store.read_document(&self.scope, &Pointer::Tag(tag())).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(Durations::default()),
            Err(error) => return Err(error),
        };
        let text = document.manifest().ok().and_then(|mut manifest| manifest.annotations.remove(ANNOTATION));
        let read: Option<Durations> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(read.filter(|durations| durations.version == VERSION).unwrap_or_default())
    }

    /// Remember how long some jobs took, beside what is known already.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn remember(&self, taken: Vec<(JobId, Taken)>) -> Result<(), Error> {
        let mut durations = self.durations().await?;
        for (job, taken) in taken {
            durations.add(&job, taken);
        }
        let document = durations.document()?;
        self.store.write_blob(&self.scope, EMPTY.into()).await?;
        self.store.write_document(&self.scope, &document, &[tag()]).await
    }
}

fn tag() -> Tag {
    TAG.parse().expect("a fixed name is a tag")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::{Memory, Store};

    fn taken(builder: &str, milliseconds: u64) -> Taken {
        let milliseconds = vec![milliseconds];
        Taken { builder: builder.to_owned(), emulated: false, checks_only: false, milliseconds }
    }

    #[tokio::test]
    async fn the_last_few_times_of_a_job_on_a_builder_are_remembered() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let records = Records { store, scope: "scopes/trusted".parse().unwrap() };
        assert_eq!(records.durations().await.unwrap(), Durations::default());
        let job: JobId = "base@linux/amd64".parse().unwrap();
        for time in [800, 100, 100, 100, 100, 100] {
            records.remember(vec![(job.clone(), taken("one", time))]).await.unwrap();
        }
        records.remember(vec![(job.clone(), taken("two", 7))]).await.unwrap();
        let known = records.durations().await.unwrap();
        let [one, two] = known.of(&job) else { panic!("{known:?}") };
        assert_eq!((one.milliseconds.len(), one.average(), two.average()), (KEPT, 100, 7));
        assert_eq!(known.of(&"other@linux/amd64".parse().unwrap()), []);
        assert_eq!(known.all().count(), 2);
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
        for at in 0..20_000 {
            durations.add(&format!("image-{at}@linux/amd64").parse().unwrap(), taken("a-builder", at));
        }
        let document = durations.document().unwrap();
        assert!(document.bytes().len() <= BYTES_LIMIT + BYTES_LIMIT / 2, "{}", document.bytes().len());
    }
}
