//! `polyarch serve` as a program: who may write to what it serves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use polyarch::oci::Digest;
use reqwest::{Client, RequestBuilder};

/// The program, serving a folder. It ends with the test.
pub(super) struct Program {
    child: Child,
    pub(super) address: String,
    pub(super) client: Client,
}

impl Program {
    pub(super) fn start(store: &Path, arguments: &[&str]) -> Self {
        Self::of(command(store, arguments).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// With so many open files at the most, and anonymous writes.
    pub(super) fn start_with_files(store: &Path, files: u32) -> Self {
        let store = store.to_str().unwrap();
        let arguments = ["--store", store, "serve", "--listen", "127.0.0.1:0", "--anonymous-writes"];
        Self::of(super::limits::with_files(
            files,
            env!("CARGO_BIN_EXE_polyarch"),
            &arguments.map(str::to_owned),
        ))
    }

    fn of(mut child: Child) -> Self {
        let mut address = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut address).unwrap();
        let client =
            // A connection that is kept for the next request may be closed by the server just as that is sent.
            Client::builder().pool_max_idle_per_host(0).no_proxy().timeout(std::time::Duration::from_secs(120)).build().unwrap();
        assert!(!address.trim().is_empty(), "it says where it serves");
        Self { child, address: address.trim().to_owned(), client }
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// The status of pushing a small blob, and of reading it.
    async fn push(&self, repository: &str, login: Option<(&str, &str)>) -> (u16, u16) {
        let with = |request: RequestBuilder| match login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let digest = Digest::of(b"{}");
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let pushed = with(self.ask("POST", &path).body("{}")).send().await.unwrap();
        let read = with(self.ask("GET", &format!("/v2/{repository}/blobs/{digest}"))).send().await.unwrap();
        (pushed.status().as_u16(), read.status().as_u16())
    }

    /// Tell it to end; its exit code.
    pub(super) fn end(mut self) -> Option<i32> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Cut it off as a loss of power would.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program that is tested")]
fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_polyarch"))
}

fn command(store: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.env_clear().env("READER_WORD", "r").arg("--store").arg(store);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test]
async fn i_r5_without_an_option_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let program = Program::start(&store, &[]);
    assert_eq!(program.push("mine", None).await, (403, 404));
    assert_eq!(program.push("scopes/trusted", None).await, (403, 404));
    program.kill();
    let program = Program::start(&store, &["--anonymous-writes"]);
    assert_eq!(program.push("mine", None).await, (201, 200));
    assert_eq!(program.push("scopes/trusted", None).await, (403, 404), "records are spared");
}

#[tokio::test]
async fn i_r5_a_file_says_who_may_do_what() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = folder.path().join("access.toml");
    std::fs::write(folder.path().join("word"), "w\n").unwrap();
    let text = "[users.writer]\npassword-file = \"word\"\nwrite = [\"mine\"]\n\
        [users.reader]\npassword-variable = \"READER_WORD\"\nread = [\"mine\"]\n";
    std::fs::write(&file, text).unwrap();
    let program = Program::start(&store, &["--access", file.to_str().unwrap()]);
    assert_eq!(program.push("mine/a", Some(("writer", "w"))).await, (201, 200));
    assert_eq!(program.push("other", Some(("writer", "w"))).await, (403, 403));
    assert_eq!(program.push("mine/a", Some(("reader", "r"))).await, (403, 200));
    assert_eq!(program.push("mine/a", Some(("reader", "w"))).await, (401, 401));
    assert_eq!(program.push("mine/a", None).await, (401, 401));
}

#[test]
fn what_would_let_too_many_in_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.toml");
    std::fs::File::create(&empty).unwrap().flush().unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, code) in [
        (vec!["--access", empty], 2),
        (vec!["--access", "missing"], 2),
        (vec!["--anonymous-writes", "--user", "u", "--password-stdin"], 2),
        (vec!["--anonymous-writes", "--access", empty], 2),
        (vec!["--user", "u", "--password-stdin"], 2),
    ] {
        let status = command(&folder.path().join("store"), &arguments).stdout(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
    let mut wide = program();
    wide.env_clear().arg("--store").arg(folder.path().join("store"));
    wide.args(["serve", "--listen", "0.0.0.0:0", "--anonymous-writes"]).stdin(Stdio::null());
    assert_eq!(wide.output().unwrap().status.code(), Some(4), "beyond loopback without a password");
}
