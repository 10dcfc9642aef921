//! Upstreams behind TLS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::backend::Backend;
use super::{Files, OK, Seen, get, serve, serve_with};

/// An authority, a server's certificate for `backend.test`, a client's, and a list that revokes the server's.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    server: (Vec<u8>, KeyPair),
    client: (String, KeyPair),
}

impl Authority {
    fn new() -> Authority {
        Authority::named("an authority")
    }

    fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.serial_number = Some(SerialNumber::from(7));
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, client) = (issue("backend.test"), issue("client.test"));
        Authority { server: (server.0.der().to_vec(), server.1), client: (client.0.pem(), client.1), issuer }
    }

    fn config(&self) -> ServerConfig {
        self.config_for(false)
    }

    /// A server's configuration, perhaps one that wants a client's certificate.
    fn config_for(&self, clients: bool) -> ServerConfig {
        let chain = vec![self.server.0.clone().into()];
        let key = PrivateKeyDer::try_from(self.server.1.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(self.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        builder.with_single_cert(chain, key).unwrap()
    }

    fn files(&self) -> Files {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        let file = |name: &str, text: String| (PathBuf::from(name), text.into_bytes());
        vec![
            file("/test/ca.pem", self.issuer.pem()),
            file("/test/crl.pem", list.pem().unwrap()),
            file("/test/client.pem", self.client.0.clone()),
            file("/test/client.key", self.client.1.serialize_pem()),
        ]
    }
}

const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok";

/// A location that passes on over TLS with these lines.
fn location(lines: &str) -> String {
    format!("server {{ location / {{ proxy_pass https://127.0.0.1:PORT; {lines} }} }}")
}

/// One request: status and what the peer knows of the handshake; and the log.
#[track_caller]
fn check(authority: &Authority, lines: &str, expected: &str, log: &str) {
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE]]);
    let seen = serve_with(&location(lines), &backend, &[&get("/")], authority.files());
    let agreed = seen.received.first().cloned().unwrap_or_default();
    let got = match seen.answers[0].status {
        200 => format!("200 {agreed}"),
        status => status.to_string(),
    };
    assert_eq!(got, expected, "{lines}\n{}", seen.error_log);
    assert!(seen.error_log.contains(log), "{lines}\n{}", seen.error_log);
}

#[test]
fn requests_are_passed_on_over_tls() {
    let authority = Authority::new();
    let plain = "TLSv1_3 Full name=- certificates=0";
    check(&authority, "", &format!("200 {plain}"), "");
    check(&authority, "proxy_ssl_protocols TLSv1.2;", "200 TLSv1_2 Full name=- certificates=0", "");
    let named = "200 TLSv1_3 Full name=backend.test certificates=0";
    check(&authority, "proxy_ssl_server_name on; proxy_ssl_name backend.test;", named, "");
    check(&authority, "proxy_ssl_server_name on; proxy_ssl_name $arg_none;", &format!("200 {plain}"), "");
    check(&authority, "proxy_ssl_server_name on; proxy_ssl_name BACKEND.test:8443;", named, "");
    // An address is never sent as a name.
    check(&authority, "proxy_ssl_server_name on;", &format!("200 {plain}"), "");
    // What the file names and rustls lacks is left out.
    check(
        &authority,
        "proxy_ssl_ciphers DEFAULT; proxy_ssl_conf_command Options X;",
        &format!("200 {plain}"),
        "",
    );
    check(&authority, "proxy_ssl_certificate_cache max=9;", &format!("200 {plain}"), "");
}

#[test]
fn the_host_field_and_the_ports_are_https_ones() {
    let authority = Authority::new();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE]]);
    let lines = "upstream backend { server 127.0.0.1:PORT; } server { proxy_ssl_server_name on; \
                 location / { proxy_pass https://backend; } }";
    let seen = serve(lines, &backend, &[&get("/a?b")]);
    assert_eq!(seen.received[0], "TLSv1_3 Full name=backend certificates=0");
    assert!(seen.received[1].starts_with("GET /a?b HTTP/1.1\r\nHost: backend\r\n"), "{:?}", seen.received);
    for name in
        ["", "proxy_ssl_name $proxy_host;", "proxy_ssl_name $proxy_host; proxy_ssl_session_reuse off;"]
    {
        let config = format!(
            "upstream backend {{ server 127.0.0.1:PORT; }} server {{ location /default {{ \
             proxy_pass https://backend/; proxy_ssl_server_name on; {name} }} }}"
        );
        let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE]]);
        let seen = serve(&config, &backend, &[&get("/default")]);
        assert_eq!(seen.received[0], "TLSv1_3 Full name=backend certificates=0", "{name}");
    }
    let varies = "server { location / { set $to https://127.0.0.1:PORT; proxy_pass $to; } }";
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE]]);
    let seen = serve(varies, &backend, &[&get("/")]);
    assert_eq!(seen.answers[0].body, b"ok", "{}", seen.error_log);
}

