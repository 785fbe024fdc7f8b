//! What happened, as versioned data: the seam between a run and everything that tells of it.
//!
//! Events state facts, never how to show them. One log of a run is one line of JSON an event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Wait;

/// The version of the format of events; a reader refuses newer ones.
pub(crate) const EVENT_VERSION: u32 = 1;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Event {
    /// When: milliseconds since 1970-01-01, UTC.
    pub(crate) at_milliseconds: u64,
    /// What.
    #[serde(flatten)]
    pub(crate) kind: EventKind,
}

/// What happened. Jobs are written `image:variant@platform`, digests as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum EventKind {
    /// The first event of every log.
    RunStarted {
        /// [`EVENT_VERSION`].
        version: u32,
        /// The run.
        run: String,
        /// Jobs in the plan.
        jobs: usize,
        /// Jobs that a record stands for.
        reused: usize,
    },
    /// A record stands for it. Of a job that was started it is the end: the record has come to stand meanwhile.
    JobReused {
        /// The job.
        job: String,
        /// Its image.
        image: String,
    },
    /// It has a slot of a builder and begins.
    JobStarted {
        /// The job.
        job: String,
        /// The builder.
        builder: String,
        /// Whether its platform is emulated there.
        emulated: bool,
        /// Only its checks run: its image stands.
        checks_only: bool,
        /// How long that may take by emulation, where anything is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<EmulationCost>,
    },
    /// Another run builds the same, and is waited for.
    JobAwaits {
        /// The job.
        job: String,
        /// That run, where it has said so.
        run: Option<String>,
    },
    /// A step of its build begins. May be dropped.
    JobStep {
        /// The job.
        job: String,
        /// The step, as the engine named it.
        step: String,
    },
    /// Its image is in the store.
    JobKept {
        /// The job.
        job: String,
        /// The image's manifest.
        image: String,
        /// The image's configuration.
        config: String,
        /// Bytes of its layers.
        bytes: u64,
        /// Bytes of each, the lowest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        layers: Vec<u64>,
    },
    /// A cache of layers could not be read or shared: nothing else comes of it.
    CacheFailed {
        /// The job, which is built without it.
        job: String,
        /// What could not be done, and why.
        reason: String,
    },
    /// The same inputs had made another image before: its build is not reproducible.
    ImageReplaced {
        /// The job.
        job: String,
        /// The manifest of the image that stood.
        before: String,
        /// The manifest of the new one.
        image: String,
    },
    /// While it was built, another machine had built it too and kept its record first. What was built here replaces that,
    /// where it is another image.
    BuiltTwice {
        /// The job.
        job: String,
        /// The manifest of the image of the other one.
        other: String,
        /// The manifest of the image that was built here.
        image: String,
    },
    /// What is in a mount of a cache came from the store, or went there.
    CacheMoved {
        /// The job.
        job: String,
        /// The cache, as its Dockerfile names it.
        cache: String,
        /// It was kept, and not taken.
        kept: bool,
        /// Bytes as they stand in the store.
        bytes: u64,
        /// How long it took.
        milliseconds: u64,
    },
    /// A mount of a cache is done without, or what is in it is not kept.
    CacheDropped {
        /// The job.
        job: String,
        /// The cache, as its Dockerfile names it.
        cache: String,
        /// Why.
        reason: String,
    },
    /// A check of it has ended.
    CheckEnded {
        /// The job.
        job: String,
        /// The check, as a person would name it.
        check: String,
        /// Whether it passed.
        passed: bool,
        /// The tag that it made, where it is a tagger.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// How long it took.
        milliseconds: u64,
    },
    /// It is tried again: the failure may pass, or the engine's cache may be to blame.
    JobRetried {
        /// The job.
        job: String,
        /// Why.
        reason: String,
        /// Whether without the engine's cache now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        without_cache: bool,
    },
    /// Its builder cannot go on with it; it begins again elsewhere, or there once that is back.
    JobMoved {
        /// The job.
        job: String,
        /// The builder that it was on.
        builder: String,
        /// Why.
        reason: String,
    },
    /// A builder answers, and jobs may go to it.
    BuilderReady {
        /// The builder.
        builder: String,
        /// How many jobs it does at once.
        slots: usize,
        /// What it costs a minute, in whatever money, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        price: Option<f64>,
    },
    /// A builder does not reach the store and takes nothing in the session of a build: images are loaded and saved whole.
    BuilderFedByArchives {
        /// The builder.
        builder: String,
    },
    /// A builder does not answer any more.
    BuilderLost {
        /// The builder.
        builder: String,
        /// What is known of it.
        reason: String,
    },
    /// A builder that was lost has made an image all the same, after its job went elsewhere, and another than stands for
    /// the job now. It is not used.
    LateResult {
        /// The job.
        job: String,
        /// The builder.
        builder: String,
        /// The configuration of its image.
        config: String,
    },
    /// A lost builder answers again.
    BuilderReturned {
        /// The builder.
        builder: String,
    },
    /// It has ended. The one terminal event of a job that was not reused.
    JobEnded {
        /// The job.
        job: String,
        /// How.
        outcome: Outcome,
        /// How long it took, waiting for a slot or for another run not counted.
        milliseconds: u64,
        /// For so much of that an engine, or a test on this machine, was at work for it.
        #[serde(default)]
        engine_milliseconds: u64,
    },
    /// Content moves to the target.
    PublishStarted {
        /// Where to.
        target: String,
        /// Images.
        images: usize,
        /// Tags that will be written.
        tags: usize,
    },
    /// So many bytes of blobs went to the target so far. May be dropped.
    Sent {
        /// Where to.
        target: String,
        /// Bytes.
        bytes: u64,
        /// As many as may have to.
        at_most: u64,
    },
    /// An image's content is at the target.
    ContentPublished {
        /// The repository.
        repository: String,
        /// The index or manifest.
        digest: String,
        /// Bytes that had to move.
        bytes: u64,
    },
    /// A tag points where it should.
    TagPublished {
        /// Repository and tag.
        reference: String,
        /// What it points at.
        digest: String,
        /// Whether it had to be moved.
        moved: bool,
    },
    /// A tag was taken away.
    TagRemoved {
        /// Repository and tag.
        reference: String,
    },
    /// Another publication of the same target is waited for.
    PublicationAwaited {
        /// Its name.
        id: String,
    },
    /// A publication that was cut off was brought to its end first.
    PublicationCompleted {
        /// Its name.
        id: String,
        /// Its tags were put back, because one of them was refused.
        put_back: bool,
    },
    /// A tag stays where it is, by policy.
    TagWithheld {
        /// Repository and tag.
        reference: String,
        /// Why.
        reason: String,
    },
    /// Something has other versions on other platforms of one image that is to be published.
    VersionsDiffer {
        /// The image.
        image: String,
        /// What.
        what: String,
        /// Its version on each platform that has it.
        versions: BTreeMap<String, String>,
    },
    /// Everything is published and read back.
    Published {
        /// Tags.
        tags: usize,
    },
    /// An image is being written into a file. May be dropped.
    Exporting {
        /// The file, below the folder of exports.
        file: String,
        /// Layers are looked at first; the file is not written yet.
        looking: bool,
        /// So many bytes are done, before compression.
        bytes: u64,
        /// Of so many.
        at_most: u64,
    },
    /// A file with an image stands.
    Exported {
        /// The file, below the folder of exports.
        file: String,
        /// Its size.
        bytes: u64,
        /// It stood there already.
        stood: bool,
    },
    /// What the run asked of a host in all.
    Traffic {
        /// The host, `host[:port]`.
        host: String,
        /// What.
        amount: Amount,
    },
    /// The last event of every log.
    RunEnded {
        /// The exit code.
        exit_code: u8,
    },
}

