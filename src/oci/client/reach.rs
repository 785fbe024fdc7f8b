//! Where a registry may send us: never from https to http, never nearer to us than it is itself.
//!
//! A registry on the internet that names `http://169.254.169.254/` or `localhost` wants us to ask our own network
//! for it (CVE-2020-15157 and its kin). An address is judged as it is written and, for names, as it resolves, at the
//! moment of connecting.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::oci::{Error, ErrorKind};

/// The sign, in an error's cause, that this side refused to connect.
pub(super) const REFUSED: &str = "is nearer than the registry that named it";

/// How near an address is; the registry may name what is as far as itself, or farther.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Public,
    Private,
    Loopback,
    /// Addresses of this link, of groups or of nobody, such as a cloud's metadata service: never named rightly.
    Never,
}

impl Reach {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_link_local() || v4.is_multicast() || v4.octets()[0] == 0 => Self::Never,
            IpAddr::V4(v4) if v4.is_broadcast() => Self::Never,
            IpAddr::V4(v4) if v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64) => {
                Self::Private
            }
            IpAddr::V4(_) => Self::Public,
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            return Self::Loopback;
        }
        let parts = address.segments();
        let v4 = |high: u16, low: u16| Self::of(IpAddr::V4((u32::from(high) << 16 | u32::from(low)).into()));
        match parts {
            // IPv4 in its disguises: mapped, compatible, translated (NAT64), 6to4.
            [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
            [0x2002, high, low, ..] => v4(high, low),
            _ if address.is_multicast() || parts[0] & 0xffc0 == 0xfe80 => Self::Never,
            _ if parts[0] & 0xfe00 == 0xfc00 => Self::Private,
            _ => Self::Public,
        }
    }
}

/// Whether an address is on this machine by its name alone.
pub(super) fn is_loopback(url: &Url) -> bool {
    written(url) == Some(Reach::Loopback)
}

/// What an address says by itself; nothing for a name that has to be looked up.
fn written(url: &Url) -> Option<Reach> {
    match url.host()? {
        Host::Ipv4(address) => Some(Reach::of(address.into())),
        Host::Ipv6(address) => Some(Reach::of(address.into())),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            (name == "localhost" || name.ends_with(".localhost")).then_some(Reach::Loopback)
        }
    }
}

/// How many addresses of a family are tried.
const TRIED_ADDRESSES: usize = 2;

/// How near the registry is, and therefore how near what it names may be. It resolves names for the connections that
/// lead elsewhere, so that what is judged is what is connected to.
#[derive(Clone, Default)]
pub(super) struct Limit(Arc<OnceLock<Reach>>);

impl Limit {
    /// Whether an address that the registry named may be visited.
    pub(super) async fn permit(&self, base: &Url, url: &Url, doing: &str) -> Result<(), Error> {
        let refused = |why: &str| {
            let host = url.host_str().unwrap_or("nowhere");
            let text = format!("{doing}: the registry leads to {}://{host}, which {why}", url.scheme());
            Err(Error::new(ErrorKind::Denied, text))
        };
        match (base.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => {}
            ("https", "http") => return refused("is not encrypted, while the registry is"),
            _ => return refused("is neither http nor https"),
        }
        if self.0.get().is_none() {
            let reach = measure(base).await;
            let _ = self.0.set(reach);
        }
        match written(url) {
            Some(reach) if reach == Reach::Never || reach > self.reach() => refused(REFUSED),
            _ => Ok(()),
        }
    }

    fn reach(&self) -> Reach {
        self.0.get().copied().unwrap_or(Reach::Public)
    }
}

impl Resolve for Limit {
    fn resolve(&self, name: Name) -> Resolving {
        let limit = self.reach();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let near = |address: &SocketAddr| {
                let reach = Reach::of(address.ip());
                reach == Reach::Never || reach > limit
            };
            if found.iter().any(near) {
                return Err(format!("{} {REFUSED}", name.as_str()).into());
            }
            Ok(few(found))
        })
    }
}

/// Resolves names for connections to the registry itself, to as few addresses as [`few`] says.
#[derive(Clone, Copy, Default)]
pub(super) struct FewAddresses;

impl Resolve for FewAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(few(found))
        })
    }
}

/// The first addresses of each family: a client parts the time that it has to connect among all that it is given.
fn few(mut found: Vec<SocketAddr>) -> Addrs {
    let (mut of_4, mut of_6) = (0, 0);
    found.retain(|address| {
        let number = if address.is_ipv4() { &mut of_4 } else { &mut of_6 };
        *number += 1;
        *number <= TRIED_ADDRESSES
    });
    Box::new(found.into_iter())
}

/// How near a registry is. One whose name cannot be looked up is behind a proxy, and counts as far.
async fn measure(base: &Url) -> Reach {
    if let Some(reach) = written(base) {
        return reach;
    }
    let Some(host) = base.host_str() else { return Reach::Public };
    let found = tokio::net::lookup_host((host, 0)).await;
    let nearest = found.ok().and_then(|found| found.map(|address| Reach::of(address.ip())).max());
    nearest.unwrap_or(Reach::Public)
}

/// The address that a redirect or a `Location` leads to, never from https to http.
pub(super) fn follow(from: &Url, location: &str, doing: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Error::new(ErrorKind::Denied, format!("{doing}: the registry {why}"));
    let to = from.join(location).map_err(|_| wrong("leads to an address that is none"))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        _ => Err(wrong("leads from https to an address that is not encrypted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tm12_disguised_addresses_of_this_network_are_refused() {
        let public = Url::parse("https://registry.example/").expect("address");
        let limit = Limit::default();
        limit.0.set(Reach::Public).expect("fresh");
        let near = [
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://a.localhost./x",
            "https://[::1]/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://0177.0.0.1/x",
            "https://127.1/x",
            "https://[::ffff:127.0.0.1]/x",
            "https://[::ffff:a9fe:a9fe]/x",
            "https://[64:ff9b::7f00:1]/x",
            "https://[2002:7f00:1::]/x",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/x",
            "https://172.16.3.4/x",
            "https://192.168.1.1/x",
            "https://100.64.0.1/x",
            "https://0.0.0.0/x",
            "https://[fe80::1]/x",
            "https://[fd00::1]/x",
            "http://other.example/x",
            "file:///etc/passwd",
        ];
        for address in near {
            let url = Url::parse(address).expect(address);
            assert!(limit.permit(&public, &url, "read").await.is_err(), "{address} was permitted");
        }
        let far = Url::parse("https://cdn.example/x").expect("address");
        assert!(limit.permit(&public, &far, "read").await.is_ok());
    }

    #[tokio::test]
    async fn tm12_names_are_judged_by_what_they_resolve_to() {
        let limit = Limit::default();
        limit.0.set(Reach::Public).expect("fresh");
        let refused = limit.resolve("localhost".parse().expect("name")).await;
        assert!(refused.is_err_and(|error| error.to_string().contains(REFUSED)));
        let near = Limit::default();
        near.0.set(Reach::Loopback).expect("fresh");
        assert!(near.resolve("localhost".parse().expect("name")).await.is_ok());
    }
}
