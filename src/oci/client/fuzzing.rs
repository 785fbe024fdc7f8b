//! What must hold of every header that a registry answers with: see `src/fuzzing.rs`.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Response, header};
use reqwest::Method;
use reqwest::header::HeaderMap;
use url::Url;

use super::answer::Answer;
use super::auth::{Scheme, check_realm, demanded, token_request};
use super::download::{content_range, offset};
use super::list::next_page;
use super::reach;
use super::request::{Ask, Connection};
use super::session::last_byte;
use super::tries::pause;
use super::{ClientOptions, Repository};
use crate::oci::{Login, Secret};

static CONNECTION: LazyLock<Connection> = LazyLock::new(|| {
    let base = Url::parse("https://registry.example/").expect("an address");
    Connection::new("registry.example", base, ClientOptions::default()).expect("a connection")
});

/// The same registry without encryption, on this machine.
static HERE: LazyLock<Connection> = LazyLock::new(|| {
    let base = Url::parse("http://127.0.0.1:5000/").expect("an address");
    Connection::new("127.0.0.1:5000", base, ClientOptions::default()).expect("a connection")
});

fn ask() -> Ask {
    let repository: Repository = "a/b".parse().expect("a name");
    CONNECTION.ask(Method::GET, &repository, "tags/list?n=100", "pull", "list").expect("a request")
}

/// An answer with these headers.
fn answer(status: u16, headers: &[(HeaderName, HeaderValue)]) -> Answer {
    let mut response = Response::new(reqwest::Body::default());
    *response.status_mut() = status.try_into().expect("a status");
    for (name, value) in headers {
        response.headers_mut().append(name, value.clone());
    }
    Answer::new(response.into(), Duration::from_secs(1), Arc::default(), "ask")
}

/// Each line as a value of the header, where it can be one.
fn lines(name: &HeaderName, data: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let values = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// `WWW-Authenticate`, a value a line: a token is asked for only at the address that was named, only where the
/// password is encrypted or stays on this machine, and only for scopes that were named.
pub fn challenge(data: &[u8]) {
    let headers: HeaderMap = lines(&header::WWW_AUTHENTICATE, data).into_iter().collect();
    let ask = ask();
    let Ok(Some((Scheme::Bearer { realm, service }, scopes))) = demanded(&headers, &ask) else { return };
    for connection in [&*CONNECTION, &*HERE] {
        let safe = match realm.scheme() {
            "https" => true,
            "http" if connection.base.scheme() == "http" => {
                reach::is_loopback(&realm) || connection.is_home(&realm)
            }
            _ => false,
        };
        assert_eq!(check_realm(connection, &realm, "ask").is_ok(), safe, "{realm}");
    }
    assert!(scopes.len() <= data.len() / 2 + 1);
    for scope in &scopes {
        assert!(scope.contains(':') && !scope.contains(' '), "{scope:?}");
        assert!(!ask.scopes.contains(scope), "{scope:?} is asked for anyway");
    }
    if check_realm(&CONNECTION, &realm, "ask").is_err() {
        return;
    }
    let scopes = scopes.into_iter().collect();
    let login = Login::Basic { user: "user".to_owned(), password: Secret::new("password") };
    let (token_ask, authorization) =
        token_request(&ask, &realm, service.as_deref(), &scopes, Some(&login)).expect("a request");
    assert_eq!((token_ask.url.origin(), token_ask.url.path()), (realm.origin(), realm.path()));
    assert!(authorization.is_some_and(|value| value.is_sensitive()));
    let asked: Vec<(String, String)> = token_ask.url.query_pairs().into_owned().collect();
    let mut wanted: Vec<(String, String)> = realm.query_pairs().into_owned().collect();
    wanted.extend(service.map(|service| ("service".to_owned(), service)));
    wanted.extend(scopes.into_iter().map(|scope| ("scope".to_owned(), scope)));
    assert_eq!(asked, wanted);
}

/// `Range` of an upload and `Content-Range` of a download, on the second line as the server's target has it.
pub(in crate::oci) fn range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((wanted, text)) = text.split_once('\n') else { return };
    let (Ok(wanted), Ok(value)) = (wanted.parse::<u64>(), HeaderValue::from_str(text)) else { return };
    if let Some(last) = last_byte(text) {
        assert_eq!(last_byte(&format!("0-{last}")), Some(last), "{text:?}");
        assert!(!text.contains('+'), "{text:?}");
    }
    let answer = answer(206, &[(header::CONTENT_RANGE, value)]);
    if let Some((start, total)) = content_range(&answer) {
        assert!(!text.contains('+') && total.is_none_or(|total| start < total), "{text:?}");
        let shown = total.map_or("*".to_owned(), |total| total.to_string());
        let printed = HeaderValue::from_str(&format!("bytes {start}-{start}/{shown}")).expect("a header");
        let again = self::answer(206, &[(header::CONTENT_RANGE, printed)]);
        assert_eq!(content_range(&again), Some((start, total)), "{text:?}");
    }
    let begins = content_range(&answer).is_some_and(|(start, _)| start == wanted);
    assert_eq!(offset(&answer, wanted, "read").ok(), begins.then_some(0), "{text:?}");
}

