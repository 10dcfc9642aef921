//! Each target for a moment. `SEED` repeats a run, `ROUNDS` lengthens it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use tidegate_fuzz::{TARGETS, play, target};

const ROUNDS: u64 = 2000;
const SEED: u64 = 20_260_721;

fn check(name: &str) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("ROUNDS").unwrap_or(ROUNDS);
    let played = play(target(name).expect(name), number("SEED").unwrap_or(SEED), |round| round < rounds);
    if let Err(failure) = played {
        panic!("{name}: {failure}");
    }
}

#[test]
fn conf_parse() {
    check("conf_parse");
}

#[test]
fn wire_request() {
    check("wire_request");
}

#[test]
fn wire_response() {
    check("wire_response");
}

#[test]
fn wire_path() {
    check("wire_path");
}

#[test]
fn wire_frames() {
    check("wire_frames");
}

#[test]
fn wire_proxy_protocol() {
    check("wire_proxy_protocol");
}

#[test]
fn tls_end() {
    check("tls_end");
}

#[test]
fn tls_certificate() {
    check("tls_certificate");
}

#[test]
fn modules_request() {
    check("modules_request");
}

/// Nobody forgets one: each target has its program for libFuzzer, and its test above.
#[test]
fn every_target_has_its_users() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(folder.join("libfuzzer/Cargo.toml")).expect("its manifest");
    let tests = include_str!("smoke.rs");
    for target in TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/libfuzzer/Cargo.toml has no {name}");
        assert!(tests.contains(&format!("check(\"{name}\")")), "no test of {name}");
        let program = fs::read_to_string(folder.join(format!("libfuzzer/fuzz_targets/{name}.rs")));
        assert!(program.expect(name).contains(&format!("\"{name}\"")), "{name} plays another");
    }
}