#[test]
fn certificates_are_verified_when_asked_for() {
    let authority = Authority::new();
    let trust = "proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;";
    let all = format!("{trust} proxy_ssl_name backend.test;");
    check(&authority, &all, "200 TLSv1_3 Full name=- certificates=0", "");
    let mismatch = "upstream SSL certificate does not match \"other.test\" while SSL handshaking to upstream";
    check(&authority, &format!("{trust} proxy_ssl_name other.test;"), "502", mismatch);
    let stranger = Authority::named("a stranger");
    let backend = Backend::secure(Arc::new(stranger.config()), vec![vec![CLOSE]]);
    let seen = serve_with(&location(&all), &backend, &[&get("/")], authority.files());
    assert_eq!(seen.answers[0].status, 502);
    let why = "upstream SSL certificate verify error: (21:unable to verify the first certificate) while SSL";
    assert!(seen.error_log.contains(why), "{}", seen.error_log);
    let revoked = "upstream SSL certificate verify error: (23:certificate revoked) while SSL handshaking";
    check(&authority, &format!("{all} proxy_ssl_crl crl.pem;"), "502", revoked);
}

#[test]
fn a_certificate_is_shown() {
    let authority = Authority::new();
    let run = |lines: &str| {
        let backend = Backend::secure(Arc::new(authority.config_for(true)), vec![vec![CLOSE]]);
        serve_with(&location(lines), &backend, &[&get("/")], authority.files())
    };
    let seen = run("proxy_ssl_certificate client.pem; proxy_ssl_certificate_key client.key;");
    assert_eq!(seen.received.first().unwrap(), "TLSv1_3 Full name=- certificates=1", "{}", seen.error_log);
    assert_eq!(seen.answers[0].body, b"ok");
    let seen = run("");
    assert_eq!(seen.answers[0].status, 502);
    assert!(
        seen.error_log.contains(
            "SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert"
        ),
        "{}",
        seen.error_log
    );
    let seen = run("proxy_ssl_protocols TLSv1.2;");
    assert_eq!(seen.answers[0].status, 502);
    assert!(seen.error_log.contains("SSL_do_handshake() failed (SSL: "), "{}", seen.error_log);
}

#[test]
fn a_certificate_may_be_chosen_by_each_request() {
    let authority = Authority::new();
    let dir = std::env::temp_dir().join(format!("tidegate-proxy-ssl-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (path, text) in authority.files() {
        std::fs::write(dir.join(path.file_name().unwrap()), text).unwrap();
    }
    let lines = format!(
        "proxy_ssl_certificate {0}/$arg_c.pem; proxy_ssl_certificate_key {0}/$arg_c.key; \
         location /none {{ proxy_pass https://127.0.0.1:PORT; proxy_ssl_certificate $arg_c; \
         proxy_ssl_certificate_key $arg_c; }}",
        dir.display()
    );
    let run = |target: &str| {
        let backend = Backend::secure(Arc::new(authority.config_for(true)), vec![vec![CLOSE]]);
        serve(&location(&lines), &backend, &[&get(target)])
    };
    let seen = run("/?c=client");
    assert_eq!(seen.received.first().unwrap(), "TLSv1_3 Full name=- certificates=1", "{}", seen.error_log);
    let seen = run("/?c=nobody");
    assert_eq!(seen.answers[0].status, 500);
    assert!(seen.error_log.contains("cannot load certificate \""), "{}", seen.error_log);
    assert_eq!(run("/none").answers[0].status, 502);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Two requests, each on a new connection: how the second began.
fn second(lines: &str) -> String {
    let authority = Authority::new();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE], vec![CLOSE]]);
    let seen = serve(&location(lines), &backend, &[&get("/"), &get("/")]);
    let agreed: Vec<String> = seen.received.into_iter().filter(|line| line.starts_with("TLS")).collect();
    agreed.get(1).cloned().unwrap_or(seen.error_log)
}

