//! Who may do what: anyone, or who knows the password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Code, Refusal};
use crate::oci::{Algorithm, Hasher};

/// Who may read and write.
#[derive(Clone)]
pub enum Access {
    /// Whoever can reach the address.
    Anonymous,
    /// Who knows this user and password may write; `reading` says who may read.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// Who may read.
        reading: Reading,
    },
}

/// Who may read where writing wants a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Anyone. Clients that ask `/v2/` whether they need a password hear "no", with the challenge beside it;
    /// Docker's own push believes the first alone, so let it push where both want the password.
    Anyone,
    /// Who may write.
    SamePassword,
}

/// What is asked for when a password is missing.
pub(super) const CHALLENGE: &str = "Basic realm=\"polyarch\"";

/// What a request says about who sends it.
#[derive(PartialEq, Eq)]
enum Caller {
    /// Nothing.
    Unnamed,
    /// The right user and password.
    Known,
    /// Something else.
    Wrong,
}

impl Access {
    /// Whether this request may go on.
    ///
    /// # Errors
    /// 401 with the challenge. A wrong password is refused even where none is needed: `docker login` asks.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::Basic { user, password, reading } = self else { return Ok(()) };
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match caller(headers, user, password) {
            Caller::Known => Ok(()),
            Caller::Unnamed if reads && *reading == Reading::Anyone => Ok(()),
            Caller::Unnamed => Err(unauthorized("this registry wants a user and a password")),
            Caller::Wrong => Err(unauthorized("user or password is wrong")),
        }
    }

    /// The challenge to show beside an answer that needed no password.
    pub(super) fn challenge(&self) -> Option<&'static str> {
        matches!(self, Self::Basic { .. }).then_some(CHALLENGE)
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message).with(WWW_AUTHENTICATE, CHALLENGE)
}

fn caller(headers: &HeaderMap, user: &str, password: &str) -> Caller {
    let Some(value) = headers.get(AUTHORIZATION) else { return Caller::Unnamed };
    let given = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    match given {
        // skopeo and podman send this when they were challenged and know no password.
        Some(given) if given == b":" => Caller::Unnamed,
        Some(given) if same(&given, format!("{user}:{password}").as_bytes()) => Caller::Known,
        _ => Caller::Wrong,
    }
}

/// Whether two secrets are the same. Their digests are compared, so that time tells not even the length.
fn same(one: &[u8], other: &[u8]) -> bool {
    let digest = |bytes: &[u8]| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    };
    verify_slices_are_equal(digest(one).hex().as_bytes(), digest(other).hex().as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(access: &Access, method: &Method, given: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(AUTHORIZATION, given.parse().expect("a header value"));
        }
        access.check(method, &headers).is_ok()
    }

    #[test]
    fn i_r5_who_may_do_what() {
        let basic = |reading| Access::Basic { user: "u".into(), password: "p:q".into(), reading };
        let right = format!("Basic {}", STANDARD.encode("u:p:q"));
        let lower = right.replace("Basic", "basic");
        let wrong = format!("Basic {}", STANDARD.encode("u:p"));
        for reading in [Reading::Anyone, Reading::SamePassword] {
            let access = basic(reading);
            for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE, Method::GET] {
                assert!(asked(&access, &method, Some(&right)));
                assert!(asked(&access, &method, Some(&lower)));
                for given in [wrong.as_str(), "Bearer x", "Basic", "Basic !!", "x"] {
                    assert!(!asked(&access, &method, Some(given)), "{method} {given}");
                }
            }
            let open = reading == Reading::Anyone;
            assert_eq!(asked(&access, &Method::GET, None), open);
            assert_eq!(asked(&access, &Method::HEAD, Some("Basic Og==")), open);
            assert!(!asked(&access, &Method::DELETE, None));
            assert!(!asked(&access, &Method::PUT, Some("Basic Og==")));
        }
        assert!(asked(&Access::Anonymous, &Method::PUT, Some("Basic !!")));
    }
}
