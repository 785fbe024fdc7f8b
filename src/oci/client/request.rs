//! One engine for every request: credentials, redirects, time limits, and asking again.
//!
//! An [`Ask`] is sent by [`Connection::once`], which ends in an [`Answer`] or in a [`Trouble`] that knows whether
//! asking again may help; [`Tries`] decides whether and when to. Credentials go to the registry's own scheme, host
//! and port only. What the registry names elsewhere (redirects, upload locations, token servers) is visited under the
//! rules of [`super::reach`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, WARNING};
use reqwest::{Method, StatusCode};
use url::Url;

use super::answer::{Answer, passing, sanitized};
use super::auth::Auth;
use super::gate::Gate;
use super::known::Known;
use super::notice::Notice;
use super::options::ClientOptions;
use super::part::{Part, Pulse, within};
use super::reach::{self, FewAddresses, Limit};
use super::tries::{Again, Tries, Trouble};
use crate::oci::store::CONDITIONAL_TAGS;
use crate::oci::{Error, ErrorKind, Repository};

/// Redirects followed for one request.
const REDIRECTS: usize = 10;

/// The slowest connection on which a body still arrives, in bytes a second.
const SLOWEST_UPLOAD: u64 = 64 << 10;

/// How long a connection may take, to all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the library says where a proxy wants to know who opens a tunnel.
const NOT_AUTHORIZED: &str = "proxy authorization required";

/// How many different warnings of one registry are told.
const WARNINGS: usize = 16;

/// A request that can be sent again.
#[derive(Clone)]
pub(super) struct Ask {
    /// The method.
    pub(super) method: Method,
    /// Where to.
    pub(super) url: Url,
    /// Headers, without credentials.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
    /// The repository that it is about.
    pub(super) repository: Option<Repository>,
    /// What a token must allow.
    pub(super) scopes: BTreeSet<String>,
    /// What is being done to what, for messages.
    pub(super) doing: String,
}

impl Ask {
    /// The same with one more header, whose value we made ourselves.
    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The same with a body.
    #[must_use]
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// The way to one registry, with what has been learnt about it.
pub(super) struct Connection {
    /// The registry as callers name it.
    pub(super) registry: String,
    /// The root of its addresses.
    pub(super) base: Url,
    /// How it is to be treated.
    pub(super) options: ClientOptions,
    /// What it wants to know of us.
    pub(super) auth: Auth,
    home: reqwest::Client,
    elsewhere: reqwest::Client,
    limit: Limit,
    /// The gate before it.
    pub(super) gate: Arc<Gate>,
    /// What is known to be there.
    pub(super) known: Known,
    chunk: AtomicU64,
    warned: Mutex<BTreeSet<String>>,
}

impl Connection {
    /// The way to a registry; nothing is sent yet.
    pub(super) fn new(registry: &str, base: Url, options: ClientOptions) -> Result<Self, Error> {
        let limit = Limit::default();
        let failed = |error: reqwest::Error| {
            Error::new(ErrorKind::Failed, format!("prepare connections to {registry}")).because(error)
        };
        let mut authorities = Vec::new();
        for pem in &options.authorities {
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?);
        }
        // An address that says nothing leaves time for the next one, and for the answer.
        let connecting = CONNECT_TIMEOUT.min(options.idle * 2 / 3);
        let build = |client: reqwest::ClientBuilder| {
            let client = client
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(connecting)
                .user_agent(&options.user_agent)
                .referer(false)
                .tls_certs_merge(authorities.clone())
                .no_proxy();
            let proxied =
                options.proxies.of_library().into_iter().fold(client, reqwest::ClientBuilder::proxy);
            proxied.build().map_err(failed)
        };
        let home = build(reqwest::Client::builder().dns_resolver(FewAddresses))?;
        let elsewhere = build(reqwest::Client::builder().dns_resolver(limit.clone()))?;
        Ok(Self {
            registry: registry.to_owned(),
            base,
            auth: Auth::default(),
            home,
            elsewhere,
            limit,
            gate: options.gates.before(registry, options.concurrency, options.requests_per_second),
            known: Known::default(),
            chunk: AtomicU64::new(options.chunk.max(1)),
            warned: Mutex::default(),
            options,
        })
    }

