//! The ledger of a family: which images were built when, as pages of Markdown for a wiki, in the format of the Jupyter
//! docker-stacks.
//!
//! ```text
//! Home.md                                a table a year: builds, images and commits of each month
//! monthly-files/2026/2026-08.md          a row an image and platform, the newest first
//! manifests/2026/2026-08/NAME.md         build manifests, the newest 4,500
//! ```
//!
//! A row that stands is not written twice, so that a ledger that was written again is as it was.

use std::collections::{BTreeMap, BTreeSet};

/// Below these stands the table of a month.
const COLUMNS: &str = "| Date | Image | Links |\n| - | - | - |\n";
/// What polyarch writes of the first page stands between these; all else there is somebody's.
const BEGIN: &str = "<!-- polyarch: what stands here is written anew -->";
const END: &str = "<!-- polyarch: end -->";

/// An image of one platform, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was built: `2026-08-10T03:12:45Z`.
    pub(crate) built_at: String,
    /// Its tags, with registry and repository: `quay.io/jupyter/base-notebook:x86_64-0123456789ab`.
    pub(crate) references: Vec<String>,
    /// Where the commit can be looked at.
    pub(crate) commit: Option<String>,
    /// Where its Dockerfile can be.
    pub(crate) dockerfile: Option<String>,
    /// What its build manifest is called, without `.md`.
    pub(crate) manifest: String,
}

impl Entry {
    /// The month: `2026-08`.
    pub(crate) fn month(&self) -> &str {
        self.built_at.get(..7).unwrap_or(&self.built_at)
    }

    /// Its row of the table of a month. A reference that ends in `latest` is left out, since it will point elsewhere.
    pub(crate) fn row(&self) -> String {
        let lasting = self.references.iter().filter(|reference| !reference.ends_with("latest"));
        let references: Vec<String> = lasting.map(|reference| format!("`{reference}`")).collect();
        let link = |title: &str, to: &String| format!("[{title}]({to})");
        let links: Vec<String> = [
            self.commit.as_ref().map(|to| link("Git diff", to)),
            self.dockerfile.as_ref().map(|to| link("Dockerfile", to)),
            Some(format!("[Build manifest](./{})", self.manifest)),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!("| `{}` | {} | {} |", self.built_at, references.join("<br />"), links.join("<br />"))
    }
}

/// The page of a month with these rows in it as well; those that stand there stay as they are.
pub(crate) fn month_page(standing: Option<&str>, month: &str, rows: &BTreeSet<String>) -> String {
    let empty = format!("# Images built during {month}\n\n{COLUMNS}");
    let page = standing.filter(|page| page.contains(COLUMNS)).unwrap_or(&empty);
    let there: BTreeSet<&str> = page.lines().collect();
    // They begin with their date.
    let new: String =
        rows.iter().rev().filter(|row| !there.contains(row.as_str())).map(|row| format!("{row}\n")).collect();
    page.replacen(COLUMNS, &format!("{COLUMNS}{new}"), 1)
}

/// What is counted of a month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Month {
    builds: usize,
    images: usize,
    commits: BTreeSet<String>,
}

/// The first page, with a table for each year; `months` has the pages of months by name, and a row in which `counted` stands is
/// one build of the family.
pub(crate) fn home(standing: Option<&str>, months: &BTreeMap<String, String>, counted: &[String]) -> String {
    let tables = tables(months, counted);
    let own = format!("{BEGIN}\n{tables}{END}");
    let Some(page) = standing else { return format!("# Images\n\n{own}\n") };
    match page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
        Some((before, after)) => format!("{before}{own}{after}"),
        None => format!("{}\n\n{own}\n", page.trim_end()),
    }
}

fn tables(months: &BTreeMap<String, String>, counted: &[String]) -> String {
    let mut years: BTreeMap<&str, BTreeMap<&str, Month>> = BTreeMap::new();
    for (month, page) in months {
        let year = month.split('-').next().unwrap_or(month);
        years.entry(year).or_default().insert(month, counts(page, counted));
    }
    let mut text = String::new();
    for (year, months) in years.iter().rev() {
        text.push_str(&format!("\n## {year}\n\n| Month | Builds | Images | Commits |\n| - | - | - | - |\n"));
        let mut total = Month::default();
        for (name, month) in months.iter().rev() {
            let Month { builds, images, commits } = month;
            text.push_str(&format!("| [{name}](./{name}) | {builds} | {images} | {} |\n", commits.len()));
            total.builds += builds;
            total.images += images;
            total.commits.extend(commits.iter().cloned());
        }
        let Month { builds, images, commits } = total;
        text.push_str(&format!("| **Total** | {builds} | {images} | {} |\n", commits.len()));
    }
    text.push('\n');
    text
}

fn counts(page: &str, counted: &[String]) -> Month {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut month = Month::default();
    for row in rows {
        month.images += 1;
        month.builds += usize::from(counted.iter().any(|part| row.contains(part.as_str())));
        let commit = row.split_once("[Git diff](").and_then(|(_, rest)| rest.split(')').next());
        month.commits.extend(commit.map(str::to_owned));
    }
    month
}

/// When the image of a build manifest was built, as it says itself.
pub(crate) fn built_at(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("- Build timestamp: "))?;
    let is_whole =
        line.len() == "2026-08-10T03:12:45Z".len() && line.starts_with("20") && line.ends_with('Z');
    is_whole.then_some(line)
}

