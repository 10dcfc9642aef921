//! `fuzz/src/tls_certificate.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::run("tls_certificate", data));
