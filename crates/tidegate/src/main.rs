//! A reverse proxy that runs your nginx.conf and is built around the connection that stays open.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tidegate::engine::house::House;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    ExitCode::from(tidegate::run(&HOUSE, &arguments))
}

/// The engine with every module there is.
static HOUSE: House = House { modules: modules::MODULES };
