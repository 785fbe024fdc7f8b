//! The graph of a family: a column a generation, an image right of all that it stands on.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{anchor, became, parts};
use crate::report::{PlanView, Report};

/// Sizes in pixels.
const ROW: usize = 34;
const HEIGHT: usize = 24;
const LETTER: usize = 8;
const GAP: usize = 56;
/// A name that is longer is cut.
const LETTERS: usize = 28;

/// Where an image stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    column: usize,
    row: usize,
}

pub(super) fn section(plan: &PlanView, report: &Report) -> Markup {
    let parents = parents(plan);
    let spots = spots(&parents);
    let mut results: BTreeMap<&str, Vec<(&str, &'static str)>> = BTreeMap::new();
    for job in &plan.jobs {
        results.entry(&job.unit).or_default().push((&job.platform, became(report.jobs.get(&job.job))));
    }
    let columns = lefts(&spots);
    let width = columns.last().copied().unwrap_or_default();
    let height = spots.values().map(|spot| spot.row + 1).max().unwrap_or_default() * ROW;
    let at = |spot: Spot| (columns[spot.column], spot.row * ROW + (ROW - HEIGHT) / 2);
    html! {
        section #graph {
            h2 { "The family" }
            div.wide tabindex="0" role="region" aria-label="The graph of the family" {
                svg.graph width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="group" aria-label="Images, and what they stand on" {
                    g.edges aria-hidden="true" {
                        @for (unit, of_unit) in &parents {
                            @for parent in of_unit {
                                path d=(edge(at(spots[parent]), wide(parent), at(spots[unit]))) {}
                            }
                        }
                    }
                    @for (unit, spot) in &spots {
                        (node(unit, at(*spot), results.get(unit).map_or(&[], Vec::as_slice)))
                    }
                }
            }
        }
    }
}

fn node(unit: &str, (left, top): (usize, usize), results: &[(&str, &'static str)]) -> Markup {
    let worst = ["failed", "skipped", "cancelled", "unfinished", "built", "checked", "reused"];
    let class = worst
        .into_iter()
        .find(|word| results.iter().any(|(_, result)| result == word))
        .unwrap_or("unfinished");
    let told: Vec<String> = results.iter().map(|(platform, result)| format!("{platform} {result}")).collect();
    let told = format!("{unit}: {}", told.join(", "));
    html! {
        a.node.(class) href=(format!("#{}", anchor(unit))) aria-label=(told) {
            title { (told) }
            rect x=(left) y=(top) width=(wide(unit)) height=(HEIGHT) rx="5" {}
            text x=(left + 8) y=(top + 16) { (cut(unit)) }
        }
    }
}

fn edge((left, top): (usize, usize), wide: usize, (to_left, to_top): (usize, usize)) -> String {
    let (from, y, to_y) = (left + wide, top + HEIGHT / 2, to_top + HEIGHT / 2);
    let middle = usize::midpoint(from, to_left);
    format!("M{from} {y}C{middle} {y} {middle} {to_y} {to_left} {to_y}")
}

fn cut(unit: &str) -> String {
    match unit.chars().count() > LETTERS {
        true => unit.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => unit.to_owned(),
    }
}

fn wide(unit: &str) -> usize {
    unit.chars().count().min(LETTERS) * LETTER + 16
}

/// What each image of a plan stands on, of the same plan.
fn parents(plan: &PlanView) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = plan.jobs.iter().map(|job| (&*job.unit, Vec::new())).collect();
    for job in &plan.jobs {
        for parent in job.parents.iter().map(|parent| parts(parent).0) {
            if let Some((parent, _)) = all.get_key_value(parent) {
                let parent = *parent;
                let known = all.entry(&job.unit).or_default();
                if !known.contains(&parent) && parent != job.unit {
                    known.push(parent);
                }
            }
        }
    }
    all
}

/// A column by the longest way to a root, and in it rows near those of the parents.
fn spots<'a>(parents: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeMap<&'a str, Spot> {
    let mut columns: BTreeMap<&str, usize> = parents.keys().map(|unit| (*unit, 0)).collect();
    // A family has no circles; were there one, this would end all the same.
    for _ in 0..parents.len() {
        let deeper = parents.iter().filter_map(|(unit, of_unit)| {
            let column = of_unit.iter().map(|parent| columns[parent] + 1).max().unwrap_or_default();
            (column > columns[unit] && column < parents.len()).then_some((*unit, column))
        });
        let deeper: Vec<(&str, usize)> = deeper.collect();
        if deeper.is_empty() {
            break;
        }
        columns.extend(deeper);
    }
    let mut generations: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (unit, column) in &columns {
        generations.entry(*column).or_default().push(unit);
    }
    let mut spots: BTreeMap<&str, Spot> = BTreeMap::new();
    for (column, mut units) in generations {
        let near = |unit: &str| {
            let rows: Vec<usize> =
                parents[unit].iter().filter_map(|parent| spots.get(parent)).map(|spot| spot.row).collect();
            rows.iter().sum::<usize>().checked_div(rows.len()).unwrap_or_default()
        };
        units.sort_by_key(|unit| (near(unit), *unit));
        let mut free = 0;
        let placed = units.into_iter().map(|unit| {
            let row = near(unit).max(free);
            free = row + 1;
            (unit, Spot { column, row })
        });
        let placed: Vec<(&str, Spot)> = placed.collect();
        spots.extend(placed);
    }
    spots
}

/// Where each column begins, and where the last one ends.
fn lefts(spots: &BTreeMap<&str, Spot>) -> Vec<usize> {
    let count = spots.values().map(|spot| spot.column + 1).max().unwrap_or_default();
    let mut lefts = vec![0; count + 1];
    for column in 0..count {
        let widest = spots.iter().filter(|(_, spot)| spot.column == column).map(|(unit, _)| wide(unit)).max();
        let gap = if column + 1 == count { 0 } else { GAP };
        lefts[column + 1] = lefts[column] + widest.unwrap_or_default() + gap;
    }
    lefts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family<'a>(edges: &[(&'a str, &[&'a str])]) -> BTreeMap<&'a str, Vec<&'a str>> {
        edges.iter().map(|(unit, parents)| (*unit, parents.to_vec())).collect()
    }

    #[test]
    fn an_image_stands_right_of_all_that_it_stands_on_and_on_no_other() {
        let edges = family(&[
            ("root", &[]),
            ("a", &["root"]),
            ("b", &["root"]),
            ("c", &["root", "a"]),
            ("leaf", &["b", "c"]),
            ("alone", &[]),
        ]);
        let spots = spots(&edges);
        for (unit, parents) in &edges {
            for parent in parents {
                assert!(spots[parent].column < spots[unit].column, "{parent} {unit}: {spots:?}");
            }
        }
        let mut places: Vec<_> = spots.values().map(|spot| (spot.column, spot.row)).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), edges.len(), "{spots:?}");
    }

    #[test]
    fn a_circle_ends_too() {
        assert_eq!(spots(&family(&[("a", &["b"]), ("b", &["a"])])).len(), 2);
    }
}
