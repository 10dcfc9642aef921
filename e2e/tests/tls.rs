//! TLS at the front: handshakes good and bad, requests, tunnels, and certificates that a reload replaces.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tidegate_e2e::places;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, Socket};
use tidegate_e2e::ws::{client_frame, handshake, server_frame};
use tls::config::{Client, Common};
use tungstenite::{Message, WebSocket, accept};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A self-signed certificate of that name, also good for 127.0.0.1, and its key: PEM both.
fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// Writes `NAME.crt` and `NAME.key` for a name; the file's name may differ from the certificate's.
fn write_pair(place: &Place, file: &str, name: &str) {
    let (certificate, key) = certificate(name);
    place.dir.write(&format!("{file}.crt"), certificate.as_bytes());
    place.dir.write(&format!("{file}.key"), key.as_bytes());
}

/// `%%PAIR:NAME%%` in an `http` text becomes the directives for that pair.
fn start(names: &[&str], http: &str) -> Proxy {
    let place = Place::new(&["PORT", "TLS", "U"]);
    names.iter().for_each(|name| write_pair(&place, name, name));
    let mut proxy = Proxy::start(Kind::Tidegate, place, &whole(&format!("{COMMON}{}", with_pairs(http))));
    proxy.wait_listening("TLS");
    proxy
}

/// The port that tells when the proxy is up.
const COMMON: &str = "server { listen 127.0.0.1:%%PORT%%; return 204; }\n";

fn with_pairs(http: &str) -> String {
    let mut text = String::new();
    for (at, part) in http.split("%%PAIR:").enumerate() {
        match part.split_once("%%") {
            Some((name, rest)) if at > 0 => {
                text.push_str(&format!(
                    "ssl_certificate %%DIR%%/{name}.crt; ssl_certificate_key %%DIR%%/{name}.key;{rest}"
                ));
            }
            _ => text.push_str(part),
        }
    }
    text
}

fn config(common: Common, own: Option<(&str, &str)>) -> Client {
    let certificate = own.map(|(certificate, key)| {
        let chain = tls::files::certificates("own", certificate.as_bytes()).expect("a certificate");
        let key = tls::files::key("own", key.as_bytes(), &[]).expect("a key");
        Arc::new(tls::files::pair("own", chain, "own", &key).expect("a pair"))
    });
    Client { common, certificate, send_name: true, ..Client::default() }
}

fn connect_with(address: SocketAddr, name: &str, client: Client) -> io::Result<Tls> {
    connect_as(address, name, tls::config::client(client).expect("settings").config)
}

fn connect_as(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("a client");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn connect(proxy: &Proxy, name: &str) -> Tls {
    connect_with(proxy.place.port("TLS").address(), name, config(Common::default(), None))
        .expect("a handshake")
}

fn get(tls: &mut Tls, host: &str, path: &str) -> String {
    write!(tls, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("an open connection");
    answer(tls)
}

/// One response with a Content-Length: head and body.
fn answer(tls: &mut Tls) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return text;
            }
        }
        let count = tls.read(&mut piece).expect("a response");
        assert!(count > 0, "closed within a response: {text}");
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// The common name of the certificate the proxy shows.
fn shown(proxy: &Proxy, name: &str) -> String {
    let tls = connect(proxy, name);
    let chain = tls.conn.peer_certificates().expect("a certificate");
    tls::subject::subject(&chain[0]).expect("a subject")
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let proxy = start(
        &["a"],
        "server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%% ssl_session_cache shared:s:1m;
                  return 200 '$scheme $https $ssl_protocol $ssl_server_name $ssl_session_reused'; }",
    );
    for (protocol, expected) in [("TLSv1.2", "https on TLSv1.2 a ."), ("TLSv1.3", "https on TLSv1.3 a .")] {
        let common = Common { protocols: vec![protocol.to_owned()], ..Common::default() };
        let mut tls =
            connect_with(proxy.place.port("TLS").address(), "a", config(common, None)).expect(protocol);
        for _ in 0..3 {
            let text = get(&mut tls, "a", "/");
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(expected), "{text}");
        }
        // close_notify comes before the end.
        write!(tls, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("an open connection");
        let mut rest = String::new();
        tls.read_to_string(&mut rest).expect("an orderly end");
        assert!(rest.ends_with(expected), "{rest}");
    }
}

