//! The defences that tests switch off one at a time, to see that what they defend against would get past without them.
//!
//! Only where the program is built with the feature `defences-off`, which no release build has, can one be switched off: the
//! tests of hostile pull requests name it in `POLYARCH_TEST_DEFENCES_OFF`. Everywhere else [`stands`] is always true.

#[cfg(all(feature = "defences-off", not(debug_assertions)))]
compile_error!("the feature `defences-off` is for tests: a release is not built with it");

/// One defence, named as tests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// Trusted keys come from outside the tree.
    KeysFromOutside,
    /// A record that nobody signed does not count.
    SignedRecords,
    /// A signature is one of a key that was named.
    Signatures,
    /// A signature is about what it stands beside.
    Subjects,
    /// What is signed says what is asked of it.
    Kinds,
    /// A key counts inside its term alone.
    KeyTerms,
    /// A revoked key never counts.
    Revocation,
    /// A record is of the key that it stands under, and of the image that it is taken for.
    RecordKeys,
    /// What is promoted is read again, byte for byte.
    Rehash,
    /// Only the tree that was approved is signed.
    ApprovedTree,
    /// The tree that is to be signed does not say where its records are.
    SignedStore,
    /// Nothing is published in an untrusted run.
    UntrustedPublishes,
    /// Names of scopes lead nowhere else.
    ScopeNames,
    /// A registry lets users read and write what is theirs.
    ServerRights,
    /// Dockerfiles of untrusted runs are read by known frontends.
    Frontends,
    /// No other frontend is named by an argument.
    FrontendArgument,
    /// Builds of untrusted runs ask their engine for nothing that leads out of them.
    Entitlements,
    /// Each scope has cache mounts of its own.
    CacheMounts,
    /// Engines with known holes build nothing of an untrusted run.
    EngineFloors,
    /// What an untrusted run leaves in caches is for the same tree alone.
    CachesOfATree,
    /// What engines leave out of the keys of their steps tells these apart all the same.
    UnseenInputs,
    /// Untrusted runs are given no secrets.
    SecretsWithheld,
    /// Tests of untrusted runs see nothing of the environment that could be a secret.
    HostEnvironment,
    /// Builds and tests never see the key that signs.
    KeyWithheld,
    /// A file of a job holds nothing twice.
    ImportNamed,
    /// An imported record is of the image that comes with it.
    ImportRecord,
    /// A file of a job has an end.
    ImportLimits,
    /// Refresh epochs that come with records end long before all numbers do.
    TakenEpochs,
    /// What stands in a pipeline means nothing to a shell or to the service.
    PipelineWords,
    /// What builds print is nothing that the service obeys.
    LogCommands,
    /// Actions of others are used at a commit.
    PinnedActions,
    /// The program that a pipeline fetches is looked at before it runs.
    InstallDigest,
    /// A pipeline is what would be written, whatever it says of itself.
    PipelineCompared,
    /// What is proposed works in a scope of its own, whatever else is said.
    ProposedScope,
    /// A run keeps what it makes in its own scope.
    OwnScope,
    /// Images that a build uses are named by their digests.
    PinnedImages,
    /// The builder is one that tells images by their content.
    BuildKitAlone,
}

#[cfg(feature = "defences-off")]
mod off;

/// Whether a defence is up.
#[cfg(not(feature = "defences-off"))]
pub(crate) const fn stands(_: Defence) -> bool {
    true
}

#[cfg(feature = "defences-off")]
pub(crate) use off::stands;
