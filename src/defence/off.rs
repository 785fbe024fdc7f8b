//! Which defences a test has switched off.

use super::Defence;

/// The variable that names them, with commas between.
const VARIABLE: &str = "POLYARCH_TEST_DEFENCES_OFF";

/// Whether no test has switched it off.
#[expect(clippy::disallowed_methods, reason = "it is built for tests alone, which name defences so")]
pub(crate) fn stands(defence: Defence) -> bool {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    !named.split(',').any(|name| name == format!("{defence:?}"))
}