#[test]
fn big_bodies_go_both_ways() {
    let proxy = start(
        &["a"],
        "server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%% client_max_body_size 10m;
                  location / { proxy_pass http://127.0.0.1:%%U%%; } }",
    );
    let listener = proxy.place.port("U").listen();
    const SIZE: usize = 5_000_000;
    let back = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let mut bytes = Vec::new();
        let mut piece = [0; 65536];
        loop {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end.filter(|end| bytes.len() - end - 4 >= SIZE) {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
                stream.write_all(head.as_bytes()).expect("the proxy reads");
                stream.write_all(&bytes[end + 4..]).expect("the proxy reads");
                return;
            }
            let count = stream.read(&mut piece).expect("a request");
            assert!(count > 0, "the proxy closed within a request");
            bytes.extend_from_slice(&piece[..count]);
        }
    });
    let body: Vec<u8> = (0..SIZE).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut tls = connect(&proxy, "a");
    write!(tls, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n")
        .expect("open");
    tls.write_all(&body).expect("an open connection");
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).expect("an orderly end");
    let start = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(answer[start..] == body, "{} bytes came back otherwise", answer.len() - start);
    back.join().expect("the backend");
}

const TUNNEL: &str = "server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%%
    location / { proxy_pass http://127.0.0.1:%%U%%; proxy_read_timeout 1h; } }";

fn echo_on(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut socket = accept(stream).expect("a handshake");
                while let Ok(message) = socket.read() {
                    if message.is_binary() {
                        socket.send(message).expect("an open tunnel");
                    }
                }
            });
        }
    });
}

fn open(proxy: &Proxy) -> WebSocket<Tls> {
    let (socket, response) = tungstenite::client("ws://a/", connect(proxy, "a")).expect("a tunnel");
    assert_eq!(response.status(), 101);
    socket
}

fn echo(socket: &mut WebSocket<Tls>, size: usize) {
    let message = Message::binary(vec![size as u8; size]);
    socket.send(message.clone()).expect("an open tunnel");
    assert!(socket.read().expect("an echo") == message, "{size} bytes came back otherwise");
}

#[test]
fn tunnels_echo() {
    let proxy = start(&["a"], TUNNEL);
    echo_on(proxy.place.port("U").listen());
    let mut socket = open(&proxy);
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        echo(&mut socket, size);
    }
    socket.close(None).expect("an open tunnel");
    while let Ok(message) = socket.read() {
        assert!(message.is_close(), "only the answer to our Close is left: {message:?}");
    }
}

