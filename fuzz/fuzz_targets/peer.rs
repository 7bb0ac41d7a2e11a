//! libFuzzer's way into `chronik_fuzz::peer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::peer::body(data));
