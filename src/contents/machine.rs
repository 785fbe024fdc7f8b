//! Executables that are for another machine than the image says: what their ELF headers tell.
//!
//! A Dockerfile that fetches `tool-amd64` whatever it is built for builds well on every platform, and the image of all but
//! one of them has a program that cannot run. System V ABI, "ELF Header"; the numbers of machines are those of its registry.
//!
//! Programs and shared objects count, whatever their mode, wherever they are. These do not:
//!
//! | what | why |
//! |---|---|
//! | relocatable objects, cores | nobody runs them |
//! | code for what no platform is: graphics cards, BPF, firmware of controllers | it is not meant for the machine |
//! | 32-bit code of the same family: 386 on amd64 | the machine runs it |
//! | a path that names the machine, as `prebuilds/linux-arm64/a.node`, outside of `bin` and `sbin` | it is there on purpose, one of several |

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Error, Result};

use crate::oci::Platform;

use super::hidden::Hidden;
use super::tar::{Entry, EntryKind, Visitor};

/// How much of a file is looked at, in bytes: up to the machine.
const HEADER_BYTES: usize = 20;
/// How many executables of other machines a layer may have, and how many entries.
const FOREIGN_LIMIT: usize = 200_000;
const ENTRIES_LIMIT: usize = 4_000_000;
/// Types of files that are run: `ET_EXEC` and `ET_DYN`.
const RUN: [u16; 2] = [2, 3];

