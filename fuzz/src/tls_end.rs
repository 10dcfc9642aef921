//! A client of TLS that says anything, in pieces of any size: no panic, and nothing is encrypted before the handshake is done.

use std::sync::{Arc, LazyLock};

use tls::config::certificates::Certificates;
use tls::config::{self, Server};
use tls::end::{Choice, ClientEnd, ServerEnd};
use wire::tls::{State, TlsEnd};

use crate::Target;

pub(crate) const TARGET: Target = Target { name: "tls_end", run, samples, words: WORDS };

/// Without a certificate: the end gets as far as choosing one.
static CONFIG: LazyLock<Arc<rustls::ServerConfig>> = LazyLock::new(|| {
    let settings = Server::new(Arc::new(Certificates::new(Vec::new())));
    config::server(&settings).expect("the defaults are good").config
});

fn run(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let mut end = ServerEnd::choosing(Box::new(|_| Choice::Serve(CONFIG.clone())));
    let (mut input, mut plain, mut reply) = (Vec::new(), Vec::new(), Vec::new());
    for part in bytes.chunks(usize::from(*piece).max(1)) {
        input.extend_from_slice(part);
        let Ok(done) = end.decrypt(&mut input, &mut plain, &mut reply) else { break };
        assert!(done.used <= input.len() && done.state == State::Handshake);
        input.drain(..done.used);
    }
    assert!(plain.is_empty() && end.encrypt(b"x", &mut reply).is_err());
}

/// What a client says first, whole or in pieces.
fn samples() -> Vec<Vec<u8>> {
    let settings =
        config::Client { send_name: true, alpn: vec![b"http/1.1".to_vec()], ..config::Client::default() };
    let client = config::client(settings).expect("the defaults are good").config;
    let mut end = ClientEnd::new(client, "a.test").expect("a name");
    let mut hello = Vec::new();
    end.decrypt(&mut Vec::new(), &mut Vec::new(), &mut hello).expect("nothing was received");
    assert!(!hello.is_empty());
    [0, 1, 100].map(|piece| [&[piece], &hello[..]].concat()).into()
}

const WORDS: &[&[u8]] = &[
    b"\x16\x03\x01",
    b"\x16\x03\x03\x00\x04",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"\x17\x03\x03\x40\x11",
    b"\x01\x00\x01\x00",
    b"\x00\x00",
    b"\x00\x01",
    b"\x03\x04",
    b"\xff\xff",
    b"\x00\x2b\x00\x03\x02",
    b"\x00\x33",
    b"\x00\x29",
    b"\x13\x01",
    b"\xff",
];
