//! Whether an image has executables of other machines: the check that every image gets, before its own.
//!
//! It reads layers as the store has them and runs nothing. What the image stands on has passed the same check with the
//! same exceptions, since these are inherited, so that only the layers above that are read.

use crate::contents::{self, Foreign, Machine};
use crate::diag::{Diagnostic, Kind};
use crate::family::Recipe;
use crate::oci::{Descriptor, Error};
use crate::record::ImageRecord;

use super::job::Work;

/// How many executables are named.
const NAMED: usize = 10;

impl Work<'_> {
    /// See that everything that can run in the image is for its platform.
    ///
    /// # Errors
    /// Of kind [`Kind::Failed`] where something is for another machine; of another kind where the store fails.
    pub(super) async fn runs_on_its_platform(&self, image: &ImageRecord) -> Result<(), Diagnostic> {
        if self.recipe.foreign.iter().any(crate::config::PathPattern::is_all) {
            return Ok(());
        }
        let found = self.foreign_in(image).await.map_err(|error| {
            Diagnostic::of_store(format!("look for executables of other machines in {}", self.job), &error)
        })?;
        let counts = |path: &str| !self.recipe.foreign.iter().any(|pattern| pattern.matches(path));
        let found: Vec<(&String, &Machine)> = found.iter().filter(|(path, _)| counts(path)).collect();
        if found.is_empty() { Ok(()) } else { Err(self.is_foreign(&found)) }
    }

    async fn foreign_in(&self, image: &ImageRecord) -> Result<Foreign, Error> {
        let records = &self.session.records;
        let layers_of = async |digest: &crate::oci::Digest| {
            let document = records.store.read_document(&records.scope, &digest.clone().into()).await?;
            Ok::<_, Error>(document.manifest()?.layers)
        };
        let layers = layers_of(&image.image).await?;
        let parent = stands_on(self.recipe, image).and_then(|unit| self.parents.get(unit));
        let below = match parent.filter(|parent| image.parents.values().any(|built| built == *parent)) {
            // One that is gone can be read no more: then everything is.
            Some(parent) => layers_of(parent).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let own = above(&layers, &below);
        contents::foreign(&*records.store, &records.scope, own, &image.platform).await
    }

    fn is_foreign(&self, found: &[(&String, &Machine)]) -> Diagnostic {
        let (path, machine) = found[0];
        let problem = format!("{}: {path} is for {machine}, not for {}", self.job, self.job.platform);
        let named =
            found.iter().skip(1).take(NAMED - 1).map(|(path, machine)| format!("{path} is for {machine}"));
        let more = found.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("so are {more} more"));
        let problem = named.chain(more).fold(Diagnostic::new(Kind::Failed, problem), Diagnostic::because);
        problem
            .hint("fetch what is for the platform that is built: `ARG TARGETARCH` in the Dockerfile has its name")
            .hint(format!(
                "or where it belongs there, write in `[image.{}]`: foreign-executables = [{{ path = \"{path}\", \
                 reason = \"…\" }}]",
                self.job.unit.image
            ))
            .hint(format!("look at the image: polyarch load {}", self.job))
    }
}

/// The unit of the family whose layers an image has.
fn stands_on<'a>(recipe: &'a Recipe, image: &ImageRecord) -> Option<&'a crate::family::Unit> {
    recipe.platforms.get(&image.platform)?.stands_on()
}

/// The layers that are not those of what the image stands on.
fn above<'a>(layers: &'a [Descriptor], below: &[Descriptor]) -> &'a [Descriptor] {
    let is_same = |(own, other): (&Descriptor, &Descriptor)| own.digest == other.digest;
    match below.len() <= layers.len() && layers.iter().zip(below).all(is_same) {
        true => &layers[below.len()..],
        false => layers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn what_a_parent_brings_is_not_read_again() {
        let layers = |names: &[&str]| -> Vec<Descriptor> {
            names.iter().map(|name| Descriptor::of(MediaType::LAYER_GZIP, name.as_bytes())).collect()
        };
        let image = layers(&["a", "b", "c"]);
        for (below, read) in [
            (&[][..], 3),
            (&["a"], 2),
            (&["a", "b", "c"], 0),
            // Not the layers that it begins with: then nothing is known of any.
            (&["b"], 3),
            (&["a", "x"], 3),
            (&["a", "b", "c", "d"], 3),
        ] {
            assert_eq!(above(&image, &layers(below)).len(), read, "{below:?}");
        }
    }
}
