//! libFuzzer's way into `chronik_fuzz::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::batch::body(data));
