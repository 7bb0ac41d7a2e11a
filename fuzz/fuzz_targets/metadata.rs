//! libFuzzer's way into `chronik_fuzz::metadata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::metadata::body(data));
