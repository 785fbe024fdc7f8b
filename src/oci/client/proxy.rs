//! The way out through a proxy, as `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` have it.
//!
//! Decided here and not by the library, so that the environment is read in one place, the proxy that fails can be
//! named, and what is on this machine is never sent to one.

use std::net::IpAddr;

use url::{Host, Url};

use super::reach;
use crate::oci::{Error, ErrorKind};

/// Proxies by the scheme of the address, and what is reached without them.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    except: Vec<Exception>,
}

/// What is reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A name, and every name below it.
    Name(String),
    /// Addresses that share so many leading bits.
    Network(IpAddr, u8),
}

impl Proxies {
    /// The proxies that variables name; of each the lower-case spelling counts first. An empty value is none.
    ///
    /// # Errors
    /// `Invalid` where a proxy's address is none; its password is not told.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let value = |name: &str| {
            let found = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
            found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let proxy = |name: &str| match value(name) {
            Some(text) => address(&text).map(Some).ok_or_else(|| {
                let what = format!("{name} is no address of a proxy; write it as http://host:port");
                Error::new(ErrorKind::Invalid, what)
            }),
            None => Ok(None),
        };
        let all = proxy("ALL_PROXY")?;
        let except = value("NO_PROXY").unwrap_or_default();
        let except = except.split(',').filter_map(Exception::of).collect();
        Ok(Self { http: proxy("HTTP_PROXY")?.or(all.clone()), https: proxy("HTTPS_PROXY")?.or(all), except })
    }

    /// The proxy that leads to an address.
    pub(super) fn to(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| {
            !reach::is_loopback(url) && !self.except.iter().any(|exception| exception.covers(url))
        })
    }

    /// What to call the proxy that leads to an address, in messages: without its password.
    pub(super) fn name(&self, url: &Url) -> Option<String> {
        let proxy = self.to(url)?;
        let port = proxy.port_or_known_default().unwrap_or_default();
        Some(format!("{}:{port}", proxy.host_str().unwrap_or_default()))
    }

    /// Why the proxy that leads to an address lets nothing through, and where to say what it wants.
    pub(super) fn refusal(&self, url: &Url) -> Option<String> {
        let (proxy, name) = (self.to(url)?, self.name(url)?);
        let example = format!("{}_proxy={}://USER:PASSWORD@{name}", url.scheme(), proxy.scheme());
        Some(match proxy.username().is_empty() {
            true => format!("the proxy {name} wants a user and a password, as in {example}"),
            false => format!(
                "the proxy {name} does not take the user and the password that are said of it; write {example}, \
                 with %40 for an @ and the like"
            ),
        })
    }

    /// The same for the library that connects.
    pub(super) fn of_library(&self) -> Vec<reqwest::Proxy> {
        let schemes = [("http", &self.http), ("https", &self.https)];
        let proxies = schemes.into_iter().filter_map(|(scheme, proxy)| {
            let proxy = proxy.as_ref()?;
            let mut bare = proxy.clone();
            // Nothing else than http and https takes a user; those were checked to be such addresses.
            let _ = bare.set_username("").and_then(|()| bare.set_password(None));
            let all = self.clone();
            let made = reqwest::Proxy::custom(move |url| {
                (url.scheme() == scheme && all.to(url).is_some()).then(|| bare.clone())
            });
            Some(match (decoded(proxy.username()), proxy.password().map(decoded)) {
                (user, None) if user.is_empty() => made,
                (user, password) => made.basic_auth(&user, &password.unwrap_or_default()),
            })
        });
        proxies.collect()
    }
}

impl Exception {
    fn of(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        let (address, bits) = text.split_once('/').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        if let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(whole), |bits| bits.parse().ok().filter(|bits| *bits <= whole))?;
            return Some(Self::Network(address, bits));
        }
        Some(Self::Name(text))
    }

    fn covers(&self, url: &Url) -> bool {
        match (self, url.host()) {
            (Self::All, _) => true,
            (Self::Name(name), Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                let (name, port) = name.split_once(':').map_or((name.as_str(), None), |(n, p)| (n, Some(p)));
                let port_fits = port.is_none_or(|port| {
                    url.port_or_known_default().is_some_and(|own| own.to_string() == port)
                });
                let below =
                    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                port_fits && below
            }
            (Self::Network(network, bits), Some(Host::Ipv4(host))) => {
                same_network(*network, host.into(), *bits)
            }
            (Self::Network(network, bits), Some(Host::Ipv6(host))) => {
                same_network(*network, host.into(), *bits)
            }
            _ => false,
        }
    }
}

fn same_network(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let leading = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, false),
        IpAddr::V6(v6) => (u128::from(v6), true),
    };
    let ((one, one_is_v6), (other, other_is_v6)) = (leading(one), leading(other));
    let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits)) };
    one_is_v6 == other_is_v6 && one & mask == other & mask
}

/// The address of a proxy, whose scheme may be left out.
fn address(text: &str) -> Option<Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host().is_some()).then_some(url)
}

/// A text without percent signs in the sense of addresses.
fn decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Proxies::of(find).expect("proxies")
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.name(&Url::parse(url).expect("an address"))
    }

    #[test]
    fn f_n4_schemes_have_their_own_proxy_and_lower_case_counts_first() {
        let found =
            proxies(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:2"), ("HTTPS_PROXY", "http://u:p@c:3/")]);
        assert_eq!(through(&found, "http://x.example/"), Some("a:1".to_owned()));
        assert_eq!(through(&found, "https://x.example/"), Some("c:3".to_owned()), "and no password");
        let found = proxies(&[("ALL_PROXY", "d"), ("https_proxy", "")]);
        assert_eq!(through(&found, "https://x.example/"), Some("d:80".to_owned()));
        assert_eq!(through(&Proxies::default(), "https://x.example/"), None);
    }

    #[test]
    fn f_n4_exceptions_are_names_networks_and_this_machine() {
        let found = proxies(&[
            ("ALL_PROXY", "p:1"),
            (
                "NO_PROXY",
                "corp.example, .other.example,*.third.example,10.0.0.0/8,192.0.2.7,fd00::/8,q.io:5000,",
            ),
        ]);
        let table = [
            ("https://corp.example/", false),
            ("https://deep.corp.example/", false),
            ("https://notcorp.example/", true),
            ("https://x.other.example/", false),
            ("https://x.third.example/", false),
            ("https://10.255.0.1/", false),
            ("https://11.0.0.1/", true),
            ("https://192.0.2.7:5000/", false),
            ("https://192.0.2.8/", true),
            ("https://[fd12::1]/", false),
            ("https://[fe00::1]/", true),
            ("https://q.io:5000/", false),
            ("https://q.io/", true),
            ("http://127.0.0.1:5000/", false),
            ("http://localhost/", false),
            ("http://[::1]/", false),
        ];
        for (url, proxied) in table {
            assert_eq!(through(&found, url).is_some(), proxied, "{url}");
        }
        let none = proxies(&[("ALL_PROXY", "p:1"), ("no_proxy", "*")]);
        assert_eq!(through(&none, "https://x.example/"), None);
    }

    #[test]
    fn f_n4_a_proxy_that_is_no_address_is_named_without_its_password() {
        let error = Proxies::of(|name| (name == "HTTPS_PROXY").then(|| "socks9://u:canary@h".to_owned()));
        let error = error.map(|_| ()).expect_err("it was taken").to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("canary"), "{error}");
    }
}
