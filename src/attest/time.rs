//! Times as documents write them.

/// Seconds since 1970-01-01 UTC as `2026-11-21T12:00:00Z`; the beginning of that time where there is no such day.
pub(super) fn written(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
