//! `Range` and `Content-Range`, of requests and answers: the properties are in `src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polyarch::fuzzing::range(data));
