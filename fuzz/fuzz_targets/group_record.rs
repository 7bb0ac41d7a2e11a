//! libFuzzer's way into `chronik_fuzz::group_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::group_record::body(data));
