//! What the names of repositories point at, asked by the person's own Git, which nothing can make ask anybody back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::dockerfile::user_info;
use crate::engine::{Program, Redactor, find_all};
use crate::survey::Repositories;

use super::environment::Environment;

/// How long one repository may take to answer: a person waits for the plan.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// How many are asked at once.
const AT_ONCE: usize = 4;
/// How much of an answer is read, in bytes; only names that end as the wanted one are in it.
const ANSWER_BYTES: usize = 1 << 20;
/// How much of a complaint is shown, in characters.
const COMPLAINT: usize = 400;
/// What answers where Git or ssh would ask a person.
pub(super) const NOBODY: [(&str, &str); 5] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "false"),
    ("SSH_ASKPASS", "false"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GCM_INTERACTIVE", "never"),
];

/// Git as it is installed here.
pub(super) struct Git {
    search_path: OsString,
    variables: BTreeMap<OsString, OsString>,
    slots: Semaphore,
}

impl Git {
    /// With what of an environment it needs to find its settings, its keys and its way.
    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            search_path: environment.search_path(),
            variables: environment.of_git(),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    fn program(&self, repository: &str, name: Option<&str>) -> Result<Program, String> {
        let missing = || "it takes Git, and there is none on the PATH".to_owned();
        let path = find_all("git", &self.search_path).into_iter().next().ok_or_else(missing)?;
        let name = name.unwrap_or("HEAD");
        // Outside of any work tree, whose settings would count here and nowhere else.
        let mut program = Program::new(path, TIME_LIMIT)
            .folder("/")
            .arguments(["-c", "credential.interactive=false", "ls-remote", "--quiet", "--"])
            .arguments([repository, name, &format!("{name}^{{}}")])
            .variable("PATH", &self.search_path)
            .variable("LC_ALL", "C")
            .variable("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            // No helper that runs commands, no file of this machine: TM9.
            .variable("GIT_ALLOW_PROTOCOL", "http:https:git:ssh");
        for (variable, value) in &self.variables {
            program = program.variable(variable, value);
        }
        Ok(NOBODY.iter().fold(program, |program, (name, value)| program.variable(name, value)))
    }
}

#[async_trait]
impl Repositories for Git {
    async fn commit(&self, repository: &str, name: Option<&str>) -> Result<String, String> {
        let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
        let program = self.program(repository, name)?;
        let answered = program.capture(ANSWER_BYTES).await.map_err(|problem| problem.to_string())?;
        if answered.ended.timed_out {
            return Err(format!("no answer within {} s", TIME_LIMIT.as_secs()));
        }
        if !answered.ended.success() {
            let told = told(repository, &answered.complaint());
            return Err(format!("git ls-remote: {told} ({})", answered.ended));
        }
        let name = name.unwrap_or("HEAD");
        chosen(name, &answered.text()).ok_or_else(|| format!("it has no branch and no tag `{name}`"))
    }
}

/// What Git complains of, on one line, without what lets somebody into the repository.
fn told(repository: &str, complaint: &str) -> String {
    let told = Redactor::new(secrets(repository)).text(complaint);
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().take(COMPLAINT).collect()
}

/// What lets somebody in, of an address: user and password together, and each.
pub(super) fn secrets(repository: &str) -> Vec<&str> {
    let user = user_info(repository);
    user.into_iter().flat_map(|user| std::iter::once(user).chain(user.split(':'))).collect()
}

/// The commit that a name means among those that end with it, as a checkout takes it: the very name, else the branch, else
/// the tag and what it was put on.
fn chosen(name: &str, listed: &str) -> Option<String> {
    let listed: BTreeMap<&str, &str> = listed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(commit, name)| (name, commit))
        .collect();
    let within = |folder: &str| format!("{folder}{}", name.strip_prefix(folder).unwrap_or(name));
    let names = [within("refs/"), within("refs/heads/"), within("refs/tags/")];
    let whole = (name == "HEAD").then(|| "HEAD".to_owned());
    let found = whole.into_iter().chain(names).find_map(|name| {
        let behind = listed.get(&*format!("{name}^{{}}"));
        behind.or_else(|| listed.get(&*name)).map(|commit| (*commit).to_owned())
    });
    found.filter(|commit| crate::dockerfile::is_commit(commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_a_checkout_takes() {
        let commit = |digit: &str| digit.repeat(40);
        let listed = [
            ("1", "HEAD"),
            ("2", "refs/heads/main"),
            ("3", "refs/heads/other/main"),
            ("4", "refs/tags/main"),
            ("5", "refs/tags/v1"),
            ("6", "refs/tags/v1^{}"),
            ("7", "refs/tags/v1/v1"),
            ("8", "refs/pull/1/head"),
        ];
        let listed: String =
            listed.iter().map(|(digit, name)| format!("{}\t{name}\n", commit(digit))).collect();
        for (name, expected) in [
            ("HEAD", Some("1")),
            ("main", Some("2")),
            ("refs/heads/main", Some("2")),
            ("heads/main", Some("2")),
            ("refs/tags/main", Some("4")),
            ("v1", Some("6")),
            ("refs/tags/v1", Some("6")),
            ("refs/pull/1/head", Some("8")),
            ("pull/1/head", Some("8")),
            ("other", None),
            ("head", None),
        ] {
            assert_eq!(chosen(name, &listed), expected.map(commit), "{name}");
        }
        assert_eq!(chosen("main", "not a commit\trefs/heads/main\n"), None);
    }

    #[tokio::test]
    async fn tm9_no_address_makes_git_run_a_command_or_read_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let git = Git::new(&Environment::read());
        let run = format!("ext::touch {}", mark.display());
        let file = format!("file://{}", folder.path().display());
        let option = format!("--upload-pack=touch {}", mark.display());
        for (repository, why) in [(&run, "'ext' not allowed"), (&file, "'file' not allowed"), (&option, "")] {
            let refused = git.commit(repository, Some("main")).await.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn a_repository_that_is_not_there_is_told_without_the_password() {
        // Nobody is at that port.
        let port = 1;
        let git = Git::new(&Environment::read());
        let address = format!("http://somebody:secret-word@127.0.0.1:{port}/r.git");
        let told = git.commit(&address, None).await.unwrap_err();
        assert!(told.contains("git ls-remote: fatal: unable to access"), "{told}");
        let complaint = format!("fatal: no '{address}'\n\n  whose password is secret-word\n");
        let shown = format!("fatal: no 'http://***@127.0.0.1:{port}/r.git'; whose password is ***");
        assert_eq!(super::told(&address, &complaint), shown);
        assert!(!told.contains("secret-word"), "{told}");
    }
}
