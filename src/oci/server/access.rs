//! Who may do what: rights by repository, for whoever knows a password and for those who send none.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::answer::{Code, Refusal};
use crate::defence::{Defence, stands};
use crate::oci::{Algorithm, Digest, Hasher, Repository};

/// Who may read and write which repositories.
#[derive(Clone)]
pub struct Access {
    unnamed: Rights,
    users: Vec<User>,
}

/// One who is known by a password. Only a digest of both is kept.
#[derive(Clone)]
pub struct User {
    known_by: Digest,
    rights: Rights,
}

/// What one may do. Whoever may write a repository may read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// What may be read.
    pub read: Vec<Scope>,
    /// What may be written.
    pub write: Vec<Scope>,
    /// What may not be written although `write` covers it.
    pub spared: Vec<Scope>,
}

/// Some of the repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// The one of this name and all whose names continue it after a slash.
    Below(Repository),
}

/// What a request wants to do to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Read,
    Write,
}

/// What is asked for when a password is missing.
pub(super) const CHALLENGE: &str = "Basic realm=\"polyarch\"";

/// Whoever sends a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    rights: &'a Rights,
    /// Whether a name and a password would change anything.
    may_log_in: bool,
}

impl Scope {
    fn covers(&self, repository: &Repository) -> bool {
        match self {
            Self::All => true,
            Self::Below(name) => repository == name || repository.is_below(name),
        }
    }
}

impl Rights {
    /// To read and write everything.
    pub fn all() -> Self {
        Self { write: vec![Scope::All], ..Self::default() }
    }

    /// To read everything and write nothing.
    pub fn reading() -> Self {
        Self { read: vec![Scope::All], ..Self::default() }
    }

    /// Whether they let anything be done at all.
    pub fn is_none(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    fn allow(&self, right: Right, repository: &Repository) -> bool {
        let covered = |scopes: &[Scope]| scopes.iter().any(|scope| scope.covers(repository));
        let writes = covered(&self.write);
        match right {
            Right::Read => writes || covered(&self.read),
            Right::Write => writes && !covered(&self.spared),
        }
    }
}

impl User {
    /// A user with a password, and what both together may do.
    pub fn new(name: &str, password: &str, rights: Rights) -> Self {
        Self { known_by: digest_of(format!("{name}:{password}").as_bytes()), rights }
    }
}

impl Access {
    /// Whoever can reach the address may do everything.
    pub fn open() -> Self {
        Self::new(Rights::all(), Vec::new())
    }

    /// Rights of those who send no password, and users with theirs.
    ///
    /// Where those who send none may do anything, clients that ask `/v2/` whether they need a password hear "no",
    /// with the challenge beside it; Docker's own push believes the first alone and is refused.
    pub fn new(unnamed: Rights, users: Vec<User>) -> Self {
        Self { unnamed, users }
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// 401 with the challenge, where a password is wrong, or where none is sent and nothing can be done without.
    /// A wrong one is refused even where none is needed: `docker login` asks.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller<'_>, Refusal> {
        let may_log_in = !self.users.is_empty();
        let rights = match given(headers) {
            _ if !may_log_in => &self.unnamed,
            Given::Nothing if self.unnamed.is_none() => {
                return Err(unauthorized("this registry wants a user and a password"));
            }
            Given::Nothing => &self.unnamed,
            Given::Login(login) => {
                let found = digest_of(&login);
                let known = |user: &&User| {
                    let (one, other) = (user.known_by.hex().as_bytes(), found.hex().as_bytes());
                    verify_slices_are_equal(one, other).is_ok()
                };
                let user = self.users.iter().find(known);
                let user = user.ok_or_else(|| unauthorized("user or password is wrong"))?;
                return Ok(Caller { rights: &user.rights, may_log_in: false });
            }
            Given::Junk => return Err(unauthorized("user or password is wrong")),
        };
        Ok(Caller { rights, may_log_in })
    }

