//! The rules of design section 2; names in brackets are the CVEs of others that taught them.

use super::{Backend, check, serve};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCH: &str = "STAYHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OK: &str = "STAYHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TO: &str = "proxy_pass http://127.0.0.1:PORT";

/// A handshake, with `fields` beside what it must have.
fn handshake(fields: &str) -> String {
    with("GET", "websocket", "Upgrade", fields)
}

fn with(method: &str, upgrade: &str, connection: &str, fields: &str) -> String {
    format!(
        "{method} /chat HTTP/1.1\r\nHost: a\r\nUpgrade: {upgrade}\r\nConnection: {connection}\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// What the client gets, and the `Upgrade` and `Connection` fields the upstream got.
#[track_caller]
fn upgrade(lines: &str, request: &str, answer: &'static str, expected: &str, sent: &str) -> String {
    let config = format!("server {{ location / {{ {TO}; {lines} }} }}");
    let seen = check(&config, answer, request, expected);
    let request = seen.received.first().cloned().unwrap_or_default();
    let fields: Vec<&str> = request
        .split("\r\n")
        .filter(|line| line.starts_with("Upgrade:") || line.starts_with("Connection:"))
        .collect();
    assert_eq!(fields.join("|"), sent, "{lines}");
    seen.error_log
}

const BOTH: &str = "Connection: upgrade|Upgrade: websocket";

#[test]
fn a_valid_handshake_needs_no_configuration() {
    upgrade("", &handshake(""), SWITCH, "101  tunnel", BOTH);
    upgrade("", &with("GET", "WebSocket", "keep-alive, Upgrade", ""), SWITCH, "101  tunnel", BOTH);
    upgrade("", &handshake("Content-Length: 0\r\n"), SWITCH, "101  tunnel", BOTH);
}

/// (aiohttp CVE-2026-69243, h2c smuggling, 0ang3el/websocket-smuggle)
#[test]
fn anything_else_is_not_upgraded() {
    let row = |request: &str| {
        upgrade("", request, OK, "200 ok", "");
    };
    row(&with("POST", "websocket", "Upgrade", ""));
    row(&with("GET", "h2c", "Upgrade, HTTP2-Settings", "HTTP2-Settings: x\r\n"));
    row(&with("GET", "websocket, h2c", "Upgrade", ""));
    row(&with("GET", "websocket", "keep-alive", ""));
    row(&handshake("").replace("HTTP/1.1", "HTTP/1.0").replace("Upgrade\r\n", "Upgrade, keep-alive\r\n"));
    row(&handshake("").replace("Version: 13", "Version: 8"));
    row(&handshake("").replace(KEY, "short"));
    row(&format!("{}hi", handshake("Content-Length: 2\r\n")));
}

#[test]
fn configured_headers_are_sent_as_written() {
    let nginx = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";";
    let sent = "Upgrade: websocket|Connection: upgrade";
    upgrade(nginx, &handshake(""), SWITCH, "101  tunnel", sent);
    upgrade(&format!("websocket manual; {nginx}"), &handshake(""), SWITCH, "101  tunnel", sent);
    // Per header: what is missing or empty is filled in.
    upgrade(
        "proxy_set_header Connection \"\";",
        &handshake(""),
        SWITCH,
        "101  tunnel",
        "Connection: upgrade|Upgrade: websocket",
    );
    upgrade(
        "proxy_set_header Upgrade $http_upgrade;",
        &with("GET", "WebSocket", "Upgrade", ""),
        SWITCH,
        "101  tunnel",
        "Upgrade: WebSocket|Connection: upgrade",
    );
    upgrade("proxy_set_header X a;", &handshake(""), SWITCH, "101  tunnel", BOTH);
    // An explicit empty Upgrade turns automatic mode off.
    upgrade("proxy_set_header Upgrade \"\";", &handshake(""), OK, "200 ok", "");
    upgrade("websocket manual;", &handshake(""), OK, "200 ok", "");
    upgrade("proxy_http_version 1.0;", &handshake(""), OK, "200 ok", "");
    upgrade("proxy_method GET;", &handshake(""), OK, "200 ok", "");
    upgrade("proxy_pass_request_headers off;", &handshake(""), OK, "200 ok", "");
}

/// (Bishop Fox h2c smuggling, nginx/nginx#1472)
#[test]
fn foreign_protocols_of_the_client_are_dropped() {
    let nginx = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;";
    let log = upgrade(
        nginx,
        &with("GET", "h2c", "Upgrade, HTTP2-Settings", ""),
        OK,
        "200 ok",
        "Connection: HTTP2-Settings",
    );
    assert!(log.is_empty() || log.contains("only WebSocket is upgraded"), "{log}");
    upgrade(nginx, &with("GET", "HTTP/2.0", "Upgrade", ""), OK, "200 ok", "");
    upgrade(nginx, &with("GET", "TLS/1.0", "upgrade", ""), OK, "200 ok", "");
    // Another protocol is nginx's way, and explicit.
    upgrade(nginx, &with("GET", "mqtt", "Upgrade", ""), OK, "200 ok", "Upgrade: mqtt|Connection: Upgrade");
    // What the configuration itself says is meant.
    upgrade(
        "proxy_set_header Upgrade h2c;",
        &with("GET", "h2c", "Upgrade", ""),
        OK,
        "200 ok",
        "Upgrade: h2c",
    );
}

/// (CVE-2019-17567, CVE-2024-23326)
#[test]
fn only_a_101_that_fits_becomes_a_tunnel() {
    let bad = |answer: &'static str, why: &str| {
        let log = upgrade("", &handshake(""), answer, "502", BOTH);
        assert!(log.contains(why), "{log}");
    };
    bad(
        "STAYHTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        "upstream sent no \"Sec-WebSocket-Accept\" that fits",
    );
    bad(
        "STAYHTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n",
        "upstream switched to a protocol other than \"websocket\"",
    );
    bad("STAYHTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n", "websocket manual");
    upgrade(
        "",
        &handshake(""),
        "STAYHTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok",
        "200 ok",
        BOTH,
    );
    upgrade("", &handshake(""), "STAYHTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "403 no", BOTH);
    // nginx looks at the status only.
    let manual =
        "websocket manual; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";
    let sent = "Upgrade: websocket|Connection: upgrade";
    upgrade(manual, &handshake(""), "STAYHTTP/1.1 101 x\r\n\r\n", "101  tunnel", sent);
    // A 101 nobody asked for is passed on, and that is all.
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    upgrade("", plain, SWITCH, "101  close", "");
    // Nor is it a tunnel when the client asked and we did not pass that on.
    upgrade("", &with("GET", "websocket", "keep-alive", ""), SWITCH, "101  close", "");
    upgrade("websocket manual;", &handshake(""), SWITCH, "101  close", "");
    let foreign = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";
    upgrade(foreign, &with("GET", "h2c", "Upgrade", ""), SWITCH, "101  close", "");
}

/// (CVE-2026-73548, CVE-2026-71324) A connection on which Upgrade was sent is never lent again, whatever the answer was.
#[test]
fn a_connection_that_saw_upgrade_is_never_pooled() {
    let backend = Backend::new(vec![vec![OK], vec!["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"]]);
    let config = "upstream u { server 127.0.0.1:PORT; } server { location / { proxy_pass http://u; } }";
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let seen = serve(config, &backend, &[&handshake(""), plain]);
    assert_eq!(seen.answers[0].body, b"ok");
    assert_eq!(seen.answers[1].body, b"second", "{}", seen.error_log);
}

/// (CVE-2026-105299, @fastify/http-proxy CVE-2026-133111)
#[test]
fn fields_named_by_connection_go_and_identity_stays() {
    let request = with(
        "GET",
        "websocket",
        "Upgrade, Origin, X-Hop, Sec-WebSocket-Protocol",
        "Origin: o\r\nX-Hop: h\r\nSec-WebSocket-Protocol: p\r\n",
    );
    let config = format!("server {{ location / {{ {TO}; }} }}");
    let seen = check(&config, SWITCH, &request, "101  tunnel");
    let request = &seen.received[0];
    assert!(
        request.contains("Origin: o\r\n") && request.contains("Sec-WebSocket-Protocol: p\r\n"),
        "{request}"
    );
    assert!(!request.contains("X-Hop"), "{request}");
}

#[test]
fn off_forbids() {
    let config = format!("server {{ location / {{ {TO}; websocket off; }} }}");
    let seen = check(&config, OK, &handshake(""), "403");
    assert!(seen.received.is_empty());
    check(&config, OK, &with("POST", "websocket", "Upgrade", ""), "403");
    check(&config, OK, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 ok");
}

#[test]
fn a_refusal_that_is_our_configurations_fault_is_explained() {
    const NO: &str = "STAYHTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno";
    let row = |lines: &str, sent: &str, why: &str| {
        let log = upgrade(lines, &handshake(""), NO, "400 no", sent);
        if why.is_empty() {
            assert!(!log.contains("WebSocket handshake"), "{log}");
        } else {
            assert!(log.contains(why), "{log}");
        }
    };
    row("", BOTH, "");
    row("websocket manual;", "", "or websocket auto");
    row("proxy_set_header Upgrade \"\";", "", "proxy_set_header Upgrade $http_upgrade");
    row(
        "proxy_set_header Connection close;",
        "Connection: close|Upgrade: websocket",
        "proxy_set_header Connection \"upgrade\"",
    );
    row("proxy_http_version 1.0;", "", "proxy_http_version 1.1");
    row("proxy_method GET;", "", "proxy_method");
}
