//! Numbers that depend on a seed alone, for tests that try many things and must be able to try one of them again.

use std::time::Duration;

/// A source of numbers; the seed is all that they depend on.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below another.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("small")
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// Some of these, each so many times in a hundred.
    pub(crate) fn some<T: Clone>(&mut self, of: &[T], percent: usize) -> Vec<T> {
        of.iter().filter(|_| self.percent(percent)).cloned().collect()
    }

    /// Up to so many milliseconds, at least one.
    pub(crate) fn milliseconds(&mut self, limit: usize) -> Duration {
        Duration::from_millis(self.below(limit) as u64 + 1)
    }
}

/// How many seeds a simulation tries; `POLYARCH_TEST_SEEDS` says another number.
#[expect(clippy::disallowed_methods, reason = "a test may be told to try more")]
pub(crate) fn seeds(usually: u64) -> u64 {
    std::env::var("POLYARCH_TEST_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usually)
}
