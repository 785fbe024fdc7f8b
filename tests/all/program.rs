//! The program as its user runs it: the real binary, an empty environment, folders of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

#[path = "lent.rs"]
mod lent;

pub(crate) use lent::{free_port, write_program};

/// A place to run the program in: a folder for the family, one for the store, one that is home.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, OsString>,
}

/// A program that goes on beside a test, and no longer.
pub(crate) struct Beside(pub(crate) Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program answered.
#[must_use = "look at the answer, or at least at its exit code"]
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    /// An empty place.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("polyarch-test-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("family")).expect("a folder for the family");
        std::fs::create_dir(folder.path().join("home")).expect("a folder that is home");
        let mut variables = BTreeMap::from([("PATH".to_owned(), variable("PATH").unwrap_or_default())]);
        variables.insert("HOME".to_owned(), folder.path().join("home").into());
        // The engines that tests have are as old as they are, and build for pull requests all the same.
        let engines = "docker,podman,buildah,ssh://west,ssh://east";
        variables.insert("POLYARCH_EPHEMERAL".to_owned(), engines.into());
        Self { folder, variables }
    }

    /// A place with these files of a family in it.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self::new();
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    /// The same with the environment of another place, but for the home.
    pub(crate) fn like(mut self, other: &Self) -> Self {
        let own = self.variables.get("HOME").cloned();
        self.variables = other.variables.clone();
        self.variables.extend(own.map(|home| ("HOME".to_owned(), home)));
        self
    }

    /// Set a variable of the environment.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Have programs without a daemon keep their images within the place.
    pub(crate) fn give_storage(&mut self) {
        let folder = self.folder().join("storage");
        std::fs::create_dir_all(&folder).expect("a folder for a storage");
        let configuration = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            folder.display()
        );
        let file = folder.join("storage.conf");
        std::fs::write(&file, configuration).expect("a configuration of a storage");
        self.set("CONTAINERS_STORAGE_CONF", file);
    }

    /// Have a script found before every other program of its name; its file.
    pub(crate) fn put_before(&mut self, name: &str, script: &str) -> PathBuf {
        let folder = self.folder().join("before");
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(name);
        write_program(&file, script);
        let mut path = folder.into_os_string();
        path.push(":");
        path.push(&self.variables["PATH"]);
        self.set("PATH", path);
        file
    }

    /// The folder of the family.
    pub(crate) fn family(&self) -> PathBuf {
        self.folder.path().join("family")
    }

    /// The folder of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The folder that holds all of it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Write a file of the family.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.family().join(path);
        std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("make a folder");
        std::fs::write(file, text).expect("write a file of the family");
    }

    /// Run the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().expect("run the program").into()
    }

    /// Begin to run the program.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        // Whoever runs tests under `nohup` ignores SIGHUP, and hands that on.
        let mut heeding = program("/usr/bin/env");
        heeding.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_polyarch")]);
        self.equipped(heeding, arguments).spawn().expect("start the program")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.equipped(program(env!("CARGO_BIN_EXE_polyarch")), arguments)
    }

    fn equipped(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.family());
        command.env("POLYARCH_STORE", self.store());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Another program, with the environment of this place.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env_clear().envs(&self.variables).current_dir(self.family()).stdin(Stdio::null());
        command
    }

    /// What another program prints, after it was seen that it ended well.
    #[track_caller]
    pub(crate) fn ask(&self, name: &str, arguments: &[&str]) -> String {
        let answer: Answer = self.program(name).args(arguments).output().expect("run a program").into();
        answer.well().stdout
    }

    /// The folder of the newest run.
    pub(crate) fn newest_run(&self) -> Option<PathBuf> {
        let runs = std::fs::read_dir(self.store().join("runs")).ok()?;
        runs.map(|run| run.expect("a run").path()).max()
    }

    /// The log of a job of the newest run, as in `leaf.linux-amd64`.
    #[track_caller]
    pub(crate) fn log(&self, job: &str) -> String {
        let log = self.newest_run().expect("a run").join(format!("logs/{job}.log"));
        std::fs::read_to_string(log).expect("the log of a job")
    }

    /// The events of the newest run.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let log = self.newest_run().expect("a run in the store").join("events.jsonl");
        let text = std::fs::read_to_string(log).expect("the log of the run");
        // Where the run goes on, the last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Answer {
    /// The same, after it was seen that all went well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        self.ended(0)
    }

    /// The same, after it was seen that the exit code is this one.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A program to be run by a test.
pub(crate) fn program(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    Command::new(name)
}

/// A variable of the test's own environment, where it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A figure for whoever runs a test by hand, with `--nocapture`.
#[expect(clippy::print_stdout, reason = "the test harness keeps it to itself otherwise")]
pub(crate) fn tell(figure: &str) {
    println!("{figure}");
}

/// Say that a test is skipped and why; with `CI=true` that is a failure.
#[track_caller]
pub(crate) fn skip(test: &str, why: &str) {
    assert!(variable("CI").is_none(), "{test} is skipped in CI: {why}");
    if let Some(file) = variable("POLYARCH_TEST_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(file).expect("the list of skips");
        writeln!(file, "{test}: {why}").expect("add to the list of skips");
    }
}
