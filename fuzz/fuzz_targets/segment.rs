//! libFuzzer's way into `chronik_fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::segment::body(data));
