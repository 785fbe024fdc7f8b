//! Refresh epochs: for each job the number of refreshes that have passed. A job that is refreshed takes the next
//! number, which is part of its key, and it is written here once the job has passed; every other run reads it.
//!
//! A number of a job is a tag, `epoch-<job>-<number>`, and the highest counts. So machines that write at the same time
//! write different tags, also at registries that know no conditions, and one list of tags answers for all jobs.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::JobId;
use crate::oci::{Digest, Error, Tag};

use super::Records;
use super::note::Note;

/// What a number stands under.
const NOTE: Note = Note { name: "epoch" };
/// How many hexadecimal digits of a job's digest are in its tags.
const DIGITS: usize = 32;

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
