//! The schema of the log of a run.

use super::*;

/// What programs that read logs go by.
#[test]
fn the_schema_of_events_is_the_one_committed() {
    let schema = schemars::schema_for!(Event);
    let made = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/events.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("schema written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "the schema is out of date: run `UPDATE=1 cargo test --lib the_schema_of_events`");
}