/// How long a job may take by emulation, and how long natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct EmulationCost {
    /// By emulation, in milliseconds.
    pub(crate) emulated_milliseconds: u64,
    /// Natively, in milliseconds.
    pub(crate) native_milliseconds: u64,
}

/// Requests to a host, and bytes of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Amount {
    /// Requests, each repetition one.
    pub(crate) requests: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
}

/// How often a job has failed in a row, and until when it is not tried again; times in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Waiting {
    /// How often.
    pub(crate) failures: u32,
    /// When it failed first.
    pub(crate) since_seconds: u64,
    /// When it is tried again.
    pub(crate) until_seconds: u64,
}

impl From<&Wait> for Waiting {
    fn from(wait: &Wait) -> Self {
        let Wait { failures, since_seconds, until_seconds } = *wait;
        Self { failures, since_seconds, until_seconds }
    }
}

impl From<&Waiting> for Wait {
    fn from(waiting: &Waiting) -> Self {
        let Waiting { failures, since_seconds, until_seconds } = *waiting;
        Self { failures, since_seconds, until_seconds }
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Built and checked.
    Built {
        /// The image's manifest.
        image: String,
    },
    /// Its image stood; its checks ran again and passed.
    Checked {
        /// The image's manifest.
        image: String,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: String,
        /// The log to read.
        log: Option<String>,
        /// The image that was built and failed its checks, kept for debugging.
        image: Option<String>,
        /// It was not tried in this run, since it has failed again and again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<Waiting>,
    },
    /// It was not tried, because a job that it stands on has no image.
    Skipped {
        /// The job that failed.
        because: String,
    },
    /// The run was stopped first.
    Cancelled,
}

#[cfg(test)]
mod tests;
