//! Who we are to a registry: the trait that finds a login, and the places it is found in.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Error, Repository};

mod docker;
mod helper;

pub use docker::DockerConfig;

/// A text that is never shown: it has no `Display`, cannot be serialized, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keep a text to ourselves.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Each caller is a place where it can leak.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a registry, or the token server that it names, takes as proof of who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that the token server exchanges for one of the registry's.
    IdentityToken(Secret),
    /// A token that the registry itself takes.
    RegistryToken(Secret),
}

/// A place that logins are found in.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The login for a repository of a registry (`host` or `host:port`); without a repository, for what concerns
    /// the registry as a whole.
    ///
    /// # Errors
    /// Where the place cannot be asked. No login is no error.
    async fn find(&self, registry: &str, repository: Option<&Repository>) -> Result<Option<Login>, Error>;
}

/// No login for anything: every registry is asked anonymously.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

#[async_trait]
impl Credentials for NoCredentials {
    async fn find(&self, _registry: &str, _repository: Option<&Repository>) -> Result<Option<Login>, Error> {
        Ok(None)
    }
}

/// One login for one registry, and none for any other.
#[derive(Clone, Debug)]
pub struct Fixed(pub String, pub Login);

#[async_trait]
impl Credentials for Fixed {
    async fn find(&self, registry: &str, _repository: Option<&Repository>) -> Result<Option<Login>, Error> {
        Ok((self.0 == registry).then(|| self.1.clone()))
    }
}

/// Several places, asked in order until one has a login.
#[derive(Clone)]
pub struct Layered(pub Vec<Arc<dyn Credentials>>);

#[async_trait]
impl Credentials for Layered {
    async fn find(&self, registry: &str, repository: Option<&Repository>) -> Result<Option<Login>, Error> {
        for place in &self.0 {
            if let Some(login) = place.find(registry, repository).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}
