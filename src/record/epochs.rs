//! Refresh epochs: for each job the number of refreshes that have passed. A job that is refreshed takes the next
//! number, which is part of its key, and it is written here once the job has passed; every other run reads it.
//!
//! The record of a job that was refreshed says its number, which its key is made with. Whoever takes such a record into the trusted scope of
//! another store takes the number too, by the same trust: without it the record would never be found.
//!
//! A number of a job is a tag, `epoch-<job>-<number>`, and the highest counts. So machines that write at the same time
//! write different tags, also at registries that know no conditions, and one list of tags answers for all jobs.

use std::collections::{BTreeMap, BTreeSet};

use crate::defence::{Defence, stands};
use crate::family::JobId;
use crate::oci::{Digest, Error, Tag};

use super::note::Note;
use super::{ImageRecord, Records};

/// What a number stands under.
const NOTE: Note = Note { name: "epoch" };
/// How many hexadecimal digits of a job's digest are in its tags.
const DIGITS: usize = 32;
/// The input of a key that says which refresh epoch a job was built in.
pub(crate) const EPOCH: &str = "epoch";
/// What is taken over is no higher: no job is refreshed more often, and at the end of all numbers none could be any more.
const TAKEN_LIMIT: u64 = 1 << 32;

/// What comes of the epoch of a record that was taken in from another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochTaken {
    /// Nothing: it is of the refresh epoch that counts here.
    Same,
    /// Its epoch counts from now on.
    Begun,
    /// Another epoch counts here, so that it is not found.
    Other {
        /// That one.
        here: u64,
    },
}

/// The refresh epoch of each job that has one.
pub(crate) type Epochs = BTreeMap<JobId, u64>;

impl Records {
    /// The refresh epochs of these jobs.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn epochs(&self, jobs: impl Iterator<Item = JobId>) -> Result<Epochs, Error> {
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for scope in self.scopes().filter(|scope| self.is_trusted(scope)) {
            for tag in self.tags_from(scope, &format!("{}-", NOTE.name)).await? {
                let Some((job, epoch)) = read(&tag) else { continue };
                let highest = known.entry(job.to_owned()).or_default();
                *highest = epoch.max(*highest);
            }
        }
        Ok(jobs.filter_map(|job| known.get(&label(&job)).copied().map(|epoch| (job, epoch))).collect())
    }

    /// Let the epochs of jobs whose records were taken in count, where they are later ones; what comes of each. They are believed as
    /// the records are, and in no other than the trusted scope.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn take_epochs(&self, taken: &Epochs) -> Result<BTreeMap<JobId, EpochTaken>, Error> {
        let known = self.epochs(taken.keys().cloned()).await?;
        let mut outcomes = BTreeMap::new();
        for (job, epoch) in taken {
            let here = known.get(job).copied().unwrap_or_default();
            let is_usual = *epoch <= TAKEN_LIMIT || !stands(Defence::TakenEpochs);
            let may_begin = self.is_trusted(&self.scope) && is_usual;
            let outcome = match *epoch {
                epoch if epoch == here => EpochTaken::Same,
                epoch if epoch > here && may_begin => {
                    self.keep_epoch(job, epoch).await?;
                    EpochTaken::Begun
                }
                _ => EpochTaken::Other { here },
            };
            outcomes.insert(job.clone(), outcome);
        }
        Ok(outcomes)
    }

    /// Keep the epoch of a job that has passed; a higher one that is known stays what counts. A run in any other than
    /// the trusted scope keeps none, so that it changes no other run's keys.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn keep_epoch(&self, job: &JobId, epoch: u64) -> Result<(), Error> {
        if !self.is_trusted(&self.scope) {
            return Ok(());
        }
        let document = NOTE.document(job.to_string());
        self.write_note_under(&tag(job, epoch)?, &document).await?;
        // What it follows is not looked at any more; where nothing may be removed, it stays.
        if let Some(before) = epoch.checked_sub(1).filter(|before| *before > 0) {
            let before = tag(job, before)?;
            for scope in BTreeSet::from([&self.scope, self.shared()]) {
                let _ = self.store.remove_tag(scope, &before).await;
            }
        }
        Ok(())
    }
}