    /// The challenge to show beside an answer that needed no password.
    pub(super) fn challenge(&self) -> Option<&'static str> {
        (!self.users.is_empty()).then_some(CHALLENGE)
    }
}

impl Caller<'_> {
    /// Whether this may be done.
    pub(super) fn may(&self, right: Right, repository: &Repository) -> bool {
        self.rights.allow(right, repository) || !stands(Defence::ServerRights)
    }

    /// Make sure that this may be done.
    ///
    /// # Errors
    /// 401 where a password would help, else 403; neither tells whether the repository is there.
    pub(super) fn require(&self, right: Right, repository: &Repository) -> Result<(), Refusal> {
        let what = match right {
            _ if self.may(right, repository) => return Ok(()),
            Right::Read => "read",
            Right::Write => "write",
        };
        match self.may_log_in {
            true => Err(unauthorized(&format!("to {what} {repository}, send a user and a password"))),
            false => {
                let words = format!("you may not {what} {repository} here");
                Err(Refusal::new(StatusCode::FORBIDDEN, Code::Denied, words))
            }
        }
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message).with(WWW_AUTHENTICATE, CHALLENGE)
}

/// What a request says about who sends it.
enum Given {
    Nothing,
    /// `user:password`
    Login(Vec<u8>),
    Junk,
}

fn given(headers: &HeaderMap) -> Given {
    let Some(value) = headers.get(AUTHORIZATION) else { return Given::Nothing };
    let login = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    match login {
        // skopeo and podman send this when they were challenged and know no password.
        Some(login) if login == b":" => Given::Nothing,
        Some(login) => Given::Login(login),
        None => Given::Junk,
    }
}

/// Secrets are compared by their digests, so that time tells not even the length.
fn digest_of(login: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(login);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Repository {
        text.parse().expect("a name")
    }

    fn below(text: &str) -> Scope {
        Scope::Below(name(text))
    }

    fn headers(given: Option<&str>) -> HeaderMap {
        given.map(|given| (AUTHORIZATION, given.parse().expect("a header value"))).into_iter().collect()
    }

    #[test]
    fn i_r5_who_is_who() {
        let right = format!("Basic {}", STANDARD.encode("u:p:q"));
        let lower = right.replace("Basic", "basic");
        let wrong = format!("Basic {}", STANDARD.encode("u:p"));
        for unnamed in [Rights::default(), Rights::reading()] {
            let access = Access::new(unnamed.clone(), vec![User::new("u", "p:q", Rights::all())]);
            for given in [right.as_str(), &lower] {
                let caller = access.caller(&headers(Some(given))).expect("it is right");
                assert!(caller.may(Right::Write, &name("a")));
            }
            for given in [wrong.as_str(), "Bearer x", "Basic", "Basic !!", "x"] {
                assert!(access.caller(&headers(Some(given))).is_err(), "{given}");
            }
            for given in [None, Some("Basic Og==")] {
                match access.caller(&headers(given)) {
                    Err(_) => assert!(unnamed.is_none()),
                    Ok(caller) => {
                        assert!(caller.may(Right::Read, &name("a")) && !caller.may(Right::Write, &name("a")));
                    }
                }
            }
        }
        assert!(Access::open().caller(&headers(Some("Basic !!"))).is_ok(), "nobody asks");
    }

    #[test]
    fn i_r5_rights_end_at_the_slash() {
        let rights = Rights {
            read: vec![below("base")],
            write: vec![below("team")],
            spared: vec![below("team/kept")],
        };
        let table = [
            ("base", true, false),
            ("base/x", true, false),
            ("base2", false, false),
            ("team", true, true),
            ("team/a/b", true, true),
            ("team-b", false, false),
            ("team/kept", true, false),
            ("team/kept/x", true, false),
            ("team/kept2", true, true),
            ("other", false, false),
        ];
        for (text, reads, writes) in table {
            assert_eq!(rights.allow(Right::Read, &name(text)), reads, "read {text}");
            assert_eq!(rights.allow(Right::Write, &name(text)), writes, "write {text}");
        }
    }
}
