//! What must hold of everything from outside that is read here: the properties that the targets in `fuzz/` look for
//! counter-examples of, and that every build checks on what they have found so far (`fuzz/corpus/`).
//!
//! Each target is a function of arbitrary bytes that panics where a property does not hold. Compiled for tests and
//! for the feature `fuzzing` alone. What is about readers that are private to a module stands in its own `fuzzing`.

use crate::{contents, export};

pub use crate::oci::fuzzing::{
    challenge, digest, index, link, manifest, platform, range, reference, retry_after, router,
};

/// As much is unpacked of a bomb, in bytes.
const UNPACKED_LIMIT: usize = 4 << 20;

/// Archives of layers, as they are read for what is in an image.
pub fn tar(data: &[u8]) {
    contents::fuzzing::tar(data);
}

/// Layers, plain or compressed: they are the same however they come in pieces, and for all who unpack them here. No more
/// is unpacked than is asked for.
pub fn unpack(data: &[u8]) {
    let listed = contents::fuzzing::layer(data, usize::MAX, UNPACKED_LIMIT);
    let limit = UNPACKED_LIMIT as u64 + 1;
    let (packed, is_whole) = export::fuzzing::layer(data, usize::MAX, limit);
    assert!(packed.len() <= UNPACKED_LIMIT + 1);
    for piece in [1, 3, 700] {
        assert!(
            contents::fuzzing::layer(data, piece, UNPACKED_LIMIT) == listed,
            "in pieces of {piece} bytes"
        );
        let again = export::fuzzing::layer(data, piece, limit);
        assert!(again == (packed.clone(), is_whole), "in pieces of {piece} bytes");
    }
    let fits = is_whole && packed.len() <= UNPACKED_LIMIT;
    assert!(!fits || listed.as_ref() == Some(&packed), "a list of packages misses what is packed");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    type Target = fn(&[u8]);

    /// Every target by its name, which is also that of its corpus.
    const TARGETS: [(&str, Target); 12] = [
        ("reference", reference),
        ("digest", digest),
        ("platform", platform),
        ("manifest", manifest),
        ("index", index),
        ("challenge", challenge),
        ("range", range),
        ("retry_after", retry_after),
        ("link", link),
        ("router", router),
        ("tar", tar),
        ("unpack", unpack),
    ];

    /// A corpus stays small enough to be run by everybody.
    const FILES: usize = 300;
    const BYTES: u64 = 1 << 20;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// The names in a folder, without what stands after the first dot.
    fn names(folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a text"));
        names.map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn g6_what_fuzzing_found_is_run_again() {
        let (mut bytes, mut failed) = (0, Vec::new());
        for (name, target) in TARGETS {
            let folder = root().join("corpus").join(name);
            let mut files: Vec<PathBuf> =
                fs::read_dir(&folder).expect(name).map(|entry| entry.expect(name).path()).collect();
            files.sort();
            assert!((5..=FILES).contains(&files.len()), "{name}: {} files", files.len());
            for file in files {
                let data = fs::read(&file).expect("a file of a corpus");
                bytes += data.len() as u64;
                if std::panic::catch_unwind(|| target(&data)).is_err() {
                    failed.push(file);
                }
            }
        }
        assert!(failed.is_empty(), "these show that a property does not hold: {failed:#?}");
        assert!(bytes <= BYTES, "{bytes} bytes");
    }

    #[test]
    fn g6_every_target_has_a_program_and_a_corpus() {
        let named: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("corpus"), named);
        assert_eq!(names("fuzz_targets"), named);
        let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("its manifest");
        let listed = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let listed: BTreeSet<String> =
            listed.filter(|name| *name != "polyarch-fuzz").map(str::to_owned).collect();
        assert_eq!(listed, named);
        for name in &named {
            let program = root().join("fuzz_targets").join(format!("{name}.rs"));
            let text = fs::read_to_string(program).expect("a program");
            assert!(text.contains(&format!("polyarch::fuzzing::{name}(data)")), "{name}: {text}");
        }
    }
}
