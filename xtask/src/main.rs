//! The project's own commands: test, bench, install.
#![forbid(unsafe_code)]

fn main() {}
