//! Which platforms a machine runs: itself, and by the emulators that its kernel knows.

use std::collections::BTreeSet;
use std::path::Path;

use crate::oci::Platform;

/// Where Linux lists the foreign formats that it runs.
const FORMATS: &str = "/proc/sys/fs/binfmt_misc";

/// The platforms whose programs a machine of an architecture (as the kernel or Docker names it) runs itself.
///
/// Only what every such machine does: an arm64 machine may run 32-bit programs too, but many do not.
pub(crate) fn native(os: &str, architecture: &str) -> BTreeSet<Platform> {
    let platform = |architecture, variant| Platform::from_fields(os, architecture, variant);
    match architecture {
        "x86_64" | "amd64" => [platform("amd64", None), platform("386", None)].into(),
        "i386" | "i686" | "386" => [platform("386", None)].into(),
        "aarch64" | "arm64" => [platform("arm64", None)].into(),
        "armv7l" | "armv7" => [platform("arm", Some("v7")), platform("arm", Some("v6"))].into(),
        "armv6l" | "armv6" => [platform("arm", Some("v6"))].into(),
        "loongarch64" => [platform("loong64", None)].into(),
        other => [platform(other, None)].into(),
    }
}

/// What the kernel of this machine emulates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Emulated {
    /// Platforms whose programs run, in containers too.
    pub(crate) platforms: BTreeSet<Platform>,
    /// Platforms whose emulator is registered without the flag `F`, so that containers do not find it.
    pub(crate) outside_only: BTreeSet<Platform>,
}

/// What this machine emulates; nothing where that cannot be read.
pub(crate) fn of_this_machine() -> Emulated {
    let read = |name: &str| std::fs::read_to_string(Path::new(FORMATS).join(name)).unwrap_or_default();
    if read("status").trim() != "enabled" {
        return Emulated::default();
    }
    let names = std::fs::read_dir(FORMATS).into_iter().flatten().flatten();
    let entries: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "register" && name != "status")
        .map(|name| read(&name))
        .collect();
    of_entries(entries.iter().map(String::as_str))
}

/// A command of any POSIX shell that lists the formats of its machine, for [`of_list`].
pub(super) const LIST: &str = "cd /proc/sys/fs/binfmt_misc && [ \"$(cat status)\" = enabled ] && for entry in *; do case $entry in register | status) ;; *) echo \"---\"; cat \"$entry\" ;; esac; done; true";

/// What the machine emulates whose formats are listed.
pub(super) fn of_list(text: &str) -> Emulated {
    of_entries(text.split("---\n"))
}

/// What entries of `binfmt_misc` emulate.
fn of_entries<'t>(entries: impl IntoIterator<Item = &'t str>) -> Emulated {
    let mut emulated = Emulated::default();
    for entry in entries {
        let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let enabled = entry.lines().next() == Some("enabled");
        let Some(magic) = field("magic ").filter(|_| enabled && field("offset ") == Some("0")) else {
            continue;
        };
        let fixed = field("flags: ").is_some_and(|flags| flags.contains('F'));
        let found = if fixed { &mut emulated.platforms } else { &mut emulated.outside_only };
        found.extend(platforms_of_magic(magic));
    }
    emulated.outside_only = emulated.outside_only.difference(&emulated.platforms).cloned().collect();
    emulated
}

/// The platforms of an ELF header, given as hexadecimal digits. The names of entries differ from one
/// distribution to the next; what they match does not.
fn platforms_of_magic(magic: &str) -> Vec<Platform> {
    let byte = |at: usize| magic.get(2 * at..2 * at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    if !magic.starts_with("7f454c46") {
        return Vec::new();
    }
    let (Some(class), Some(order), Some(first), Some(second)) = (byte(4), byte(5), byte(18), byte(19)) else {
        return Vec::new();
    };
    let (wide, little) = (class == 2, order == 1);
    let machine =
        if little { u16::from_le_bytes([first, second]) } else { u16::from_be_bytes([first, second]) };
    let names: &[(&str, Option<&str>)] = match (machine, wide, little) {
        (3, false, true) => &[("386", None)],
        (8, false, true) => &[("mipsle", None)],
        (8, false, false) => &[("mips", None)],
        (8, true, true) => &[("mips64le", None)],
        (8, true, false) => &[("mips64", None)],
        (21, true, true) => &[("ppc64le", None)],
        (21, true, false) => &[("ppc64", None)],
        (22, true, false) => &[("s390x", None)],
        (40, false, true) => &[("arm", Some("v7")), ("arm", Some("v6"))],
        (62, true, true) => &[("amd64", None)],
        (183, true, true) => &[("arm64", None)],
        (243, true, true) => &[("riscv64", None)],
        (258, true, true) => &[("loong64", None)],
        _ => &[],
    };
    names
        .iter()
        .map(|(architecture, variant)| Platform::from_fields("linux", architecture, *variant))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: &str, flags: &str, magic: &str) -> String {
        format!(
            "{state}\ninterpreter /usr/libexec/qemu-binfmt/x\nflags: {flags}\noffset 0\nmagic {magic}\nmask ff\n"
        )
    }

    const ARM64: &str = "7f454c460201010000000000000000000200b700";
    const ARM: &str = "7f454c4601010100000000000000000002002800";
    const S390X: &str = "7f454c4602020100000000000000000000020016";

    fn shown(platforms: &BTreeSet<Platform>) -> String {
        platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn f_g7_emulators_count_where_containers_find_them() {
        let entries = [
            entry("enabled", "POCF", ARM64),
            entry("enabled", "PF", S390X),
            entry("enabled", "", ARM),
            entry("disabled", "PF", "7f454c460201010000000000000000000200f300"),
            entry("enabled", "PF", "504b0304"),
            "enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n".to_owned(),
        ];
        let found = of_entries(entries.iter().map(String::as_str));
        assert_eq!(shown(&found.platforms), "linux/arm64 linux/s390x");
        assert_eq!(shown(&found.outside_only), "linux/arm/v6 linux/arm/v7");
    }

    #[test]
    fn a_machine_runs_what_every_one_of_its_kind_does() {
        assert_eq!(shown(&native("linux", "x86_64")), "linux/386 linux/amd64");
        assert_eq!(shown(&native("linux", "aarch64")), "linux/arm64");
        assert_eq!(shown(&native("linux", "armv7l")), "linux/arm/v6 linux/arm/v7");
        assert_eq!(shown(&native("linux", "riscv64")), "linux/riscv64");
    }
}
