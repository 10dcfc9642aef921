//! The project's own commands: test, bench, install, record, fuzz.
#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, ExitCode};

use xtask::{install, run, suite};

const HELP: &str =
    "cargo xtask test [--strict]   everything CI runs; --strict: what cannot be run is a failure
cargo xtask install           what the tests need and this machine lacks (Debian packages as root, PyPI, npm)
cargo xtask record [AREA...]  play the cases of e2e/cases with nginx again and write e2e/recorded
cargo xtask bench [ARGS...]   measurements beside nginx, see benches/
cargo xtask fuzz [ARGS...]    random input for what reads bytes from outside, see fuzz/";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("test") if rest.iter().all(|arg| arg == "--strict") => suite::run(!rest.is_empty()),
        Some("install") => install::run().is_empty(),
        Some("record") => cargo(&["run", "--quiet", "-p", "tidegate-e2e", "--bin", "record", "--"], rest),
        // With the debug assertions.
        Some("fuzz") => cargo(&["run", "--quiet", "-p", "tidegate-fuzz", "--"], rest),
        Some("bench") => cargo(&["run", "--release", "-p", "tidegate-benches", "--"], rest),
        _ => {
            eprintln!("{HELP}");
            false
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cargo(args: &[&str], rest: &[String]) -> bool {
    let mut command = Command::new(run::cargo());
    command.args(args).args(rest).current_dir(run::workspace());
    command.status().is_ok_and(|status| status.success())
}