/// The seconds of the budget that are left, a value of `Retry-After`, one of `Date`, a line each: no pause is longer
/// than what is left.
pub fn retry_after(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let Some(left) = std::str::from_utf8(next()).ok().and_then(|text| text.parse::<u32>().ok()) else {
        return;
    };
    let left = Duration::from_secs(left.into());
    let (after, date) = (HeaderValue::from_bytes(next()), HeaderValue::from_bytes(next()));
    let (Ok(after), Ok(date)) = (after, date) else { return };
    let told = answer(429, &[(header::RETRY_AFTER, after.clone()), (header::DATE, date)]).retry_after();
    let usual = Duration::from_millis(250);
    match pause(told, left, usual) {
        Ok(pause) => {
            assert!(pause <= left.max(usual) && told.is_none_or(|told| told <= left), "{told:?}: {pause:?}");
            assert!(left.is_zero() || pause <= left, "{told:?}: {pause:?} of {left:?}");
        }
        Err(long) => assert!(long > left && told == Some(long), "{told:?} {left:?}"),
    }
    let Ok(text) = after.to_str() else { return assert_eq!(told, None) };
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (digits, text.parse::<u64>()) {
        (true, Ok(seconds)) => assert_eq!(told, Some(Duration::from_secs(seconds))),
        (true, Err(_)) => assert_eq!(told, None),
        (false, _) => assert!(told.is_none() || text.len() >= 10, "{text:?} is no date"),
    }
}

/// `Link`, a value a line: the next page is the registry's own, and a link that is printed is read.
pub fn link(data: &[u8]) {
    let ask = ask();
    let links = lines(&header::LINK, data);
    if let Ok(Some(next)) = next_page(&CONNECTION, &ask, &answer(200, &links)) {
        assert!(CONNECTION.is_home(&next), "{next}");
        assert!(next.scheme() == "https" && next.host_str() == Some("registry.example"), "{next}");
    }
    // The first line as an address of its own, behind another link.
    let text = data.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    let Some(url) = text.and_then(|text| ask.url.join(text).ok()) else { return };
    if !CONNECTION.is_home(&url) {
        return;
    }
    for printed in
        [format!("<{url}>; rel=\"next\""), format!("</x>; title=\"a,<b>;\"; rel=x, <{url}>;rel=next")]
    {
        let printed = HeaderValue::from_str(&printed).expect("a header");
        let read = next_page(&CONNECTION, &ask, &answer(200, &[(header::LINK, printed)]));
        assert_eq!(read.expect("our own").as_ref(), Some(&url));
    }
}
