//! libFuzzer's way into `chronik_fuzz::raft_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::raft_message::body(data));
