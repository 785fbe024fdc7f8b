//! A Git repository of pages, as wikis are: taken, changed, and pushed so that nothing that others push meanwhile is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::diag::{Diagnostic, Result};
use crate::engine::{Output, Program, Redactor, find_all};

use super::Context;
use super::git::{NOBODY, secrets};

/// How long one call of Git may take.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// How much of what it says is read, in bytes.
const SAID_BYTES: usize = 64 << 10;
/// How often a push is tried that comes after another one.
const TRIES: usize = 5;
/// Who writes, where the person's own Git does not know who that is.
const WRITER: [&str; 4] = ["-c", "user.name=polyarch", "-c", "user.email=polyarch@localhost"];

/// A clone that goes with this.
pub(super) struct Wiki<'a> {
    context: &'a Context,
    git: PathBuf,
    repository: String,
    branch: Option<&'a str>,
    folder: tempfile::TempDir,
}

impl<'a> Wiki<'a> {
    /// Take a repository, of which one branch is written; its first one where none is named.
    ///
    /// # Errors
    /// Where there is no Git, or it cannot be taken.
    pub(super) async fn take(
        context: &'a Context,
        repository: &str,
        branch: Option<&'a str>,
    ) -> Result<Self> {
        let missing = || {
            Diagnostic::surroundings("push the ledger: there is no Git on the PATH")
                .hint("install it: sudo apt-get install git")
        };
        let git =
            find_all("git", &context.environment.search_path()).into_iter().next().ok_or_else(missing)?;
        let folder = tempfile::tempdir()
            .map_err(|error| Diagnostic::surroundings("make a temporary folder").caused_by(&error))?;
        // Git begins in the folder of the clone, to which no path of the person's is relative.
        let repository = match std::fs::canonicalize(repository) {
            Ok(path) => path.display().to_string(),
            Err(_) => repository.to_owned(),
        };
        let wiki = Self { context, git, repository, branch, folder };
        let mut arguments = vec!["clone", "--quiet", "--depth=1"];
        arguments.extend(branch.into_iter().flat_map(|branch| ["--branch", branch]));
        arguments.extend(["--", &wiki.repository, "."]);
        wiki.well(&arguments, "take the repository of the ledger").await?;
        Ok(wiki)
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Push what `change` makes of the files, which is called again upon what others have pushed first. Whether there was
    /// anything to push.
    ///
    /// # Errors
    /// Where the repository refuses it, others push all the time, or `change` fails.
    pub(super) async fn push(
        &self,
        message: &str,
        mut change: impl FnMut(&Path) -> Result<()>,
    ) -> Result<bool> {
        for _ in 0..TRIES {
            change(self.folder())?;
            self.well(&["add", "--all"], "look at the pages").await?;
            let differs = !self.git(&["diff", "--cached", "--quiet"]).await?.ended.success();
            if !differs {
                return Ok(false);
            }
            let commit = [&WRITER[..], &["commit", "--quiet", "--no-verify", "--message", message]].concat();
            self.well(&commit, "commit the pages").await?;
            let branch = self.branch().await?;
            let pushed =
                self.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]).await?;
            if pushed.ended.success() {
                return Ok(true);
            }
            let complaint = pushed.complaint();
            if !["non-fast-forward", "fetch first", "[rejected]", "cannot lock ref"]
                .iter()
                .any(|word| complaint.contains(word))
            {
                return Err(self.failed("push the ledger", &pushed).into());
            }
            self.well(&["fetch", "--quiet", "--depth=1", "origin", &branch], "fetch what others have pushed")
                .await?;
            self.well(&["reset", "--quiet", "--hard", "FETCH_HEAD"], "take what others have pushed").await?;
        }
        Err(Diagnostic::surroundings(format!("push the ledger: others have pushed {TRIES} times meanwhile"))
            .hint("let one job at a time write it")
            .into())
    }

    /// The branch that is written.
    async fn branch(&self) -> Result<String> {
        match self.branch {
            Some(branch) => Ok(branch.to_owned()),
            None => {
                let head =
                    self.well(&["symbolic-ref", "--short", "HEAD"], "see the branch of the ledger").await?;
                Ok(head.text().trim().to_owned())
            }
        }
    }

    async fn well(&self, arguments: &[&str], what: &str) -> Result<Output> {
        let output = self.git(arguments).await?;
        match output.ended.success() {
            true => Ok(output),
            false => Err(self.failed(what, &output).into()),
        }
    }

    async fn git(&self, arguments: &[&str]) -> Result<Output> {
        // A link among the pages would lead out of the folder, and a hook of somebody's template is no part of this.
        let safe = [
            "-c",
            "core.symlinks=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "credential.interactive=false",
        ];
        let mut program = Program::new(&self.git, TIME_LIMIT)
            .folder(self.folder())
            .arguments(safe)
            .arguments(arguments)
            .variable("PATH", self.context.environment.search_path())
            .variable("LC_ALL", "C")
            .variable("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .variable("GIT_ALLOW_PROTOCOL", "file:http:https:ssh");
        for (variable, value) in self.context.environment.of_git() {
            program = program.variable(variable, value);
        }
        let program = NOBODY.iter().fold(program, |program, (name, value)| program.variable(name, value));
        Ok(program.capture(SAID_BYTES).await?)
    }

    /// What Git complains of, without what lets somebody into the repository.
    fn failed(&self, what: &str, output: &Output) -> Diagnostic {
        let redactor = Redactor::new(secrets(&self.repository));
        let complaint = redactor.text(&output.complaint());
        let why = if output.ended.timed_out {
            format!("no answer within {} s", TIME_LIMIT.as_secs())
        } else {
            complaint
        };
        Diagnostic::surroundings(format!("{what}, {}", redactor.text(&self.repository)))
            .because(why)
            .hint("see whether it is there and you may write it: git push --dry-run")
    }
}
