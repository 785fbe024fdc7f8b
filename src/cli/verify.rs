//! `polyarch verify`: does the registry equal the plan?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::diag::{Diagnostic, Kind, Problems, Result, count};
use crate::oci::Digest;
use crate::plan::Decision;
use crate::publish::{self, Homes, Publication, Row};

use super::plan::{Planning, What};
use super::publish::{prepare, settled_homes, standing, target};
use super::workshop::Target;
use super::{Context, Ended, Format, mirror_registries, sign};

/// Compare what is published with what this tree would publish
///
/// Tags, platforms, the configuration of each platform, sizes, and signatures where a public key is known. Nothing is
/// written: the right to read is enough.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch verify
  polyarch verify base-notebook --to 127.0.0.1:5000
  polyarch verify --format json | jq '.rows[] | select(.verdict != \"equal\")'")]
pub(super) struct Options {
    #[command(flatten)]
    what: What,
    /// Look at this registry instead, as `host[:port]`
    #[arg(long, value_name = "REGISTRY")]
    to: Option<String>,
    /// Check signatures by the public key in this file
    #[arg(long, value_name = "FILE")]
    verify_key: Option<PathBuf>,
    /// The form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What was seen at the registry and its mirrors.
#[derive(Default)]
struct Seen {
    rows: Vec<Row>,
    /// Publications that are open, each with the registry.
    unfinished: Vec<(String, String)>,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let planning = Planning::make(context, &options.what).await?;
    let target = target(context, &planning.workspace, &planning.shelf, options.to.as_deref())?;
    let publication = prepare(context, &planning, standing(&planning.plan), &target).await?;
    let keys = sign::public_keys(context, &planning.workspace, options.verify_key.as_deref())?;
    let kinds = sign::kinds(&planning.workspace);
    let mut seen = Seen::default();
    let mut look = async |publication: &Publication, homes: &Homes, target: &Target| -> Result<()> {
        seen.rows.extend(publish::verify(publication, target.towards()).await?);
        if let Some(keys) = &keys {
            seen.rows.extend(sign::said(keys, kinds, publication.release(), target).await?);
        }
        let open = publish::unfinished(target.towards(), homes.all()).await?;
        seen.unfinished.extend(open.into_iter().map(|id| (target.name.clone(), id)));
        Ok(())
    };
    let homes = settled_homes(&planning.workspace.family, &target).await?;
    look(&publication, &homes, &target).await?;
    let all = [publication];
    let mut found: Vec<Diagnostic> = Vec::new();
    for mirror in mirror_registries::mirrors(&planning, options.to.as_deref()) {
        let store = &*planning.shelf.content();
        let looking = async {
            let (target, there) =
                mirror_registries::prepared(context, &planning, store, &all, mirror).await?;
            for publication in &there {
                look(publication, publication.homes(), &target).await?;
            }
            Ok(())
        };
        // What is wrong with one hides nothing of the others.
        if let Err(problems) = looking.await {
            let problems: Problems = problems;
            context.signals.check()?;
            found.extend(problems.iter().cloned());
        }
    }
    let [publication] = &all;
    let unseen = found.len();
    found.extend(missing(&planning, publication));
    match options.format {
        Format::Text => context.ui.data(&table(&seen.rows, context.common.quiet)),
        Format::Json => context.ui.data(&as_json(&target, &seen, &found, keys.is_some())),
    }
    for (registry, id) in &seen.unfinished {
        let message = format!("the publication {id} at {registry} is under way, or was cut off");
        context.ui.warning(&Diagnostic::warning(message).hint("complete it: polyarch publish"));
    }
    let differences = seen.rows.iter().filter(|row| !row.is_equal()).count();
    if differences > 0 {
        let what = format!("{} is not as planned: {}", target.name, count(differences, "difference"));
        found.push(Diagnostic::new(Kind::Failed, what));
    }
    if let Some(last) = found[unseen..].last_mut() {
        last.hints.push("see what would be done: polyarch publish --dry-run".to_owned());
    }
    Problems::check(found)?;
    let signed = if keys.is_some() { ", all signed" } else { "" };
    let tags = count(publication.release().tag_count(), "tag");
    if let Format::Text = options.format {
        context.ui.data(&format!("{} equals the plan: {tags}{signed}\n", target.name));
    }
    Ok(Ended::Well)
}

/// What is not there to be compared: jobs that no record stands for, and mirrors of which it is not known what they copy.
fn missing(planning: &Planning, publication: &Publication) -> Vec<Diagnostic> {
    let refused = planning.plan.refused_as_emulated();
    let selected = &planning.request.selected;
    let order = planning.plan.order.iter().filter(|_| selected.is_empty());
    let missing = selected.iter().chain(order);
    let missing = missing.filter(|job| !planning.workspace.family.is_downstream(&job.unit));
    let missing = missing.filter(|job| !matches!(planning.plan.jobs[*job].decision, Decision::Reuse(_)));
    let missing = missing.map(|job| match refused.contains(job) {
        true => {
            let why = "it, or an image that it stands on, was made by emulation, which is refused here";
            Diagnostic::new(Kind::Failed, format!("no record stands for {job}"))
                .because(why)
                .hint("use it all the same: polyarch verify --emulate=allow")
        }
        false => {
            Diagnostic::new(Kind::Failed, format!("{job} is not built")).hint("build it: polyarch build")
        }
    });
    let family = &planning.workspace.family;
    let copies = publication.release().withheld.iter().filter(|one| family.mirrors.contains_key(&one.unit));
    let unknown = copies.map(|one| {
        let message = format!("it is not known what the mirror `{}` is a copy of", one.unit);
        Diagnostic::new(Kind::Failed, message).because(&one.reason)
    });
    missing.chain(unknown).collect()
}

/// A line for each thing that was looked at; with `brief` for each that is not as it should be.
fn table(rows: &[Row], brief: bool) -> String {
    let cells = rows.iter().filter(|row| !brief || !row.is_equal()).map(|row| {
        let [what, expected, found] = [&row.what, &row.expected, &row.found].map(|text| shortened(text));
        [row.image.clone(), what, expected, found, row.verdict.word().to_owned()]
    });
    let mut cells: Vec<[String; 5]> = cells.collect();
    if !cells.is_empty() {
        cells.insert(0, ["IMAGE", "TAG OR PLATFORM", "EXPECTED", "FOUND", "VERDICT"].map(str::to_owned));
    }
    let mut widths = [0; 5];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = cells.iter().map(|line| {
        let padded = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    });
    lines.collect()
}

/// A digest in its first digits; anything else as it is.
fn shortened(text: &str) -> String {
    text.parse::<Digest>().map_or_else(|_| text.to_owned(), |digest| digest.short().to_owned())
}

fn as_json(target: &Target, seen: &Seen, missing: &[Diagnostic], checks_signatures: bool) -> String {
    let rows = seen.rows.iter().map(|row| {
        json!({
            "image": row.image,
            "what": row.what,
            "expected": row.expected,
            "found": row.found,
            "verdict": row.verdict.word(),
        })
    });
    let answer = json!({
        "registry": target.name,
        "equal": missing.is_empty() && seen.rows.iter().all(Row::is_equal),
        "signatures_checked": checks_signatures,
        "missing": missing.iter().map(|one| &one.message).collect::<Vec<_>>(),
        "unfinished": seen.unfinished.iter().map(|(_, id)| id).collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    });
    format!("{answer:#}\n")
}
