//! A build manifest: what an image was made of and what is in it, as Markdown, in the format of the Jupyter docker-stacks.

use std::fmt::Write as _;

use crate::record::{Description, Said};

/// All that a build manifest says.
pub(crate) struct BuildManifest<'a> {
    /// The image and its version: `base-notebook:0123456789ab`.
    pub(crate) image: &'a str,
    /// The same as it is published: `quay.io/jupyter/base-notebook:0123456789ab`.
    pub(crate) reference: &'a str,
    /// When it was built: `2026-08-10T03:12:45Z`.
    pub(crate) built_at: &'a str,
    /// Bytes of the files of its layers.
    pub(crate) bytes: u64,
    /// The commit of the family's files, where they are in a Git repository.
    pub(crate) commit: Option<&'a Commit>,
    /// What is in it.
    pub(crate) descriptions: &'a [Description],
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// All digits.
    pub(crate) hash: String,
    /// Where it can be looked at.
    pub(crate) link: Option<String>,
    /// What it says.
    pub(crate) message: String,
}

impl BuildManifest<'_> {
    /// The manifest, ending with one line end.
    pub(crate) fn to_markdown(&self) -> String {
        let heading = format!("# Build manifest for image: {}", self.image);
        let sections = self.descriptions.iter().map(section);
        let pieces: Vec<String> = [heading, self.build_info()].into_iter().chain(sections).collect();
        pieces.join("\n\n") + "\n"
    }

    fn build_info(&self) -> String {
        let mut text = format!(
            "## Build Info\n\n- Build timestamp: {}\n- Docker image: `{}`\n- Docker image size: {}",
            self.built_at,
            self.reference,
            docker_size(self.bytes),
        );
        if let Some(Commit { hash, link, message }) = self.commit {
            let hash = link.as_ref().map_or_else(|| hash.clone(), |link| format!("[{hash}]({link})"));
            let _ = write!(
                text,
                "\n- Git commit SHA: {hash}\n- Git commit message:\n\n{}",
                fenced(message.trim())
            );
        }
        text
    }
}

fn section(description: &Description) -> String {
    let pieces = description.pieces.iter().map(piece);
    [format!("## {}", description.title)].into_iter().chain(pieces).collect::<Vec<_>>().join("\n\n")
}

fn piece(said: &Said) -> String {
    match said.bare {
        true => said.text.clone(),
        false => format!("`{}`:\n\n{}", said.run, fenced(&said.text)),
    }
}

/// A text between fences that nothing in it ends (CommonMark, §4.5).
fn fenced(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// Bytes as `docker images` says them: three digits, in powers of a thousand.
fn docker_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1_000.0 && unit + 1 < UNITS.len() {
        size /= 1_000.0;
        unit += 1;
    }
    let decimals = match size {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{size:.decimals$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS[unit])
}

/// Where a commit of a repository can be looked at, by the address that Git has for it: of `https://host/owner/name.git` and
/// `git@host:owner/name.git` it is `https://host/owner/name/commit/HASH`. Who is named in the address stays out.
pub(crate) fn commit_link(remote: &str, hash: &str) -> Option<String> {
    Some(format!("{}/commit/{hash}", page_of(remote)?))
}

/// Where a file of a commit can be looked at, in the same way.
pub(crate) fn blob_link(remote: &str, hash: &str, path: &str) -> Option<String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~/".contains(letter);
    let is_plain = path.chars().all(plain) && !path.split('/').any(|part| part == "..");
    let path = path.strip_prefix("./").unwrap_or(path);
    Some(format!("{}/blob/{hash}/{path}", page_of(remote)?)).filter(|_| is_plain)
}

