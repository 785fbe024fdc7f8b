//! Databases as managers write them, layers as engines stack them, and archives that mean harm.

use std::io::Write;

use proptest::prelude::*;

use super::layer::{LayerPackages, Scan};
use super::*;
use crate::oci::{Descriptor, MediaType, Memory, Repository, Store};

/// One entry of an archive, with any type flag.
pub(super) fn entry(path: &str, flag: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..path.len().min(100)].copy_from_slice(&path.as_bytes()[..path.len().min(100)]);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(bytes);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn file(path: &str, text: &str) -> Vec<u8> {
    entry(path, b'0', "", text.as_bytes())
}

pub(super) fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1024]].concat()
}

fn scan(bytes: &[u8]) -> std::io::Result<LayerPackages> {
    let mut scan = Scan::new();
    scan.write_all(bytes)?;
    scan.finish()
}

/// A layer with these files.
pub(crate) fn layer_of(files: &[(&str, &str)]) -> LayerPackages {
    layer(&files.iter().map(|(path, text)| file(path, text)).collect::<Vec<_>>())
}

fn layer(parts: &[Vec<u8>]) -> LayerPackages {
    scan(&ended(parts)).expect("a layer")
}

/// Every package as `manager name version` with what else is known.
fn listed(layers: &[LayerPackages]) -> Vec<String> {
    let image = ImagePackages::of(layers);
    let text = |package: &Package| {
        let Package { manager, name, version, qualifiers, license, .. } = package;
        let more: String = qualifiers.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        let license = license.as_ref().map(|license| format!(" ({license})")).unwrap_or_default();
        format!("{} {name} {version}{more}{license}", manager.name())
    };
    image.packages.keys().map(text).collect()
}

const STATUS: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.37-2+b5\n\
    Maintainer: A <a@example.org>\nDescription: shell\n Version: 9\n .\n more\n\n\
    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
    Package: held\nStatus: hold ok installed\nVersion: 1:2~rc1-3\n";

