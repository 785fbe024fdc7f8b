//! Whether somebody reaches a server, told by names that are asked for once and that nobody else knows: at the same address
//! another machine may have a registry of its own, which answers as well.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::{Route, SessionName};
use crate::oci::{Error, ErrorKind, Repository};

/// The names that a server listens for.
#[derive(Clone, Default)]
pub struct Knocks(Arc<Mutex<BTreeMap<Repository, bool>>>);

impl Knocks {
    /// A repository that nobody can guess, listened for from now on.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn expect(&self) -> Result<Repository, Error> {
        let lacking = || Error::new(ErrorKind::Failed, "make a name: the system has no random numbers");
        let name = SessionName::random().ok_or_else(lacking)?;
        let repository: Repository = format!("knock/{name}").parse()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone(), false);
        Ok(repository)
    }

    /// Whether it was asked for. It is not listened for any more.
    pub fn was_heard(&self, repository: &Repository) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(repository).unwrap_or_default()
    }

    /// Whether a path that somebody asks for is of a name that is listened for.
    pub(super) fn hear(&self, path: &str) -> bool {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.is_empty() {
            return false;
        }
        let route = Route::parse(path).ok();
        let heard = route.as_ref().and_then(Route::repository).and_then(|name| expected.get_mut(name));
        heard.map(|heard| *heard = true).is_some()
    }
}

impl fmt::Debug for Knocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Knocks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_heard_only_once_it_is_asked_for() {
        let knocks = Knocks::default();
        let (one, other) = (knocks.expect().unwrap(), knocks.expect().unwrap());
        assert_ne!(one, other);
        assert!(!knocks.hear("/v2/") && !knocks.hear("/v2/knock/1/manifests/latest"));
        assert!(knocks.hear(&format!("/v2/{one}/manifests/latest")));
        assert_eq!([&one, &other, &one].map(|name| knocks.was_heard(name)), [true, false, false]);
        assert!(!knocks.hear(&format!("/v2/{one}/manifests/latest")), "it is not listened for any more");
    }
}
