//! One engine for every request: credentials, redirects, time limits, and asking again.
//!
//! An [`Ask`] is sent by [`Connection::once`], which ends in an [`Answer`] or in a [`Trouble`] that knows whether
//! asking again may help; [`Tries`] decides whether and when to. Credentials go to the registry's own scheme, host
//! and port only. What the registry names elsewhere (redirects, upload locations, token servers) is visited under the
//! rules of [`super::reach`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::answer::{Answer, passes, passing};
use super::auth::Auth;
use super::reach::{self, Limit};
use super::{ClientOptions, Pauses};
use crate::oci::{Error, ErrorKind, Repository};

/// Redirects followed for one request.
const REDIRECTS: usize = 5;

/// The longest that a registry may ask to be left alone.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(120);

/// The slowest connection on which a body still arrives, in bytes a second.
const SLOWEST_UPLOAD: u64 = 64 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// A request that came to nothing.
pub(super) struct Trouble {
    /// What went wrong.
    pub(super) error: Error,
    /// Whether asking again may help.
    pub(super) again: Again,
}

/// Whether asking again may help.
#[derive(Clone, Copy)]
pub(super) enum Again {
    /// No.
    Never,
    /// The connection failed: perhaps.
    Connection,
    /// The registry itself said "later", perhaps when.
    Later(Option<Duration>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self { error, again: Again::Never }
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
    not_before: Mutex<Option<Instant>>,
    chunk: AtomicUsize,
}

impl Connection {
    /// The way to a registry; nothing is sent yet.
    pub(super) fn new(registry: &str, base: Url, options: ClientOptions) -> Result<Self, Error> {
        let limit = Limit::default();
        let build = |client: reqwest::ClientBuilder| {
            let client = client
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(&options.user_agent)
                .referer(false);
            // A proxy stands for the way out; what is on this machine is not behind it.
            let client = if reach::is_loopback(&base) { client.no_proxy() } else { client };
            client.build().map_err(|error| {
                Error::new(ErrorKind::Failed, format!("prepare connections to {registry}")).because(error)
            })
        };
        let home = build(reqwest::Client::builder())?;
        let elsewhere = build(reqwest::Client::builder().dns_resolver(limit.clone()))?;
        let chunk = AtomicUsize::new(options.chunk.max(1));
        let (auth, registry) = (Auth::default(), registry.to_owned());
        let not_before = Mutex::default();
        Ok(Self { registry, base, options, auth, home, elsewhere, limit, not_before, chunk })
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
    pub(super) fn chunk(&self) -> usize {
        self.chunk.load(Ordering::Relaxed)
    }

    /// Learn that a piece of this size was too large; whether a smaller one is worth trying.
    pub(super) fn chunk_was_too_large(&self, size: usize) -> bool {
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
        self.turn().await;
        let (mut url, mut redirects, mut challenges) = (ask.url.clone(), 0, 0);
        loop {
            let is_home = self.is_home(&url);
            let authorization = if is_home { self.auth.header(self, ask).await? } else { None };
            let answer = self.exchange(ask, &url, authorization.clone()).await?;
            let status = answer.status();
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
            if passes(status.as_u16()) {
                let after = answer.retry_after();
                return Err(Trouble { error: answer.refusal().await, again: Again::Later(after) });
            }
            return Ok(answer);
        }
    }

    /// One exchange with one address. Elsewhere than at home, the rules of [`reach`] hold.
    pub(super) async fn exchange(
        &self,
        ask: &Ask,
        url: &Url,
        authorization: Option<HeaderValue>,
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
        if !matches!(ask.method, Method::GET | Method::HEAD | Method::DELETE) {
            request = request.body(ask.body.clone());
        }
        let idle = self.options.idle;
        let patience = idle + Duration::from_secs(ask.body.len() as u64 / SLOWEST_UPLOAD);
        match tokio::time::timeout(patience, request.send()).await {
            Ok(Ok(response)) => Ok(Answer::new(response, idle, &ask.doing)),
            Ok(Err(error)) => Err(unreached(&ask.doing, url, error)),
            Err(_) => {
                let why = format!("no answer within {} s", patience.as_secs_f32());
                Err(Trouble { error: passing(&ask.doing, &why), again: Again::Connection })
            }
        }
    }

    /// Wait while the registry wants to be left alone: what it told one request holds for all.
    async fn turn(&self) {
        let at = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = at.filter(|at| *at > Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    fn leave_alone(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut at = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(until, |at| at.max(until)));
    }
}

/// A failure to reach an address. Its path and query may hold a secret, so only the host is told.
fn unreached(doing: &str, url: &Url, error: reqwest::Error) -> Trouble {
    let mut cause = std::error::Error::source(&error);
    let mut untrusted = false;
    while let Some(inner) = cause {
        let text = inner.to_string();
        untrusted |= text.contains("certificate") || text.contains(reach::REFUSED);
        cause = inner.source();
    }
    let host = url.host_str().unwrap_or("the registry");
    let why = match (untrusted, error.is_connect()) {
        (true, _) => format!("the connection to {host} was refused by this side"),
        (false, true) => format!("{host} cannot be reached"),
        (false, false) => format!("the connection to {host} was cut"),
    };
    let again = if untrusted { Again::Never } else { Again::Connection };
    let kind = if untrusted { ErrorKind::Failed } else { ErrorKind::Passing };
    Trouble { error: Error::new(kind, format!("{doing}: {why}")).because(error.without_url()), again }
}

/// The tries of one piece of work: how many, since when, and whether there is another.
pub(super) struct Tries<'a> {
    connection: &'a Connection,
    made: usize,
    since: Instant,
}

impl<'a> Tries<'a> {
    /// The first try.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, made: 1, since: Instant::now() }
    }

    /// How many were made, this one included.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// There was progress, so that what comes next is a first try again.
    pub(super) fn progress(&mut self) {
        *self = Self::new(self.connection);
    }

    /// Wait for the next try, or give up. A registry that itself says "later" is waited for beyond the number of
    /// tries, for as long as the options say.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), Error> {
        let options = &self.connection.options;
        let patient = self.since.elapsed() < options.patience;
        let pause = options.pauses.after(self.made);
        let (pause, last) = match trouble.again {
            Again::Never => return Err(trouble.error),
            Again::Connection => (pause, self.made >= options.attempts),
            Again::Later(None) => (pause, self.made >= options.attempts && !patient),
            Again::Later(Some(after)) if after > RETRY_AFTER_LIMIT => {
                let seconds = after.as_secs();
                let text = format!("{}; it wants to be asked again in {seconds} s", trouble.error);
                return Err(Error::new(trouble.error.kind(), text));
            }
            Again::Later(Some(after)) => {
                // A tenth more, at random, so that those who were told the same do not come back together.
                let pause = (after + Pauses::random(after / 10)).max(pause);
                self.connection.leave_alone(after);
                (pause, self.made >= options.attempts && !patient)
            }
        };
        if last {
            let text = format!("{} ({} attempts)", trouble.error, self.made);
            return Err(Error::new(trouble.error.kind(), text).because(trouble.error));
        }
        self.made += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
