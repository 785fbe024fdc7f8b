//! Links that sources name or pass through. BuildKit follows them, and keeps within the context.
//!
//! As seen of Docker 20.10 and 26.1 with `COPY`, `ADD` and bind mounts alike: a link is followed where it is a part of
//! the source's path or what a wildcard matches; its target counts from the root of the context if absolute, else from
//! its own folder; the target is cleaned as a text, and `..` stops at the root. Links inside a folder that is copied
//! stay links. A link in a loop or to nowhere fails the build, and counts as itself alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diag::Result;
use crate::dockerfile::PathPattern;

use super::context::{Entry, unreadable};

/// How many links are followed one after another; BuildKit follows 255.
const FOLLOW_LIMIT: usize = 255;
/// How many paths, and how many patterns with wildcards, the links of one source may lead to before the whole context
/// counts.
const PATHS_LIMIT: usize = 100_000;
const PATTERNS_LIMIT: usize = 64;

/// The links of a context, by their paths there.
pub(super) struct Links<'a> {
    folder: &'a Path,
    shown: &'a Path,
    links: BTreeMap<&'a str, &'a Entry>,
}

/// What sources reach by way of links.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// The links themselves.
    links: BTreeSet<String>,
    /// Paths at the end of links: each, and all below it.
    paths: BTreeSet<String>,
    /// The same with wildcards.
    patterns: Vec<PathPattern>,
    /// The whole context.
    everything: bool,
}

impl Behind {
    /// Whether a path of the context is reached.
    pub(super) fn reaches(&self, path: &str) -> bool {
        self.everything
            || self.links.contains(path)
            || (!self.paths.is_empty() && and_above(path).any(|folder| self.paths.contains(folder)))
            || self.patterns.iter().any(|pattern| pattern.covers(path))
    }
}

impl<'a> Links<'a> {
    /// The links among what a context has.
    pub(super) fn new(folder: &'a Path, shown: &'a Path, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let links = entries.filter(|entry| entry.metadata.is_symlink());
        Self { folder, shown, links: links.map(|entry| (entry.name.as_str(), entry)).collect() }
    }

    /// What these patterns reach by way of links.
    ///
    /// # Errors
    /// Where a link cannot be read.
    pub(super) fn behind<'p>(&self, patterns: impl Iterator<Item = &'p PathPattern>) -> Result<Behind> {
        let mut behind = Behind::default();
        if !self.links.is_empty() {
            for pattern in patterns {
                self.follow(pattern, &mut behind)?;
            }
        }
        Ok(behind)
    }

    fn follow(&self, pattern: &PathPattern, behind: &mut Behind) -> Result<()> {
        let mut waiting = vec![(pattern.clone(), 0)];
        let mut seen = BTreeSet::from([pattern.clone()]);
        let mut wild = 0;
        while let Some((pattern, followed)) = waiting.pop() {
            let only = pattern.only();
            let passed = match &only {
                Some(path) => self.first_on(path).into_iter().collect(),
                None => self.matched(&pattern),
            };
            wild += usize::from(only.is_none());
            behind.everything |= seen.len() > PATHS_LIMIT || wild > PATTERNS_LIMIT;
            if followed > 0 {
                match only {
                    Some(path) if path.is_empty() => behind.everything = true,
                    // A path through another link is no path of the context.
                    Some(_) if !passed.is_empty() => {}
                    Some(path) => drop(behind.paths.insert(path)),
                    None => behind.patterns.push(pattern),
                }
            }
            if behind.everything {
                return Ok(());
            }
            for (link, rest) in passed {
                behind.links.insert(link.name.clone());
                match self.led(link, &rest)? {
                    Some(next) if followed < FOLLOW_LIMIT && seen.insert(next.clone()) => {
                        waiting.push((next, followed + 1));
                    }
                    Some(_) => {}
                    None => behind.everything = true,
                }
            }
        }
        Ok(())
    }

    /// The first link on a path, and what is left of the path behind it.
    fn first_on(&self, path: &str) -> Option<(&'a Entry, PathPattern)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().find_map(|end| {
            let link = self.links.get(&path[..end])?;
            Some((*link, PathPattern::literal(&path[end..])))
        })
    }

    /// Every link that the first parts of a pattern match, and what is left of the pattern behind it.
    fn matched(&self, pattern: &PathPattern) -> Vec<(&'a Entry, PathPattern)> {
        let links = self.links.values();
        links.flat_map(|link| pattern.rests(&link.name).into_iter().map(|rest| (*link, rest))).collect()
    }

    /// A pattern taken from where a link leads; none where that is no text.
    fn led(&self, link: &Entry, rest: &PathPattern) -> Result<Option<PathPattern>> {
        let target = std::fs::read_link(self.folder.join(&link.path))
            .map_err(|error| unreadable(&self.shown.join(&link.path), &error))?;
        let folder = link.path.parent().unwrap_or(Path::new(""));
        // To join an absolute path is to begin anew.
        Ok(folder.join(target).to_str().map(|target| rest.below(target)))
    }
}

/// A path, and the folders that it is in.
fn and_above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(folder, _)| folder))
}
