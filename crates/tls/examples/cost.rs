//! What TLS costs in processor time and memory, without sockets: `cargo run --release -p tidegate-tls --example cost`.
//!
//! Handshakes run a batch at a time, so that the server's share can be told from the client's. The time is the thread's own
//! on the processor.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use tidegate_tls::end::{Choice, ClientEnd, ServerEnd};
use wire::tls::{State, TlsEnd};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BATCH: usize = 2_000;

fn main() {
    // Memory is measured in a process of its own.
    if let Some(number) = std::env::args().nth(1).and_then(|number| number.parse::<usize>().ok()) {
        return idle(SUITES[number]);
    }
    println!("suite: us a handshake; us a message: encrypt 64, decrypt 64, encrypt 16k, decrypt 16k");
    SUITES.into_iter().for_each(measure);
    println!("suite: bytes an idle end keeps of Rust's heap, of the kernel's memory");
    let this = std::env::current_exe().expect("it runs");
    for number in 0..SUITES.len() {
        Command::new(&this).arg(number.to_string()).status().expect("it runs again");
    }
}

const SUITES: [SupportedCipherSuite; 5] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
];

/// Memory of the server's ends after their handshakes, their clients gone.
fn idle(suite: SupportedCipherSuite) {
    let (server, client) = configs(suite);
    let made = || {
        let mut pair = [(Side::server(server.clone()), Side::client(client.clone()))];
        shake(&mut pair, |_| ());
        let [(server, _client)] = pair;
        server
    };
    let mut ends = Vec::with_capacity(10 * BATCH);
    ends.extend((0..100).map(|_| made()));
    let (heap, pss) = (heap_bytes(), pss_bytes());
    ends.extend((0..10 * BATCH - 100).map(|_| made()));
    let count = ends.len() - 100;
    let (heap, pss) = ((heap_bytes() - heap) / count, (pss_bytes() - pss) / count - size_of::<Side>());
    println!("{:?}: {heap}, {pss}", suite.suite());
}

fn measure(suite: SupportedCipherSuite) {
    let (server, client) = configs(suite);
    let made = |count| -> Vec<(Side, Side)> {
        (0..count).map(|_| (Side::server(server.clone()), Side::client(client.clone()))).collect()
    };
    // Whatever is made once is made before anything is measured.
    shake(&mut made(10), |_| ());
    let mut pairs = made(BATCH);
    let mut handshake_ns = 0;
    shake(&mut pairs, |ns| handshake_ns += ns);
    drop(pairs);

    let mut pair = made(1);
    shake(&mut pair, |_| ());
    let (mut server, mut client) = pair.pop().expect("one was made");
    let small = messages(&mut server, &mut client, 64, 20_000);
    let large = messages(&mut server, &mut client, 16_384, 2_000);
    println!(
        "{:?}: {:.1}; {:.2}, {:.2}, {:.2}, {:.2}",
        suite.suite(),
        handshake_ns as f64 / BATCH as f64 / 1000.0,
        small.0,
        small.1,
        large.0,
        large.1,
    );
}

fn configs(suite: SupportedCipherSuite) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    provider.kx_groups = vec![kx_group::X25519];
    let provider = Arc::new(provider);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let certificate = certified.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[suite.version()])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[suite.version()])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    (Arc::new(server), Arc::new(client))
}

struct Side {
    end: Box<dyn TlsEnd>,
    input: Vec<u8>,
    wire: Vec<u8>,
}

impl Side {
    fn server(config: Arc<ServerConfig>) -> Side {
        Side::new(Box::new(ServerEnd::choosing(Box::new(move |_| Choice::Serve(config)))))
    }

    fn client(config: Arc<ClientConfig>) -> Side {
        let mut side = Side::new(Box::new(ClientEnd::new(config, "localhost").expect("a name")));
        side.read();
        side
    }

    fn new(end: Box<dyn TlsEnd>) -> Side {
        Side { end, input: Vec::new(), wire: Vec::new() }
    }

    fn read(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        let done = self.end.decrypt(&mut input, &mut Vec::new(), &mut self.wire).expect("no error");
        assert_eq!(done.used, input.len());
    }
}

/// Carries all pairs through their handshakes; tells how long each round of the servers took, in nanoseconds.
fn shake(pairs: &mut [(Side, Side)], mut took: impl FnMut(u64)) {
    while pairs.iter().any(|(server, client)| !server.wire.is_empty() || !client.wire.is_empty()) {
        for (server, client) in &mut *pairs {
            server.input = std::mem::take(&mut client.wire);
        }
        let start = cpu_ns();
        pairs.iter_mut().for_each(|(server, _)| server.read());
        took(cpu_ns() - start);
        for (server, client) in &mut *pairs {
            client.input = std::mem::take(&mut server.wire);
            client.read();
        }
    }
    assert!(
        pairs
            .iter()
            .all(|(server, client)| server.end.state() == State::Open && client.end.state() == State::Open)
    );
}

/// Microseconds to encrypt and to decrypt a message.
fn messages(server: &mut Side, client: &mut Side, bytes: usize, count: usize) -> (f64, f64) {
    let message = vec![7; bytes];
    let (mut out, mut plain, mut reply) = (Vec::new(), Vec::new(), Vec::new());
    let mut all = Vec::with_capacity(count * (bytes + 64));
    let (mut encrypt_ns, mut decrypt_ns) = (0, 0);
    for _ in 0..2 {
        // The first time warms up.
        all.clear();
        let start = cpu_ns();
        for _ in 0..count {
            out.clear();
            client.end.encrypt(&message, &mut out).expect("open");
            all.extend_from_slice(&out);
        }
        encrypt_ns = cpu_ns() - start;
        let record = out.len();
        let start = cpu_ns();
        for input in all.chunks_mut(record) {
            plain.clear();
            server.end.decrypt(input, &mut plain, &mut reply).expect("no error");
            assert_eq!(plain.len(), bytes);
        }
        decrypt_ns = cpu_ns() - start;
    }
    (encrypt_ns as f64 / count as f64 / 1000.0, decrypt_ns as f64 / count as f64 / 1000.0)
}

fn heap_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Time this thread has had on a processor.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Memory of this process as the kernel counts it.
fn pss_bytes() -> usize {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
    let kilobytes: usize =
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    kilobytes * 1024
}
