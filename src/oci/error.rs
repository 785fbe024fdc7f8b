//! What goes wrong with content: one error, whose kind says what a caller can do about it.

use std::fmt;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for is not there.
    NotFound,
    /// A name, digest, range or document does not follow the specification.
    Invalid,
    /// Content does not have the digest or the size it was said to have.
    Mismatch,
    /// A document refers to content that is not in its repository.
    MissingContent,
    /// The place wants a password, or does not let this one in.
    Denied,
    /// Too large for a stated limit.
    TooLarge,
    /// The place does not do this.
    Unsupported,
    /// An upload is not where the caller thinks it is; the number of bytes that are safe.
    OutOfOrder(u64),
    /// A tag does not point where the caller said that it does; nothing was moved.
    Moved,
    /// Something else that is kept refers to it.
    InUse,
    /// The disk is full.
    Full,
    /// It may pass: network, time-out, a busy server.
    Passing,
    /// A failure of disk or server that will not pass by itself.
    Failed,
}

/// A failure: what was being done to what, and what lay under it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    doing: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of a kind; `doing` says what was being done to what ("read blob sha256:… of a/b").
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), source: None }
    }

    /// The same, because of another error.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failure of the system under `doing`; a full disk, and what may pass as open files do, are told apart.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            _ if too_many_files(&source) => ErrorKind::Passing,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, doing).because(source)
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether it says that something is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

/// Whether this process, or the system, has no more files to open: some will be closed in a moment.
fn too_many_files(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
