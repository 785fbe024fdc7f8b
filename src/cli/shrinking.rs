//! How long what nobody asks for may stay, so that a folder has at most so many bytes: a part of `polyarch gc`.

use std::time::Duration;

use crate::oci::{Collection, Error, Layout, Repository, Tag, Unused};

use super::room;

/// No record is kept for longer than this where room is wanted: ten years, in seconds.
const LONGEST_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;
/// How many times the store is looked at: each halves the ratio between what is too long and what is not.
const LOOKS: usize = 12;

/// What it takes to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing but garbage goes.
    AsItIs,
    /// Records go that nobody has asked for within this time.
    Within(Duration),
    /// Even where everything goes that may, so many bytes stay.
    TooMuch(u64),
}

/// What it takes for a folder to have at most `limit` bytes, where nothing goes that was used within the grace time and tags
/// have ended.
///
/// # Errors
/// Where the store fails.
pub(super) async fn fit(
    store: &Layout,
    limit: u64,
    grace: Duration,
    ended: &[(Repository, Tag)],
) -> Result<Fit, Error> {
    let kept = async |age: Option<Duration>| {
        let unused = age.map(|age| Unused { within: room::BUILT.to_owned(), age });
        let ended = ended.to_vec();
        let looked = store.collect(Collection { grace, dry_run: true, unused, ended }).await?;
        Ok(looked.kept_bytes)
    };
    longest(limit, grace, kept).await
}

/// The longest time that fits, as near as a few looks come to it; what stays does not grow where the time is shorter.
async fn longest(
    limit: u64,
    grace: Duration,
    kept: impl AsyncFn(Option<Duration>) -> Result<u64, Error>,
) -> Result<Fit, Error> {
    if kept(None).await? <= limit {
        return Ok(Fit::AsItIs);
    }
    let least = kept(Some(grace)).await?;
    if least > limit {
        return Ok(Fit::TooMuch(least));
    }
    let (mut fits, mut too_long) = (grace.as_secs().max(1), LONGEST_SECONDS);
    for _ in 0..LOOKS {
        let middle = fits.saturating_mul(too_long).isqrt();
        match kept(Some(Duration::from_secs(middle))).await? <= limit {
            true => fits = middle,
            false => too_long = middle,
        }
    }
    Ok(Fit::Within(Duration::from_secs(fits).max(grace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with records of 10 bytes, of which nobody has asked for so many hours, beside 5 bytes that do not go.
    async fn of(hours: &[u64], limit: u64) -> Fit {
        let day = Duration::from_secs(24 * 3600);
        let kept = async |age: Option<Duration>| {
            let stays = |used: &&u64| age.is_none_or(|age| Duration::from_secs(**used * 3600) < age);
            Ok(5 + 10 * hours.iter().filter(stays).count() as u64)
        };
        longest(limit, day, kept).await.expect("a fit")
    }

    #[tokio::test]
    async fn no_more_goes_than_must() {
        let hours = [1, 30, 300, 3_000, 30_000];
        assert_eq!(of(&hours, 55).await, Fit::AsItIs);
        for (limit, used, unused) in [(54, 3_000, 30_000), (40, 300, 3_000), (25, 30, 300), (15, 1, 30)] {
            let Fit::Within(age) = of(&hours, limit).await else { panic!("{limit} bytes") };
            let hours = age.as_secs() / 3600;
            assert!((used..unused).contains(&hours), "{limit} bytes: {hours} h, between {used} and {unused}");
        }
        assert_eq!(of(&hours, 14).await, Fit::TooMuch(15), "what was used within the grace time stays");
    }
}
