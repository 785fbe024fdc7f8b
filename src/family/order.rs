//! Put units in order, parents first, and say who stands on whom in a circle. Nothing here recurses: a chain may be
//! as long as it likes.

use std::collections::{BTreeMap, BTreeSet};

use super::Unit;

/// Who uses whom: each unit with its parents.
pub(super) type Edges = BTreeMap<Unit, BTreeSet<Unit>>;

/// Every unit, parents before children, else by name; or the circles that prevent it.
pub(super) fn order(edges: &Edges) -> Result<Vec<Unit>, Vec<Vec<Unit>>> {
    let mut children: BTreeMap<&Unit, Vec<&Unit>> = BTreeMap::new();
    let mut waiting: BTreeMap<&Unit, usize> = BTreeMap::new();
    for (unit, parents) in edges {
        waiting.insert(unit, parents.len());
        parents.iter().for_each(|parent| children.entry(parent).or_default().push(unit));
    }
    let mut ready: BTreeSet<&Unit> =
        waiting.iter().filter(|(_, left)| **left == 0).map(|(unit, _)| *unit).collect();
    let mut ordered = Vec::with_capacity(edges.len());
    while let Some(unit) = ready.pop_first() {
        waiting.remove(unit);
        ordered.push(unit.clone());
        for child in children.get(unit).into_iter().flatten() {
            if let Some(left) = waiting.get_mut(child) {
                *left -= 1;
                if *left == 0 {
                    ready.insert(child);
                }
            }
        }
    }
    if waiting.is_empty() { Ok(ordered) } else { Err(circles(edges, waiting.into_keys().collect())) }
}

/// The circles among units that wait for each other, each from its first name on and back to it.
fn circles(edges: &Edges, mut left: BTreeSet<&Unit>) -> Vec<Vec<Unit>> {
    let mut circles = Vec::new();
    while let Some(start) = left.first().copied() {
        let mut path: Vec<&Unit> = Vec::new();
        let mut on_path: BTreeMap<&Unit, usize> = BTreeMap::new();
        let mut next = Some(start);
        while let Some(unit) = next {
            if let Some(begin) = on_path.get(unit) {
                circles.push(turned(&path[*begin..]));
                break;
            }
            on_path.insert(unit, path.len());
            path.push(unit);
            next = edges[unit].iter().find(|parent| left.contains(parent));
        }
        // All on the path lead into the circle, or out of those that are left: they are dealt with.
        left.retain(|unit| !on_path.contains_key(unit));
    }
    circles
}

fn turned(circle: &[&Unit]) -> Vec<Unit> {
    let first = circle.iter().enumerate().min_by_key(|(_, unit)| **unit).map_or(0, |(at, _)| at);
    let turned = circle[first..].iter().chain(&circle[..=first]);
    turned.map(|unit| (*unit).clone()).collect()
}
