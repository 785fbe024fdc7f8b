//! What tests need of a machine that other threads and processes use too; those of the library have it as well.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Make a file a program that is this script, whatever it was before.
///
/// Another process writes it. What this one has open to write, whatever another thread starts at that moment has open as well
/// until it has become another program, and so long nobody can run it (ETXTBSY).
#[track_caller]
pub(crate) fn write_program(file: &Path, script: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test makes what a person would make by hand")]
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(file).stdin(Stdio::piped());
    let mut install = install.spawn().expect("run install");
    install.stdin.take().expect("its input").write_all(script.as_bytes()).expect("it reads the script");
    assert!(install.wait().expect("it ends").success(), "{}", file.display());
}

/// A port of loopback that nobody is at, for a program that takes none of the kernel's choosing. The kernel itself gives these
/// to nobody, as it does others all the time, to servers and to connections, until that program is there.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 61_000;
    const COUNT: u32 = 4_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(number % COUNT).expect("few");
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            return port;
        }
    }
}
