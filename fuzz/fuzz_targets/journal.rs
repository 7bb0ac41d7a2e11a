//! libFuzzer's way into `chronik_fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::journal::body(data));
