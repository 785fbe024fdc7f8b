//! What steps of a job see and engines leave out of the keys of their caches of layers (TM1, TM10).
//!
//! A step that an engine has in its cache is not done again, whoever had it done. BuildKit leaves out of a step's key the
//! variables of proxies, the values of secrets and agents, and which cache is mounted; old versions all that is mounted. So
//! whatever differs in these is told apart by a digest of them, which is put where BuildKit does look.

use crate::defence::{Defence, stands};
use crate::diag::{Diagnostic, Kind};
use crate::dockerfile::{Dockerfile, is_proxy, of_trigger};
use crate::engine::SecretFile;
use crate::oci::Digest;

use super::job::Work;

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

    /// What an untrusted build has done by a proxy of its own is found by trusted ones, where the engine cannot be told to
    /// keep them apart.
    pub(super) fn refuse_proxies(&self) -> Result<(), Diagnostic> {
        let (facts, mut proxies) = (&self.builder.facts, self.proxies());
        let is_shared = !facts.keeps_apart() && self.session.records.is_untrusted();
        match proxies.next().filter(|_| is_shared && stands(Defence::UnseenInputs)) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("{} cannot be built apart from trusted images", self.job);
                Err(Diagnostic::new(Kind::Policy, message)
                    .because(format!("the argument {name} names a proxy, and Podman and Buildah take steps with another for the same"))
                    .hint("let a Docker Engine build it: polyarch build --builder docker")
                    .hint("or give the proxy to the machine instead: in the environment of polyarch"))
            }
        }
    }

    /// The arguments that every step has in its environment, declared or not.
    fn proxies(&self) -> impl Iterator<Item = (&String, &String)> {
        self.recipe.args.iter().filter(|(name, _)| is_proxy(name))
    }

    /// Whether that may be so of its Dockerfile, or of a trigger of what it stands on.
    fn any_may(&self, is_so: impl Fn(&Dockerfile) -> bool) -> bool {
        is_so(&self.recipe.file)
            || self.triggers().any(|trigger| of_trigger(trigger).is_none_or(|file| is_so(&file)))
    }
}
