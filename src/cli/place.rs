//! Where a command copies from and to: a repository at a registry, or one of the family's own store.

use std::sync::Arc;

use crate::diag::{Diagnostic, Kind, Result};
use crate::family::SCOPES;
use crate::oci::{Error, Pointer, Reference, Repository, Store};
use crate::survey::Registries;

use super::Context;
use super::workshop::Shelf;

/// What stands for the registry in names of the family's own store, as publications print it.
const OWN: &str = "embedded";

/// A name on the command line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The registry, `host[:port]`, or `embedded`.
    pub(super) registry: String,
    /// The rest; its own registry means nothing where it is the family's store.
    pub(super) reference: Reference,
    /// It is the family's own store.
    pub(super) own: bool,
}

impl Named {
    /// Read `REGISTRY/NAME[:TAG][@DIGEST]` or `embedded/NAME…`. A name without its registry could be meant for Docker Hub or
    /// for the store, and is refused.
    ///
    /// # Errors
    /// Where it cannot be read, or does not say which registry is meant.
    pub(super) fn read(written: &str) -> Result<Self> {
        let wrong = |error: Error| {
            Diagnostic::request(format!("read the reference `{written}`"))
                .caused_by(&error)
                .hint("write it as `registry/owner/name:tag`")
        };
        if let Some(rest) = written.strip_prefix("embedded/") {
            let reference = format!("localhost/{rest}").parse().map_err(wrong)?;
            return Ok(Self { registry: OWN.to_owned(), reference, own: true });
        }
        let reference: Reference = written.parse().map_err(wrong)?;
        let registry = reference.registry().to_owned();
        let first = written.split('/').next().unwrap_or_default();
        match first == registry || first == "index.docker.io" {
            true => Ok(Self { registry, reference, own: false }),
            false => Err(Diagnostic::request(format!("`{written}` does not say which registry is meant"))
                .hint(format!("for one at Docker Hub write {reference}"))
                .hint(format!("for one of the family's own store write {OWN}/{written}"))
                .into()),
        }
    }

    /// The repository.
    pub(super) fn repository(&self) -> &Repository {
        self.reference.repository()
    }

    /// The name without tag and digest.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository())
    }

    /// The whole name, with what it points at.
    pub(super) fn at(&self, pointer: &Pointer) -> String {
        let mark = if matches!(pointer, Pointer::Digest(_)) { '@' } else { ':' };
        format!("{}{mark}{pointer}", self.name())
    }

    /// Refuse what polyarch keeps for itself: the scopes, where jobs leave their results.
    ///
    /// # Errors
    /// Of kind policy, where it is one of those.
    pub(super) fn not_a_scope(&self, doing: &str) -> Result<(), Diagnostic> {
        match self.repository().as_str().starts_with(SCOPES) {
            false => Ok(()),
            true => {
                let message = format!("{doing} {} is refused", self.name());
                Err(Diagnostic::new(Kind::Policy, message)
                    .because(format!("under `{SCOPES}` builds keep their results, and nobody else writes"))
                    .hint("name another repository; what no build needs any more goes by: polyarch gc"))
            }
        }
    }
}

/// The stores behind names: registries by their clients, and the family's own, opened where it is first asked for.
pub(super) struct Places<'a> {
    context: &'a Context,
    registries: Arc<Registries>,
    shelf: Option<Shelf>,
}

impl<'a> Places<'a> {
    /// Those that this command's user may reach.
    ///
    /// # Errors
    /// Where passwords or proxies cannot be read.
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        Ok(Self { context, registries: super::registries::registries(context)?, shelf: None })
    }

    /// The store that a name means.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn store(&mut self, named: &Named) -> Result<Arc<dyn Store>> {
        if !named.own {
            let failed = |error: Error| {
                Diagnostic::request(format!("reach the registry `{}`", named.registry)).caused_by(&error)
            };
            return Ok((self.registries)(&named.registry).map_err(failed)?);
        }
        Ok(self.shelf()?.store.clone())
    }

    /// The family's own store.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn shelf(&mut self) -> Result<&Shelf> {
        let shelf = match self.shelf.take() {
            Some(shelf) => shelf,
            None => Shelf::meant(self.context)?,
        };
        Ok(self.shelf.insert(shelf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_registry_is_meant() {
        for (written, registry, repository) in [
            ("docker.io/elasticsearch:7.9.3", "docker.io", "library/elasticsearch"),
            ("index.docker.io/a/b", "docker.io", "a/b"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000", "a"),
            ("localhost/a", "localhost", "a"),
            ("embedded/o/leaf:v1", "embedded", "o/leaf"),
        ] {
            let named = Named::read(written).expect(written);
            assert_eq!((named.registry.as_str(), named.repository().as_str()), (registry, repository));
        }
        for written in ["elasticsearch:7.9.3", "o/leaf", "embedded", "A/b", ""] {
            let problems = Named::read(written).expect_err(written);
            assert_eq!(problems.exit_code(), 2, "{problems}");
        }
        let problems = Named::read("o/leaf:v1").expect_err("no registry");
        let hints = &problems.iter().next().expect("a problem").hints;
        assert_eq!(hints.len(), 2, "{hints:?}");
        assert!(hints[0].ends_with("docker.io/o/leaf:v1") && hints[1].ends_with("embedded/o/leaf:v1"));
    }

    #[test]
    fn scopes_are_refused_wherever_they_are() {
        for (written, refused) in
            [("embedded/scopes/trusted:x", true), ("127.0.0.1:1/scopes/a", true), ("r.io/my/scopes/a", false)]
        {
            let found = Named::read(written).expect(written).not_a_scope("writing to");
            assert_eq!(found.err().map(|problem| problem.kind), refused.then_some(Kind::Policy), "{written}");
        }
    }
}
