//! A report as JSON, for other programs; its fields are those of [`Report`].

use super::Report;

impl Report {
    /// The report as JSON, ending with a line end.
    pub(crate) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a report is plain JSON");
        format!("{text}\n")
    }
}
