//! Digests: the properties are in `src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polyarch::fuzzing::digest(data));
