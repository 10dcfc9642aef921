//! Everybody's clients over wss: certificates of two kinds, client certificates, sessions taken up again, and a reload that
//! replaces the certificates, with the automatic mode and with nginx's two lines, to backends with TLS and without.
#![forbid(unsafe_code)]

mod wss;

use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

use tidegate_e2e::programs::{node, python, script};
use tidegate_e2e::proxy::Kind;

use wss::chromium::Chromium;
use wss::clients::{Curl, Scripted, Tungstenite};
use wss::site::{PORTS, Site, Style};
use wss::visit;

/// Through a backend in Python.
fn python_websockets(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    let _server = site.backend(python().arg(script("echo_server.py")));
    visit::all(&mut site, &mut Scripted::new(python().arg(script("tls_client.py"))));
}

/// Through a backend in Node.
fn node_ws(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    let _server = site.backend(node().arg(script("echo_server.cjs")));
    visit::all(&mut site, &mut Scripted::that_names_signatures(node().arg(script("tls_client.cjs"))));
}

/// With requests first and the upgrade then, and with the handshake alone.
fn socket_io(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    let _server = site.backend(node().arg(script("socket_io_server.cjs")));
    let mut client = Scripted::that_names_signatures(node().arg(script("socket_io_client.cjs")));
    visit::upgrades(&mut site, &mut client);
    visit::all(&mut site, &mut client);
}

/// rustls.
fn tungstenite(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    let _server = site.backend(node().arg(script("echo_server.cjs")));
    visit::all(&mut site, &mut Tungstenite::default());
}

/// The handshake by hand, which is what people try first.
fn curl_handshake(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    wss::clients::closes_at_once(&site);
    visit::within_a_configuration(&mut site, &mut Curl);
}

/// It keeps sessions for as long as it runs: on its way to the second tunnel it waits for a reload.
fn curl_over_a_reload(kind: Kind, style: Style) {
    let mut site = Site::start(kind, style);
    wss::clients::closes_at_once(&site);
    for port in PORTS {
        let gate = TcpListener::bind("127.0.0.1:0").expect("a port");
        let between = format!("http://{}/", gate.local_addr().expect("a port"));
        let [(first, before), (second, after)] = [(); 2].map(|()| site.address(port));
        let mut curl = wss::clients::curl(&site.file("ca.crt"));
        let urls = [first, between, second].map(|url| url.replace("wss://", "https://"));
        let curl = curl.args(urls).stdout(Stdio::piped()).spawn().expect("curl runs");
        let (mut waiting, _) = gate.accept().expect("curl comes by");
        assert_eq!(site.logged(&before, 101)[2], ".", "{port}");
        site.reload();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        waiting.write_all(answer).expect("curl waits");
        assert_eq!(site.logged(&after, 101)[2], "r", "{port}");
        drop(waiting);
        assert!(curl.wait_with_output().expect("our own child").status.success());
    }
}

macro_rules! with_all {
    ($($name:ident),*) => {
        mod tidegate {
            use super::{Kind, Style};
            mod auto { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::Style::AUTO); })* }
            mod lines { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::Style::LINES); })* }
            mod auto_to_tls { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::Style::AUTO.to_tls()); })* }
            mod lines_to_tls { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::Style::LINES.to_tls()); })* }
        }
        mod nginx {
            use super::{Kind, Style};
            mod lines_to_tls { $(#[test] fn $name() { crate::$name(super::Kind::Nginx, super::Style::LINES.to_tls()); })* }
        }
    };
}

with_all!(python_websockets, node_ws, socket_io, tungstenite, curl_handshake, curl_over_a_reload);

/// Chromium, with a certificate of its own.
fn chromium(style: Style) {
    let mut site = Site::start(Kind::Tidegate, style);
    let _server = site.backend(node().arg(script("echo_server.cjs")));
    let mut client = Chromium::on(&site);
    visit::from_a_page(&mut site, &mut client);
    visit::with_rsa_alone(&mut site, &mut client);
    visit::over_reloads(&mut site, &mut client);
}

#[test]
fn chromium_over_tls() {
    chromium(Style::AUTO);
}

#[test]
fn chromium_over_tls_with_lines_to_tls() {
    chromium(Style::LINES.to_tls());
}
