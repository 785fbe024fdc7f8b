//! `polyarch ledger`: pages of which images were built when, in a folder or a wiki.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::diag::{Diagnostic, Result, count};
use crate::family::{Family, JobId};
use crate::report::ledger::{Entry, built_at, home, month_page, outdated};

use super::describe::MANIFEST;
use super::facts::Facts;
use super::plan::{Planning, What};
use super::wiki::Wiki;
use super::{Context, Ended, job_files};

/// The first page.
const HOME: &str = "Home.md";
/// Where the pages of months are, and build manifests.
const MONTHS: &str = "monthly-files";
const MANIFESTS: &str = "manifests";
/// What works, for a person who has given something else.
const EXAMPLE: &str = "polyarch ledger --to wiki";

/// Write which images were built when into pages of Markdown: a folder, or a wiki that is a Git repository
///
/// Each image and platform that stands in the store has a row on the page of its month and a build manifest; the first page
/// counts builds, images and commits. What stands there is not written twice, and what others push meanwhile stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch ledger --to wiki                                       into a folder
  polyarch ledger --push https://github.com/owner/repository.wiki.git
  polyarch ledger --push ../wiki --dry-run                        what would change, and push nothing")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Write the pages into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "push", required_unless_present = "push")]
    to: Option<PathBuf>,
    /// Write the pages into this Git repository, and push them
    #[arg(long, value_name = "REPOSITORY")]
    push: Option<String>,
    /// The branch of it that is written; else its first one
    #[arg(long, value_name = "BRANCH", requires = "push")]
    branch: Option<String>,
    /// The image whose rows count the builds of the family; else its first one
    #[arg(long, value_name = "IMAGE")]
    counted: Option<String>,
    /// How many build manifests are kept, the newest
    #[arg(long, value_name = "N", default_value_t = 4_500)]
    keep: usize,
    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let selected = &planning.request.selected;
    let wanted = |job: &&JobId| selected.is_empty() || selected.contains(job);
    let jobs: Vec<&JobId> = planning.plan.order.iter().filter(wanted).collect();
    let facts = Facts::of(context, &planning, &jobs).await?;
    let news = News {
        entries: entries(&planning, &facts, &jobs).await?,
        counted: counted(&planning.workspace.family, options.counted.as_deref())?,
        keep: options.keep,
    };
    let message = format!("Add the images of {}", facts.version);
    match (&options.to, &options.push) {
        (Some(folder), _) => {
            let changes = news.changes(folder)?;
            changes.iter().for_each(|change| context.ui.data(&format!("{change}\n")));
            if !options.dry_run {
                carry_out(folder, &changes)?;
            }
        }
        (None, Some(repository)) => {
            let wiki = Wiki::take(context, repository, options.branch.as_deref()).await?;
            let changes = news.changes(wiki.folder())?;
            changes.iter().for_each(|change| context.ui.data(&format!("{change}\n")));
            if !options.dry_run
                && wiki.push(&message, |folder| carry_out(folder, &news.changes(folder)?)).await?
            {
                context.ui.note(&format!("pushed {}", count(changes.len(), "page")));
            }
        }
        (None, None) => {}
    }
    Ok(Ended::Well)
}

/// Each image with its row and its build manifest, whose name ends in `.md`.
async fn entries(planning: &Planning, facts: &Facts<'_>, jobs: &[&JobId]) -> Result<Vec<(Entry, String)>> {
    let template = MANIFEST.replace("{commit}", &facts.version);
    let names = job_files::names(&template, MANIFEST, jobs, &planning.workspace.family.tags)?;
    let mut entries = Vec::new();
    for job in jobs {
        let entry = facts.entry(job, names[*job].trim_end_matches(".md"))?;
        entries.push((entry, facts.manifest(job).await?));
    }
    Ok(entries)
}

/// What stands in a row that counts as one build of the family: the image, on its first platform.
fn counted(family: &Family, wanted: Option<&str>) -> Result<Vec<String>> {
    let named = |name: &str| family.order.iter().find(|unit| unit.to_string() == name);
    let unit = match wanted {
        Some(name) => named(name).ok_or_else(|| {
            Diagnostic::request(format!("there is no image `{name}` to count"))
                .hint("see which there are: polyarch plan")
        })?,
        None => match family.order.first() {
            Some(unit) => unit,
            None => return Ok(Vec::new()),
        },
    };
    let Some(recipe) = family.recipe(unit) else { return Ok(Vec::new()) };
    let Some(platform) = recipe.platforms.keys().next() else { return Ok(Vec::new()) };
    let tag = family.tags.platform_tag(platform, recipe.tag_prefix());
    Ok(vec![format!("{}:{tag}", recipe.repository)])
}

