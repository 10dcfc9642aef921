//! `fuzz/src/wire_proxy_protocol.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::run("wire_proxy_protocol", data));
