//! The same Dockerfile with other references, byte for byte elsewhere: for engines without named contexts.

use super::bases::Base;
use super::needs::{Origin, origins};
use super::scope::Globals;
use super::stages::StageNames;
use super::{Dockerfile, Request};

impl Dockerfile {
    /// The text in which `frontend`, if given, stands at `# syntax=`, and `replace` has put other references for those
    /// it knows (given as they expand), at `FROM`, `COPY --from` and `RUN --mount=from=`. Triggers of `ONBUILD` stay: they are of another build.
    ///
    /// A file whose `needs` are an error is returned as it is.
    pub(crate) fn with_references(
        &self,
        request: &Request<'_>,
        frontend: Option<&str>,
        replace: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let source = self.text.as_str();
        let names = StageNames::new(&self.stages);
        let bases = Globals::new(self, request).and_then(|globals| self.bases(&globals, &names));
        let Ok(bases) = bases else { return source.to_owned() };
        let mut edits = Vec::new();
        if let (Some(syntax), Some(frontend)) = (&self.syntax, frontend) {
            edits.push((syntax.range.clone(), frontend.to_owned()));
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
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(source.len());
        let mut kept = 0;
        for (range, new) in edits {
            if range.start >= kept && !range.is_empty() {
                text.push_str(&source[kept..range.start]);
                text.push_str(&new);
                kept = range.end;
            }
        }
        text.push_str(&source[kept..]);
        text
    }
}