/// What comes into a ledger.
struct News {
    entries: Vec<(Entry, String)>,
    counted: Vec<String>,
    keep: usize,
}

/// A change of a file, by its path in the folder of the ledger.
enum Change {
    Write(String, String),
    Remove(String),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(path, _) => write!(f, "write  {path}"),
            Self::Remove(path) => write!(f, "remove {path}"),
        }
    }
}

impl News {
    /// What is to change in a folder so that they stand in it.
    fn changes(&self, folder: &Path) -> Result<Vec<Change>> {
        let mut standing = files(folder)?;
        let before = standing.clone();
        let mut rows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (entry, manifest) in &self.entries {
            rows.entry(entry.month()).or_default().insert(entry.row());
            let (year, month) = (year(entry.month()), entry.month());
            standing.insert(format!("{MANIFESTS}/{year}/{month}/{}.md", entry.manifest), manifest.clone());
        }
        for (month, rows) in &rows {
            let path = format!("{MONTHS}/{}/{month}.md", year(month));
            let page = month_page(standing.get(&path).map(String::as_str), month, rows);
            standing.insert(path, page);
        }
        let ages = standing.iter().filter(|(path, _)| path.starts_with(MANIFESTS));
        let ages = ages.filter_map(|(path, text)| Some((path.clone(), built_at(text)?.to_owned())));
        let ages: BTreeMap<String, String> = ages.collect();
        for path in outdated(&ages, self.keep) {
            standing.remove(path);
        }
        let months = standing.iter().filter(|(path, _)| path.starts_with(MONTHS));
        let months = months.map(|(path, page)| (stem(path).to_owned(), page.clone())).collect();
        let first = home(standing.get(HOME).map(String::as_str), &months, &self.counted);
        standing.insert(HOME.to_owned(), first);
        let removed = before.keys().filter(|path| !standing.contains_key(*path));
        let removed = removed.map(|path| Change::Remove(path.clone()));
        let written = standing.iter().filter(|(path, text)| before.get(*path) != Some(*text));
        Ok(written.map(|(path, text)| Change::Write(path.clone(), text.clone())).chain(removed).collect())
    }
}

fn year(month: &str) -> &str {
    month.get(..4).unwrap_or(month)
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".md").unwrap_or(name)
}

/// The pages of a ledger that stand in a folder. Links are no pages: they may lead anywhere.
fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    if folder.join(HOME).is_file() {
        read(folder, HOME.to_owned(), &mut found)?;
    }
    for top in [MONTHS, MANIFESTS] {
        for entry in walkdir(folder, top)? {
            read(folder, entry, &mut found)?;
        }
    }
    Ok(found)
}

/// The files that end in `.md` below a folder of the ledger, two folders deep at most.
fn walkdir(folder: &Path, top: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![(top.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let entries = match std::fs::read_dir(folder.join(&path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&folder.join(&path), &error).into()),
        };
        for entry in entries.flatten() {
            let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else { continue };
            let path = format!("{path}/{name}");
            match kind {
                kind if kind.is_dir() && depth < 2 => open.push((path, depth + 1)),
                kind if kind.is_file() && name.ends_with(".md") => found.push(path),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn read(folder: &Path, path: String, found: &mut BTreeMap<String, String>) -> Result<()> {
    let file = folder.join(&path);
    let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
    found.insert(path, text);
    Ok(())
}

fn carry_out(folder: &Path, changes: &[Change]) -> Result<()> {
    for change in changes {
        match change {
            Change::Write(path, text) => {
                let file = folder.join(path);
                if let Some(parent) = file.parent() {
                    job_files::make_folder(parent, EXAMPLE)?;
                }
                job_files::write(&file, text, EXAMPLE)?;
            }
            Change::Remove(path) => {
                let file = folder.join(path);
                std::fs::remove_file(&file).map_err(|error| {
                    Diagnostic::surroundings(format!("remove {}", file.display())).caused_by(&error)
                })?;
            }
        }
    }
    Ok(())
}

fn unreadable(file: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::surroundings(format!("read {}", file.display()))
        .caused_by(error)
        .hint(format!("name another folder, as in: {EXAMPLE}"))
}
