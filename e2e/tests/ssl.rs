//! What the `ssl` directives promise beyond a handshake: PROXY headers before it, certificates chosen at it, and what
//! variables say of it.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::DEADLINE;
use tls::config::{Client, Common};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A self-signed certificate of that name, and its key: PEM both.
fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// Writes `NAME.crt` and `NAME.key`.
fn write_pair(place: &Place, name: &str) {
    let (certificate, key) = certificate(name);
    place.dir.write(&format!("{name}.crt"), certificate.as_bytes());
    place.dir.write(&format!("{name}.key"), key.as_bytes());
}

/// A proxy with pairs of these names in its directory.
fn start(names: &[&str], http: &str) -> Proxy {
    let place = Place::new(&["PORT", "TLS", "U"]);
    names.iter().for_each(|name| write_pair(&place, name));
    let mut proxy = Proxy::start(Kind::Tidegate, place, &whole(&format!("{COMMON}{http}")));
    proxy.wait_listening("TLS");
    proxy
}

/// The port that tells when the proxy is up.
const COMMON: &str = "server { listen 127.0.0.1:%%PORT%%; return 204; }\n";

fn settings(protocol: &str) -> Client {
    let common = Common { protocols: vec![protocol.to_owned()], ..Common::default() };
    Client { common, send_name: true, reuse_sessions: true, ..Client::default() }
}

fn config(client: Client) -> Arc<ClientConfig> {
    tls::config::client(client).expect("settings").config
}

/// A handshake after `first` has been sent in the clear.
fn connect(address: SocketAddr, first: &[u8], name: &str, config: Arc<ClientConfig>) -> io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("a client");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(first)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The body of the answer to one request that closes the connection.
fn body(stream: &mut (impl Read + Write)) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned()))
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let shows = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port \
                 $proxy_protocol_tlv_alpn,$proxy_protocol_tlv_ssl_cn,$proxy_protocol_tlv_0x05 $remote_addr";
    let proxy = start(
        &["a"],
        &format!(
            "server {{ listen 127.0.0.1:%%TLS%% ssl proxy_protocol; ssl_certificate a.crt; ssl_certificate_key a.key;
                      return 200 '{shows}'; }}
             server {{ listen 127.0.0.1:%%U%% proxy_protocol; return 200 '{shows}'; }}"
        ),
    );
    let (tls, plain) = (proxy.place.port("TLS").address(), proxy.place.port("U").address());
    let ssl = [&[1, 0, 0, 0, 0][..], &[0x22, 0, 2], b"cn"].concat();
    let tlvs = [&[1, 0, 2][..], b"h2", &[5, 0, 2], b"id", &[0x20, 0, ssl.len() as u8], &ssl].concat();
    let ends = [&[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 0xbb][..], &tlvs].concat();
    let second = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &(ends.len() as u16).to_be_bytes(), &ends].concat();
    let rows: [(&[u8], &str); 4] = [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n", "192.0.2.1:5000 192.0.2.2:443 ,, 127.0.0.1"),
        (b"PROXY TCP6 2001:DB8::1 ::1 0 443\r\n", "2001:DB8::1: ::1:443 ,, 127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", ": : ,, 127.0.0.1"),
        (&second, "192.0.2.1:5000 192.0.2.2:443 h2,cn,id 127.0.0.1"),
    ];
    for (header, expected) in rows {
        let mut client = connect(tls, header, "a", config(settings("TLSv1.3"))).expect("a handshake");
        assert_eq!(body(&mut client).expect("an answer"), expected, "{}", header.escape_ascii());
        let mut client = TcpStream::connect(plain).expect("a connection");
        client.write_all(header).expect("an open connection");
        assert_eq!(body(&mut client).expect("an answer"), expected, "{}", header.escape_ascii());
    }
    // Without a header there is neither handshake nor answer.
    assert!(connect(tls, b"", "a", config(settings("TLSv1.3"))).is_err());
    let mut client = TcpStream::connect(plain).expect("a connection");
    assert!(body(&mut client).is_ok_and(|text| text.is_empty()) || client.read(&mut [0]).is_err());
}

