//! The shape of the family that clients are compared with, for the tests and for the benchmark.

/// Image, parent, and the size of its two equal layers together, in MiB in the family itself.
pub(crate) const IMAGES: [(&str, Option<&str>, usize); 12] = [
    ("foundation", None, 40),
    ("base", Some("foundation"), 25),
    ("minimal", Some("base"), 20),
    ("r", Some("minimal"), 18),
    ("julia", Some("minimal"), 22),
    ("scipy", Some("minimal"), 30),
    ("tensorflow", Some("scipy"), 35),
    ("tf-cuda", Some("tensorflow"), 40),
    ("pytorch", Some("scipy"), 35),
    ("datascience", Some("scipy"), 28),
    ("pyspark", Some("scipy"), 24),
    ("all-spark", Some("pyspark"), 10),
];
