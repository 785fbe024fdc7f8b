//! `WWW-Authenticate` of an answer: the properties are in `src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polyarch::fuzzing::challenge(data));
