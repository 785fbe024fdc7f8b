//! `WWW-Authenticate` of an answer: the properties are in `src/oci/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polyarch::oci::fuzzing::challenge(data));