#[test]
fn python_websockets_echoes() {
    let python = places::tools().join("venv/bin/python");
    let proxy = start(&["a"], TUNNEL);
    let port = proxy.place.port("U");
    let script = |name: &str| places::workspace().join("e2e/scripts").join(name);
    let mut server = Command::new(&python)
        .arg(script("echo_server.py"))
        .arg(port.number().to_string())
        .spawn()
        .expect("`cargo xtask install` makes the tools");
    proxy.wait_for("the backend to listen", |_| TcpStream::connect(port.address()).is_ok());
    let output = Command::new(&python)
        .arg(script("echo_client.py"))
        .arg(format!("wss://127.0.0.1:{}/", proxy.place.port("TLS").number()))
        .env("SSL_CERT_FILE", proxy.place.dir.path().join("a.crt"))
        .output();
    let _ = server.kill();
    let _ = server.wait();
    let output = output.expect("python runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "ok",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the client says behind its handshake, and the backend behind its 101, in the same write.
#[test]
fn early_bytes_reach_the_other_side() {
    let proxy = start(&["a"], TUNNEL);
    let listener = proxy.place.port("U").listen();
    let back = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the proxy connects");
        let mut socket = Socket::over(stream).expect("a socket");
        socket.wait_for(b"\r\n\r\n");
        let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        socket.send(&[accept.as_bytes(), &server_frame(b"early server")].concat());
        socket.wait_for(&client_frame(b"early client"));
        socket.send(&server_frame(b"got it"));
        socket.wait_end(DEADLINE);
    });
    let mut tls = connect(&proxy, "a");
    tls.write_all(&[handshake("/").as_bytes(), &client_frame(b"early client")].concat()).expect("open");
    let expected = [server_frame(b"early server"), server_frame(b"got it")].concat();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !bytes.ends_with(&expected) {
        let count = tls.read(&mut piece).expect("the tunnel's bytes");
        assert!(count > 0, "closed early: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..count]);
    }
    tls.conn.send_close_notify();
    let _ = tls.conn.complete_io(&mut tls.sock);
    drop(tls);
    back.join().expect("the backend");
}

#[test]
fn a_reload_replaces_the_certificate_and_keeps_tunnels() {
    let mut proxy = start(&["a"], TUNNEL);
    echo_on(proxy.place.port("U").listen());
    let mut tunnels: Vec<_> = (0..20).map(|_| open(&proxy)).collect();
    assert_eq!(shown(&proxy, "a"), "CN=a");
    for round in ["second", "third"] {
        write_pair(&proxy.place, "a", round);
        proxy.signal(Signal::HUP);
        for _ in 0..5 {
            tunnels.iter_mut().for_each(|tunnel| echo(tunnel, 1000));
        }
        let expected = format!("CN={round}");
        proxy.wait_until("the new certificate", |proxy| shown(proxy, "a") == expected);
        tunnels.iter_mut().for_each(|tunnel| echo(tunnel, 100_000));
        tunnels.push(open(&proxy));
    }
    // A pair that does not fit changes nothing.
    let (_, other_key) = certificate("other");
    proxy.place.dir.write("a.key", other_key.as_bytes());
    proxy.signal(Signal::HUP);
    proxy.wait_until("the refusal", |proxy| proxy.error_log().contains("key values mismatch"));
    assert_eq!(shown(&proxy, "a"), "CN=third");
    tunnels.iter_mut().for_each(|tunnel| echo(tunnel, 10));
}

/// A session survives a reload in a shared cache, whether the client keeps it or the server, and goes without one.
#[test]
fn sessions_outlive_a_reload() {
    let server = |port: &str, cache: &str| {
        format!(
            "server {{ listen 127.0.0.1:%%{port}%% ssl; %%PAIR:a%% {cache} return 200 '$ssl_session_reused'; }}"
        )
    };
    let http = [
        server("TLS", "ssl_session_cache shared:s:1m;"),
        server("U", "ssl_session_cache shared:s:1m; ssl_session_tickets off;"),
    ];
    let mut proxy = start(&["a"], &http.concat());
    for (port, protocol) in [("TLS", "TLSv1.3"), ("TLS", "TLSv1.2"), ("U", "TLSv1.3"), ("U", "TLSv1.2")] {
        let common = Common { protocols: vec![protocol.to_owned()], ..Common::default() };
        let client = Client { reuse_sessions: true, ..config(common, None) };
        let client = tls::config::client(client).expect("settings").config;
        let ask = |proxy: &Proxy| {
            let address = proxy.place.port(port).address();
            let mut tls = connect_as(address, "a", client.clone()).expect("a handshake");
            get(&mut tls, "a", "/").chars().next_back()
        };
        assert_eq!((ask(&proxy), ask(&proxy)), (Some('.'), Some('r')), "{port} {protocol}");
        let gone = |proxy: &Proxy| proxy.error_log().matches("exited with code 0").count();
        let before = gone(&proxy);
        proxy.signal(Signal::HUP);
        proxy.wait_until("the reload", |proxy| gone(proxy) > before);
        assert_eq!(ask(&proxy), Some('r'), "{port} {protocol} after a reload");
    }
}

#[test]
fn a_handshake_has_its_time() {
    let mut proxy = start(
        &["a"],
        "client_header_timeout 1s; server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%% return 200 fine; }",
    );
    let mut slow = Socket::connect(proxy.place.port("TLS").address()).expect("a connection");
    slow.send(&[22, 3, 1, 1, 0, 1]);
    slow.wait_end(DEADLINE);
    proxy.wait_until("the log line", |proxy| {
        proxy.error_log().contains("client timed out (110: Connection timed out) while SSL handshaking")
    });
}

#[test]
fn bad_handshakes_cost_nobody_else() {
    let proxy = start(&["a"], "server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%% return 200 fine; }");
    let address = proxy.place.port("TLS").address();
    let mut plain = Socket::connect(address).expect("a connection");
    plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = plain.read_to_end();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    assert!(text.contains("The plain HTTP request was sent to HTTPS port"), "{text}");

    let mut garbage = Socket::connect(address).expect("a connection");
    garbage.send(&[0x16; 600]);
    garbage.wait_end(DEADLINE);
    let mut record = Vec::new();
    let client = tls::config::client(config(Common::default(), None)).expect("settings").config;
    let mut hello =
        ClientConnection::new(client, ServerName::try_from("a").expect("a name")).expect("a client");
    hello.write_tls(&mut record).expect("a vector");
    for cut in [1, 4, 5, 6, 100, record.len() - 1] {
        let mut truncated = Socket::connect(address).expect("a connection");
        truncated.send(&record[..cut]);
        truncated.fin();
        truncated.wait_end(DEADLINE);
    }
    let old =
        Common { protocols: vec!["TLSv1.2".to_owned()], ciphers: "HIGH".to_owned(), ..Common::default() };
    for client in [config(old, None), config(Common::default(), None)] {
        let mut tls = connect_with(address, "a", client).expect("a handshake");
        assert!(get(&mut tls, "a", "/").ends_with("fine"));
    }
}

#[test]
fn the_name_chooses_the_server() {
    let proxy = start(
        &["one", "two", "wild"],
        "server { listen 127.0.0.1:%%TLS%% ssl; server_name one.example; %%PAIR:one%% return 200 one; }
         server { listen 127.0.0.1:%%TLS%% ssl; server_name two.example; %%PAIR:two%% return 200 two; }
         server { listen 127.0.0.1:%%TLS%% ssl; server_name *.wild.example; %%PAIR:wild%% return 200 wild; }
         server { listen 127.0.0.1:%%TLS%% ssl; server_name no.example; ssl_reject_handshake on; }",
    );
    for (name, server) in
        [("one.example", "one"), ("two.example", "two"), ("a.wild.example", "wild"), ("other.example", "one")]
    {
        assert_eq!(shown(&proxy, name), format!("CN={server}"), "{name}");
        assert!(get(&mut connect(&proxy, name), name, "/").ends_with(server), "{name}");
    }
    let address = proxy.place.port("TLS").address();
    let error =
        connect_with(address, "no.example", config(Common::default(), None)).expect_err("a rejection");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    // A request without a Host is the default server's, as on nginx 1.31 (`client_trust` has it beside that).
    let mut tls = connect(&proxy, "two.example");
    tls.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("an open connection");
    let mut text = String::new();
    tls.read_to_string(&mut text).expect("an orderly end");
    assert!(text.ends_with("one"), "{text}");
}

#[test]
fn clients_are_asked_for_certificates() {
    let server = |name: &str, verify: &str| {
        format!(
            "server {{ listen 127.0.0.1:%%TLS%% ssl; server_name {name}; %%PAIR:a%%
                       ssl_verify_client {verify}; ssl_client_certificate %%DIR%%/good.crt;
                       return 200 '$ssl_client_verify $ssl_client_s_dn'; }}"
        )
    };
    let http = [server("on", "on"), server("optional", "optional"), server("any", "optional_no_ca")].concat();
    let proxy = start(&["a", "good", "bad"], &http);
    let address = proxy.place.port("TLS").address();
    let pem = |name: &str| {
        let text = |end: &str| proxy.place.dir.read(&format!("{name}.{end}"));
        (text("crt"), text("key"))
    };
    let (good, bad) = (pem("good"), pem("bad"));
    let check = |name: &str, own: Option<&(String, String)>, host: &str, expected: &str| {
        let own = own.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let mut tls = connect_with(address, name, config(Common::default(), own)).expect("a handshake");
        let text = get(&mut tls, host, "/");
        assert!(text.contains(expected), "{name}: {text}");
    };
    check("on", None, "on", "400 No required SSL certificate was sent");
    check("on", Some(&bad), "on", "400 The SSL certificate error");
    check("on", Some(&good), "on", "SUCCESS CN=good");
    check("optional", None, "optional", "NONE ");
    check("optional", Some(&bad), "optional", "400 The SSL certificate error");
    check("any", Some(&bad), "any", "CN=bad");
    check("any", None, "on", "421 Misdirected Request");
}

/// curl and OpenSSL, as people try it first.
#[test]
fn curl_and_openssl_are_served() {
    let proxy =
        start(&["a"], "server { listen 127.0.0.1:%%TLS%% ssl; %%PAIR:a%% return 200 'fine $ssl_cipher'; }");
    let port = proxy.place.port("TLS").number();
    let mut curl = Command::new("curl");
    let url = format!("https://127.0.0.1:{port}/");
    let output =
        curl.args(["--silent", "--insecure", "--max-time", "10", &url, &url]).output().expect("curl runs");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("fine TLS_"), "{output:?}");
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -tls1_2 -connect";
    let command = format!("{ask} 127.0.0.1:{port} 2>&1");
    let output = Command::new("timeout").args(["10", "sh", "-c", &command]).output().expect("openssl runs");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("fine ECDHE-ECDSA-AES256-GCM-SHA384"),
        "{output:?}"
    );
}