#[test]
fn databases_are_read_as_their_managers_write_them() {
    let apk = "C:Q1x=\nP:musl\nV:1.2.5-r9\nA:x86_64\nL:MIT\nU:https://musl.libc.org\nF:lib\nR:ld\n\nP:half\nA:x\n\n";
    let conda = r#"{"name":"numpy","version":"2.1","build":"py313_0","channel":"https://h/t/secret/conda-forge/linux-64",
        "subdir":"linux-64","license":"BSD-3-Clause","files":["a"],"noarch":null}"#;
    for (path, text, expected) in [
        ("var/lib/dpkg/status", STATUS, &["deb bash 5.2.37-2+b5 arch=amd64", "deb held 1:2~rc1-3"][..]),
        ("./var/lib/dpkg/status.d/base", "Package: base\nVersion: 12", &["deb base 12"]),
        ("var/lib/dpkg/status.d/base.md5sums", "Package: base\nVersion: 12", &[]),
        ("lib/apk/db/installed", apk, &["apk musl 1.2.5-r9 arch=x86_64 (MIT)"]),
        ("usr/lib/apk/db/installed", apk, &["apk musl 1.2.5-r9 arch=x86_64 (MIT)"]),
        (
            "opt/lib/python3.13/site-packages/Foo_Bar-1.dist-info/METADATA",
            "Metadata-Version: 2.4\r\nName: Foo_Bar\r\nVersion: 1\r\nLicense: UNKNOWN\r\nLicense-Expression: MIT\r\n\r\nName: x",
            &["pypi Foo_Bar 1 (MIT)"],
        ),
        ("usr/lib/python3/dist-packages/a.egg-info/PKG-INFO", "Name: a\nVersion: 2\n\nbody", &["pypi a 2"]),
        ("usr/lib/python3/dist-packages/b-3.egg-info", "Name: b\nVersion: 3\n", &["pypi b 3"]),
        (
            "opt/conda/conda-meta/numpy-2.1-py313_0.json",
            conda,
            &["conda numpy 2.1 build=py313_0 channel=conda-forge subdir=linux-64 (BSD-3-Clause)"],
        ),
        (
            "usr/lib/R/site-library/ggplot2/DESCRIPTION",
            "Package: ggplot2\nVersion: 3.5.1\nLicense: MIT + file LICENSE\nURL: https://a.example, https://b.example\n\
             Built: R 4.4.1; ; 2026-01-01 00:00:00 UTC; unix\n",
            &["cran ggplot2 3.5.1 (MIT + file LICENSE)"],
        ),
        ("src/ggplot2/DESCRIPTION", "Package: ggplot2\nVersion: 3.5.1\n", &[]),
        ("DESCRIPTION", "Package: a\nVersion: 1\nBuilt: R 4\n", &[]),
        (
            "usr/lib/node_modules/@scope/a/package.json",
            r#"{"name":"@scope/a","version":"1.2.3","license":{"type":"MIT"},"author":{"name":"B"},"homepage":7}"#,
            &["npm @scope/a 1.2.3 (MIT)"],
        ),
        ("node_modules/b/package.json", r#"{"name":"b","version":"1","license":"ISC"}"#, &["npm b 1 (ISC)"]),
        ("node_modules/b/lib/package.json", r#"{"name":"b","version":"1"}"#, &[]),
        ("node_modules/c/package.json", r#"{"type":"module"}"#, &[]),
        ("app/package.json", r#"{"name":"app","version":"1"}"#, &[]),
        ("conda-meta/broken.json", "{", &[]),
        ("srv/var/lib/dpkg/status", STATUS, &[]),
        ("opt/conda/conda-meta/history", conda, &[]),
        ("x/METADATA", "Name: a\nVersion: 2", &[]),
    ] {
        assert_eq!(listed(&[layer(&[file(path, text)])]), expected, "{path}");
    }
}

#[test]
fn what_a_layer_takes_away_or_replaces_counts_no_more() {
    let meta =
        |name: &str| file(&format!("py/{name}.dist-info/METADATA"), &format!("Name: {name}\nVersion: 1\n"));
    let lower = layer(&[meta("a"), meta("b"), file("var/lib/dpkg/status", STATUS)]);
    let both = ["pypi a 1", "pypi b 1"];
    for (what, upper, expected) in [
        ("nothing", vec![], &both[..]),
        ("a whiteout", vec![file("py/.wh.a.dist-info", "")], &both[1..]),
        ("of the file", vec![file("py/a.dist-info/.wh.METADATA", "")], &both[1..]),
        ("of the folder", vec![file(".wh.py", "")], &[]),
        ("of another", vec![file("py/.wh.a.dist-infoo", "")], &both),
        ("an opaque folder", vec![file("py/.wh..wh..opq", ""), meta("b")], &both[1..]),
        ("in the other order", vec![meta("b"), file("py/.wh..wh..opq", "")], &both[1..]),
        ("an opaque root", vec![file(".wh..wh..opq", "")], &[]),
        ("a link in its place", vec![entry("py", b'2', "elsewhere", b"")], &[]),
        (
            "a newer version",
            vec![file("py/a.dist-info/METADATA", "Name: a\nVersion: 2")],
            &["pypi a 2", "pypi b 1"],
        ),
    ] {
        let found = listed(&[lower.clone(), layer(&upper)]);
        let found: Vec<&String> = found.iter().filter(|found| found.starts_with("pypi")).collect();
        assert_eq!(found, expected, "{what}");
    }
    let newer =
        layer(&[file("var/lib/dpkg/status", "Package: c\nStatus: install ok installed\nVersion: 1\n")]);
    assert_eq!(listed(&[lower, newer]), ["deb c 1", "pypi a 1", "pypi b 1"]);
}

#[test]
fn long_names_links_and_large_files_are_understood() {
    let long = format!("{}/x.dist-info/METADATA", "d".repeat(150));
    let meta = "Name: x\nVersion: 1\n\n";
    let record = format!("path={long}\n");
    let length = (1..).find(|n| *n == record.len() + 1 + n.to_string().len()).expect("a length");
    let pax = format!("{length} {record}");
    for (what, parts) in [
        ("pax", vec![entry("PaxHeaders/x", b'x', "", pax.as_bytes()), file("short", meta)]),
        ("GNU", vec![entry("././@LongLink", b'L', "", format!("{long}\0").as_bytes()), file("short", meta)]),
        (
            "after a link",
            vec![
                file("p/x.dist-info/METADATA", meta),
                entry("q/y.dist-info/METADATA", b'1', "p/x.dist-info/METADATA", b""),
            ],
        ),
        ("with a long text", vec![file("x.dist-info/METADATA", &format!("{meta}{}", "z".repeat(1 << 20)))]),
    ] {
        assert_eq!(listed(&[layer(&parts)]), ["pypi x 1"], "{what}");
    }
    let link = layer(&[entry("q/y.dist-info/METADATA", b'1', "p/other", b"")]);
    assert_eq!(ImagePackages::of([&link]).unread.len(), 1, "what cannot be read is told");
    for unread in [
        "var/lib/rpm/Packages",
        "usr/lib/sysimage/rpm/Packages.db",
        "var/lib/rpm/rpmdb.sqlite",
        "var/lib/rpm/rpmdb.sqlite-wal",
    ] {
        let found = ImagePackages::of([&layer(&[file(unread, "x")])]);
        assert!(found.unread.contains_key(unread), "{unread}");
    }
    let system = layer(&[file("usr/lib/os-release", "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n")]);
    let expected = System { id: Some("debian".into()), version: Some("13".into()) };
    assert_eq!(ImagePackages::of([&system]).system, expected);
}

#[test]
fn tm13_archives_that_mean_harm_are_refused_or_passed_over() {
    let with = |at: usize, bytes: &[u8]| {
        let mut block = file("a", "");
        block[at..at + bytes.len()].copy_from_slice(bytes);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    };
    let numbered = |flag: u8, size: &[u8]| {
        let mut block = with(124, size);
        block[156] = flag;
        with_flag(block)
    };
    let mut renamed = file("a", "");
    renamed[0] = b'b';
    let (number, sum, middle) = ("a number that is none", "the sum of a header", "in the middle of an entry");
    let attributes = "an extended header cannot be read";
    for (what, bytes, reason) in [
        ("no archive", b"x".repeat(512), number),
        ("a wrong sum", renamed, sum),
        ("a negative size", with(124, &[0xff; 12]), number),
        ("a size that is no number", with(124, b"zzzzzzzzzzz\0"), number),
        ("an end within a file", file("a", &"x".repeat(600))[..600].to_vec(), middle),
        ("an end within a header", file("a", "")[..100].to_vec(), middle),
        ("a name of gigabytes", numbered(b'L', b"77777777777\0"), "a name has more than"),
        ("attributes of gigabytes", numbered(b'x', b"77777777777\0"), "a name has more than"),
        (
            "an attribute that is longer than all",
            entry("x", b'x', "", b"99999999999999999999 path=a\n"),
            attributes,
        ),
        ("an attribute without a length", entry("x", b'x', "", b"path=a\n"), attributes),
        ("a size below nothing", entry("x", b'x', "", b"18 size=-18446744\n"), attributes),
    ] {
        let error = scan(&bytes).expect_err(what);
        assert!(error.to_string().contains(reason), "{what}: {error}");
    }
    let outside = file("../../opt/a.dist-info/METADATA", "Name: a\nVersion: 1\n");
    assert_eq!(listed(&[layer(&[outside])]), [""; 0], "what leaves the root is nothing");
    let large =
        format!("Package: {}\nStatus: install ok installed\nVersion: 1\n", "x\u{1b}[2J".repeat(10_000));
    let found = ImagePackages::of([&layer(&[file("var/lib/dpkg/status", &large)])]);
    let name = &found.packages.keys().next().expect("a package").name;
    assert!(name.chars().count() <= TEXT_LIMIT && !name.contains('\u{1b}'));
}

/// What GNU tar lists of an archive, as paths count here; `None` where it refuses it.
fn listed_by_tar(file: &std::path::Path) -> Option<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "a test asks another reader")]
    let mut tar = std::process::Command::new("tar");
    tar.args(["--list", "--absolute-names", "--quoting-style=literal", "--file"])
        .arg(file)
        .env("LC_ALL", "C");
    let listed = tar.output().expect("tar is there");
    let text = String::from_utf8_lossy(&listed.stdout);
    let parts = text.lines().map(|line| line.split('/').filter(|part| !matches!(*part, "" | ".")));
    let paths = parts.map(|parts| parts.collect::<Vec<_>>()).filter(|parts| !parts.contains(&".."));
    listed.status.success().then(|| paths.map(|parts| parts.join("/")).collect())
}

