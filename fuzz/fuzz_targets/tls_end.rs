//! A client of TLS that says anything, in pieces of any size: no panic, and nothing is encrypted before the handshake is done.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tls::config::certificates::Certificates;
use tls::config::{self, Server};
use tls::end::{Choice, ServerEnd};
use wire::tls::{State, TlsEnd};

/// Without a certificate: the end gets as far as choosing one.
static CONFIG: LazyLock<Arc<rustls::ServerConfig>> = LazyLock::new(|| {
    let settings = Server::new(Arc::new(Certificates::new(Vec::new())));
    config::server(&settings).expect("the defaults are good").config
});

fuzz_target!(|data: &[u8]| {
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
});
