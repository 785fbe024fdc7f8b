//! `polyarch serve` over a folder, and what happens to it: kills, a full disk, many clients at once.

#![cfg(test)]

mod broken;
mod full;
mod killed;
mod linear;
mod soak;

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use polyarch::oci::{Descriptor, Digest, Document, Manifest, MediaType};
use reqwest::{Client, Response, StatusCode};

use crate::program::{Place, program, variable};

/// The registry as a process of its own. It is killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Start it on the store of a place, at a port of its own.
    fn start(place: &Place) -> Self {
        Self::of(place.start(&["serve", "--listen", "127.0.0.1:0", "--anonymous-writes"]))
    }

    fn of(child: Child) -> Self {
        Self::try_of(child).expect("it starts")
    }

    /// A process that says its address in its first line; `None` where it ends before that.
    fn try_of(mut child: Child) -> Option<Self> {
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("its address");
        if line.is_empty() {
            child.wait().expect("it ended");
            return None;
        }
        Some(Self { child, address: line.trim().to_owned() })
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks one server about one repository, each question once.
#[derive(Clone)]
struct Asker {
    client: Client,
    base: String,
}

/// The answer that was not the expected one, or that never came.
#[derive(Debug)]
enum Failed {
    Lost(String),
    Answered(StatusCode, String),
}

type Asked<T = ()> = std::result::Result<T, Failed>;

impl Asker {
    fn new(server: &Server, repository: &str) -> Self {
        let client =
            Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().expect("a client");
        Self { client, base: format!("http://{}/v2/{repository}", server.address) }
    }

    async fn expect(request: reqwest::RequestBuilder, status: u16) -> Asked<Response> {
        let answer = request.send().await.map_err(|error| Failed::Lost(error.to_string()))?;
        if answer.status().as_u16() == status {
            return Ok(answer);
        }
        let status = answer.status();
        Err(Failed::Answered(status, answer.text().await.unwrap_or_default()))
    }

    /// Push a blob in one piece, or by a session.
    async fn push_blob(&self, bytes: &[u8], by_session: bool) -> Asked<Digest> {
        let digest = Digest::of(bytes);
        if !by_session {
            let request = self.client.post(format!("{}/blobs/uploads/?digest={digest}", self.base));
            Self::expect(request.body(bytes.to_vec()), 201).await?;
            return Ok(digest);
        }
        let begun = Self::expect(self.client.post(format!("{}/blobs/uploads/", self.base)), 202).await?;
        let path = begun.headers()["location"].to_str().expect("a location").to_owned();
        let host = self.base.split("/v2/").next().expect("a host").to_owned();
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        Self::expect(self.client.patch(format!("{host}{path}")).body(first.to_vec()), 202).await?;
        let request = self.client.put(format!("{host}{path}?digest={digest}")).body(rest.to_vec());
        Self::expect(request, 201).await?;
        Ok(digest)
    }

    async fn push_document(&self, document: &Document, name: &str) -> Asked {
        let request = self.client.put(format!("{}/manifests/{name}", self.base));
        let request = request.header("content-type", document.media_type());
        Self::expect(request.body(document.bytes().clone()), 201).await.map(drop)
    }

    async fn blob(&self, digest: &Digest) -> Asked<Vec<u8>> {
        let answer = Self::expect(self.client.get(format!("{}/blobs/{digest}", self.base)), 200).await?;
        let bytes = answer.bytes().await.map_err(|error| Failed::Lost(error.to_string()))?;
        Ok(bytes.to_vec())
    }

    async fn document(&self, name: &str) -> Asked<Vec<u8>> {
        let answer = Self::expect(self.client.get(format!("{}/manifests/{name}", self.base)), 200).await?;
        let bytes = answer.bytes().await.map_err(|error| Failed::Lost(error.to_string()))?;
        Ok(bytes.to_vec())
    }

    async fn untag(&self, tag: &str) -> Asked {
        let request = self.client.delete(format!("{}/manifests/{tag}", self.base));
        Self::expect(request, 202).await.map(drop)
    }
}

/// A manifest of two blobs.
fn manifest(config: &[u8], layer: &[u8]) -> Document {
    Document::of_manifest(&Manifest::new(
        Descriptor::of(MediaType::CONFIG, config),
        vec![Descriptor::of(MediaType::LAYER_GZIP, layer)],
    ))
}

/// How much to do: a variable of the environment, or so much.
fn so_many(name: &str, otherwise: usize) -> usize {
    variable(name).and_then(|text| text.to_str()?.parse().ok()).unwrap_or(otherwise)
}

/// Random numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