#[test]
fn tm13_what_is_read_of_archives_is_what_gnu_tar_lists() {
    #[expect(clippy::disallowed_methods, reason = "a test asks another reader")]
    let version = std::process::Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|version| version.stdout.starts_with(b"tar (GNU tar)")) {
        return;
    }
    // Nothing at all is a layer for engines, and they pass over what a global header says of paths.
    const AS_ENGINES_READ: [&str; 2] = ["empty", "pax_global"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tar");
    let (mut same, mut other) = (0, Vec::new());
    for file in std::fs::read_dir(folder).expect("a corpus") {
        let file = file.expect("a file").path();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let ours = fuzzing::paths(&std::fs::read(&file).expect("an archive"));
        let theirs = listed_by_tar(&file);
        match ours == theirs || ours.is_none() || AS_ENGINES_READ.contains(&name.as_str()) {
            true => same += usize::from(ours.is_some()),
            false => other.push((name, ours, theirs)),
        }
    }
    assert!(other.is_empty(), "{other:#?}");
    assert!(same >= 25, "{same} archives are read");
}

fn with_flag(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// 256 MiB of nothing in a few hundred kilobytes, said to be a database: no more than the limit is held of it.
#[test]
fn a_compressed_bomb_is_bounded() {
    let size: u64 = 256 << 20;
    let mut header = file("var/lib/dpkg/status", "");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    let header = with_flag(header);
    let mut scan = Scan::new();
    scan.write_all(&header).expect("a header");
    let zeros = vec![0; 1 << 20];
    for _ in 0..256 {
        scan.write_all(&zeros).expect("passed over");
    }
    let found = ImagePackages::of([&scan.finish().expect("whole")]);
    assert!(found.packages.is_empty());
    assert!(found.unread["var/lib/dpkg/status"].contains("268435456 bytes"), "{:?}", found.unread);
}

#[tokio::test]
async fn every_compression_of_a_layer_says_the_same_and_a_broken_one_is_an_error() {
    let plain = ended(&[file("var/lib/dpkg/status", STATUS)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let zstd = zstd::bulk::compress(&plain, 1).expect("compressed");
    let (store, scope): (Memory, Repository) = (Memory::new(), "a/b".parse().expect("a name"));
    let mut all = Vec::new();
    for bytes in [plain.clone(), gzip.clone(), zstd, [gzip.clone(), Vec::new()].concat()] {
        let layer = Descriptor::of(MediaType::LAYER_GZIP, &bytes);
        store.write_blob(&scope, bytes.into()).await.expect("kept");
        let cache = Cache::default();
        all.push(cache.packages(&store, &scope, &[layer]).await.expect("read"));
    }
    assert_eq!(all[0].packages.len(), 2);
    assert!(all.iter().all(|one| *one == all[0]));
    for broken in [gzip[..gzip.len() / 2].to_vec(), plain[..700].to_vec(), b"abc".to_vec()] {
        let layer = Descriptor::of(MediaType::LAYER_GZIP, &broken);
        store.write_blob(&scope, broken.into()).await.expect("kept");
        assert!(Cache::default().packages(&store, &scope, &[layer]).await.is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = scan(&bytes);
    }

    #[test]
    fn any_change_of_an_archive_is_read_or_refused(at in 0_usize..2048, byte in any::<u8>()) {
        let mut bytes = ended(&[file("var/lib/dpkg/status", STATUS), file("a.dist-info/METADATA", "Name: a\nVersion: 1")]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = scan(&bytes);
    }

    #[test]
    fn how_an_archive_is_cut_into_pieces_changes_nothing(cuts in proptest::collection::vec(1_usize..700, 1..20)) {
        let entries = [file("x", &"y".repeat(700)), file("var/lib/dpkg/status", STATUS)];
        let bytes = ended(&entries);
        let mut scan = Scan::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.into_iter().cycle() {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            scan.write_all(piece).expect("read");
            rest = more;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(scan.finish().expect("whole"), layer(&entries));
    }
}
