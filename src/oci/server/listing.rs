//! Lists: tags of a repository, repositories, and what refers to a digest.

use axum::http::header::{HeaderName, HeaderValue, LINK};
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::access::{Caller, Right};
use super::answer::{About, Answer, Code, Refusal, json_answer};
use super::request::Head;
use crate::oci::{Digest, Error, MediaType, Repository, Store, Tag};

/// The most entries of one page; whoever wants more follows the link.
const PAGE: usize = 10_000;

/// `GET` of a list, and nothing else.
pub(super) fn only_get(head: &Head) -> Result<(), Refusal> {
    match *head.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::method("GET, HEAD")),
    }
}

/// The page that a client wants.
struct Page {
    limit: usize,
    /// Whether the client named a number: a link to the next page repeats it.
    last: Option<String>,
}

impl Page {
    fn of(head: &Head) -> Result<Self, Refusal> {
        let limit = match head.parameter("n") {
            None => PAGE,
            Some(text) => {
                let number = text.parse::<usize>().map_err(|_| {
                    Refusal::invalid(Code::Unsupported, format!("`n={text}` is no number of entries"))
                })?;
                number.min(PAGE)
            }
        };
        let last = head.parameter("last").filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self { limit, last })
    }

    /// Where the list goes on, as a parsed name.
    fn after<T: std::str::FromStr<Err = Error>>(&self, code: Code) -> Result<Option<T>, Refusal> {
        let parsed = self.last.as_deref().map(str::parse).transpose();
        parsed.map_err(|error: Error| Refusal::invalid(code, error.to_string()))
    }

    /// Cut off the entry that was asked for beyond the page, and link to it.
    fn answer<T: AsRef<str>>(
        &self,
        path: &str,
        mut entries: Vec<T>,
        value: impl FnOnce(Vec<&str>) -> serde_json::Value,
    ) -> Answer {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        let entries: Vec<&str> = entries.iter().map(AsRef::as_ref).collect();
        let next = entries.last().filter(|_| more).map(|last| {
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("last", last).finish();
            format!("<{path}?n={}&{query}>; rel=\"next\"", self.limit)
        });
        let mut answer = json_answer(StatusCode::OK, "application/json", &value(entries));
        if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
            answer.headers_mut().insert(LINK, next);
        }
        answer
    }
}

fn wrong(error: &Error) -> Refusal {
    Refusal::reading(About::Listing, error)
}

/// `GET /v2/<name>/tags/list`
pub(super) async fn tags(store: &dyn Store, head: &Head, repository: &Repository) -> Result<Answer, Refusal> {
    only_get(head)?;
    let page = Page::of(head)?;
    let after: Option<Tag> = page.after(Code::ManifestInvalid)?;
    let tags = store.tags(repository, after.as_ref(), page.limit + 1).await.map_err(|error| wrong(&error))?;
    if tags.is_empty() && after.is_none() && !is_known(store, repository).await? {
        let words = format!("there is no repository {repository}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, Code::NameUnknown, words));
    }
    let names = tags.iter().map(Tag::as_str).collect();
    let path = format!("/v2/{repository}/tags/list");
    Ok(page.answer(&path, names, |tags| json!({ "name": repository.as_str(), "tags": tags })))
}

/// Whether a repository without tags holds documents.
async fn is_known(store: &dyn Store, repository: &Repository) -> Result<bool, Refusal> {
    let mut after: Option<Repository> = None;
    loop {
        let page = store.repositories(after.as_ref(), PAGE).await.map_err(|error| wrong(&error))?;
        match page.last() {
            _ if page.contains(repository) => return Ok(true),
            Some(last) if last < repository && page.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(false),
        }
    }
}

/// `GET /v2/_catalog`: the repositories that the caller may read.
pub(super) async fn catalog(store: &dyn Store, caller: Caller<'_>, head: &Head) -> Result<Answer, Refusal> {
    only_get(head)?;
    let page = Page::of(head)?;
    let mut after: Option<Repository> = page.after(Code::NameInvalid)?;
    let mut found = Vec::new();
    loop {
        let more = store.repositories(after.as_ref(), PAGE).await.map_err(|error| wrong(&error))?;
        after = more.last().filter(|_| more.len() == PAGE).cloned();
        found.extend(more.into_iter().filter(|name| caller.may(Right::Read, name)));
        if after.is_none() || found.len() > page.limit {
            break;
        }
    }
    let names = found.iter().map(Repository::as_str).collect();
    Ok(page.answer("/v2/_catalog", names, |names| json!({ "repositories": names })))
}

/// `GET /v2/<name>/referrers/<digest>`: an index of what has this digest as its subject, empty for any unknown.
pub(super) async fn referrers(
    store: &dyn Store,
    head: &Head,
    repository: &Repository,
    subject: &Digest,
) -> Result<Answer, Refusal> {
    only_get(head)?;
    let mut found = store.referrers(repository, subject).await.map_err(|error| wrong(&error))?;
    let wanted = head.parameter("artifactType").filter(|text| !text.is_empty());
    if let Some(wanted) = wanted {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": found });
    let mut answer = json_answer(StatusCode::OK, MediaType::INDEX, &index);
    if wanted.is_some() {
        let applied = HeaderName::from_static("oci-filters-applied");
        answer.headers_mut().insert(applied, HeaderValue::from_static("artifactType"));
    }
    Ok(answer)
}
