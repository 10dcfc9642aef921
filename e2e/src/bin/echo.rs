//! An echo backend in a process of its own, so that a test can kill it: `echo PORT`.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use tidegate_e2e::ws;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()).expect("echo PORT");
    ws::serve(&TcpListener::bind(("127.0.0.1", port))?, &AtomicBool::new(false))
}
