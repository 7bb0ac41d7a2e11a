//! libFuzzer's way into `chronik_fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::message::body(data));
