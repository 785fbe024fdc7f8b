//! The Dockerfile as it is sent: with other references, for engines without named contexts, with commits where it names
//! branches, and with caches of its own; byte for byte the same elsewhere.

use super::bases::Base;
use super::caches::{cache_mounts, own_cache};
use super::needs::{Origin, Remote, Source, origins};
use super::scope::Globals;
use super::stages::StageNames;
use super::{Dockerfile, Request};

/// What stands in the Dockerfile that is sent in place of what was written.
pub(crate) struct Replacements<'a> {
    /// At `# syntax=`.
    pub(crate) frontend: Option<&'a str>,
    /// For a reference, given as it expands, at `FROM`, `COPY --from` and `RUN --mount=from=`.
    pub(crate) reference: &'a dyn Fn(&str) -> Option<String>,
    /// The id of a cache mount, given what is written as its id, else as its target.
    pub(crate) cache: &'a dyn Fn(&str) -> Option<String>,
    /// For what an `ADD` fetches.
    pub(crate) remote: &'a dyn Fn(&Remote) -> Option<String>,
}

impl Dockerfile {
    /// The text with these. Triggers of `ONBUILD` stay: they are of another build.
    ///
    /// A file whose `needs` are an error is returned as it is.
    pub(crate) fn with(&self, request: &Request<'_>, replacements: &Replacements<'_>) -> String {
        let Replacements { frontend, reference: replace, cache, remote } = replacements;
        let source = self.text.as_str();
        let names = StageNames::new(&self.stages);
        let bases = Globals::new(self, request).and_then(|globals| self.bases(&globals, &names));
        let Ok(bases) = bases else { return source.to_owned() };
        let mut edits = Vec::new();
        if let (Some(syntax), Some(frontend)) = (&self.syntax, frontend) {
            edits.push((syntax.range.clone(), (*frontend).to_owned()));
        }
        for instruction in self.stages.iter().flat_map(|stage| &stage.instructions) {
            edits.extend(cache_mounts(&instruction.action).filter_map(|mount| own_cache(mount, cache)));
        }
        for (at, (stage, from)) in self.stages.iter().zip(&bases).enumerate() {
            if let Base::Image(reference) = &from.base {
                edits.extend(replace(reference).map(|new| (stage.image.range.clone(), new)));
            }
            for (word, mount) in
                stage.instructions.iter().flat_map(|instruction| origins(&instruction.action))
            {
                if let Ok(Origin::Image(reference)) = self.origin(at, word, mount, &names) {
                    edits.extend(replace(&reference).map(|new| (word.range.clone(), new)));
                }
            }
        }
        let sources = self.needs(request).map(|needs| needs.sources).unwrap_or_default();
        edits.extend(sources.iter().filter_map(|source| match source {
            Source::Remote(one) if !one.range.is_empty() => Some((one.range.clone(), remote(one)?)),
            Source::Remote(_) | Source::Context(_) => None,
        }));
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(source.len());
        let mut kept = 0;
        for (range, new) in edits {
            if range.start >= kept {
                text.push_str(&source[kept..range.start]);
                text.push_str(&new);
                kept = range.end;
            }
        }
        text.push_str(&source[kept..]);
        text
    }
}
