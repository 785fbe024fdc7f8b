//! Stores behind names of registries, with the user's credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::diag::{Diagnostic, Result};
use crate::oci::{Client, ClientOptions, Credentials, DockerConfig, Pauses, Store};
use crate::survey::Registries;

use super::environment::Environment;

/// How often a look-up is tried.
const LOOKUP_ATTEMPTS: usize = 2;
/// How long a look-up waits for a registry that says "later", or says nothing.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(3);
/// How long it pauses between tries.
const LOOKUP_PAUSES: Pauses = Pauses { base: Duration::from_millis(250), cap: Duration::from_secs(1) };

/// One client a registry, made when it is first asked for. It is patient: a run has time.
pub(super) fn registries(environment: &Environment) -> Result<Arc<Registries>> {
    clients(environment, ClientOptions::default())
}

/// The same for looking things up: a person waits for the plan, which stands without an answer.
pub(super) fn lookups(environment: &Environment) -> Result<Arc<Registries>> {
    let options = ClientOptions {
        attempts: LOOKUP_ATTEMPTS,
        patience: LOOKUP_PATIENCE,
        idle: LOOKUP_PATIENCE,
        pauses: LOOKUP_PAUSES,
        ..ClientOptions::default()
    };
    clients(environment, options)
}

fn clients(environment: &Environment, options: ClientOptions) -> Result<Arc<Registries>> {
    let files = environment.credential_files();
    let credentials = DockerConfig::load(&files, environment.search_path())
        .map_err(|error| Diagnostic::request("read the passwords of registries").caused_by(&error))?;
    let credentials: Arc<dyn Credentials> = Arc::new(credentials);
    let made: Mutex<BTreeMap<String, Arc<dyn Store>>> = Mutex::default();
    Ok(Arc::new(move |registry: &str| {
        let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = made.get(registry) {
            return Ok(client.clone());
        }
        let options = ClientOptions { credentials: credentials.clone(), ..options.clone() };
        let client: Arc<dyn Store> = Arc::new(Client::new(registry, options)?);
        made.insert(registry.to_owned(), client.clone());
        Ok(client)
    }))
}
