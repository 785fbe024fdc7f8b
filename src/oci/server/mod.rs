//! The embedded registry: any store, served by the OCI distribution specification.
//!
//! A request goes one way: who sends it (`access`), what it is about (`route`), whether the one may do the other,
//! the handler (`blob`, `upload`, `document`, `listing`), and whatever went wrong becomes the specification's JSON (`answer`). Handlers do
//! not care about bodies left unread; they are drained in one place, here.

mod access;
mod answer;
mod blob;
mod document;
mod listing;
mod request;
mod route;
mod session;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use access::{Access, Rights, Scope, User};

use self::access::{Caller, Right};
use self::answer::{Answer, Code, Refusal};
use self::request::{Head, Request};
use self::route::Route;
use self::session::Uploads;
use crate::oci::{Completeness, Error, ErrorKind, Store};

/// How long running requests may go on once the server is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of a request, and how long a connection may lie idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 256 << 10;
/// How many connections are served at once; more wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// How long to wait when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every request can reach.
struct Registry {
    store: Arc<dyn Store>,
    content: Completeness,
    access: Access,
    uploads: Uploads,
}

/// A registry over a store, whose manifests are whole.
pub fn router(store: Arc<dyn Store>, access: Access) -> Router {
    router_keeping(store, access, Completeness::Whole)
}

/// A registry over a store, which may take manifests whose content is not there.
pub fn router_keeping(store: Arc<dyn Store>, access: Access, content: Completeness) -> Router {
    let registry = Registry { store, content, access, uploads: Uploads::default() };
    Router::new().fallback(handle).with_state(Arc::new(registry))
}

/// Serve on a socket until `shutdown` is done; running requests then have five more seconds.
///
/// # Errors
/// Where the socket is of no more use.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = converse(stream, router.clone(), ending.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Err(error) => return Err(Error::new(ErrorKind::Failed, "accept a connection").because(error)),
        }
    }
    drop(listener);
    drop(ending);
    end.send_replace(());
    let all = async { while connections.join_next().await.is_some() {} };
    // Whoever is still talking after that is cut off: the set ends its tasks when it is dropped.
    let _ = tokio::time::timeout(GRACE, all).await;
    Ok(())
}

/// Whether accepting may work a moment later: the client went away, or there are too many open files.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Io;
    let of_client = matches!(
        error.kind(),
        Io::ConnectionAborted | Io::ConnectionReset | Io::ConnectionRefused | Io::Interrupted | Io::TimedOut
    );
    let too_many = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS];
    of_client || too_many.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One connection, to its end or to the end of the server. How it ends is the client's business.
async fn converse(stream: TcpStream, router: Router, mut ending: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut connection => {}
        _ = ending.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// One request, as a task of its own: a client that goes away does not tear a write in two.
async fn handle(State(registry): State<Arc<Registry>>, request: axum::extract::Request) -> Answer {
    let task = tokio::spawn(async move {
        let (parts, body) = request.into_parts();
        let caller = registry.access.caller(&parts.headers);
        let path = parts.uri.path().to_owned();
        let mut request = Request::new(parts, body);
        let granted = match caller {
            Ok(caller) => dispatch(&registry, caller, &mut request, &path).await,
            Err(refusal) => Err(refusal),
        };
        let mut answer = granted.unwrap_or_else(Refusal::answer);
        if !request.drain().await {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    });
    let mut answer = task.await.unwrap_or_else(|_| {
        let words = "polyarch has a bug: this request ended in a panic";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::StoreFailed, words).answer()
    });
    let version = HeaderName::from_static("docker-distribution-api-version");
    answer.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
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
