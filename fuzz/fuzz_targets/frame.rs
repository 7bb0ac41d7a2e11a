//! libFuzzer's way into `chronik_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::frame::body(data));