/// Which order the bytes of numbers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// What a machine is: its number, the width of addresses where that matters, its order of bytes, the name that platforms
/// have for it, and other words for it in paths.
type Known = (u16, Option<u8>, Order, &'static str, &'static [&'static str]);

const MACHINES: &[Known] = &[
    (62, None, Order::Little, "amd64", &["amd64", "x64"]),
    (3, Some(32), Order::Little, "386", &["386", "i386", "i486", "i586", "i686", "x86", "ia32"]),
    (183, Some(64), Order::Little, "arm64", &["arm64", "aarch64", "armv8"]),
    (
        40,
        Some(32),
        Order::Little,
        "arm",
        &["arm", "armhf", "armel", "armv5", "armv6", "armv7", "armv6l", "armv7l"],
    ),
    (21, Some(64), Order::Little, "ppc64le", &["ppc64le", "ppc64el", "powerpc64le"]),
    (21, Some(64), Order::Big, "ppc64", &["ppc64", "powerpc64"]),
    (22, Some(64), Order::Big, "s390x", &["s390x"]),
    (243, Some(64), Order::Little, "riscv64", &["riscv64", "riscv64gc"]),
    (258, Some(64), Order::Little, "loong64", &["loong64", "loongarch64"]),
    (8, Some(64), Order::Little, "mips64le", &["mips64le", "mips64el"]),
    (8, Some(64), Order::Big, "mips64", &["mips64"]),
    (8, Some(32), Order::Little, "mipsle", &["mipsle", "mipsel"]),
    (8, Some(32), Order::Big, "mips", &["mips"]),
];

/// The machine that an executable is for: one that some platform has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Machine(usize);

impl Machine {
    /// What the first bytes of a file say; `None` where it is no executable for a machine that platforms have.
    pub(crate) fn of(header: &[u8]) -> Option<Self> {
        let [0x7f, b'E', b'L', b'F', class, data, ..] = header else { return None };
        let order = match data {
            1 => Order::Little,
            2 => Order::Big,
            _ => return None,
        };
        let number = |at: usize| {
            let bytes: [u8; 2] = header.get(at..at + 2)?.try_into().ok()?;
            Some(match order {
                Order::Little => u16::from_le_bytes(bytes),
                Order::Big => u16::from_be_bytes(bytes),
            })
        };
        let bits = match class {
            1 => 32,
            2 => 64,
            _ => return None,
        };
        let (kind, machine) = (number(16)?, number(18)?);
        let fits = |known: &Known| {
            known.0 == machine && known.1.is_none_or(|wanted| wanted == bits) && known.2 == order
        };
        let found = MACHINES.iter().position(fits)?;
        RUN.contains(&kind).then_some(Self(found))
    }

    /// As platforms name it.
    fn name(self) -> &'static str {
        MACHINES[self.0].3
    }

    /// Whether a platform runs it. One that is not known runs everything, as does another system than Linux: nothing
    /// can be said of them.
    pub(crate) fn runs_on(self, platform: &Platform) -> bool {
        let known = MACHINES.iter().any(|(.., name, _)| *name == platform.architecture());
        let narrow = match platform.architecture() {
            "amd64" => Some("386"),
            "mips64le" => Some("mipsle"),
            "mips64" => Some("mips"),
            _ => None,
        };
        platform.os() != "linux"
            || !known
            || self.name() == platform.architecture()
            || narrow == Some(self.name())
    }

    /// Whether a path itself says that what is there is for this machine.
    fn is_named_in(self, path: &str) -> bool {
        let folder = path.rsplit('/').nth(1);
        if folder.is_some_and(|folder| matches!(folder, "bin" | "sbin")) {
            return false;
        }
        // Else it would be a word for 386 too.
        let path = path.to_ascii_lowercase().replace("x86_64", "amd64").replace("x86-64", "amd64");
        let is_edge = |edge: Option<char>| edge.is_none_or(|c| !c.is_ascii_alphanumeric());
        MACHINES[self.0].4.iter().any(|word| {
            path.match_indices(word).any(|(at, _)| {
                is_edge(path[..at].chars().next_back()) && is_edge(path[at + word.len()..].chars().next())
            })
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Executables by their paths, with the machines that they are for.
pub(crate) type Foreign = BTreeMap<String, Machine>;

/// Reads a layer for what in it is for other machines than a platform is.
#[derive(Debug)]
pub(super) struct Machines {
    platform: Platform,
    foreign: Foreign,
    hidden: Hidden,
    /// Every path that the layer writes, as a number: what was below it is no more.
    written: HashSet<u64>,
    /// The file whose bytes come, and the first of these.
    open: Option<(String, Vec<u8>)>,
}

impl Machines {
    pub(super) fn new(platform: &Platform) -> Self {
        Self {
            platform: platform.clone(),
            foreign: Foreign::new(),
            hidden: Hidden::default(),
            written: HashSet::new(),
            open: None,
        }
    }

    /// What is there with this layer on top of others.
    pub(super) fn upon(self, mut below: Foreign) -> Foreign {
        below.retain(|path, _| !self.hidden.has(path) && !self.replaces(path));
        below.extend(self.foreign);
        below
    }

    /// Whether the layer has something at a path of its own, or something that is no folder above it.
    fn replaces(&self, path: &str) -> bool {
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let here = [Place::Folder, Place::Other].map(|place| self.written.contains(&number(path, place)));
        here.contains(&true) || folders.any(|folder| self.written.contains(&number(folder, Place::Other)))
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Hash)]
enum Place {
    Folder,
    Other,
}

/// A path as a number: a layer may have a million of them.
fn number(path: &str, place: Place) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, place).hash(&mut hasher);
    hasher.finish()
}

impl Visitor for Machines {
    fn begin(&mut self, entry: Entry) -> Result<bool> {
        let Entry { path, kind, size } = entry;
        self.hidden.note(&path)?;
        let place = if kind == EntryKind::Folder { Place::Folder } else { Place::Other };
        self.written.insert(number(&path, place));
        // The last entry of a name is the one that counts.
        self.foreign.remove(&path);
        if self.written.len() > ENTRIES_LIMIT {
            return Err(Error::other(format!("the layer has more than {ENTRIES_LIMIT} files")));
        }
        match kind {
            EntryKind::File if size >= HEADER_BYTES as u64 => {
                self.open = Some((path, Vec::with_capacity(HEADER_BYTES)));
                return Ok(true);
            }
            EntryKind::HardLink(target) => {
                if let Some(machine) = self.foreign.get(&target).copied() {
                    self.foreign.insert(path, machine);
                }
            }
            EntryKind::File | EntryKind::Folder | EntryKind::Other => {}
        }
        Ok(false)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, header)) = &mut self.open {
            let room = HEADER_BYTES - header.len();
            header.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some((path, header)) = self.open.take() else { return Ok(()) };
        let Some(machine) = Machine::of(&header) else { return Ok(()) };
        if !machine.runs_on(&self.platform) && !machine.is_named_in(&path) {
            self.foreign.insert(path, machine);
        }
        match self.foreign.len() > FOREIGN_LIMIT {
            true => {
                Err(Error::other(format!("more than {FOREIGN_LIMIT} of its files are for other machines")))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::contents::tar::Archive;
    use crate::contents::tests::{ended, entry};

    /// The beginning of an ELF file.
    pub(crate) fn header(class: u8, data: u8, kind: u16, machine: u16) -> Vec<u8> {
        let number = |value: u16| if data == 2 { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut bytes = vec![0x7f, b'E', b'L', b'F', class, data, 1, 0];
        bytes.resize(16, 0);
        bytes.extend([number(kind), number(machine)].concat());
        bytes.resize(64, 0);
        bytes
    }

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    #[test]
    fn headers_say_which_platforms_run_a_file() {
        for (class, data, number, name, runs) in [
            (2, 1, 62, "amd64", &["linux/amd64"][..]),
            // x32: the same machine with short addresses.
            (1, 1, 62, "amd64", &["linux/amd64"]),
            (1, 1, 3, "386", &["linux/386", "linux/amd64"]),
            (2, 1, 183, "arm64", &["linux/arm64"]),
            (1, 1, 40, "arm", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"]),
            (2, 1, 21, "ppc64le", &["linux/ppc64le"]),
            (2, 2, 21, "ppc64", &[]),
            (2, 2, 22, "s390x", &["linux/s390x"]),
            (2, 1, 243, "riscv64", &["linux/riscv64"]),
            (2, 1, 258, "loong64", &["linux/loong64"]),
            (2, 1, 8, "mips64le", &["linux/mips64le"]),
            (1, 1, 8, "mipsle", &["linux/mips64le"]),
            (1, 2, 8, "mips", &[]),
        ] {
            for kind in [2, 3] {
                let machine = Machine::of(&header(class, data, kind, number)).expect(name);
                assert_eq!(machine.to_string(), name);
                for one in [
                    "linux/amd64",
                    "linux/386",
                    "linux/arm64",
                    "linux/arm/v5",
                    "linux/arm/v6",
                    "linux/arm/v7",
                    "linux/ppc64le",
                    "linux/s390x",
                    "linux/riscv64",
                    "linux/loong64",
                    "linux/mips64le",
                ] {
                    assert_eq!(machine.runs_on(&platform(one)), runs.contains(&one), "{name} on {one}");
                }
                assert!(
                    machine.runs_on(&platform("windows/amd64")) && machine.runs_on(&platform("linux/wasm"))
                );
            }
        }
    }

    #[test]
    fn what_nobody_runs_or_no_platform_is_does_not_count() {
        for (what, bytes) in [
            ("an object", header(2, 1, 1, 62)),
            ("a core", header(2, 1, 4, 62)),
            ("BPF", header(2, 1, 3, 247)),
            ("a graphics card", header(2, 1, 3, 224)),
            ("64 bits of what has 32", header(2, 1, 3, 40)),
            ("the other order", header(2, 2, 3, 183)),
            ("no class", header(0, 1, 3, 62)),
            ("no order", header(2, 0, 3, 62)),
            ("too short", header(2, 1, 3, 62)[..19].to_vec()),
            ("a script", b"#!/bin/sh\necho a long line of it".to_vec()),
        ] {
            assert_eq!(Machine::of(&bytes), None, "{what}");
        }
    }

    fn read(parts: &[Vec<u8>], platform: &Platform) -> Machines {
        let mut archive = Archive::new(Machines::new(platform));
        archive.write_all(&ended(parts)).expect("an archive");
        archive.finish().expect("an archive")
    }

    fn amd64(path: &str) -> Vec<u8> {
        entry(path, b'0', "", &header(2, 1, 3, 62))
    }

    fn arm64(path: &str) -> Vec<u8> {
        entry(path, b'0', "", &header(2, 1, 3, 183))
    }

    /// The foreign executables of an image for arm64.
    fn foreign(layers: &[Vec<Vec<u8>>]) -> Vec<String> {
        let found = layers
            .iter()
            .fold(Foreign::new(), |below, parts| read(parts, &platform("linux/arm64")).upon(below));
        found.into_keys().collect()
    }

    #[test]
    fn only_the_file_system_that_the_layers_end_in_counts() {
        let lower = || vec![amd64("usr/bin/gosu"), amd64("opt/a/tool"), arm64("usr/bin/env")];
        let both = ["opt/a/tool", "usr/bin/gosu"];
        let script = |path| entry(path, b'0', "", b"#!/bin/sh\necho this is longer than twenty bytes");
        for (what, upper, expected) in [
            ("nothing", vec![], &both[..]),
            ("the right one", vec![arm64("usr/bin/gosu")], &both[..1]),
            ("a script", vec![script("usr/bin/gosu")], &both[..1]),
            ("an empty file", vec![entry("usr/bin/gosu", b'0', "", b"")], &both[..1]),
            ("a link", vec![entry("usr/bin/gosu", b'2', "env", b"")], &both[..1]),
            ("a folder", vec![entry("usr/bin/gosu/", b'5', "", b"")], &both[..1]),
            ("the folder again", vec![entry("usr/bin/", b'5', "", b"")], &both),
            ("a file above", vec![entry("opt", b'0', "", b"x")], &both[1..]),
            ("a whiteout", vec![entry("usr/bin/.wh.gosu", b'0', "", b"")], &both[..1]),
            ("of a folder", vec![entry("opt/.wh.a", b'0', "", b"")], &both[1..]),
            ("an opaque folder", vec![entry("opt/.wh..wh..opq", b'0', "", b"")], &both[1..]),
            ("twice in one layer", vec![amd64("opt/a/tool"), arm64("opt/a/tool")], &both[1..]),
        ] {
            assert_eq!(foreign(&[lower(), upper]), expected, "{what}");
        }
        let linked = vec![amd64("a"), entry("b", b'1', "a", b"")];
        assert_eq!(foreign(&[linked]), ["a", "b"]);
    }

    #[test]
    fn a_path_that_names_the_machine_says_that_it_is_meant() {
        for (path, counts) in [
            ("usr/local/bin/gosu", true),
            ("app/server", true),
            ("opt/node-v20-linux-x64/bin/node", true),
            ("usr/local/bin/tini-amd64", true),
            ("srv/node_modules/a/prebuilds/linux-x64/node.napi.node", false),
            ("opt/pydevd/attach_linux_amd64.so", false),
            ("usr/x86_64-linux-gnu/lib/libc.so.6", false),
            ("opt/boxamd64er/tool", true),
            ("opt/linux-arm64/tool", true),
        ] {
            assert_eq!(foreign(&[vec![amd64(path)]]).len(), usize::from(counts), "{path}");
        }
    }

    #[test]
    fn a_path_that_names_one_machine_names_no_other() {
        let machine = |class, number| Machine::of(&header(class, 1, 3, number)).expect("a machine");
        for (path, amd64, i386) in
            [("a/x86_64/b.so", true, false), ("a/x86/b.so", false, true), ("a/b-X86-64.so", true, false)]
        {
            assert_eq!(machine(2, 62).is_named_in(path), amd64, "{path}");
            assert_eq!(machine(1, 3).is_named_in(path), i386, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Machine::of(&bytes);
            let elf = [b"\x7fELF".as_slice(), &bytes].concat();
            if let Some(machine) = Machine::of(&elf) {
                prop_assert!(elf.len() >= HEADER_BYTES);
                prop_assert!(machine.name().parse::<Platform>().is_ok());
            }
            let file = entry("usr/bin/a", b'0', "", &elf);
            prop_assert!(read(&[file], &platform("linux/arm64")).foreign.len() <= 1);
        }
    }
}
