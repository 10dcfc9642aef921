//! Two ends against each other, and ends against rustls' buffered connections where a peer must do what an end never does.

use std::io::{Read, Write};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConnection, Error, RootCertStore, SupportedProtocolVersion};

use super::engine::holds_a_record;
use super::*;

mod hostile;

/// A certificate for `localhost` and configurations of both sides around it.
struct Site {
    server: ServerConfig,
    client: ClientConfig,
}

fn site(versions: &[&'static SupportedProtocolVersion]) -> Site {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let certificate = certified.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth();
    let client = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    Site {
        server: server.with_single_cert(vec![certificate], key).unwrap(),
        client: client.with_no_client_auth(),
    }
}

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// One side as a pump holds it.
struct Side {
    end: Box<dyn TlsEnd>,
    input: Vec<u8>,
    plain: Vec<u8>,
    wire: Vec<u8>,
}

impl Side {
    fn new(end: impl TlsEnd + 'static) -> Side {
        Side { end: Box::new(end), input: Vec::new(), plain: Vec::new(), wire: Vec::new() }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<State, TlsError> {
        self.input.extend_from_slice(bytes);
        let done = self.end.decrypt(&mut self.input, &mut self.plain, &mut self.wire)?;
        self.input.drain(..done.used);
        assert_eq!(done.state, self.end.state());
        assert!(
            !holds_a_record(&self.input) || done.state == State::PeerClosed || done.state == State::Handshake
        );
        Ok(done.state)
    }

    fn say(&mut self, plain: &[u8]) {
        self.end.encrypt(plain, &mut self.wire).unwrap();
    }
}

fn pair(site: Site) -> (Side, Side) {
    let config = Arc::new(site.server);
    let server = ServerEnd::choosing(Box::new(move |_| Choice::Serve(config)));
    let mut client = Side::new(ClientEnd::new(Arc::new(site.client), "localhost").unwrap());
    assert_eq!(client.receive(b""), Ok(State::Handshake));
    (client, Side::new(server))
}

/// Carries bytes both ways in pieces until both are silent.
fn run(a: &mut Side, b: &mut Side, piece: usize) {
    while !a.wire.is_empty() || !b.wire.is_empty() {
        for bytes in std::mem::take(&mut a.wire).chunks(piece) {
            b.receive(bytes).unwrap();
        }
        for bytes in std::mem::take(&mut b.wire).chunks(piece) {
            a.receive(bytes).unwrap();
        }
    }
}

/// From the first byte to the last, with bytes carried in pieces of `piece` and records of `record` bytes.
fn check(versions: &[&'static SupportedProtocolVersion], piece: usize, record: Option<usize>) {
    let mut site = site(versions);
    site.server.max_fragment_size = record;
    let (mut client, mut server) = pair(site);
    assert!(server.end.encrypt(b"too early", &mut Vec::new()).is_err());
    run(&mut client, &mut server, piece);
    assert_eq!((client.end.state(), server.end.state()), (State::Open, State::Open));

    let long: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
    for text in [&b"x"[..], &[7; 64], &long[..16_384], &long[..16_385], &long, b""] {
        let room = client.end.encrypted_bytes_max(text.len());
        client.say(text);
        assert!(client.wire.len() <= room, "{} > {room}", client.wire.len());
        server.say(text);
        run(&mut client, &mut server, piece);
        assert_eq!(std::mem::take(&mut server.plain), text);
        assert_eq!(std::mem::take(&mut client.plain), text);
        assert!(server.input.is_empty() && client.input.is_empty());
    }
    // Many small ones at once.
    (0..1000).for_each(|_| client.say(b"many"));
    run(&mut client, &mut server, piece);
    assert_eq!(std::mem::take(&mut server.plain), b"many".repeat(1000));

    // Half-closed: the other direction goes on.
    client.end.close(&mut client.wire).unwrap();
    let once = client.wire.len();
    client.end.close(&mut client.wire).unwrap();
    assert!(once > 0 && client.wire.len() == once);
    assert!(client.end.encrypt(b"x", &mut Vec::new()).is_err());
    run(&mut client, &mut server, piece);
    assert_eq!((client.end.state(), server.end.state()), (State::Open, State::PeerClosed));
    server.say(&long);
    run(&mut server, &mut client, piece);
    assert_eq!(client.plain, long);
    server.end.close(&mut server.wire).unwrap();
    run(&mut server, &mut client, piece);
    assert_eq!((client.end.state(), server.end.state()), (State::PeerClosed, State::PeerClosed));
}

#[test]
fn from_the_first_byte_to_the_last() {
    for versions in [TLS12, TLS13] {
        for piece in [1, 2, 7, 1000, usize::MAX] {
            check(versions, piece, None);
        }
        // Handshake messages of several records.
        for piece in [1, 50, usize::MAX] {
            check(versions, piece, Some(64));
        }
    }
}

#[test]
fn a_server_is_chosen_by_name() {
    let site = site(TLS13);
    let (server, client) = (Arc::new(site.server), Arc::new(site.client));
    let mut hello = Side::new(ClientEnd::new(client.clone(), "LocalHost").unwrap());
    hello.receive(b"").unwrap();
    let mut end = ServerEnd::choosing(Box::new(move |hello| {
        assert_eq!(hello.server_name, Some("localhost"));
        assert!(hello.ciphers.contains(&rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert!(hello.groups.contains(&rustls::NamedGroup::X25519));
        assert!(hello.alpn.is_empty());
        Choice::Serve(server)
    }));
    let (mut plain, mut reply) = (Vec::new(), Vec::new());
    let (first, _) = hello.wire.split_at(hello.wire.len() - 1);
    let part = end.decrypt(&mut first.to_vec(), &mut plain, &mut reply).unwrap();
    assert_eq!((part.used, part.state, end.facts(), reply.len()), (0, State::Handshake, None, 0));
    let all = end.decrypt(&mut hello.wire, &mut plain, &mut reply).unwrap();
    assert_eq!(all.used, hello.wire.len());
    assert_eq!(end.server_name(), Some("localhost"));
    let facts = end.facts().unwrap();
    assert_eq!((facts.protocol, facts.early, facts.resumed), ("TLSv1.3", true, false));

    let mut rejected = Side::new(ServerEnd::choosing(Box::new(|_| Choice::Reject)));
    let mut other = Side::new(ClientEnd::new(client, "localhost").unwrap());
    other.receive(b"").unwrap();
    assert_eq!(rejected.receive(&other.wire).unwrap_err().to_string(), "handshake rejected");
    let told = other.receive(&rejected.wire).unwrap_err();
    assert!(told.to_string().contains("tlsv1 unrecognized name"), "{told}");
    assert!(rejected.receive(b"again").is_err());
    assert!(ClientEnd::new(Arc::new(site_client()), "not a name").is_err());
}

fn site_client() -> ClientConfig {
    site(TLS13).client
}

#[test]
fn keys_are_updated() {
    let site = site(TLS13);
    let mut client =
        ClientConnection::new(Arc::new(site.client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut server = Side::new(ServerEnd::new(Arc::new(site.server)).unwrap());
    let exchange = |client: &mut ClientConnection, server: &mut Side| {
        loop {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.receive(&bytes).unwrap();
            let reply = std::mem::take(&mut server.wire);
            if bytes.is_empty() && reply.is_empty() {
                return;
            }
            let mut rest = &reply[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    };
    exchange(&mut client, &mut server);
    for round in 0..100u8 {
        client.writer().write_all(&[round; 3]).unwrap();
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[round; 5]).unwrap();
        exchange(&mut client, &mut server);
        assert_eq!(std::mem::take(&mut server.plain), [round; 8]);
        server.say(&[round; 9]);
        exchange(&mut client, &mut server);
        let mut heard = [0; 9];
        client.reader().read_exact(&mut heard).unwrap();
        assert_eq!(heard, [round; 9]);
    }
}

/// What a client sends to `server` up to the end of its first message, whole records only.
fn flights(versions: &[&'static SupportedProtocolVersion]) -> (Arc<ServerConfig>, Vec<Vec<u8>>) {
    let site = site(versions);
    let config = Arc::new(site.server);
    let mut server = Side::new(ServerEnd::new(config.clone()).unwrap());
    let mut client = Side::new(ClientEnd::new(Arc::new(site.client), "localhost").unwrap());
    client.receive(b"").unwrap();
    let mut sent = Vec::new();
    while !client.wire.is_empty() {
        sent.push(std::mem::take(&mut client.wire));
        server.receive(sent.last().unwrap()).unwrap();
        let reply = std::mem::take(&mut server.wire);
        client.receive(&reply).unwrap();
    }
    (config, sent)
}

#[test]
fn garbage_and_alerts_at_every_boundary() {
    const FATAL_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
    for versions in [TLS12, TLS13] {
        let (config, _) = flights(versions);
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            FATAL_ALERT,
            &[0; 32],
            &[255; 32],
            &[23, 3, 3, 255, 255, 0],
            &[22, 3, 3, 0, 4, 99, 255, 255, 255],
            &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0],
            &[20, 3, 3, 0, 1, 7],
        ] {
            // After as many whole flights of a client.
            for after in 0..3 {
                for choosing in [false, true] {
                    let config = config.clone();
                    let mut server = Side::new(match choosing {
                        false => ServerEnd::new(config).unwrap(),
                        true => ServerEnd::choosing(Box::new(move |_| Choice::Serve(config))),
                    });
                    let mut client =
                        Side::new(ClientEnd::new(Arc::new(site(versions).client), "localhost").unwrap());
                    client.end = lenient(versions);
                    client.receive(b"").unwrap();
                    for _ in 0..after {
                        server.receive(&std::mem::take(&mut client.wire)).unwrap();
                        client.receive(&std::mem::take(&mut server.wire)).unwrap();
                    }
                    server.wire.clear();
                    let mut result = Ok(State::Handshake);
                    for _ in 0..4000 {
                        result = server.receive(garbage);
                        if result.is_err() {
                            break;
                        }
                    }
                    let error = result.expect_err("garbage is an error");
                    let alert = server.wire.clone();
                    assert!(alert.is_empty() || alert[0] == 21 || alert[0] == 23, "{error}: {alert:?}");
                    // It stays an error, and nothing more is sent.
                    assert_eq!(server.receive(b""), Err(error));
                    assert_eq!(server.wire, alert);
                    assert!(server.end.encrypt(b"x", &mut Vec::new()).is_err());
                    let _ = server.end.close(&mut server.wire);
                    assert_eq!(server.wire, alert);
                }
            }
        }
    }
}

/// A client that trusts anybody.
fn lenient(versions: &[&'static SupportedProtocolVersion]) -> Box<dyn TlsEnd> {
    let config = ClientConfig::builder_with_protocol_versions(versions)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Box::new(ClientEnd::new(Arc::new(config), "localhost").unwrap())
}

#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn nothing_is_lost_when_a_message_is_cut() {
    for versions in [TLS12, TLS13] {
        let (mut client, mut server) = pair(site(versions));
        run(&mut client, &mut server, usize::MAX);
        client.say(b"first");
        client.say(b"second");
        let wire = std::mem::take(&mut client.wire);
        let second_at = wire.len() / 2;
        // A FIN after any byte: what was whole is there, and the state tells it was no orderly end.
        server.receive(&wire[..second_at]).unwrap();
        assert_eq!(server.plain, b"first");
        for byte in &wire[second_at..wire.len()] {
            assert!(server.plain.len() == 5);
            server.receive(&[*byte]).unwrap();
        }
        assert_eq!((&server.plain[..], server.end.state()), (&b"firstsecond"[..], State::Open));
    }
}

#[test]
fn it_can_talk_while_a_handshake_message_is_half_there() {
    // Tickets come after the handshake, here each in several records.
    let mut site = site(TLS13);
    site.server.max_fragment_size = Some(64);
    let (mut client, mut server) = pair(site);
    while client.end.state() == State::Handshake {
        server.receive(&std::mem::take(&mut client.wire)).unwrap();
        client.receive(&std::mem::take(&mut server.wire)).unwrap();
    }
    server.receive(&std::mem::take(&mut client.wire)).unwrap();
    let tickets = std::mem::take(&mut server.wire);
    assert!(tickets.len() > 200);
    for byte in tickets {
        client.receive(&[byte]).unwrap();
        client.say(b"x");
    }
    server.receive(&client.wire).unwrap();
    assert!(server.plain.iter().all(|byte| *byte == b'x'));
    server.say(b"heard");
    client.receive(&server.wire).unwrap();
    assert_eq!(client.plain, b"heard");
}

/// Where records begin.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([*high, *low])));
        found.push(record.to_vec());
        bytes = rest;
    }
    found
}

/// What may happen to a record on its way.
const HARM: [fn(&mut Vec<u8>); 7] = [
    |record| record.clear(),
    |record| record.extend_from_within(..),
    |record| record.truncate(record.len() - 1),
    |record| record.push(23),
    |record| record[0] ^= 1,
    |record| record[5..].iter_mut().take(1).for_each(|byte| *byte ^= 1),
    |record| record[5..].iter_mut().rev().take(1).for_each(|byte| *byte ^= 1),
];

/// A whole connection in which one record of one direction is harmed. What comes through must be the beginning of what was
/// said, and the end must not panic.
fn harmed(
    versions: &[&'static SupportedProtocolVersion],
    harm: fn(&mut Vec<u8>),
    at: usize,
    of_client: bool,
) -> bool {
    let (mut client, mut server) = pair(site(versions));
    let (mut count, mut met, mut said) = (0, false, false);
    loop {
        for from_client in [true, false] {
            let (from, to) =
                if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
            for mut record in records(&std::mem::take(&mut from.wire)) {
                if from_client == of_client {
                    if count == at {
                        met = true;
                        harm(&mut record);
                    }
                    count += 1;
                }
                if to.receive(&record).is_err() {
                    assert!(met, "an error before any harm");
                    assert!(to.receive(b"more").is_err() && b"first second".starts_with(&to.plain));
                    return true;
                }
            }
        }
        if client.wire.is_empty() && server.wire.is_empty() {
            if said || client.end.state() == State::Handshake || server.end.state() == State::Handshake {
                assert!(
                    b"first second".starts_with(&server.plain) && b"first second".starts_with(&client.plain)
                );
                return met;
            }
            said = true;
            for side in [&mut client, &mut server] {
                side.say(b"first ");
                side.say(b"second");
                side.end.close(&mut side.wire).unwrap();
            }
        }
    }
}

#[test]
fn harm_to_any_record() {
    for versions in [TLS12, TLS13] {
        for harm in HARM {
            for of_client in [false, true] {
                let most = (0..100).find(|at| !harmed(versions, harm, *at, of_client)).unwrap();
                assert!(most >= 5, "{most}");
            }
        }
    }
}

#[test]
fn early_data_that_is_not_wanted_is_passed_over() {
    let mut site = site(TLS13);
    site.server.max_early_data_size = 4000;
    site.client.enable_early_data = true;
    let (server, client) = (Arc::new(site.server), Arc::new(site.client));
    let name = || ServerName::try_from("localhost").unwrap();
    let exchange = |client: &mut ClientConnection, server: &mut Side, piece: usize| {
        loop {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            bytes.chunks(piece).for_each(|bytes| assert!(server.receive(bytes).is_ok()));
            let reply = std::mem::take(&mut server.wire);
            if bytes.is_empty() && reply.is_empty() {
                return;
            }
            let mut rest = &reply[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    };
    for piece in [1, 100, usize::MAX] {
        // A session, taken up twice: the second time it isn't known any more.
        let mut first = ClientConnection::new(client.clone(), name()).unwrap();
        let mut side = Side::new(ServerEnd::new(server.clone()).unwrap());
        exchange(&mut first, &mut side, piece);
        let mut second = ClientConnection::new(client.clone(), name()).unwrap();
        second.early_data().expect("a session").write_all(&[7; 3000]).unwrap();
        let mut hello = Vec::new();
        while second.wants_write() {
            second.write_tls(&mut hello).unwrap();
        }
        let mut side = Side::new(ServerEnd::new(server.clone()).unwrap());
        hello.chunks(piece).for_each(|bytes| assert!(side.receive(bytes).is_ok()));
        assert_eq!(side.plain, [7; 3000]);
        // The same bytes to another connection.
        let mut side = Side::new(ServerEnd::new(server.clone()).unwrap());
        hello.chunks(piece).for_each(|bytes| assert!(side.receive(bytes).is_ok()));
        assert!(side.plain.is_empty());
        let reply = std::mem::take(&mut side.wire);
        let mut rest = &reply[..];
        while !rest.is_empty() {
            second.read_tls(&mut rest).unwrap();
            second.process_new_packets().unwrap();
        }
        assert!(!second.is_early_data_accepted());
        exchange(&mut second, &mut side, piece);
        second.writer().write_all(b"late").unwrap();
        exchange(&mut second, &mut side, piece);
        assert_eq!((&side.plain[..], side.end.state()), (&b"late"[..], State::Open), "{piece}");
    }
}