impl ImageRecord {
    /// The refresh epoch that it was built in; 0 before the first refresh.
    pub(crate) fn epoch(&self) -> u64 {
        self.inputs.get(EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or_default()
    }
}

fn label(job: &JobId) -> String {
    let mut hex = Digest::of(job.to_string().as_bytes()).hex().to_owned();
    hex.truncate(DIGITS);
    hex
}

fn tag(job: &JobId, epoch: u64) -> Result<Tag, Error> {
    format!("{}-{}-{epoch}", NOTE.name, label(job)).parse()
}

/// The job of a tag, as [`label`] calls it, and the number.
fn read(tag: &Tag) -> Option<(&str, u64)> {
    let (job, epoch) = tag.as_str().strip_prefix(NOTE.name)?.strip_prefix('-')?.split_once('-')?;
    let number = epoch.parse().ok().filter(|number: &u64| number.to_string() == epoch)?;
    (job.len() == DIGITS).then_some((job, number))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;

    use super::*;
    use crate::oci::{Memory, Store};
    use crate::record::ScopeName;
    use crate::record::listing::PAGE;

    fn records() -> Records {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        Records::of_scope(store, &ScopeName::trusted())
    }

    #[tokio::test]
    async fn tm1_a_run_in_another_scope_reads_the_epochs_and_writes_none() {
        let trusted = records();
        let pull_request = "pr-12".parse().expect("a scope");
        let other = Records::of_scope(trusted.store.clone(), &pull_request);
        trusted.keep_epoch(&job(1), 3).await.expect("kept");
        for epoch in [4, 1 << 40] {
            other.keep_epoch(&job(1), epoch).await.expect("passed over");
            other.keep_epoch(&job(2), epoch).await.expect("passed over");
        }
        for records in [&trusted, &other] {
            assert_eq!(known(records).await, [(job(1), 3)].into());
        }
    }

    #[tokio::test]
    async fn tm1_an_epoch_that_is_taken_in_counts_by_the_trust_of_its_record_alone() {
        let trusted = records();
        let other = Records::of_scope(trusted.store.clone(), &"pr-12".parse().expect("a scope"));
        trusted.keep_epoch(&job(1), 3).await.expect("kept");
        let take = async |records: &Records, epoch: u64| {
            let taken = [(job(1), epoch)].into();
            records.take_epochs(&taken).await.expect("an answer")[&job(1)]
        };
        for epoch in [0, 2, 4] {
            assert_eq!(take(&other, epoch).await, EpochTaken::Other { here: 3 });
        }
        assert_eq!(take(&other, 3).await, EpochTaken::Same);
        for epoch in [0, 2, TAKEN_LIMIT + 1, u64::MAX] {
            assert_eq!(take(&trusted, epoch).await, EpochTaken::Other { here: 3 });
        }
        assert_eq!(known(&trusted).await, [(job(1), 3)].into());
        assert_eq!(take(&trusted, 5).await, EpochTaken::Begun);
        assert_eq!(take(&trusted, 5).await, EpochTaken::Same);
        assert_eq!(known(&trusted).await, [(job(1), 5)].into());
    }

    async fn known(records: &Records) -> Epochs {
        records.epochs((0..2_000).map(job)).await.expect("an answer")
    }

    fn job(number: usize) -> JobId {
        format!("image-{number}@linux/amd64").parse().expect("a job")
    }

    #[tokio::test]
    async fn no_epoch_is_lost_where_many_are_written_at_once_and_none_becomes_smaller() {
        let records = records();
        assert_eq!(known(&records).await, Epochs::new());
        let jobs: Vec<JobId> = (0..10).map(job).collect();
        let all = join_all(jobs.iter().map(|job| records.keep_epoch(job, 2))).await;
        all.into_iter().for_each(|kept| kept.expect("kept"));
        records.keep_epoch(&jobs[0], 1).await.expect("a late one");
        assert_eq!(known(&records).await, jobs.into_iter().map(|job| (job, 2)).collect());
    }

    #[tokio::test]
    async fn epochs_are_read_to_the_end_among_other_tags() {
        let records = records();
        for number in 0..PAGE + 10 {
            records.keep_epoch(&job(number), 1).await.expect("kept");
        }
        records.keep_epoch(&job(3), 2).await.expect("kept");
        let strange = ["epoch", "epoch-1", "epoch-x-y", "epochs", "durations", "newest-1"];
        let long = format!("epoch-{}-007", label(&job(4)));
        for name in strange.into_iter().chain([long.as_str()]) {
            let tag = name.parse().expect("a tag");
            records.write_note_under(&tag, &NOTE.document(String::new())).await.expect("written");
        }
        let found = known(&records).await;
        assert_eq!((found.len(), found[&job(3)], found[&job(4)]), (PAGE + 10, 2, 1));
        let tags = records.store.tags(&records.scope, None, 5 * PAGE).await.expect("tags");
        assert_eq!(tags.len(), PAGE + 10 + strange.len() + 1, "one number a job is kept");
    }
}
