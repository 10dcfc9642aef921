//! Measurements beside nginx in one run.
#![forbid(unsafe_code)]

fn main() {}
