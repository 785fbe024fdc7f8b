//! A proxy that does harm: between a client and any registry it refuses, cuts, loses, stalls, delays and changes, by
//! a table of rules. What went through it is remembered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request on its way to the registry.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// How many bytes its body has.
    pub(crate) length: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is of a method, and about something whose path holds a word.
    pub(crate) fn is(&self, method: &str, word: &str) -> bool {
        self.method == method && self.target.contains(word)
    }
}

/// An answer on its way back, or made here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What is done to a request.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It never arrives; this is the answer.
    Answer(Reply),
    /// So many bytes of its body arrive, then both connections are reset.
    CutRequest(usize),
    /// It is carried out, and the connection is reset instead of an answer.
    LoseReply,
    /// It is carried out; the head and so many bytes of the answer come, then a reset.
    CutReply(usize),
    /// The same, then an end without a reset, as of a server that goes away in order.
    EndReply(usize),
    /// The same, then silence.
    Stall(usize),
    /// It is carried out, after a while.
    Delay(Duration),
    /// It is carried out, and the answer is another.
    Change(fn(Reply) -> Reply),
    /// This is done to the client: before it arrives, which it then never does, or once it is carried out. Then the
    /// connection is reset.
    Harm(When, Arc<dyn Fn() + Send + Sync>),
}

/// At which moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before it arrives.
    Asked,
    /// When it is carried out and not answered.
    CarriedOut,
}

/// Which requests it is done to, and how often.
pub(crate) struct Rule {
    matches: Box<dyn Fn(&Request) -> bool + Send + Sync>,
    left: AtomicUsize,
    fault: Fault,
}

/// Do this to the first requests that match.
pub(crate) fn rule(
    times: usize,
    matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
    fault: Fault,
) -> Rule {
    Rule { matches: Box::new(matches), left: AtomicUsize::new(times), fault }
}

impl Rule {
    fn applies(&self, request: &Request) -> bool {
        let take = |left: usize| left.checked_sub(1);
        (self.matches)(request) && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }
}

/// The proxy. It ends with the test.
pub(crate) struct FaultProxy {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<(Request, bool)>>>,
}

impl FaultProxy {
    /// One before the registry at an address. The first rule that applies is done.
    pub(crate) async fn start(registry: &str, rules: Vec<Rule>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (registry, rules) = (registry.to_owned(), Arc::new(rules));
        let seen: Arc<Mutex<Vec<(Request, bool)>>> = Arc::default();
        let log = seen.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let (registry, rules, log) = (registry.clone(), rules.clone(), log.clone());
                tokio::spawn(async move { serve(client, &registry, &rules, &log).await });
            }
        });
        Self { address, seen }
    }

    /// Every request that came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().iter().map(|(request, _)| request.clone()).collect()
    }

    /// How many requests met a fault.
    pub(crate) fn faults(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|(_, harmed)| *harmed).count()
    }
}

/// One connection of a client: request by request until one side has enough.
async fn serve(
    mut client: TcpStream,
    registry: &str,
    rules: &[Rule],
    log: &Mutex<Vec<(Request, bool)>>,
) -> Option<()> {
    loop {
        let (first, headers, rest) = head(&mut client).await?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let length = value(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let request = Request { method, target, headers, length };
        let fault = rules.iter().find(|rule| rule.applies(&request)).map(|rule| rule.fault.clone());
        log.lock().unwrap().push((request.clone(), fault.is_some()));
        if let Some(Fault::CutRequest(kept)) = &fault {
            let body = body(&mut client, rest, *kept.min(&length)).await?;
            let mut server = forward(&request, registry, &body).await?;
            // The registry is given the time to take what came.
            let _ = tokio::time::timeout(Duration::from_millis(50), server.read_u8()).await;
            let _ = (client.set_zero_linger(), server.set_zero_linger());
            return None;
        }
        let body = body(&mut client, rest, length).await?;
        if let Some(Fault::Harm(When::Asked, harm)) = &fault {
            harm();
            let _ = client.set_zero_linger();
            return None;
        }
        let mut reply = match &fault {
            Some(Fault::Answer(reply)) => reply.clone(),
            _ => {
                if let Some(Fault::Delay(delay)) = &fault {
                    tokio::time::sleep(*delay).await;
                }
                answer(forward(&request, registry, &body).await?, &request).await?
            }
        };
        let mut sent = usize::MAX;
        match &fault {
            Some(Fault::Harm(_, harm)) => {
                harm();
                let _ = client.set_zero_linger();
                return None;
            }
            Some(Fault::LoseReply) => {
                let _ = client.set_zero_linger();
                return None;
            }
            Some(Fault::CutReply(kept) | Fault::EndReply(kept) | Fault::Stall(kept)) => sent = *kept,
            Some(Fault::Change(change)) => reply = change(reply),
            _ => {}
        }
        write(&mut client, &request, &reply, sent).await?;
        match fault {
            Some(Fault::CutReply(_)) => {
                let _ = client.set_zero_linger();
                return None;
            }
            Some(Fault::EndReply(_)) => {
                let _ = client.shutdown().await;
                return None;
            }
            Some(Fault::Stall(_)) => {
                // As long as the client bears it.
                let _ = client.read_u8().await;
                return None;
            }
            _ => {}
        }
    }
}

/// The first line, the headers in lower case, and what came after them.
async fn head(stream: &mut TcpStream) -> Option<(String, Vec<(String, String)>, Vec<u8>)> {
    let mut all = Vec::new();
    let end = loop {
        if let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        all.extend_from_slice(&buffer[..count]);
    };
    let rest = all.split_off(end + 4);
    let text = String::from_utf8_lossy(&all).into_owned();
    let mut lines = text.lines();
    let first = lines.next()?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Some((first, headers, rest))
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

async fn body(stream: &mut TcpStream, mut all: Vec<u8>, length: usize) -> Option<Vec<u8>> {
    let have = all.len().min(length);
    all.resize(length, 0);
    stream.read_exact(&mut all[have..]).await.ok()?;
    Some(all)
}

/// Send a request, or the beginning of it, to the registry.
async fn forward(request: &Request, registry: &str, body: &[u8]) -> Option<TcpStream> {
    let mut server = TcpStream::connect(registry).await.ok()?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
        head += &format!("{name}: {value}\r\n");
    }
    head += "connection: close\r\n\r\n";
    server.write_all(head.as_bytes()).await.ok()?;
    server.write_all(body).await.ok()?;
    Some(server)
}

async fn answer(mut server: TcpStream, request: &Request) -> Option<Reply> {
    let (first, headers, rest) = head(&mut server).await?;
    let status = first.split(' ').nth(1)?.parse().ok()?;
    let mut all = rest;
    if request.method != "HEAD" {
        server.read_to_end(&mut all).await.ok()?;
        if value(&headers, "transfer-encoding") == Some("chunked") {
            all = unchunked(&all)?;
        }
    }
    let reply = Reply { status, headers, body: all };
    Some(reply.without("transfer-encoding").without("connection"))
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Some(all);
        }
        all.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

async fn write(client: &mut TcpStream, request: &Request, reply: &Reply, sent: usize) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if value(&reply.headers, "content-length").is_none() && reply.status != 204 {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    head += "\r\n";
    client.write_all(head.as_bytes()).await.ok()?;
    if request.method != "HEAD" {
        client.write_all(&reply.body[..sent.min(reply.body.len())]).await.ok()?;
    }
    client.flush().await.ok()
}
