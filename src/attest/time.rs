//! Times as documents write them.

/// Seconds since 1970-01-01 UTC as `2026-11-21T12:00:00Z`; the beginning of that time where there is no such day.
pub(super) fn written(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The seconds of such a time, or of the beginning of a day, `2026-11-21`; `None` where it is neither, or before 1970.
pub(super) fn read(text: &str) -> Option<u64> {
    let day =
        || Some(text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    let time = text.parse::<jiff::Timestamp>().ok().or_else(day)?;
    u64::try_from(time.as_second()).ok()
}
