//! How long to wait for what need not come: it can be done without, and building without it may be quicker.

use std::time::Duration;

use crate::diag::{Diagnostic, size};

/// A wait that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// After this it is done without.
    pub(super) time: Duration,
    floor_bytes: u64,
    rebuild: Duration,
}

/// How long to wait for so many bytes, of which `floor_bytes` should come in a second: as long as they take at that speed, or as the
/// build that could go on without them took before, whichever is longer. Where one of them is not known the wait has no end.
pub(super) fn patience(bytes: u64, floor_bytes: Option<u64>, rebuild: Option<Duration>) -> Option<Patience> {
    let (floor_bytes, rebuild) = (floor_bytes?, rebuild?);
    let at_floor = Duration::from_secs_f64(bytes as f64 / floor_bytes.max(1) as f64);
    Some(Patience { time: at_floor.max(rebuild), floor_bytes, rebuild })
}

impl Patience {
    /// What to say where they have not come.
    pub(super) fn problem(&self, bytes: u64) -> Diagnostic {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        Diagnostic::surroundings("it is done without, since it is slow")
            .because(format!(
                "{} were not here after {}, slower than {} a second",
                size(bytes),
                seconds(self.time),
                size(self.floor_bytes)
            ))
            .because(format!("building takes {}", seconds(self.rebuild)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_25_a_wait_ends_where_it_is_slow_and_building_is_quicker() {
        let time = |bytes, floor, rebuild: Option<u64>| {
            patience(bytes, floor, rebuild.map(Duration::from_secs)).map(|found| found.time.as_secs())
        };
        assert_eq!(time(100, Some(10), Some(3)), Some(10), "as long as it may take");
        assert_eq!(time(100, Some(10), Some(30)), Some(30), "building would not be quicker yet");
        assert_eq!(time(100, None, Some(30)), None);
        assert_eq!(time(100, Some(10), None), None, "nothing is known of building");
        assert_eq!(time(100, Some(0), Some(1)), Some(100));
    }
}
