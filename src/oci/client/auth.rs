//! Credentials on the wire: Basic, and the Bearer tokens of the Docker token specification.
//!
//! What a registry wants is learnt from its first 401 and remembered, so that later requests carry it at once. A token
//! is kept for its set of scopes until it is about to expire, or until the registry refuses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::answer::REFUSAL_BYTES;
use super::reach;
use super::request::{Ask, Connection};
use super::tries::Trouble;
use crate::oci::credentials::{Login, Secret};
use crate::oci::{Error, ErrorKind, Repository};

/// How long a token lives that does not say so, by the token specification.
const TOKEN_LIFE_SECONDS: u64 = 60;

/// The longest that a token is kept, whatever it says.
const TOKEN_LIFE_LIMIT_SECONDS: u64 = 24 * 60 * 60;

/// The longest `WWW-Authenticate` that is read.
const CHALLENGE_BYTES: usize = 8 << 10;

/// Scopes by which a token is kept, with the repository whose login it was got by.
type TokenKey = (Option<Repository>, BTreeSet<String>);

/// One token's place; its lock is held while the token is fetched, so that it is fetched once.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What is known of a registry's demands, and what meets them.
#[derive(Default)]
pub(super) struct Auth {
    scheme: Mutex<Option<Scheme>>,
    tokens: Mutex<BTreeMap<TokenKey, Slot>>,
    logins: tokio::sync::Mutex<BTreeMap<Option<Repository>, Option<Login>>>,
}

#[derive(Clone)]
pub(super) enum Scheme {
    /// A user and a password with each request.
    Basic,
    /// A token, which is fetched from an address for a service.
    Bearer { realm: Url, service: Option<String> },
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Auth {
    /// Forget demands, tokens and logins.
    pub(super) async fn forget(&self) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.logins.lock().await.clear();
    }

    /// What a request to the registry carries, as far as its demands are known.
    pub(super) async fn header(
        &self,
        connection: &Connection,
        ask: &Ask,
    ) -> Result<Option<HeaderValue>, Trouble> {
        let scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => match self.login(connection, ask).await? {
                Some(Login::Basic { user, password }) => Ok(Some(basic(&user, &password)?)),
                _ => Ok(None),
            },
            Some(Scheme::Bearer { realm, service }) => {
                let slot = self.slot(ask);
                let mut kept = slot.lock().await;
                if let Some(token) = kept.as_ref().filter(|token| token.until > Instant::now()) {
                    return Ok(Some(token.header.clone()));
                }
                let token =
                    self.fetch(connection, ask, &realm, service.as_deref(), ask.scopes.clone()).await?;
                let header = token.header.clone();
                *kept = Some(token);
                Ok(Some(header))
            }
        }
    }

    /// The registry refused what a request carried: learn what it wants. Whether sending again may help.
    pub(super) async fn challenged(
        &self,
        connection: &Connection,
        ask: &Ask,
        headers: &HeaderMap,
        carried: Option<&HeaderValue>,
    ) -> Result<bool, Trouble> {
        let Some((scheme, scopes)) = demanded(headers, ask)? else { return Ok(false) };
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme.clone());
        match scheme {
            Scheme::Basic => Ok(match self.login(connection, ask).await? {
                Some(Login::Basic { user, password }) => carried != Some(&basic(&user, &password)?),
                _ => false,
            }),
            Scheme::Bearer { realm, service } => {
                let slot = self.slot(ask);
                let mut kept = slot.lock().await;
                // Another request may have renewed the token while this one carried the old.
                if kept.as_ref().is_some_and(|token| Some(&token.header) != carried) {
                    return Ok(true);
                }
                let mut wanted = ask.scopes.clone();
                wanted.extend(scopes);
                let token = self.fetch(connection, ask, &realm, service.as_deref(), wanted).await?;
                let changed = Some(&token.header) != carried;
                *kept = Some(token);
                Ok(changed)
            }
        }
    }

    fn slot(&self, ask: &Ask) -> Slot {
        let key = (ask.repository.clone(), ask.scopes.clone());
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    async fn login(&self, connection: &Connection, ask: &Ask) -> Result<Option<Login>, Error> {
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(&ask.repository) {
            return Ok(login.clone());
        }
        let login =
            connection.options.credentials.find(&connection.registry, ask.repository.as_ref()).await?;
        logins.insert(ask.repository.clone(), login.clone());
        Ok(login)
    }

    /// A new token from the server that the registry names.
    async fn fetch(
        &self,
        connection: &Connection,
        ask: &Ask,
        realm: &Url,
        service: Option<&str>,
        scopes: BTreeSet<String>,
    ) -> Result<Token, Trouble> {
        check_realm(connection, realm, &ask.doing)?;
        let login = self.login(connection, ask).await?;
        if let Some(Login::RegistryToken(token)) = &login {
            let until = Instant::now() + Duration::from_secs(TOKEN_LIFE_LIMIT_SECONDS);
            return Ok(Token { header: sensitive(format!("Bearer {}", token.expose()))?, until });
        }
        let (token_ask, authorization) = token_request(ask, realm, service, &scopes, login.as_ref())?;
        let answer = connection.exchange(&token_ask, &token_ask.url, authorization, None).await?;
        let mut answer = answer.unless_later().await?;
        let status = answer.status();
        if !status.is_success() {
            let error = answer.refusal().await;
            let hint = format!("try `docker login {}`", connection.registry);
            return Err(Error::new(ErrorKind::Denied, format!("{error}; {hint}")).into());
        }
        let body = answer.body(REFUSAL_BYTES).await?;
        let unusable =
            || Error::new(ErrorKind::Denied, format!("{}: its answer holds no token", token_ask.doing));
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let text = if granted.token.is_empty() { granted.access_token } else { granted.token };
        if text.is_empty() {
            return Err(unusable().into());
        }
        let life = granted.expires_in.unwrap_or(TOKEN_LIFE_SECONDS).min(TOKEN_LIFE_LIMIT_SECONDS);
        // Renewed before the end, so that it does not end on the way.
        let until = Instant::now() + Duration::from_secs(life).mul_f32(0.9);
        Ok(Token { header: sensitive(format!("Bearer {text}"))?, until })
    }
}

