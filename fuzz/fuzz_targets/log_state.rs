//! libFuzzer's way into `chronik_fuzz::log_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::log_state::body(data));
