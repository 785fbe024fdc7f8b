//! What a machine is found to have that images may need, as labels.

use std::collections::BTreeSet;

/// One GiB.
const GIB: u64 = 1 << 30;

/// The most memory that has a label, in GiB.
const MOST_MEMORY: u64 = 1 << 12;

/// `gpu`, and `memory-N` for every power of two up to the memory of the machine in GiB: an image that needs `memory-8` goes to
/// machines of 8 GiB and more. A kernel keeps some for itself, so that nine tenths count as the whole.
pub(super) fn found(memory_bytes: u64, has_gpu: bool) -> BTreeSet<String> {
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2)).take_while(|size| *size <= MOST_MEMORY);
    let fitting = sizes.filter(|size| size * (GIB / 10 * 9) <= memory_bytes);
    fitting.map(|size| format!("memory-{size}")).chain(has_gpu.then(|| "gpu".to_owned())).collect()
}

/// The other labels of a machine that has this one: one of 16 GiB has 8 too.
pub(crate) fn below(label: &str) -> impl Iterator<Item = String> + use<> {
    let size = label.strip_prefix("memory-").and_then(|size| size.parse::<u64>().ok());
    let whole = size.filter(|size| size.is_power_of_two() && *size <= MOST_MEMORY);
    found(whole.unwrap_or_default() * GIB, false).into_iter()
}

/// Whether a runtime or a device of this name gives containers a GPU.
pub(super) fn is_of_gpus(name: &str) -> bool {
    let kind = name.split('=').next().unwrap_or_default();
    kind.ends_with("/gpu") || kind == "nvidia" || kind == "amd"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_the_labels_of_all_sizes_up_to_its_own() {
        let of = |bytes, gpu| found(bytes, gpu).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(of(0, false), "");
        assert_eq!(of(8_100_000_000, true), "gpu memory-1 memory-2 memory-4 memory-8");
        assert_eq!(of(7_000_000_000, false), "memory-1 memory-2 memory-4");
        assert_eq!(of(u64::MAX, false).split(' ').count(), 13);
    }

    #[test]
    fn a_machine_of_some_size_has_the_labels_of_all_that_are_smaller() {
        for (label, expected) in [
            ("memory-8", "memory-1 memory-2 memory-4 memory-8"),
            ("memory-1", "memory-1"),
            ("memory-4096", &found(u64::MAX, false).into_iter().collect::<Vec<_>>().join(" ")),
            ("memory-12", ""),
            ("memory-8192", ""),
            ("memory-18446744073709551615", ""),
            ("memory-", ""),
            ("gpu", ""),
        ] {
            assert_eq!(below(label).collect::<Vec<_>>().join(" "), expected, "{label}");
        }
    }

    #[test]
    fn gpus_are_told_from_other_devices() {
        for (name, expected) in [
            ("nvidia", true),
            ("nvidia.com/gpu=0", true),
            ("amd.com/gpu=all", true),
            ("runc", false),
            ("io.containerd.runc.v2", false),
            ("vendor.com/net=gpu", false),
        ] {
            assert_eq!(is_of_gpus(name), expected, "{name}");
        }
    }
}
