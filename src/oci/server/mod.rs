//! The embedded registry: any store, served by the OCI distribution specification.
//!
//! A request goes one way: who sends it (`access`), what it is about (`route`), whether the one may do the other,
//! the handler (`blob`, `upload`, `document`, `listing`), and whatever went wrong becomes the specification's JSON (`answer`). Handlers do
//! not care about bodies left unread; they are drained in one place, here.

mod access;
mod answer;
mod blob;
mod connections;
mod document;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod knock;
mod listing;
mod request;
mod route;
mod session;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode};
use serde_json::json;

pub use access::{Access, Rights, Scope, User};
pub use connections::serve;
pub use knock::Knocks;

use self::access::{Caller, Right};
use self::answer::{Answer, Code, Refusal};
use self::request::{Head, Request};
use self::route::Route;
use self::session::Uploads;
use crate::diag::place_in_task;
use crate::oci::store::CONDITIONAL_TAGS;
use crate::oci::{Completeness, Store};

/// What every request can reach.
struct Registry {
    store: Arc<dyn Store>,
    content: Completeness,
    access: Access,
    uploads: Uploads,
    knocks: Knocks,
}

/// A registry over a store, whose manifests are whole.
pub fn router(store: Arc<dyn Store>, access: Access) -> Router {
    router_keeping(store, access, Completeness::Whole)
}

/// The same, which listens for names that tell whether it is reached.
pub fn router_listening(store: Arc<dyn Store>, access: Access, knocks: Knocks) -> Router {
    routed(store, access, Completeness::Whole, knocks)
}

/// A registry over a store, which may take manifests whose content is not there.
pub fn router_keeping(store: Arc<dyn Store>, access: Access, content: Completeness) -> Router {
    routed(store, access, content, Knocks::default())
}

fn routed(store: Arc<dyn Store>, access: Access, content: Completeness, knocks: Knocks) -> Router {
    let registry = Registry { store, content, access, uploads: Uploads::default(), knocks };
    Router::new().fallback(handle).with_state(Arc::new(registry))
}

/// One request, as a task of its own: a client that goes away does not tear a write in two.
async fn handle(State(registry): State<Arc<Registry>>, request: axum::extract::Request) -> Answer {
    let task = tokio::spawn(async move {
        let (parts, body) = request.into_parts();
        let caller = registry.access.caller(&parts.headers);
        let path = parts.uri.path().to_owned();
        let mut request = Request::new(parts, body);
        let granted = match caller {
            // Before any password: it is sent none that is worth anything.
            _ if registry.knocks.hear(&path) => {
                Err(Refusal::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, "it is heard"))
            }
            Ok(caller) => dispatch(&registry, caller, &mut request, &path).await,
            Err(refusal) => Err(refusal),
        };
        let mut answer = granted.unwrap_or_else(Refusal::answer);
        if !request.drain().await {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    });
    let mut answer = task.await.unwrap_or_else(|error| {
        let place = place_in_task(error).map_or_else(String::new, |place| format!(" at {place}"));
        let words = format!("polyarch has a bug: this request ended in a panic{place}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::StoreFailed, words).answer()
    });
    let version = HeaderName::from_static("docker-distribution-api-version");
    answer.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    let conditional = HeaderName::from_static(CONDITIONAL_TAGS);
    answer.headers_mut().insert(conditional, HeaderValue::from_static("1"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

async fn dispatch(
    registry: &Registry,
    caller: Caller<'_>,
    request: &mut Request,
    path: &str,
) -> Result<Answer, Refusal> {
    let store = &*registry.store;
    let route = Route::parse(path).map_err(|lost| lost.refusal(request.head.method()))?;
    if let Some(repository) = route.repository() {
        let reads = matches!(*request.head.method(), Method::GET | Method::HEAD) && !route.is_upload();
        caller.require(if reads { Right::Read } else { Right::Write }, repository)?;
    }
    match route {
        Route::Base => base(registry, &request.head),
        Route::Catalog => listing::catalog(store, caller, &request.head).await,
        Route::Blob(repository, digest) => blob::answer(store, &request.head, &repository, &digest).await,
        Route::Uploads(repository) => {
            upload::start(store, caller, &registry.uploads, request, &repository).await
        }
        Route::Upload(repository, session) => {
            upload::answer(store, &registry.uploads, request, &repository, session).await
        }
        Route::Document(repository, pointer) => {
            document::answer(store, registry.content, request, &repository, &pointer).await
        }
        Route::Tags(repository) => listing::tags(store, &request.head, &repository).await,
        Route::Referrers(repository, digest) => {
            listing::referrers(store, &request.head, &repository, &digest).await
        }
    }
}

/// `GET /v2/`: here is a registry. The challenge goes with it even where it was not needed: skopeo and podman
/// learn from this answer alone how to send a password.
fn base(registry: &Registry, head: &Head) -> Result<Answer, Refusal> {
    if !matches!(*head.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::method("GET, HEAD"));
    }
    let mut answer = answer::json_answer(StatusCode::OK, "application/json", &json!({}));
    if let Some(challenge) = registry.access.challenge() {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    Ok(answer)
}
