//! Connections: how many there may be, which make room for new ones, and how all of them end.
//!
//! A connection that waits for a request, or for the rest of its head, holds a place and does nothing with it. When
//! all places are taken, the one that has waited longest goes, so that thousands of silent connections keep nobody
//! out (F-E7). One whose request is being answered stays, unless nobody takes the answer; how slow the body of a
//! request may be `request` decides.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::oci::{Error, ErrorKind};

/// How long running requests may go on once the server is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of a request, and how long a connection may lie idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 256 << 10;
/// The most connections at once.
const CONNECTIONS: u64 = 1_024;
/// Open files that are nobody's connection, and the most that a connection needs: itself, a blob, a lock.
const OWN_FILES: u64 = 32;
const CONNECTION_FILES: u64 = 3;
/// How long an answer may lie untaken before its connection may have to make room.
const STALL: Duration = Duration::from_secs(60);
/// How long to wait when the system has no more sockets to give, or all places are at work.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections the limit of open files allows.
fn places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = files.saturating_sub(OWN_FILES) / CONNECTION_FILES;
    usize::try_from(places.clamp(4, CONNECTIONS)).unwrap_or(4)
}

/// All connections, in the order in which they came.
#[derive(Default)]
struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
}

/// One connection.
#[derive(Default)]
struct Connection {
    state: Mutex<State>,
    go: Notify,
}

/// What it does.
#[derive(Clone, Copy, Default)]
struct State {
    /// Requests that are being answered.
    at_work: usize,
    /// When it last began to wait: a number that grows.
    waits_since: u64,
    /// When the client last took a part of an answer; none while there is no answer yet.
    taken: Option<Instant>,
    /// It was told to go.
    leaves: bool,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        let mut open = self.open();
        open.next += 1;
        open.next
    }

    /// A place for a new connection. `None` where `places` are taken by connections that are all at work; else
    /// the one that has waited longest makes room.
    fn enter(self: &Arc<Self>, places: usize) -> Option<Place> {
        let mut open = self.open();
        let staying = open.connections.values().filter(|connection| !connection.state().leaves).count();
        if staying >= places {
            let idle = open.connections.values().filter_map(|one| Some((one.state().waiting()?, one)));
            let (_, longest) = idle.min_by_key(|(since, _)| *since)?;
            longest.state().leaves = true;
            longest.go.notify_one();
        }
        open.next += 1;
        let number = open.next;
        let connection = Arc::new(Connection::default());
        connection.state().waits_since = number;
        open.connections.insert(number, Arc::clone(&connection));
        drop(open);
        Some(Place { connections: Arc::clone(self), number, connection })
    }
}

impl State {
    /// Since when it has done nothing with its place, where that is so.
    fn waiting(&self) -> Option<u64> {
        let stalls = self.taken.is_some_and(|taken| taken.elapsed() > STALL);
        match self.at_work {
            _ if self.leaves => None,
            0 => Some(self.waits_since),
            _ => stalls.then_some(0),
        }
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that a connection holds; given back when dropped.
struct Place {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().connections.remove(&self.number);
    }
}

/// A request that is being answered, to the last byte of its answer.
struct Work {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Work {
    fn of(place: &Place) -> Self {
        place.connection.state().at_work += 1;
        Self { connections: Arc::clone(&place.connections), connection: Arc::clone(&place.connection) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let now = self.connections.tick();
        let mut state = self.connection.state();
        state.at_work -= 1;
        state.taken = None;
        state.waits_since = now;
    }
}

/// The body of an answer, on which somebody works as long as it is there.
struct Working {
    body: Body,
    work: Work,
}

impl HttpBody for Working {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        self.work.connection.state().taken = Some(Instant::now());
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
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
    let (all, places) = (Arc::new(Connections::default()), places());
    let (end, ending) = watch::channel(());
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while tasks.try_join_next().is_some() {}
        let next = async {
            // Those told to go do so within a moment, and hold their sockets until then.
            while tasks.len() > places {
                tasks.join_next().await;
            }
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = loop {
                    match all.enter(places) {
                        Some(place) => break Some(place),
                        None => tokio::select! {
                            () = &mut shutdown => break None,
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        },
                    }
                };
                let Some(place) = place else { break };
                tasks.spawn(converse(stream, place, router.clone(), ending.clone()));
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Err(error) => return Err(Error::new(ErrorKind::Failed, "accept a connection").because(error)),
        }
    }
    drop(listener);
    drop(ending);
    end.send_replace(());
    let rest = async { while tasks.join_next().await.is_some() {} };
    // Whoever is still talking after that is cut off: the set ends its tasks when it is dropped.
    let _ = tokio::time::timeout(GRACE, rest).await;
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
async fn converse(stream: TcpStream, place: Place, router: Router, mut ending: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let router = TowerToHyperService::new(router);
    let answer = |request| {
        let work = Work::of(&place);
        let answered = hyper::service::Service::call(&router, request);
        async move { Ok::<_, std::convert::Infallible>(working(answered.await?, work)) }
    };
    let service = hyper::service::service_fn(answer);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = &mut connection => return,
            () = place.connection.go.notified() => {
                let state = *place.connection.state();
                if state.at_work == 0 || state.taken.is_some_and(|taken| taken.elapsed() > STALL) {
                    return;
                }
                // A request came in the very moment: it is answered, and is the last.
                connection.as_mut().graceful_shutdown();
            }
            _ = ending.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
                return;
            }
        }
    }
}

fn working(answer: Response<Body>, work: Work) -> Response<Working> {
    work.connection.state().taken = Some(Instant::now());
    answer.map(|body| Working { body, work })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f_e7_who_does_not_take_an_answer_makes_room() {
        let all = Arc::new(Connections::default());
        let place = all.enter(1).expect("there is room");
        let _answer = working(Response::new(Body::from("x")), Work::of(&place));
        assert!(all.enter(1).is_none(), "an answer is on its way");
        tokio::time::advance(STALL * 2).await;
        all.enter(1).expect("nobody takes it");
        assert!(place.connection.state().leaves);
    }

    #[test]
    fn f_e7_who_waits_longest_makes_room_and_who_works_stays() {
        let all = Arc::new(Connections::default());
        let [first, second] = [0, 1].map(|_| all.enter(2).expect("there is room"));
        let work = Work::of(&first);
        let third = all.enter(2).expect("the second makes room");
        assert!(second.connection.state().leaves && !first.connection.state().leaves);
        drop(second);
        let more = Work::of(&third);
        assert!(all.enter(2).is_none(), "all are at work");
        drop(more);
        drop(work);
        all.enter(2).expect("there is room again");
        assert!(third.connection.state().leaves, "it has waited longer than the first");
    }
}
