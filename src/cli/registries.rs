//! Stores behind names of registries, with the user's credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::diag::{Diagnostic, Result};
use crate::event::Amount;
use crate::oci::{
    Client, ClientOptions, Credentials, DockerConfig, Layered, Listener, Notice, Pauses, Proxies, Store,
    Traffic,
};
use crate::report::traffic_line;
use crate::survey::Registries;
use crate::ui::Ui;

use super::{Context, recorder, workspace};

/// How often a look-up is tried.
const LOOKUP_ATTEMPTS: usize = 2;
/// How long a look-up waits for a registry that says "later", or says nothing.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(3);
/// How long it pauses between tries.
const LOOKUP_PAUSES: Pauses = Pauses { base: Duration::from_millis(250), cap: Duration::from_secs(1) };

/// One client a registry, made when it is first asked for. It is patient: a run has time.
pub(super) fn registries(context: &Context) -> Result<Arc<Registries>> {
    clients(context, ClientOptions::default())
}

/// The same for looking things up: a person waits for the plan, which stands without an answer.
pub(super) fn lookups(context: &Context) -> Result<Arc<Registries>> {
    let options = ClientOptions {
        attempts: LOOKUP_ATTEMPTS,
        patience: LOOKUP_PATIENCE,
        idle: LOOKUP_PATIENCE,
        pauses: LOOKUP_PAUSES,
        ..ClientOptions::default()
    };
    clients(context, options)
}

/// What was asked of each host so far.
pub(super) fn traffic(traffic: &Traffic) -> BTreeMap<String, Amount> {
    let hosts = traffic.by_host().into_iter();
    let amounts = hosts.map(|(host, one)| {
        let amount = Amount { requests: one.requests, sent: one.sent, received: one.received };
        (host, amount)
    });
    amounts.collect()
}

/// Say what a command asked of registries.
pub(super) fn tell_traffic(context: &Context) {
    if let Some(line) = traffic_line(&traffic(&context.traffic)).filter(|_| !context.common.quiet) {
        context.ui.note(&line);
    }
}

/// Tells a person what the clients have to say while they work.
fn listener(ui: Arc<Ui>) -> Listener {
    Listener::new(move |notice| match notice {
        Notice::Waiting { registry, sign, at_most } => {
            let until = recorder::now() + u64::try_from(at_most.as_millis()).unwrap_or_default();
            let until = jiff::Timestamp::from_millisecond(i64::try_from(until).unwrap_or_default());
            let until = until.map(|until| until.strftime("%H:%M:%S").to_string()).unwrap_or_default();
            ui.note(&format!("{registry} {sign}; trying again until {until} UTC"));
        }
        Notice::Warned { registry, words } => {
            ui.warning(&Diagnostic::warning(format!("{registry} says: {words}")));
        }
    })
}

fn clients(context: &Context, options: ClientOptions) -> Result<Arc<Registries>> {
    let environment = &context.environment;
    let proxies = Proxies::of(|name| environment.text(name))
        .map_err(|error| Diagnostic::request("find the way to registries").caused_by(&error))?;
    let options = ClientOptions {
        proxies,
        traffic: context.traffic.clone(),
        gates: context.gates.clone(),
        listener: listener(context.ui.clone()),
        ..options
    };
    let limits = workspace::limits(context)?;
    let files = environment.credential_files();
    let credentials = DockerConfig::load(&files, environment.search_path())
        .map_err(|error| Diagnostic::request("read the passwords of registries").caused_by(&error))?;
    let credentials: Arc<dyn Credentials> = match &context.login {
        Some(login) => Arc::new(Layered(vec![login.clone(), Arc::new(credentials)])),
        None => Arc::new(credentials),
    };
    let made: Mutex<BTreeMap<String, Arc<dyn Store>>> = Mutex::default();
    Ok(Arc::new(move |registry: &str| {
        let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = made.get(registry) {
            return Ok(client.clone());
        }
        let limit = limits.get(registry).copied().unwrap_or_default();
        let at_once = limit.requests_at_once.and_then(|number| usize::try_from(number).ok());
        let options = ClientOptions {
            credentials: credentials.clone(),
            concurrency: at_once.unwrap_or(options.concurrency),
            requests_per_second: limit.requests_per_second.map(f64::from),
            ..options.clone()
        };
        let client: Arc<dyn Store> = Arc::new(Client::new(registry, options)?);
        made.insert(registry.to_owned(), client.clone());
        Ok(client)
    }))
}