/// The page of a repository, by the address that Git has for it.
fn page_of(remote: &str) -> Option<String> {
    let remote = remote.trim().trim_end_matches('/');
    let remote = remote.strip_suffix(".git").unwrap_or(remote);
    let (host, path) = match remote.split_once("://") {
        Some(("https" | "http" | "ssh", rest)) => rest.split_once('/')?,
        Some(_) => return None,
        None => remote.split_once(':')?,
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/".contains(c));
    let is_plain =
        host.contains('.') && plain(host) && plain(path) && !path.starts_with('/') && !path.is_empty();
    is_plain.then(|| format!("https://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Piece;

    fn said(run: &str, bare: bool, output: &str) -> Said {
        Said::tidied(&Piece { run: run.to_owned(), bare }, output)
    }

    #[test]
    fn s_4_9_a_manifest_of_docker_stacks_byte_for_byte() {
        let commit = Commit {
            hash: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            link: Some(
                "https://github.com/jupyter/docker-stacks/commit/0123456789abcdef0123456789abcdef01234567"
                    .to_owned(),
            ),
            message: "Add mamba (#1)\n\n* one\n* two\n".to_owned(),
        };
        let conda = "\n\n     active environment : None   \n       conda version : 25.3.1\n\n";
        let python = Description {
            title: "Python Packages".to_owned(),
            pieces: vec![said("python --version", true, "Python 3.13.5\n"), said("conda info", false, conda)],
        };
        let manifest = BuildManifest {
            image: "base-notebook:0123456789ab",
            reference: "quay.io/jupyter/base-notebook:0123456789ab",
            built_at: "2026-08-10T03:12:45Z",
            bytes: 1_234_567_890,
            commit: Some(&commit),
            descriptions: &[
                python,
                Description::of("Apt Packages", "apt list --installed", "bash/stable 5.2\n"),
            ],
        };
        let golden = "\
# Build manifest for image: base-notebook:0123456789ab

## Build Info

- Build timestamp: 2026-08-10T03:12:45Z
- Docker image: `quay.io/jupyter/base-notebook:0123456789ab`
- Docker image size: 1.23GB
- Git commit SHA: [0123456789abcdef0123456789abcdef01234567](https://github.com/jupyter/docker-stacks/commit/0123456789abcdef0123456789abcdef01234567)
- Git commit message:

```text
Add mamba (#1)

* one
* two
```

## Python Packages

Python 3.13.5

`conda info`:

```text
     active environment : None
       conda version : 25.3.1
```

## Apt Packages

`apt list --installed`:

```text
bash/stable 5.2
```
";
        assert_eq!(manifest.to_markdown(), golden);
    }

    #[test]
    fn nothing_that_is_printed_ends_its_fence() {
        let text = piece(&said("cat", false, "```\n# not a heading\n````\n"));
        assert_eq!(text, "`cat`:\n\n`````text\n```\n# not a heading\n````\n`````");
    }

    #[test]
    fn sizes_are_said_as_docker_says_them() {
        let table = [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1kB"),
            (1_500, "1.5kB"),
            (12_345, "12.3kB"),
            (123_456, "123kB"),
            (4_560_000, "4.56MB"),
            (1_230_000_000, "1.23GB"),
            (98_760_000_000, "98.8GB"),
        ];
        for (bytes, said) in table {
            assert_eq!(docker_size(bytes), said, "{bytes}");
        }
    }

    #[test]
    fn a_commit_is_linked_to_where_people_look_at_it() {
        let table = [
            ("https://github.com/o/r.git", Some("https://github.com/o/r/commit/0a")),
            ("https://user:secret@github.com/o/r", Some("https://github.com/o/r/commit/0a")),
            ("git@gitlab.com:group/sub/r.git\n", Some("https://gitlab.com/group/sub/r/commit/0a")),
            ("ssh://git@git.example.org:7999/o/r.git", Some("https://git.example.org:7999/o/r/commit/0a")),
            ("/srv/git/r.git", None),
            ("file:///srv/git/r.git", None),
            ("https://github.com/o/r)[x](javascript:alert", None),
            ("", None),
        ];
        for (remote, link) in table {
            assert_eq!(commit_link(remote, "0a").as_deref(), link, "{remote}");
        }
        let blob = |path: &str| blob_link("git@github.com:o/r.git", "0a", path);
        assert_eq!(
            blob("./images/a/Dockerfile").as_deref(),
            Some("https://github.com/o/r/blob/0a/images/a/Dockerfile")
        );
        assert_eq!((blob("a)b"), blob("../a")), (None, None));
    }
}