/// The request for a token: GET with a password, or POST with an identity token as OAuth 2 has it.
pub(super) fn token_request(
    ask: &Ask,
    realm: &Url,
    service: Option<&str>,
    scopes: &BTreeSet<String>,
    login: Option<&Login>,
) -> Result<(Ask, Option<HeaderValue>), Error> {
    let mut token_ask = Ask {
        method: Method::GET,
        url: realm.clone(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        repository: ask.repository.clone(),
        scopes: BTreeSet::new(),
        doing: format!("{}: fetch a token from {}", ask.doing, realm.host_str().unwrap_or_default()),
    };
    if let Some(Login::IdentityToken(token)) = login {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", "polyarch");
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", &scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        form.append_pair("refresh_token", token.expose());
        token_ask.method = Method::POST;
        token_ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        token_ask.body = form.finish().into();
        return Ok((token_ask, None));
    }
    {
        let mut query = token_ask.url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let authorization = match login {
        Some(Login::Basic { user, password }) => Some(basic(user, password)?),
        _ => None,
    };
    Ok((token_ask, authorization))
}

/// What the headers of a 401 demand: Bearer before Basic. Scopes are those that go beyond the request's own.
pub(super) fn demanded(headers: &HeaderMap, ask: &Ask) -> Result<Option<(Scheme, Vec<String>)>, Error> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Some(text) = value.to_str().ok().filter(|text| text.len() <= CHALLENGE_BYTES) else { continue };
        for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
            let field = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some((Scheme::Basic, Vec::new()));
            } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let realm = field("realm").and_then(|realm| Url::parse(&realm).ok()).ok_or_else(|| {
                    let text = format!("{}: the registry names no address to fetch a token from", ask.doing);
                    Error::new(ErrorKind::Denied, text)
                })?;
                let scopes = field("scope").unwrap_or_default();
                let scopes = scopes.split(' ').filter(|scope| is_new(scope, &ask.scopes)).map(str::to_owned);
                return Ok(Some((Scheme::Bearer { realm, service: field("service") }, scopes.collect())));
            }
        }
    }
    Ok(basic)
}

/// Whether a scope goes beyond those asked for already.
fn is_new(scope: &str, known: &BTreeSet<String>) -> bool {
    let split = |scope: &str| {
        let (resource, actions) = scope.rsplit_once(':')?;
        Some((resource.to_owned(), actions.split(',').map(str::to_owned).collect::<BTreeSet<_>>()))
    };
    let Some((resource, actions)) = split(scope) else { return false };
    let covers = |known: &String| {
        split(known).is_some_and(|(other, allowed)| other == resource && actions.is_subset(&allowed))
    };
    !known.iter().any(covers)
}

/// A token server gets a password, so it is spoken to in clear only on this machine.
pub(super) fn check_realm(connection: &Connection, realm: &Url, doing: &str) -> Result<(), Error> {
    let clear =
        connection.base.scheme() == "http" && (connection.is_home(realm) || reach::is_loopback(realm));
    match realm.scheme() == "https" || (realm.scheme() == "http" && clear) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Denied,
            format!("{doing}: the registry wants the password sent to an address that is not encrypted"),
        )),
    }
}

fn basic(user: &str, password: &Secret) -> Result<HeaderValue, Error> {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// A header that is never shown.
fn sensitive(text: String) -> Result<HeaderValue, Error> {
    // The library's error is dropped, because it may quote the value.
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Error::new(ErrorKind::Denied, "a login holds characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}
