//! Moments as a person reads them.

/// Seconds since 1970-01-01 UTC as `2026-11-21 12:00 UTC`; the last moment there is where they are too many.
pub(crate) fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let text = time.unwrap_or(jiff::Timestamp::MAX).to_string();
    let minutes: String = text.chars().take("2026-11-21T12:00".len()).collect();
    format!("{} UTC", minutes.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_said_to_the_minute_and_in_one_zone() {
        let table = [
            (0, "1970-01-01 00:00 UTC"),
            (1_795_340_119, "2026-11-22 09:35 UTC"),
            (u64::MAX, "9999-12-30 22:00 UTC"),
        ];
        for (seconds, text) in table {
            assert_eq!(moment(seconds), text);
        }
    }
}