#[test]
fn sessions_are_taken_up_again() {
    assert_eq!(second(""), "TLSv1_3 Resumed name=- certificates=0");
    assert_eq!(second("proxy_ssl_protocols TLSv1.2;"), "TLSv1_2 Resumed name=- certificates=0");
    assert_eq!(second("proxy_ssl_session_reuse off;"), "TLSv1_3 Full name=- certificates=0");
}

#[test]
fn connections_are_kept_by_name_and_settings() {
    let authority = Authority::new();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![OK, OK, OK], vec![OK], vec![OK]]);
    let config = "upstream u { server 127.0.0.1:PORT; keepalive 4; } server { proxy_ssl_server_name on; \
                  proxy_ssl_name $arg_name; location / { proxy_pass https://u; } \
                  location /v12 { proxy_pass https://u; proxy_ssl_protocols TLSv1.2; } }";
    let targets = ["/?name=a.test", "/?name=a.test", "/?name=b.test", "/?name=a.test", "/v12?name=a.test"];
    let requests: Vec<String> = targets.iter().map(|target| get(target)).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let seen = serve(config, &backend, &requests);
    assert!(seen.answers.iter().all(|answer| answer.body == b"ok"), "{}", seen.error_log);
    let agreed: Vec<&str> =
        seen.received.iter().map(String::as_str).filter(|line| line.starts_with("TLS")).collect();
    let expected = [
        "TLSv1_3 Full name=a.test certificates=0",
        "TLSv1_3 Full name=b.test certificates=0",
        "TLSv1_2 Full name=a.test certificates=0",
    ];
    assert_eq!(agreed, expected, "{:?}", seen.received);
}

#[test]
fn large_bodies_go_both_ways() {
    let authority = Authority::new();
    let body: &'static str = "0123456789abcdef".repeat(200_000).leak();
    let answer: &'static str =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).leak();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![answer]]);
    let request = format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let lines = "client_max_body_size 0; proxy_request_buffering off;";
    let seen = serve(&location(lines), &backend, &[&request]);
    assert_eq!(seen.answers[0].status, 200, "{}", seen.error_log);
    assert!(seen.answers[0].body == body.as_bytes());
    assert!(seen.received[1].ends_with(body));
}

/// A peer that answers the handshake with these bytes, and then closes or waits.
fn raw(reply: &'static [u8], closes: bool, lines: &str) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut hello = [0; 4096];
        let _ = socket.read(&mut hello);
        let _ = socket.write_all(reply);
        if !closes {
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    let nobody = Backend::new(Vec::new());
    let config = location(lines).replace("PORT", &port.to_string());
    serve(&config, &nobody, &[&get("/")])
}

#[test]
fn what_goes_wrong_in_a_handshake_is_told() {
    let row = |seen: Seen, status: u16, log: &str| {
        assert_eq!(seen.answers[0].status, status, "{}", seen.error_log);
        assert!(seen.error_log.contains(log), "{}", seen.error_log);
        assert!(seen.error_log.contains("upstream: \"https://127.0.0.1:"), "{}", seen.error_log);
    };
    let no_tls =
        "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL";
    row(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n", true, ""), 502, no_tls);
    let alert = "SSL_do_handshake() failed (SSL: error:0A000410:SSL routines::ssl/tls alert handshake failure:SSL \
                 alert number 40) while SSL handshaking to upstream";
    row(raw(b"\x15\x03\x03\x00\x02\x02\x28", true, ""), 502, alert);
    row(raw(b"", true, ""), 502, "peer closed connection in SSL handshake while SSL handshaking to upstream");
    row(raw(b"\x16\x03\x03\x01\x00\x02", true, ""), 502, "peer closed connection in SSL handshake");
    let late = "upstream timed out (110: Connection timed out) while SSL handshaking to upstream";
    row(raw(b"", false, "proxy_connect_timeout 300ms;"), 504, late);
}

#[test]
fn the_next_peer_is_tried() {
    let authority = Authority::new();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![CLOSE]]);
    let garbage = Backend::new(vec![vec!["no TLS\r\n\r\n"]]);
    // Answers only a whole request, so it is closed by the time out of connecting.
    let config = format!(
        "upstream u {{ server 127.0.0.1:{}; server 127.0.0.1:PORT backup; }} \
         server {{ location / {{ proxy_pass https://u; proxy_connect_timeout 500ms; }} }}",
        garbage.port
    );
    let seen = serve(&config, &backend, &[&get("/")]);
    assert_eq!(seen.answers[0].body, b"ok", "{}", seen.error_log);
}

