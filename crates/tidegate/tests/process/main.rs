//! The process model with real processes: start, signals, reload, crash, privileges, pid file.
//!
//! The program under test is this test program: called as `nginx` it is tidegate with the plain engine, so that these
//! scenarios depend on nothing but the process model. That needs a `main` of its own, hence no test harness; the
//! argument filters by name as usual.

use std::ffi::OsStr;
use std::panic;
use std::path::Path;
use std::process::exit;

use tidegate::engine::plain::Plain;

mod command_line;
mod life;
mod reload;
mod site;

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = Path::new(&arguments[0]).file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    if name == "nginx" || name.starts_with("tidegate: ") {
        exit(tidegate::run(&Plain, &arguments).into());
    }
    let filter = arguments[1..].iter().filter_map(|word| word.to_str()).find(|word| !word.starts_with('-'));
    let scenarios = [life::SCENARIOS, reload::SCENARIOS, command_line::SCENARIOS].concat();
    let chosen = scenarios.into_iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)));
    let failed: Vec<_> =
        chosen.filter(|(name, scenario)| !passes(name, *scenario)).map(|(name, _)| name).collect();
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        exit(1);
    }
}

fn passes(name: &str, scenario: fn()) -> bool {
    let passed = panic::catch_unwind(scenario).is_ok();
    println!("process::{name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}