/// The name in the certificate that is shown to who asks for `name`, or why there is none.
fn shown(proxy: &Proxy, name: &str, protocol: &str) -> Result<String, String> {
    let tls = connect(proxy.place.port("TLS").address(), b"", name, config(settings(protocol)))
        .map_err(|error| error.to_string())?;
    let chain = tls.conn.peer_certificates().expect("a certificate");
    Ok(tls::subject::subject(&chain[0]).expect("a subject"))
}

#[test]
fn certificates_are_chosen_by_name_at_the_handshake() {
    // The keys are for their owner alone: the process that serves could not read them.
    let place = Place::new(&["PORT", "TLS"]);
    for name in ["a.test", "b.test", "c.test"] {
        write_pair(&place, name);
        let key = place.dir.path().join(format!("{name}.key"));
        std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our file");
    }
    let (own, own_key) = certificate("own.test");
    let text = format!(
        "{COMMON}
         map $ssl_server_name $known {{ default ''; c.test $ssl_server_name; half.test test; }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; server_name a.test;
                   ssl_certificate $ssl_server_name.crt; ssl_certificate_key $ssl_server_name.key;
                   return 200 $ssl_server_name; }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; server_name c.test;
                   ssl_certificate %%DIR%%/$known.crt; ssl_certificate_key %%DIR%%/$known.key;
                   ssl_certificate_cache max=2 valid=1h; return 200 c; }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; server_name half.test;
                   ssl_certificate a.test.crt; ssl_certificate_key a.$known.key; return 200 half; }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; server_name own.test;
                   ssl_certificate 'data:{own}$known'; ssl_certificate_key 'data:{own_key}'; return 200 own; }}"
    );
    let config_text = whole(&text).replace("user root;", "user nobody root;");
    let mut proxy = Proxy::start(Kind::Tidegate, place, &config_text);
    proxy.wait_listening("TLS");
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let check = |name: &str, expected: &str| {
            assert_eq!(shown(&proxy, name, protocol).as_deref(), Ok(expected), "{name}");
        };
        check("a.test", "CN=a.test");
        // The default server's names vary with who asks, too.
        check("b.test", "CN=b.test");
        check("c.test", "CN=c.test");
        check("own.test", "CN=own.test");
        check("half.test", "CN=a.test");
        let error = shown(&proxy, "none.test", protocol).expect_err("no certificate");
        assert!(error.contains("InternalError"), "{error}");
    }
    let mut client = connect(proxy.place.port("TLS").address(), b"", "a.test", config(settings("TLSv1.3")))
        .expect("a handshake");
    assert_eq!(body(&mut client).expect("an answer"), "a.test");
    proxy.wait_for("the log to say why", |proxy| {
        let log = proxy.error_log();
        log.contains(
            "none.test.crt\": BIO_new_file() failed (SSL: error:80000002:system library::No such file",
        ) && log.contains("cert cb error")
    });
    // Without a cache a new file counts at once; a cached one is not looked at.
    for (from, to) in [("b.test", "a.test"), ("a.test", "c.test")] {
        for kind in ["crt", "key"] {
            let read =
                std::fs::read(proxy.place.dir.path().join(format!("{from}.{kind}"))).expect("our file");
            proxy.place.dir.write(&format!("{to}.{kind}"), &read);
        }
    }
    assert_eq!(shown(&proxy, "a.test", "TLSv1.3").as_deref(), Ok("CN=b.test"));
    assert_eq!(shown(&proxy, "c.test", "TLSv1.3").as_deref(), Ok("CN=c.test"));
}

