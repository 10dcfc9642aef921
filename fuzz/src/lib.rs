//! What must hold for any bytes, once for three users: the test `smoke` plays each target for a moment on every run of the
//! tests, `cargo xtask fuzz` for as long as one likes, and `fuzz/libfuzzer` under libFuzzer, which sees what code was reached.
//!
//! A target is a function that panics when something does not hold. It has examples of good input, and words that mean
//! something where it listens; both are changed at random.
#![forbid(unsafe_code)]

mod conf_parse;
mod modules_request;
mod play;
mod tls_certificate;
mod tls_end;
mod wire_frames;
mod wire_path;
mod wire_proxy_protocol;
mod wire_request;
mod wire_response;

pub use play::{Failure, Random, change, play};

/// A thing to try with any bytes.
pub struct Target {
    /// Its name, also that of its file here and of its program in `fuzz/libfuzzer`.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// What to put into them.
    pub words: &'static [&'static [u8]],
}

/// All targets, in the order of the rooms.
pub const TARGETS: [&Target; 9] = [
    &conf_parse::TARGET,
    &wire_request::TARGET,
    &wire_response::TARGET,
    &wire_path::TARGET,
    &wire_frames::TARGET,
    &wire_proxy_protocol::TARGET,
    &tls_end::TARGET,
    &tls_certificate::TARGET,
    &modules_request::TARGET,
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Tries an input with the target of that name.
pub fn run(name: &str, data: &[u8]) {
    (target(name).expect("a target of that name").run)(data);
}

/// Samples that are written down.
fn texts(all: &[&[u8]]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.to_vec()).collect()
}
