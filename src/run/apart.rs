//! What steps of a job see and engines leave out of the keys of their caches of layers (TM1, TM10).
//!
//! A step that an engine has in its cache is not done again, whoever had it done. BuildKit leaves out of a step's key the
//! variables of proxies, the values of secrets and agents, and which cache is mounted; old versions all that is mounted. So
//! whatever differs in these is told apart by a digest of them, which is put where BuildKit does look.

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind};
use crate::dockerfile::{Dockerfile, is_proxy, may_mount_cache, of_trigger};
use crate::engine::SecretFile;
use crate::family::{JobId, Recipe};
use crate::oci::{Digest, Platform};
use crate::plan::Facts;

use super::job::Work;
use super::suited::Asked;

impl Work<'_> {
    /// What tells its steps from those of builds that see something else, where they may see what engines do not look at.
    pub(super) fn apart(&self, secrets: &[SecretFile], agents: &[String]) -> Option<Digest> {
        let mut seen: Vec<[&str; 3]> = Vec::new();
        let own;
        // Engines that cannot be told have the ids of caches in the text of each step.
        let facts = &self.builder.facts;
        if facts.keeps_apart() && stands(Defence::CacheMounts) && self.any_may(Dockerfile::may_mount_caches)
            || stands(Defence::UnseenInputs) && !facts.looks_at_mounts() && self.any_may(Dockerfile::mounts)
        {
            own = self.own_caches().space;
            seen.push(["mounts", &own, ""]);
        }
        if stands(Defence::UnseenInputs) {
            seen.extend(self.proxies().map(|(name, value)| ["proxy", name.as_str(), value.as_str()]));
            seen.extend(secrets.iter().map(|secret| ["secret", secret.id.as_str(), ""]));
            seen.extend(agents.iter().map(|agent| ["agent", agent.as_str(), ""]));
        }
        // As JSON, in which no value can look like two.
        (!seen.is_empty()).then(|| Digest::of(serde_json::json!(seen).to_string().as_bytes()))
    }

    /// Whether a step of it may mount files which its builder would not see to have changed.
    pub(super) fn mounts_unseen_files(&self) -> bool {
        !self.builder.facts.looks_into_mounts() && self.any_may(Dockerfile::mounts_files)
    }

    /// The arguments that every step has in its environment, declared or not.
    fn proxies(&self) -> impl Iterator<Item = (&String, &String)> {
        proxies(self.recipe)
    }

    /// Whether that may be so of its Dockerfile, or of a trigger of what it stands on.
    fn any_may(&self, is_so: impl Fn(&Dockerfile) -> bool) -> bool {
        is_so(&self.recipe.file)
            || self.triggers().any(|trigger| of_trigger(trigger).is_none_or(|file| is_so(&file)))
    }

    /// The `ONBUILD` triggers of images that its stages stand on.
    pub(super) fn triggers(&self) -> impl Iterator<Item = &String> {
        triggers(self.session.facts, self.recipe, &self.job.platform)
    }
}

/// Why only a builder that can be told what to keep apart may build a job, where that is so; no other is given it.
pub(super) fn wants_apartness(asked: &Asked<'_>, job: &JobId, recipe: &Recipe) -> Option<Diagnostic> {
    let problem = |message: String| {
        let problem = Diagnostic::new(Kind::Policy, message);
        move |why: String| {
            problem.because(why).hint("let a Docker Engine build it: polyarch build --builder docker")
        }
    };
    let caches = || {
        let mut triggers = triggers(asked.facts, recipe, &job.platform);
        let trigger = triggers.find(|trigger| may_mount_cache(trigger))?;
        // They are in the images that it stands on, and only BuildKit can be told what to call their caches.
        Some(problem(format!("{job} cannot be built with caches of its own"))(format!(
            "what it stands on has it run `{trigger}`, which may mount one of others"
        )))
    };
    // What an untrusted build has done by a proxy of its own would be found by trusted ones.
    let proxy = || {
        let (name, _) = proxies(recipe).next()?;
        let told = problem(format!("{job} cannot be built apart from trusted images"))(format!(
            "the argument {name} names a proxy, and Podman and Buildah take steps with another for the same"
        ));
        Some(told.hint("or give the proxy to the machine instead: in the environment of polyarch"))
    };
    let of_caches = stands(Defence::CacheMounts).then(caches).flatten();
    of_caches.or_else(|| (asked.is_untrusted && stands(Defence::UnseenInputs)).then(proxy).flatten())
}

fn proxies(recipe: &Recipe) -> impl Iterator<Item = (&String, &String)> {
    recipe.args.iter().filter(|(name, _)| is_proxy(name))
}

/// The `ONBUILD` triggers of images that the stages of a recipe stand on.
fn triggers<'a>(
    facts: &'a Facts,
    recipe: &'a Recipe,
    platform: &'a Platform,
) -> impl Iterator<Item = &'a String> {
    let build = &recipe.platforms[platform];
    let outside = build.outside_stages().filter_map(|(written, _)| facts.base(build, written, platform));
    build.triggers.iter().chain(outside.filter_map(|image| facts.triggers.get(image)).flatten())
}
