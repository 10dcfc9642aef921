//! The visitors that are made of Rust or of a command; the others are in `e2e/scripts`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs::default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
};
use serde_json::{Value, json};
use tidegate_e2e::programs::Dialogue;
use tidegate_e2e::raw::DEADLINE;
use tidegate_e2e::ws::{KEY, server_close};
use tungstenite::{Error, Message};

use super::site::Site;
use super::visit::Client;

/// A script that answers lines of JSON.
pub(crate) struct Scripted {
    dialogue: Dialogue,
    names_signatures: bool,
}

impl Scripted {
    /// Starts it.
    pub(crate) fn new(command: &mut Command) -> Scripted {
        Scripted { dialogue: Dialogue::start(command), names_signatures: false }
    }

    /// One that can say which signatures it takes.
    pub(crate) fn that_names_signatures(command: &mut Command) -> Scripted {
        Scripted { names_signatures: true, ..Scripted::new(command) }
    }
}

impl Client for Scripted {
    fn ask(&mut self, question: &Value) -> Value {
        self.dialogue.ask(question)
    }

    fn names_signatures(&self) -> bool {
        self.names_signatures
    }
}

/// tungstenite over rustls.
#[derive(Default)]
pub(crate) struct Tungstenite {
    /// Settings with the sessions that go with them.
    kept: Option<Arc<ClientConfig>>,
}

impl Client for Tungstenite {
    fn names_signatures(&self) -> bool {
        true
    }

    fn ask(&mut self, question: &Value) -> Value {
        let kept = self.kept.take().filter(|_| question["resume"] == true);
        let config = kept.unwrap_or_else(|| settings(question));
        let url = question["url"].as_str().expect("an address");
        let address = url.trim_start_matches("wss://").split('/').next().expect("a host");
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(config.clone(), name).expect("a client");
        let mut socket = match tungstenite::client(url, StreamOwned::new(tls, stream)) {
            Ok((socket, _)) => socket,
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                return json!({ "status": response.status().as_u16() });
            }
            Err(error) => return json!({ "status": error.to_string() }),
        };
        for size in [0, 1, 125, 126, 65_535, 65_536, 500_000] {
            let message = Message::binary(vec![size as u8; size]);
            socket.send(message.clone()).expect("an open tunnel");
            assert!(socket.read().expect("an echo") == message, "{size} bytes came back otherwise");
        }
        let chain = socket.get_ref().conn.peer_certificates().expect("a certificate");
        let name = tls::subject::subject(&chain[0]).expect("a subject");
        socket.close(None).expect("an open tunnel");
        while socket.read().is_ok() {}
        self.kept = Some(config);
        json!({ "status": 101, "name": name.trim_start_matches("CN=") })
    }
}

fn settings(question: &Value) -> Arc<ClientConfig> {
    let file = |name: &str| fs::read(question[name].as_str().expect("a file")).expect("a file");
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&file("ca")) {
        roots.add(root.expect("a certificate")).expect("an authority");
    }
    let mut provider = default_provider();
    if question["rsa"] == true {
        rsa_only(&mut provider);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder =
        builder.with_safe_default_protocol_versions().expect("protocols").with_root_certificates(roots);
    let config = match question["certificate"].is_null() {
        true => builder.with_no_client_auth(),
        false => {
            let chain = vec![CertificateDer::from_pem_slice(&file("certificate")).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(&file("key")).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Arc::new(config)
}

fn rsa_only(provider: &mut CryptoProvider) {
    let all = provider.signature_verification_algorithms;
    let rsa = |scheme: &SignatureScheme| format!("{scheme:?}").starts_with("RSA");
    let mapping: Vec<_> = all.mapping.iter().filter(|(scheme, _)| rsa(scheme)).copied().collect();
    provider.signature_verification_algorithms =
        WebPkiSupportedAlgorithms { all: all.all, mapping: Box::leak(mapping.into_boxed_slice()) };
}

/// curl, which has no frames of its own here: it shows the handshake and what follows it.
pub(crate) struct Curl;

impl Client for Curl {
    fn ask(&mut self, question: &Value) -> Value {
        let word = |name: &str| question[name].as_str();
        let url = word("url").expect("an address").replace("wss://", "https://");
        let mut curl = curl(word("ca").expect("an authority"));
        if let Some(certificate) = word("certificate") {
            curl.args(["--cert", certificate, "--key", word("key").expect("a key")]);
        }
        if question["rsa"] == true {
            curl.args(["--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"]);
        }
        if question["resume"] == true {
            // It keeps sessions for as long as it runs.
            curl.arg(url.replace("visit=", "before="));
        }
        let output = curl.arg(&url).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse::<u64>().ok());
        let answered = text.matches("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").count();
        let expected = if status != Some(101) { 0 } else { 1 + usize::from(question["resume"] == true) };
        assert_eq!(answered, expected, "{text}{}", String::from_utf8_lossy(&output.stderr));
        json!({ "status": status })
    }
}

/// It asks for tunnels, of servers of that authority's.
pub(crate) fn curl(authorities: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--no-buffer", "--max-time", "20", "--http1.1"]);
    for header in ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"] {
        curl.args(["--header", header]);
    }
    curl.args(["--header", &format!("Sec-WebSocket-Key: {KEY}"), "--cacert", authorities]);
    curl
}

/// A backend on the port `U` that answers every handshake with a Close and the end.
pub(crate) fn closes_at_once(site: &Site) {
    let listener = site.proxy.place.port("U").listen();
    let tls = site.to_tls().then(|| {
        let file = |name: &str| fs::read(site.file(name)).expect("a file");
        let chain = vec![CertificateDer::from_pem_slice(&file("backend.crt")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(&file("backend.key")).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("protocols");
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair"))
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
            match &tls {
                None => close_at_once(stream, |stream| stream.shutdown(std::net::Shutdown::Write).is_ok()),
                Some(tls) => {
                    let server = ServerConnection::new(tls.clone()).expect("a server");
                    close_at_once(StreamOwned::new(server, stream), |stream| {
                        stream.conn.send_close_notify();
                        stream.flush().is_ok()
                    });
                }
            }
        }
    });
}

fn close_at_once<S: Read + Write>(mut stream: S, end: impl Fn(&mut S) -> bool) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let answer = [accept.as_bytes(), &server_close(1000)].concat();
    if stream.write_all(&answer).is_ok() && end(&mut stream) {
        let _ = stream.read_to_end(&mut head);
    }
}