    /// A request about a repository, by its path below `/v2/`; `actions` are what a token must allow.
    pub(super) fn ask(
        &self,
        method: Method,
        repository: &Repository,
        path: &str,
        actions: &str,
        doing: &str,
    ) -> Result<Ask, Error> {
        let mut ask =
            self.ask_at(method, self.address(&format!("v2/{repository}/{path}"))?, repository, doing);
        ask.scopes.insert(format!("repository:{repository}:{actions}"));
        Ok(ask)
    }

    /// A request to an address that the registry named, such as an upload's; it may push and pull.
    pub(super) fn ask_at(&self, method: Method, url: Url, repository: &Repository, doing: &str) -> Ask {
        Ask {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repository: Some(repository.clone()),
            scopes: BTreeSet::new(),
            doing: format!("{doing} at {}", self.registry),
        }
    }

    /// An address below the root.
    pub(super) fn address(&self, path: &str) -> Result<Url, Error> {
        self.base.join(path).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("address {path} at {}", self.registry)).because(error)
        })
    }

    /// Whether an address is the registry's own, so that credentials may go there.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// The largest piece that the registry is known to take.
    pub(super) fn chunk(&self) -> u64 {
        self.chunk.load(Ordering::Relaxed)
    }

    /// Learn that a piece of this size was too large; whether a smaller one is worth trying.
    pub(super) fn chunk_was_too_large(&self, size: u64) -> bool {
        let smaller = [4 << 20, 1 << 20, 256 << 10].into_iter().find(|smaller| *smaller < size);
        if let Some(smaller) = smaller {
            self.chunk.fetch_min(smaller, Ordering::Relaxed);
        }
        smaller.is_some()
    }

    /// Send until there is an answer that will not change by asking again.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let mut tries = Tries::new(self);
        loop {
            match self.once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => tries.again(trouble).await?,
            }
        }
    }

    /// Send, and read the whole of a good answer's body, asking again where it is cut.
    pub(super) async fn send_whole(&self, ask: &Ask, limit: usize) -> Result<(Answer, Bytes), Error> {
        let mut tries = Tries::new(self);
        loop {
            let trouble = match self.once(ask).await {
                Ok(answer) if !answer.status().is_success() => return Ok((answer, Bytes::new())),
                Ok(mut answer) => match answer.body(limit).await {
                    Ok(body) => return Ok((answer, body)),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            tries.again(trouble).await?;
        }
    }

    /// Send once, as far as redirects and demands for credentials lead.
    pub(super) async fn once(&self, ask: &Ask) -> Result<Answer, Trouble> {
        self.once_with(ask, None).await
    }

    /// The same with a body that is read while it is sent.
    pub(super) async fn once_with(&self, ask: &Ask, part: Option<&Part<'_>>) -> Result<Answer, Trouble> {
        let (mut url, mut redirects, mut challenges) = (ask.url.clone(), 0, 0);
        loop {
            let is_home = self.is_home(&url);
            let authorization = if is_home { self.auth.header(self, ask).await? } else { None };
            let answer = {
                let _pass = self.gate.enter().await;
                self.exchange(ask, &url, authorization.clone(), part).await?
            };
            let status = answer.status();
            self.note_warnings(&answer);
            if is_home && answer.header(CONDITIONAL_TAGS).is_some() {
                self.known.learn_conditions();
            }
            if is_home && status == StatusCode::UNAUTHORIZED && challenges < 2 {
                challenges += 1;
                match self.auth.challenged(self, ask, answer.headers(), authorization.as_ref()).await? {
                    true => continue,
                    false => return Ok(answer),
                }
            }
            let follows = matches!(ask.method, Method::GET | Method::HEAD)
                && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if let Some(location) = answer.header(LOCATION.as_str()).filter(|_| follows) {
                redirects += 1;
                if redirects > REDIRECTS {
                    let why = format!("{}: more than {REDIRECTS} redirects", ask.doing);
                    return Err(Error::new(ErrorKind::Failed, why).into());
                }
                url = reach::follow(&url, location, &ask.doing)?;
                continue;
            }
            return answer.unless_later().await.inspect(|_| self.gate.success());
        }
    }

    /// One exchange with one address. Elsewhere than at home, the rules of [`reach`] hold.
    pub(super) async fn exchange(
        &self,
        ask: &Ask,
        url: &Url,
        authorization: Option<HeaderValue>,
        part: Option<&Part<'_>>,
    ) -> Result<Answer, Trouble> {
        let client = if self.is_home(url) {
            &self.home
        } else {
            self.limit.permit(&self.base, url, &ask.doing).await?;
            &self.elsewhere
        };
        let mut request = client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let (idle, count, pulse) = (self.options.idle, self.options.traffic.of(url), Pulse::start());
        match part {
            Some(part) => {
                request = request.header(CONTENT_LENGTH, part.length());
                request = request.body(reqwest::Body::wrap_stream(part.open(&pulse, &count).await?));
            }
            None if matches!(ask.method, Method::GET | Method::HEAD | Method::DELETE) => {}
            None => {
                count.sent(ask.body.len());
                pulse.wait_longer(Duration::from_secs(ask.body.len() as u64 / SLOWEST_UPLOAD));
                request = request.body(ask.body.clone());
            }
        }
        count.request();
        match within(request.send(), &pulse, idle).await {
            Some(Ok(response)) => {
                let refused = response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                match self.options.proxies.refusal(url).filter(|_| refused) {
                    Some(why) => Err(refused_by_proxy(&ask.doing, &why).into()),
                    None => Ok(Answer::new(response, idle, count, &ask.doing)),
                }
            }
            Some(Err(error)) => match part.and_then(Part::failure) {
                // Not the registry failed, but the place that the bytes come from.
                Some(failure) => Err(failure.into()),
                None => Err(self.unreached(&ask.doing, url, error)),
            },
            None => {
                let why = format!("nothing came or went for {} s", idle.as_secs_f32());
                Err(Trouble::connection(passing(&ask.doing, &why)))
            }
        }
    }

    /// Tell once what a registry says to everybody (RFC 7234, code 299).
    fn note_warnings(&self, answer: &Answer) {
        for value in answer.headers().get_all(WARNING) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let Some(words) = text.trim().strip_prefix("299 ") else { continue };
            let words = words.split_once(' ').map_or(words, |(_, words)| words).trim().trim_matches('"');
            let words = sanitized(words);
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() < WARNINGS && warned.insert(words.clone()) {
                let registry = self.registry.clone();
                self.options.listener.tell(Notice::Warned { registry, words });
            }
        }
    }

    /// A failure to reach an address. Its path and query may hold a secret, so only the host is told.
    fn unreached(&self, doing: &str, url: &Url, error: reqwest::Error) -> Trouble {
        let mut cause = std::error::Error::source(&error);
        let (mut untrusted, mut unspoken, mut refused) = (false, false, false);
        while let Some(inner) = cause {
            let text = inner.to_string();
            untrusted |= text.contains("certificate") || text.contains(reach::REFUSED);
            refused |= text.contains(NOT_AUTHORIZED);
            unspoken |= ["fatal alert", "peer is incompatible", "corrupt message"]
                .into_iter()
                .any(|sign| text.contains(sign));
            cause = inner.source();
        }
        if let Some(why) = self.options.proxies.refusal(url).filter(|_| refused) {
            return refused_by_proxy(doing, &why).into();
        }
        let host = url.host_str().unwrap_or("the registry");
        let through = self.options.proxies.name(url);
        let through = through.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
        let unspoken = unspoken && error.is_connect();
        let why = match (untrusted, unspoken, error.is_connect()) {
            (true, ..) => format!("the connection to {host} was refused by this side"),
            (_, true, _) => format!("{host} does not speak TLS 1.2 or newer"),
            (.., true) => format!("{host} cannot be reached{through}"),
            _ => format!("the connection to {host}{through} was cut"),
        };
        let never = untrusted || unspoken;
        let again = if never { Again::Never } else { Again::Connection };
        let kind = if never { ErrorKind::Failed } else { ErrorKind::Passing };
        Trouble { error: Error::new(kind, format!("{doing}: {why}")).because(error.without_url()), again }
    }
}

/// A proxy that wants to know who asks: it will not say otherwise when it is asked again.
fn refused_by_proxy(doing: &str, why: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("{doing}: {why}"))
}
