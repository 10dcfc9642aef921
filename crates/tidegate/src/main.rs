//! A reverse proxy that runs your nginx.conf and is built around the connection that stays open.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tidegate::engine::plain::Plain;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    ExitCode::from(tidegate::run(&Plain, &arguments))
}
