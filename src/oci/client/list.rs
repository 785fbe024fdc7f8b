//! Lists that a registry gives out page by page: tags and repositories.
//!
//! Registries differ: some ignore `n` or `last`, some do not sort. A list is therefore gathered in order; reading
//! stops early only while the registry has shown that it sorts.

use std::collections::BTreeSet;
use std::str::FromStr;

use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;
use url::Url;

use super::answer::Answer;
use super::request::{Ask, Connection};
use crate::oci::{Error, ErrorKind, Repository, Tag};

/// The largest page that is read, in bytes: registries that ignore `n` send everything at once.
const PAGE_BYTES: usize = 32 << 20;

/// How many pages one list may have.
const PAGES: usize = 10_000;

/// How many entries are asked for at once.
const PAGE_ENTRIES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default, alias = "repositories")]
    tags: Option<Vec<String>>,
}

/// The tags of a repository.
pub(super) async fn tags(
    connection: &Connection,
    repository: &Repository,
    after: Option<&Tag>,
    limit: usize,
) -> Result<Vec<Tag>, Error> {
    let doing = format!("list the tags of {repository}");
    let ask = connection.ask(Method::GET, repository, "tags/list", "pull", &doing)?;
    gather(connection, ask, after, limit).await
}

/// The repositories of a registry.
///
/// # Errors
/// `NotFound` where it does not list them.
pub(super) async fn repositories(
    connection: &Connection,
    after: Option<&Repository>,
    limit: usize,
) -> Result<Vec<Repository>, Error> {
    let ask = Ask {
        method: Method::GET,
        url: connection.address("v2/_catalog")?,
        headers: reqwest::header::HeaderMap::new(),
        body: bytes::Bytes::new(),
        repository: None,
        scopes: BTreeSet::from(["registry:catalog:*".to_owned()]),
        doing: format!("list the repositories at {}", connection.registry),
    };
    gather(connection, ask, after, limit).await
}

async fn gather<T: FromStr + Ord + Clone + ToString>(
    connection: &Connection,
    mut ask: Ask,
    after: Option<&T>,
    limit: usize,
) -> Result<Vec<T>, Error> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    ask.url.query_pairs_mut().append_pair("n", &limit.min(PAGE_ENTRIES).to_string());
    if let Some(after) = after {
        ask.url.query_pairs_mut().append_pair("last", &after.to_string());
    }
    let (mut found, mut last, mut sorted) = (BTreeSet::new(), None::<T>, true);
    let mut seen = BTreeSet::from([ask.url.clone()]);
    for _ in 0..PAGES {
        let (answer, body) = connection.send_whole(&ask, PAGE_BYTES).await?;
        match answer.status().as_u16() {
            200..300 => {}
            404 if ask.repository.is_some() => break,
            _ => return Err(answer.refusal().await),
        }
        let page: Page = serde_json::from_slice(&body).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("{}: read the list", ask.doing)).because(error)
        })?;
        for entry in page.tags.unwrap_or_default().iter().filter_map(|text| text.parse::<T>().ok()) {
            sorted &= last.as_ref().is_none_or(|last| *last <= entry);
            last = Some(entry.clone());
            if after.is_none_or(|after| entry > *after) {
                found.insert(entry);
            }
        }
        let Some(next) = next_page(connection, &ask, &answer)? else { break };
        if (sorted && found.len() >= limit) || !seen.insert(next.clone()) {
            break;
        }
        ask.url = next;
    }
    Ok(found.into_iter().take(limit).collect())
}

/// The next page as the `Link` header names it, which must be the registry's own.
pub(super) fn next_page(connection: &Connection, ask: &Ask, answer: &Answer) -> Result<Option<Url>, Error> {
    let values = answer.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(address) = values.into_iter().find_map(next_address) else { return Ok(None) };
    let wrong = |why| Error::new(ErrorKind::Denied, format!("{}: the next page {why}", ask.doing));
    let url = ask.url.join(address).map_err(|_| wrong("has no readable address"))?;
    match connection.is_home(&url) {
        true => Ok(Some(url)),
        false => Err(wrong("is said to be at another host")),
    }
}

/// The address, in a value of `Link`, of what is said to come next (RFC 8288, section 3). Addresses and quoted texts
/// may hold the marks that divide links and parameters.
fn next_address(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (address, after) =
            rest.trim_start_matches([' ', '\t', ',']).strip_prefix('<')?.split_once('>')?;
        let (parameters, others) = after.split_at(outside_quotes(after, ',').unwrap_or(after.len()));
        if says_next(parameters) {
            return Some(address);
        }
        rest = others;
    }
}

/// Whether one of the parameters is `rel`, with `next` among its words.
fn says_next(mut parameters: &str) -> bool {
    while let Some(at) = outside_quotes(parameters, ';') {
        parameters = &parameters[at + 1..];
        let one = &parameters[..outside_quotes(parameters, ';').unwrap_or(parameters.len())];
        let found = one.split_once('=').is_some_and(|(name, value)| {
            let mut words = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && words.any(|word| word.eq_ignore_ascii_case("next"))
        });
        if found {
            return true;
        }
    }
    false
}

/// Where a mark stands first that is not within a quoted text.
fn outside_quotes(text: &str, mark: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    let mut letters = text.char_indices();
    let found = letters.find(|(_, letter)| {
        let found = !quoted && *letter == mark;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        found
    });
    found.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_rfc_8288_has_them() {
        let table = [
            (r#"</a?n=1&last=b>; rel="next""#, Some("/a?n=1&last=b")),
            ("</a>;rel=next", Some("/a")),
            (r#"</a?last=b,c;d>; rel="next""#, Some("/a?last=b,c;d")),
            (r#"</a>; rel="prev", </b>; rel="next""#, Some("/b")),
            (r#"</a>; title="x, <y>; rel=next"; rel=prev, </b>; REL="Prev Next""#, Some("/b")),
            (r#"</a>; title="\", </b>; rel=next""#, None),
            (r#"</a>; rel="nextish""#, None),
            ("</a>", None),
            ("/a; rel=next", None),
            ("</a; rel=next", None),
            ("", None),
        ];
        for (value, address) in table {
            assert_eq!(next_address(value), address, "{value}");
        }
    }
}
