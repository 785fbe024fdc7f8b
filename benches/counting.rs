//! What stands between a client and a registry, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What hears of each request, by the first line of it.
pub(crate) type Hear = Arc<dyn Fn(&str) + Send + Sync>;

/// Counts requests and bytes of bodies, and adds a delay to each request. Streams both ways.
pub(crate) struct Proxy {
    pub(crate) address: String,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(registry: &str, delay: Duration, hear: Hear) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, sent): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (counts, registry) = ((requests.clone(), sent.clone()), registry.to_owned());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let (counts, registry, hear) = (counts.clone(), registry.clone(), hear.clone());
                tokio::spawn(async move { pass(client, &registry, delay, &counts, &hear).await });
            }
        });
        Self { address, requests, sent }
    }

    /// How many requests came so far, and how many bytes in their bodies.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

/// One connection: request by request, each with its answer.
async fn pass(
    mut client: TcpStream,
    registry: &str,
    delay: Duration,
    counts: &(Arc<AtomicU64>, Arc<AtomicU64>),
    hear: &Hear,
) -> Option<()> {
    let mut server = TcpStream::connect(registry).await.ok()?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    loop {
        let head = head(&mut client, &mut from_client).await?;
        counts.0.fetch_add(1, Ordering::Relaxed);
        hear(head.lines().next().unwrap_or_default());
        tokio::time::sleep(delay).await;
        server.write_all(head.as_bytes()).await.ok()?;
        let sent = body(&mut client, &mut from_client, &mut server, &head).await?;
        counts.1.fetch_add(sent, Ordering::Relaxed);
        let answer = self::head(&mut server, &mut from_server).await?;
        client.write_all(answer.as_bytes()).await.ok()?;
        if !head.starts_with("HEAD ") {
            body(&mut server, &mut from_server, &mut client, &answer).await?;
        }
    }
}

async fn head(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = held.split_off(end + 4);
            return String::from_utf8(std::mem::replace(held, rest)).ok();
        }
        stream.read_buf(held).await.ok().filter(|count| *count > 0)?;
        // Some try TLS first, and take the other way where the answer to their greeting is HTTP.
        if !held.first()?.is_ascii_uppercase() {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
    }
}

/// Pass a body on, by its length or in chunks; how many bytes it has.
async fn body(from: &mut TcpStream, held: &mut Vec<u8>, to: &mut TcpStream, head: &str) -> Option<u64> {
    let lower = head.to_ascii_lowercase();
    let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if value("transfer-encoding:") == Some("chunked") {
        return chunks(from, held, to).await;
    }
    let length: usize = value("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
    exactly(from, held, to, length).await.map(|()| length as u64)
}

async fn chunks(from: &mut TcpStream, held: &mut Vec<u8>, to: &mut TcpStream) -> Option<u64> {
    let mut all = 0;
    loop {
        let end = loop {
            if let Some(end) = held.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            from.read_buf(held).await.ok().filter(|count| *count > 0)?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&held[..end]).ok()?.trim(), 16).ok()?;
        exactly(from, held, to, end + 2 + size + 2).await?;
        all += size as u64;
        if size == 0 {
            return Some(all);
        }
    }
}

async fn exactly(
    from: &mut TcpStream,
    held: &mut Vec<u8>,
    to: &mut TcpStream,
    mut left: usize,
) -> Option<()> {
    while left > 0 {
        if held.is_empty() {
            held.reserve(256 << 10);
            from.read_buf(held).await.ok().filter(|count| *count > 0)?;
        }
        let now = left.min(held.len());
        to.write_all(&held[..now]).await.ok()?;
        held.drain(..now);
        left -= now;
    }
    Some(())
}
