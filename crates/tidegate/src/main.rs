//! A reverse proxy that runs your nginx.conf and is built around the connection that stays open.
#![forbid(unsafe_code)]

<<<<<<< HEAD
mod demo;

/// Only the demo's backend for now: prints the configuration that belongs in front of it.
fn main() -> std::io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let backend = demo::Backend::start()?;
    let text = demo::config(&listen, &backend.addr().to_string());
    backend.publish(&text);
    eprint!("{}", demo::banner(&format!("http://{listen}/")));
    println!("{text}");
    loop {
        std::thread::park();
    }
=======
use std::process::ExitCode;

use tidegate::engine::plain::Plain;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    ExitCode::from(tidegate::run(&Plain, &arguments))
>>>>>>> process
}
