//! Which commit of which repository an `ADD` means, as BuildKit reads the address: `REPOSITORY#NAME:FOLDER`, or the same
//! in a query as in `REPOSITORY?branch=NAME&subdir=FOLDER`.

/// A repository, and what of it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitSource {
    /// Its address, with a password where one is written there.
    pub(crate) repository: String,
    /// The branch, tag or commit; its default branch where none is said.
    pub(crate) name: Option<String>,
    /// The folder in it; the whole where none is said.
    folder: Option<String>,
}

impl GitSource {
    /// Take an address apart.
    ///
    /// # Errors
    /// Where it has what its commit cannot be settled with, and what.
    pub(super) fn parse(location: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@%+&=,!*()".contains(c);
        if let Some(odd) = location.chars().find(|c| !is_plain(*c)) {
            return Err(format!("its address has `{}`", odd.escape_default()));
        }
        let (address, fragment) = match location.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (location, None),
        };
        let (repository, query) = match address.split_once('?') {
            Some((repository, query)) => (repository, Some(query)),
            None => (address, None),
        };
        let mut source = Self { repository: repository.to_owned(), name: None, folder: None };
        match (fragment, query) {
            (Some(_), Some(_)) => return Err("its address has both `?` and `#`".to_owned()),
            (Some(fragment), None) => {
                let (name, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
                source.name = said(name);
                source.folder = said(folder);
            }
            (None, Some(query)) => source.read_query(query)?,
            (None, None) => {}
        }
        Ok(source)
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.contains('%') {
                return Err(format!("its address has `%` in `{key}`"));
            }
            let name = match key {
                "subdir" => {
                    self.folder = said(value);
                    continue;
                }
                "ref" => said(value),
                "branch" => said(value).map(|name| format!("refs/heads/{name}")),
                "tag" => said(value).map(|name| format!("refs/tags/{name}")),
                "commit" | "checksum" if is_commit(value) => said(value),
                _ => return Err(format!("its address has `{pair}`")),
            };
            // What is fetched must be that very commit, whatever else names it.
            if !self.name.as_deref().is_some_and(is_commit) {
                self.name = name;
            }
        }
        Ok(())
    }

    /// The commit, where the address itself says all of it.
    pub(crate) fn commit(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| is_commit(name))
    }

    /// The address of this very commit.
    pub(crate) fn at(&self, commit: &str) -> String {
        let folder = self.folder.iter().map(|folder| format!(":{folder}")).collect::<String>();
        format!("{}#{commit}{folder}", self.repository)
    }
}

fn said(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Whether a name is a whole commit: by SHA-1 or SHA-256.
pub(crate) fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An address without what lets somebody in: the password, and by HTTP the user too, since tokens stand there.
pub(super) fn without_password(location: &str) -> String {
    let Some(user) = user_info(location) else { return location.to_owned() };
    let name = user.split(':').next().filter(|_| is_by_ssh(location));
    let kept = name.map(|name| format!("{name}@")).unwrap_or_default();
    location.replacen(&format!("{user}@"), &kept, 1)
}

/// Whether the address of a repository is one of ssh: `ssh://…`, or `user@host:path`.
pub(super) fn is_by_ssh(location: &str) -> bool {
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case("ssh"))
}

/// What an address says of the user (RFC 3986, section 3.2.1).
pub(crate) fn user_info(location: &str) -> Option<&str> {
    let (_, rest) = location.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map(|(user, _)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_as_buildkit_does_it() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let at_commit = format!("https://x/r.git#{commit}:f");
        let by_query = format!("https://x/r.git?ref=main&commit={commit}");
        for (location, expected) in [
            ("https://x/r.git", "https://x/r.git  #C"),
            ("https://x/r.git#", "https://x/r.git  #C"),
            ("https://x/r.git#main", "https://x/r.git main #C"),
            ("https://x/r.git#:folder/two", "https://x/r.git  #C:folder/two"),
            ("git@x:y/r.git#refs/pull/1/head:f", "git@x:y/r.git refs/pull/1/head #C:f"),
            ("ssh://git@x:22/r#v1", "ssh://git@x:22/r v1 #C"),
            ("https://x/r.git?tag=v1&subdir=f", "https://x/r.git refs/tags/v1 #C:f"),
            ("https://x/r.git?branch=a", "https://x/r.git refs/heads/a #C"),
            (&at_commit, &format!("https://x/r.git {commit} #C:f")),
            (&by_query, &format!("https://x/r.git {commit} #C")),
        ] {
            let source = GitSource::parse(location).unwrap();
            let pinned = source.at("C");
            let shown = format!(
                "{} {} {}",
                source.repository,
                source.name.as_deref().unwrap_or_default(),
                pinned.strip_prefix(&source.repository).unwrap()
            );
            assert_eq!(shown, expected, "{location}");
            assert_eq!(source.commit(), location.contains(commit).then_some(commit), "{location}");
        }
    }

    #[test]
    fn what_may_mean_another_commit_to_the_engine_is_not_settled() {
        for location in [
            "https://x/r.git?submodules=false",
            "https://x/r.git?ref=main#v1",
            "https://x/r.git?ref=a%2Fb",
            "https://x/r.git?commit=01234",
            "https://x/r.git#a b",
            "https://x/r.git#a\"b",
            "https://x/r.git#$A",
            "https://x/r.git#a\nRUN x",
        ] {
            assert!(GitSource::parse(location).is_err(), "{location}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (location, shown) in [
            ("https://u:secret@x/r.git#a", "https://x/r.git#a"),
            ("https://token@x/r.git", "https://x/r.git"),
            ("ssh://git:secret@x/r.git", "ssh://git@x/r.git"),
            ("git@x:r.git", "git@x:r.git"),
            ("https://x/r.git#a@b", "https://x/r.git#a@b"),
            ("https://x/a@b/r.git", "https://x/a@b/r.git"),
        ] {
            assert_eq!(without_password(location), shown);
        }
    }
}
