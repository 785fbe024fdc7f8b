//! An ssh server of a test's own, behind which an engine stands that the test chooses: `ssh://own`.

use std::path::Path;
use std::process::Stdio;

use super::engines::wait_for;
use super::hosts::Hosts;
use crate::program::{Beside, Place, free_port, program, variable};

/// Have a place reach by `ssh://own` what listens at a socket; with more in the configuration of the server, which is in the
/// network of a host or, where none is named, of this machine. It ends with what this returns.
pub(super) fn serve(
    place: &mut Place,
    hosts: &Hosts,
    host: Option<&str>,
    socket: &Path,
    more: &str,
) -> Beside {
    let address = host.map_or_else(|| "127.0.0.1".to_owned(), |host| hosts.address(host));
    let port = free_port();
    let ssh = hosts.ssh_configuration();
    let key = |name: &str| ssh.with_file_name(name).display().to_string();
    let path = variable("PATH").unwrap_or_default();
    let server = format!(
        "ListenAddress {address}:{port}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nAuthenticationMethods publickey\n\
         PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nSetEnv DOCKER_HOST=unix://{} PATH={}\n{more}\n",
        key("host"),
        key("client.pub"),
        socket.display(),
        path.display()
    );
    let client = format!(
        "Host own\n HostName {address}\n Port {port}\n HostKeyAlias {}\n IdentityFile {}\nHost *\nInclude {}\n",
        hosts.address("west"),
        key("client"),
        ssh.display()
    );
    let file = |name: &str, text: &str| {
        let file = place.folder().join(name);
        std::fs::write(&file, text).expect("a configuration of ssh");
        file
    };
    let (server, client) = (file("sshd-own", &server), file("ssh-own", &client));
    let mut sshd = match host {
        Some(host) => {
            let mut there = program("nsenter");
            there.arg(format!("--net=/run/netns/polyarch-{host}")).arg("/usr/sbin/sshd");
            there
        }
        None => program("/usr/sbin/sshd"),
    };
    let sshd = sshd.arg("-D").arg("-f").arg(server).stderr(Stdio::null()).spawn().expect("an ssh server");
    hosts.give_ssh(place, &format!("-F {}", client.display()));
    wait_for("an ssh server", || {
        place.program("ssh").args(["own", "true"]).output().is_ok_and(|answer| answer.status.success())
    });
    Beside(sshd)
}