/// Of manifests by path, each with when its image was built, those that go so that the newest `keep` stay.
pub(crate) fn outdated(manifests: &BTreeMap<String, String>, keep: usize) -> Vec<&str> {
    let mut by_age: Vec<(&str, &str)> =
        manifests.iter().map(|(path, at)| (at.as_str(), path.as_str())).collect();
    by_age.sort_unstable();
    by_age.truncate(by_age.len().saturating_sub(keep));
    by_age.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(built_at: &str, tag: &str) -> Entry {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        Entry {
            built_at: built_at.to_owned(),
            references: ["latest", "0123456789ab", "python-3.13"]
                .map(|value| format!("quay.io/jupyter/base-notebook:{tag}-{value}"))
                .to_vec(),
            commit: Some(format!("https://github.com/R/commit/{commit}")),
            dockerfile: Some(format!("https://github.com/R/blob/{commit}/images/base-notebook/Dockerfile")),
            manifest: format!("{tag}-default-base-notebook-0123456789ab"),
        }
    }

    #[test]
    fn s_4_10_a_row_of_docker_stacks_byte_for_byte() {
        let golden = "| `2026-08-10T03:12:45Z` | `quay.io/jupyter/base-notebook:x86_64-0123456789ab`<br />`quay.io/jupyter/base-notebook:x86_64-python-3.13` | [Git diff](https://github.com/R/commit/0123456789abcdef0123456789abcdef01234567)<br />[Dockerfile](https://github.com/R/blob/0123456789abcdef0123456789abcdef01234567/images/base-notebook/Dockerfile)<br />[Build manifest](./x86_64-default-base-notebook-0123456789ab) |";
        assert_eq!(entry("2026-08-10T03:12:45Z", "x86_64").row(), golden);
    }

    #[test]
    fn s_4_22_new_rows_stand_below_the_header_and_none_stands_twice() {
        let rows =
            |dates: &[&str]| dates.iter().map(|date| entry(date, "x86_64").row()).collect::<BTreeSet<_>>();
        let first = month_page(None, "2026-08", &rows(&["2026-08-01T00:00:00Z", "2026-08-02T00:00:00Z"]));
        assert!(first.starts_with(
            "# Images built during 2026-08\n\n| Date | Image | Links |\n| - | - | - |\n| `2026-08-02"
        ));
        assert_eq!(month_page(Some(&first), "2026-08", &rows(&["2026-08-02T00:00:00Z"])), first);
        let second =
            month_page(Some(&first), "2026-08", &rows(&["2026-08-03T00:00:00Z", "2026-08-02T00:00:00Z"]));
        let dates: Vec<&str> =
            second.lines().filter_map(|line| line.strip_prefix("| `")?.get(..10)).collect();
        assert_eq!(dates, ["2026-08-03", "2026-08-02", "2026-08-01"]);
    }

    #[test]
    fn s_4_22_the_first_page_counts_and_leaves_what_is_not_its_own() {
        let page = |dates: &[&str]| {
            let rows =
                dates.iter().flat_map(|date| [entry(date, "x86_64").row(), entry(date, "aarch64").row()]);
            month_page(None, "?", &rows.collect())
        };
        let months = BTreeMap::from([
            ("2025-12".to_owned(), page(&["2025-12-01T00:00:00Z"])),
            ("2026-07".to_owned(), page(&["2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"])),
            ("2026-08".to_owned(), page(&["2026-08-01T00:00:00Z"])),
        ]);
        let counted = ["/base-notebook:x86_64-".to_owned()];
        let made = home(None, &months, &counted);
        assert!(made.contains("| [2026-07](./2026-07) | 2 | 4 | 1 |\n| **Total** | 3 | 6 | 1 |\n"), "{made}");
        assert!(made.find("## 2026") < made.find("## 2025"), "{made}");
        assert_eq!(home(Some(&made), &months, &counted), made, "written again it is as it was");
        let own = made.replace("# Images\n", "# Our images\n") + "Ask us.\n";
        let fewer = BTreeMap::from([("2026-08".to_owned(), months["2026-08"].clone())]);
        let again = home(Some(&own), &fewer, &counted);
        assert!(again.starts_with("# Our images\n") && again.ends_with("\nAsk us.\n"), "{again}");
        assert!(!again.contains("2025"), "{again}");
        assert!(home(Some("# Welcome\n"), &months, &counted).starts_with("# Welcome\n\n<!--"));
    }

    #[test]
    fn s_4_22_the_newest_manifests_stay() {
        let manifest =
            "# Build manifest for image: a:1\n\n## Build Info\n\n- Build timestamp: 2026-08-10T03:12:45Z\n";
        assert_eq!(built_at(manifest), Some("2026-08-10T03:12:45Z"));
        for none in ["", "- Build timestamp: soon\n", "- Build timestamp: 1026-08-10T03:12:45Z\n"] {
            assert_eq!(built_at(none), None, "{none}");
        }
        let all: BTreeMap<String, String> =
            (0..4_501).map(|at| (format!("m{}", 9_999 - at), format!("2026-{at:06}"))).collect();
        assert_eq!(outdated(&all, 4_500), ["m9999"]);
        assert!(outdated(&all, 5_000).is_empty());
    }
}
