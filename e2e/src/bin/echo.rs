//! An echo backend in a process of its own, so that a test can kill it: `echo PORT`, or `echo PORT FILE` under TLS with
//! the certificate `FILE.crt` and the key `FILE.key`.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::{env, fs};

use tidegate_e2e::certificates::Pair;
use tidegate_e2e::{secure, ws};

fn main() -> std::io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse::<u16>().ok()).expect("echo PORT");
    let pair = env::args().nth(2).map(|file| {
        let read = |end| fs::read_to_string(format!("{file}.{end}"));
        Ok::<_, std::io::Error>(Pair { certificate: read("crt")?, key: read("key")? })
    });
    let tls = pair.transpose()?.map(|pair| secure::server(&pair, &secure::PROTOCOLS));
    ws::serve(&TcpListener::bind(("127.0.0.1", port))?, tls, &AtomicBool::new(false))
}