/// Answers every question as openssl does, from an index of one good certificate, and counts them.
fn responder(dir: std::path::PathBuf) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).expect("a question");
                head.extend_from_slice(&piece[..count]);
            }
            let line = String::from_utf8_lossy(&head).into_owned();
            let path =
                line.split(' ').nth(1).expect("a path").strip_prefix("/ask/").expect("our path").to_owned();
            let text = path.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
            std::fs::write(dir.join("q.b64"), text + "\n").expect("our file");
            let run = |args: &str| {
                let output = Command::new("openssl")
                    .args(args.split(' '))
                    .current_dir(&dir)
                    .output()
                    .expect("openssl");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            };
            run("base64 -d -A -in q.b64 -out q.der");
            run(
                "ocsp -index index -CA ca.crt -rsigner ca.crt -rkey ca.key -reqin q.der -respout a.der -ndays 1",
            );
            let answer = std::fs::read(dir.join("a.der")).expect("our file");
            let head = format!(
                "HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            counts.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
        }
    });
    (port, asked)
}

/// Whether openssl, as a client that asks for it, gets an answer stapled that says "good".
fn is_stapled(address: SocketAddr) -> bool {
    let output = Command::new("openssl")
        .args(["s_client", "-status", "-servername", "a", "-connect", &address.to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl");
    String::from_utf8_lossy(&output.stdout).contains("Cert Status: good")
}

#[test]
fn an_answer_is_fetched_and_stapled() {
    let place = Place::new(&["PORT", "TLS", "U"]);
    let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut ca = CertificateParams::new(Vec::new()).expect("a name");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "ca");
    let mut leaf = CertificateParams::new(vec!["a".to_owned()]).expect("a name");
    leaf.serial_number = Some(0x1234.into());
    let ca_pem = ca.self_signed(&ca_key).expect("a certificate").pem();
    let leaf_pem =
        leaf.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).expect("a certificate").pem();
    let write = |name: &str, text: &str| place.dir.write(name, text.as_bytes());
    write("ca.crt", &ca_pem);
    write("ca.key", &ca_key.serialize_pem());
    write("a.crt", &format!("{leaf_pem}{ca_pem}"));
    write("a.key", &key.serialize_pem());
    write("index", "V\t401231235959Z\t\t1234\tunknown\t/CN=a\n");
    let (port, asked) = responder(place.dir.path().to_owned());
    let text = whole(&format!(
        "{COMMON}
         server {{ listen 127.0.0.1:%%TLS%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key;
                   ssl_stapling on; ssl_stapling_verify on; ssl_trusted_certificate ca.crt;
                   ssl_stapling_responder http://127.0.0.1:{port}/ask; return 204; }}
         server {{ listen 127.0.0.1:%%U%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key;
                   ssl_stapling on; ssl_stapling_responder http://127.0.0.1:1/; return 204; }}"
    ));
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text);
    proxy.wait_listening("TLS");
    let address = proxy.place.port("TLS").address();
    // The first handshake waits for nobody, and brings about the answer of a later one.
    assert!(!is_stapled(address));
    proxy.wait_for("an answer", |_| is_stapled(address));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // A responder that is not there costs a line of the log.
    assert!(!is_stapled(proxy.place.port("U").address()));
    proxy.wait_for("a complaint", |proxy| {
        proxy
            .error_log()
            .contains("while requesting certificate status, responder: 127.0.0.1, certificate: \"")
    });
    // A reload keeps what was fetched.
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for("the reload", |proxy| proxy.error_log().contains("generation 1 exited with code 0"));
    assert!(is_stapled(address));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn ticket_keys_are_rotated_by_reloads() {
    let http = |keys: &str| {
        whole(&format!(
            "{COMMON}
             server {{ listen 127.0.0.1:%%TLS%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; {keys}
                       return 200 $ssl_session_reused; }}"
        ))
    };
    let place = Place::new(&["PORT", "TLS"]);
    write_pair(&place, "a");
    for (name, byte) in [("one.key", 1), ("two.key", 2), ("three.key", 3)] {
        place.dir.write(name, &[byte; 80]);
    }
    let mut proxy = Proxy::start(Kind::Tidegate, place, &http("ssl_session_ticket_key one.key;"));
    proxy.wait_listening("TLS");
    let address = proxy.place.port("TLS").address();
    let clients = ["TLSv1.2", "TLSv1.3"].map(|protocol| config(settings(protocol)));
    let check = |expected: &str, when: &str| {
        for client in &clients {
            let mut tls = connect(address, b"", "a", client.clone()).expect("a handshake");
            assert_eq!(body(&mut tls).expect("an answer"), expected, "{when}");
        }
    };
    let mut generation = 0;
    let mut reload = |keys: &str| {
        generation += 1;
        proxy.rewrite(&http(keys));
        proxy.signal(rustix::process::Signal::HUP);
        let done = format!("generation {generation} exited with code 0");
        proxy.wait_for("the reload", |proxy| proxy.error_log().contains(&done));
    };
    check(".", "at first");
    check("r", "with the same key");
    reload("ssl_session_ticket_key two.key; ssl_session_ticket_key one.key;");
    check("r", "with the old key behind the new");
    reload("ssl_session_ticket_key two.key;");
    check("r", "the new key was in use already");
    reload("ssl_session_ticket_key three.key;");
    check(".", "with another key");
    reload("ssl_session_ticket_key three.key; ssl_session_tickets off;");
    check(".", "without tickets");
}

/// An authority of clients, and its key.
fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut ca = CertificateParams::new(Vec::new()).expect("a name");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, name);
    (ca, KeyPair::generate().expect("a key"))
}

/// A client with a certificate of that number.
fn client_of((ca, ca_key): &(CertificateParams, KeyPair), serial: u64) -> Arc<ClientConfig> {
    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(vec!["client".to_owned()]).expect("a name");
    leaf.serial_number = Some(serial.into());
    let pem = leaf.signed_by(&key, &rcgen::Issuer::from_params(ca, ca_key)).expect("a certificate").pem();
    let chain = tls::files::certificates("own", pem.as_bytes()).expect("a certificate");
    let key = tls::files::key("own", key.serialize_pem().as_bytes(), &[]).expect("a key");
    let pair = tls::files::pair("own", chain, "own", &key).expect("a pair");
    config(Client { certificate: Some(Arc::new(pair)), ..settings("TLSv1.3") })
}

#[test]
fn clients_are_asked_about() {
    let place = Place::new(&["PORT", "TLS", "U", "V"]);
    let authority = authority("ca");
    let (good, revoked, unknown) =
        (client_of(&authority, 0x1234), client_of(&authority, 0x1235), client_of(&authority, 0x1236));
    write_pair(&place, "a");
    let ca_pem = authority.0.self_signed(&authority.1).expect("a certificate").pem();
    place.dir.write("ca.crt", ca_pem.as_bytes());
    place.dir.write("ca.key", authority.1.serialize_pem().as_bytes());
    let index =
        "V\t401231235959Z\t\t1234\tunknown\t/CN=a\nR\t401231235959Z\t200101000000Z\t1235\tunknown\t/CN=b\n";
    place.dir.write("index", index.as_bytes());
    let (port, asked) = responder(place.dir.path().to_owned());
    let common = "ssl_certificate a.crt; ssl_certificate_key a.key; ssl_verify_client optional; ssl_client_certificate ca.crt;
                  error_page 495 = /bad; location / { return 200 $ssl_client_verify; }
                  location /bad { return 200 $ssl_client_verify; }";
    let text = whole(&format!(
        "{COMMON}
         server {{ listen 127.0.0.1:%%TLS%% ssl; ssl_ocsp on; ssl_ocsp_cache shared:ocsp:1m;
                   ssl_ocsp_responder http://127.0.0.1:{port}/ask; {common} }}
         server {{ listen 127.0.0.1:%%U%% ssl; ssl_ocsp leaf; ssl_ocsp_responder http://127.0.0.1:1/; {common} }}
         server {{ listen 127.0.0.1:%%V%% ssl; {common} }}
         server {{ listen 127.0.0.1:%%V%% ssl; server_name a; ssl_ocsp on; ssl_ocsp_cache shared:ocsp:1m;
                   ssl_ocsp_responder http://127.0.0.1:{port}/ask; {common} }}"
    ));
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text);
    proxy.wait_listening("TLS");
    let check = |port: &str, client: &Arc<ClientConfig>, expected: &str| {
        let address = proxy.place.port(port).address();
        let mut tls = connect(address, b"", "a", client.clone()).expect("a handshake");
        assert_eq!(body(&mut tls).expect("an answer"), expected);
    };
    for _ in 0..2 {
        check("TLS", &config(settings("TLSv1.3")), "NONE");
        check("TLS", &good, "SUCCESS");
        check("TLS", &revoked, "FAILED:certificate revoked");
        check("TLS", &unknown, "FAILED:certificate status unknown");
    }
    // The second time they were known.
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    check("U", &good, "FAILED:certificate status request failed");
    // Also by a server that only the request names, not the handshake.
    let nameless = |client: &Arc<ClientConfig>| {
        let mut client = ClientConfig::clone(client);
        client.enable_sni = false;
        Arc::new(client)
    };
    check("V", &nameless(&good), "SUCCESS");
    check("V", &nameless(&revoked), "FAILED:certificate revoked");
}

/// A request that comes with the ClientHello does not keep the handshake waiting for its answer.
#[test]
fn a_handshake_does_not_wait_for_early_datas_answer() {
    let proxy = start(
        &["a"],
        "server { listen 127.0.0.1:%%TLS%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key; ssl_early_data on;
                  location / { return 204; } location /slow { proxy_pass http://127.0.0.1:%%U%%; } }",
    );
    let backend = proxy.place.port("U").listen();
    let address = proxy.place.port("TLS").address();
    let mut client = ClientConfig::clone(&config(settings("TLSv1.3")));
    client.enable_early_data = true;
    let client = Arc::new(client);
    body(&mut connect(address, b"", "a", client.clone()).expect("a handshake")).expect("an answer");

    let name = ServerName::try_from("a").expect("a name");
    let mut connection = ClientConnection::new(client, name).expect("a client");
    let request = b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    connection.early_data().expect("a session that allows it").write_all(request).expect("room");
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello).expect("memory");
    }
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(&hello).expect("an open connection");
    let (mut asked, _) = backend.accept().expect("a connection");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).expect("a handshake while the upstream is silent");
    }
    assert!(connection.is_early_data_accepted());
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").expect("an open connection");
    let mut answer = String::new();
    StreamOwned::new(connection, stream).read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("slow"), "{answer}");
}

/// A connection outlives a reload; what its certificate was worth before does not.
#[test]
fn a_kept_connection_is_judged_by_the_new_authorities() {
    let place = Place::new(&["PORT", "TLS"]);
    write_pair(&place, "a");
    let (one, two) = (authority("one"), authority("two"));
    for (name, (ca, key)) in [("one.crt", &one), ("two.crt", &two)] {
        place.dir.write(name, ca.self_signed(key).expect("a certificate").pem().as_bytes());
    }
    let text = |ca: &str| {
        whole(&format!(
            "{COMMON}
             server {{ listen 127.0.0.1:%%TLS%% ssl; ssl_certificate a.crt; ssl_certificate_key a.key;
                       ssl_verify_client on; ssl_client_certificate {ca}.crt; return 200 $ssl_client_verify; }}"
        ))
    };
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text("one"));
    proxy.wait_listening("TLS");
    let mut kept =
        connect(proxy.place.port("TLS").address(), b"", "a", client_of(&one, 1)).expect("a handshake");
    first_answer(&mut kept, "SUCCESS");
    proxy.rewrite(&text("two"));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for("the reload", |proxy| proxy.error_log().contains("generation 1 exited with code 0"));
    let answer = body(&mut kept).expect("an answer");
    assert!(answer.contains("400 The SSL certificate error"), "{answer}");
}

/// A connection outlives a reload; what its listener asks for since then is asked of it, too.
#[test]
fn a_kept_connection_gives_what_its_listener_asks_for_now() {
    let place = Place::new(&["PORT", "U", "V", "TLS"]);
    write_pair(&place, "a");
    let text = |word: &str, first: &str, second: &str, third: &str| {
        whole(&format!(
            "{COMMON} ssl_certificate a.crt; ssl_certificate_key a.key;
             server {{ listen 127.0.0.1:%%U%% {first}; listen 127.0.0.1:%%V%% {second};
                       listen 127.0.0.1:%%TLS%% {third}; return 200 {word}$https; }}"
        ))
    };
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text("one", "", "", "ssl"));
    proxy.wait_listening("TLS");
    let plain = |port: &str| {
        let mut kept = TcpStream::connect(proxy.place.port(port).address()).expect("it listens");
        kept.set_read_timeout(Some(DEADLINE)).expect("a socket");
        first_answer(&mut kept, "one");
        kept
    };
    let (mut first, mut second) = (plain("U"), plain("V"));
    let mut third = connect(proxy.place.port("TLS").address(), b"", "a", config(settings("TLSv1.3")))
        .expect("a handshake");
    first_answer(&mut third, "oneon");
    proxy.rewrite(&text("two", "ssl", "proxy_protocol", ""));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for("the reload", |proxy| proxy.error_log().contains("generation 1 exited with code 0"));
    let answer = body(&mut first).expect("an answer");
    assert!(answer.contains("400 The plain HTTP request was sent to HTTPS port"), "{answer}");
    assert_eq!(body(&mut second).unwrap_or_default(), "");
    proxy.has_one_line(&["client has sent no PROXY header while reading client request headers"]);
    // Who gives more than it must goes on.
    assert_eq!(body(&mut third).expect("an answer"), "twoon");
}

/// The answer, which ends with these words, to a request that keeps the connection.
fn first_answer(stream: &mut (impl Read + Write), end: &str) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("an open connection");
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut piece = [0; 512];
        let count = stream.read(&mut piece).expect("an answer");
        assert_ne!(count, 0, "{}", bytes.escape_ascii());
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// While a configuration is loaded, which may take as long as a name server likes, certificates are still handed over.
#[test]
fn a_load_keeps_no_handshake_waiting() {
    let place = Place::new(&["PORT", "TLS"]);
    for name in ["a", "b"] {
        write_pair(&place, name);
    }
    let text = |rest: &str| {
        whole(&format!(
            "{COMMON} {rest}
             server {{ listen 127.0.0.1:%%TLS%% ssl; ssl_certificate %%DIR%%/$ssl_server_name.crt;
                       ssl_certificate_key %%DIR%%/$ssl_server_name.key; return 200 fine; }}"
        ))
    };
    let mut proxy = Proxy::start(Kind::Tidegate, place, &text(""));
    proxy.wait_listening("TLS");
    assert_eq!(shown(&proxy, "a", "TLSv1.3").as_deref(), Ok("CN=a"));
    // A file that is read when somebody writes it.
    let slow = proxy.place.dir.path().join("slow");
    assert!(Command::new("mkfifo").arg(&slow).status().expect("coreutils").success());
    proxy.rewrite(&text("include slow;"));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for("the load", |proxy| {
        proxy.lines_with("] reconfiguring") + proxy.lines_with(": reconfiguring") > 0
    });
    for name in ["b", "a", "b"] {
        assert_eq!(shown(&proxy, name, "TLSv1.3").as_deref(), Ok(format!("CN={name}").as_str()));
    }
    assert!(!proxy.error_log().contains("generation 1 exited"));
    std::fs::write(&slow, "# nothing\n").expect("somebody reads it");
    proxy.wait_for("the reload", |proxy| proxy.error_log().contains("generation 1 exited with code 0"));
    assert_eq!(shown(&proxy, "a", "TLSv1.3").as_deref(), Ok("CN=a"));
}