#[test]
fn a_websocket_takes_its_tls_along() {
    const SWITCH: &str = "STAYHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let authority = Authority::new();
    let backend = Backend::secure(Arc::new(authority.config()), vec![vec![SWITCH]]);
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let seen = serve(&location(""), &backend, &[request]);
    assert_eq!((seen.answers[0].status, seen.answers[0].end), (101, "tunnel"), "{}", seen.error_log);
}

#[test]
fn the_defaults_need_no_warning() {
    let messages = http::testing::messages("location / { proxy_pass https://127.0.0.1; }", crate::MODULES);
    assert_eq!(messages, "");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let check = |lines: &str, expected: &str| {
        let text = format!("location / {{ proxy_pass https://127.0.0.1; {lines} }}");
        let messages = http::testing::messages(&text, crate::MODULES);
        assert!(messages.contains(expected), "{lines}: {messages}");
    };
    check("proxy_ssl_verify on;", "no proxy_ssl_trusted_certificate for proxy_ssl_verify");
    check(
        "proxy_ssl_certificate a.pem;",
        "no \"proxy_ssl_certificate_key\" is defined for certificate \"/test/a.pem\"",
    );
    check(
        "proxy_ssl_certificate a.pem; proxy_ssl_certificate_key a.key;",
        "cannot load certificate \"/test/a.pem\": BIO_new_file() failed",
    );
    check(
        "proxy_ssl_verify on; proxy_ssl_trusted_certificate none.pem;",
        "cannot load certificate \"/test/none.pem\": BIO_new_file() failed",
    );
    check(
        "proxy_ssl_certificate a.pem; proxy_ssl_certificate_key engine:x;",
        "\"engine:x\" is not supported in \"proxy_ssl_certificate_key\"",
    );
    check("proxy_ssl_protocols TLSv1.4;", "TLSv1.4");
    check("proxy_ssl_ciphers NONSENSE;", "SSL_CTX_set_cipher_list(\"NONSENSE\") failed");
    check("proxy_ssl_verify on; proxy_ssl_verify off;", "\"proxy_ssl_verify\" directive is duplicate");
}

/// A key update is the connection's own business, an end is not.
#[test]
fn a_kept_connection_answers_a_key_update_and_goes_with_its_peer() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream::PeerAddr::Tcp(listener.local_addr().unwrap());
    let (say, hear) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = std::sync::mpsc::channel::<()>();
    let config = Arc::new(authority.config());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        hear.recv().unwrap();
        tls.refresh_traffic_keys().unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut socket).unwrap();
        }
        answer.send(()).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        stream.write_all(&ping).unwrap();
        hear.recv().unwrap();
        tls.send_close_notify();
        tls.write_tls(&mut socket).unwrap();
        let _ = hear.recv();
    });
    let client = tls::config::client(tls::config::Client::default()).unwrap();
    reactor::Reactor::new().unwrap().run(&(), async {
        let connection = upstream::connect(&addr, &upstream::ConnectOptions::default()).await.unwrap();
        let end = tls::end::ClientEnd::new(client.config, "backend.test").unwrap();
        let connection = connection.secure(Box::new(end)).await.unwrap();
        let pool = upstream::Pool::new();
        reactor::spawn(pool.watch());
        let spec = upstream::KeepaliveSpec { connections: 1, ..upstream::KeepaliveSpec::default() };
        let key = upstream::PoolKey {
            upstream: "u".into(),
            addr,
            local: None,
            tls: 1,
            http: 11,
            proxy_header: false,
            location: None,
        };
        let now = std::time::Instant::now();
        pool.put(key.clone(), connection, &spec, now).unwrap();
        say.send(()).unwrap();
        until(|| answered.try_recv().is_ok()).await;
        let mut connection = pool.take(&key).expect("it is kept");
        connection.write_all(b"ping").await.unwrap();
        let mut pong = [0; 9];
        assert_eq!(connection.read(&mut pong).await.unwrap(), 4);
        assert_eq!((connection.counters.sent_bytes, connection.counters.received_bytes), (4, 4));
        pool.put(key, connection, &spec, now).unwrap();
        say.send(()).unwrap();
        until(|| pool.is_empty()).await;
    });
}

async fn until(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            reactor::sleep(Duration::from_millis(1)).await;
        }
    };
    reactor::timeout(Duration::from_secs(10), wait).await.expect("it happens in time");
}
