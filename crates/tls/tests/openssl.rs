//! Ends against openssl's own client and server, over real sockets: protocols, ciphers, curves, certificates, sessions.
#![forbid(unsafe_code)]

mod peers;

use std::sync::Arc;

use peers::{Authority, EC, Heard, RSA, connect, s_client, s_server, serve};
use tidegate_tls::config::certificates::Certificates;
use tidegate_tls::config::sessions::{Store, TicketKeys};
use tidegate_tls::config::verify::{Ask, Clients, Trust};
use tidegate_tls::config::{Client, Common, Server};
use tidegate_tls::files;

fn common(protocols: &str, ciphers: &str, curves: &str) -> Common {
    Common {
        protocols: protocols.split(' ').map(str::to_owned).collect(),
        ciphers: ciphers.to_owned(),
        curves: curves.to_owned(),
        commands: Vec::new(),
    }
}

/// A server with a certificate of each kind.
fn server(authority: &Authority) -> Server {
    let pairs = [EC, RSA].map(|kind| authority.pair(kind, "localhost").certified());
    Server::new(Arc::new(Certificates::new(pairs.into())))
}

/// What the server heard from one s_client with these arguments; nothing if there was no handshake.
fn heard(settings: &Server, args: &str) -> Option<Heard> {
    let serving = serve(settings);
    let said = s_client(serving.port, args);
    let heard = serving.next();
    if let Some(heard) = &heard {
        assert_eq!((heard.text.as_str(), heard.closed), ("hello\n", true), "{args}");
        assert!(said.contains("HELLO"), "{args}: {said}");
    }
    heard
}

#[test]
fn protocols_ciphers_and_curves() {
    let authority = Authority::new("matrix");
    let check = |common: Common, args: &str, expected: Option<&str>| {
        let settings = Server { common, ..server(&authority) };
        let agreed = heard(&settings, args).map(|heard| heard.agreed);
        assert_eq!(agreed.as_deref(), expected, "{args}");
    };
    let all = || Common::default();
    check(all(), "", Some("TLSv1.3 TLS_AES_256_GCM_SHA384 X25519"));
    check(all(), "-tls1_2", Some("TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519"));
    check(all(), "-tls1_1", None);
    check(common("TLSv1.2", "HIGH", "auto"), "-tls1_3", None);
    check(common("TLSv1.3", "HIGH", "auto"), "-tls1_2", None);
    check(common("TLSv1.2", "HIGH", "auto"), "", Some("TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519"));
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"] {
        check(all(), &format!("-ciphersuites {suite}"), Some(&format!("TLSv1.3 {suite} X25519")));
    }
    for suite in [
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ] {
        let agreed = format!("TLSv1.2 {suite} X25519");
        check(all(), &format!("-tls1_2 -cipher {suite}"), Some(&agreed));
        check(common("TLSv1.2", suite, "auto"), "", Some(&agreed));
    }
    check(common("TLSv1.2", "AES128+aRSA", "auto"), "-cipher ECDHE-ECDSA-AES128-GCM-SHA256", None);
    for (curve, named) in [("X25519", "X25519"), ("P-256", "prime256v1"), ("P-384", "secp384r1")] {
        let agreed = format!("TLSv1.3 TLS_AES_256_GCM_SHA384 {named}");
        check(all(), &format!("-curves {curve}"), Some(&agreed));
        check(common("TLSv1.3", "HIGH", named), "", Some(&agreed));
    }
    check(common("TLSv1.3", "HIGH", "prime256v1"), "-curves X25519", None);
    // With a retry: the client guesses another group first.
    check(
        common("TLSv1.3", "HIGH", "secp384r1"),
        "-curves X25519:P-384",
        Some("TLSv1.3 TLS_AES_256_GCM_SHA384 secp384r1"),
    );
}

#[test]
fn whose_order_of_ciphers_counts() {
    let authority = Authority::new("order");
    let check = |prefer_server_ciphers, expected: &str| {
        let ciphers = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";
        let settings = Server {
            common: common("TLSv1.2", ciphers, "auto"),
            prefer_server_ciphers,
            ..server(&authority)
        };
        let client = "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
        assert_eq!(heard(&settings, client).unwrap().agreed, format!("TLSv1.2 {expected} X25519"));
    };
    check(false, "ECDHE-RSA-AES256-GCM-SHA384");
    check(true, "ECDHE-RSA-AES128-GCM-SHA256");
}

#[test]
fn the_certificate_a_client_can_verify() {
    let authority = Authority::new("kinds");
    let settings = server(&authority);
    let check = |args: &str, words: &str| {
        let serving = serve(&settings);
        let verified =
            format!("-CAfile {} -verify_return_error -verify_hostname localhost", authority.path());
        let said = s_client(serving.port, &format!("{verified} {args}"));
        assert!(said.contains("Verification: OK") && said.contains(words), "{args}: {said}");
        serving.next().unwrap();
    };
    check("", "signature type: ECDSA");
    check("-sigalgs RSA-PSS+SHA256", "signature type: RSA-PSS");
    check("-tls1_2 -cipher aRSA", "signature type: RSA");
}

#[test]
fn a_staple_is_shown_to_who_asks() {
    let authority = Authority::new("staple");
    let settings = server(&authority);
    let leaves: Vec<_> = settings.certificates.pairs().map(|pair| pair.cert[0].clone()).collect();
    let check = |answer: Option<Vec<u8>>, words: &str| {
        for leaf in &leaves {
            assert!(settings.certificates.staple(leaf, answer.clone()));
        }
        let serving = serve(&settings);
        let said = s_client(serving.port, "-status");
        assert!(said.contains(words), "{said}");
        serving.next().unwrap();
    };
    check(None, "OCSP response: no response sent");
    // An answer's whole content is the status "try later" (RFC 6960 section 4.2.1).
    check(Some(vec![0x30, 3, 0x0a, 1, 3]), "trylater");
    assert!(!settings.certificates.staple(b"another", None));
}

#[test]
fn names_and_protocols_by_hello() {
    let authority = Authority::new("hello");
    let settings = Server { alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()], ..server(&authority) };
    let heard = |args| heard(&settings, args);
    let first = heard("-servername Some.Example -alpn http/1.1,h2").unwrap();
    assert_eq!((first.server_name.as_deref(), first.alpn.as_deref()), (Some("some.example"), Some("h2")));
    let second = heard("-noservername").unwrap();
    assert_eq!((second.server_name, second.alpn), (None, None));
    assert!(heard("-alpn nothing-known").is_none());
}

#[test]
fn sessions_are_taken_up() {
    let authority = Authority::new("sessions");
    let tickets = || Some(Arc::new(TicketKeys::random()));
    let store = || Some(Arc::new(Store::new(1 << 20)));
    for protocol in ["-tls1_2", "-tls1_3"] {
        let check = |settings: Server, expected: bool| {
            let file = authority.file("session");
            let first =
                heard(&settings, &format!("{protocol} -servername localhost -sess_out {file}")).unwrap();
            // Another worker, another configuration with the same settings: as after a reload.
            let taken_up = std::path::Path::new(&file).exists()
                && heard(&settings, &format!("{protocol} -servername localhost -sess_in {file}"))
                    .unwrap()
                    .resumed;
            assert_eq!((first.resumed, taken_up), (false, expected), "{protocol}");
        };
        check(Server { tickets: tickets(), ..server(&authority) }, true);
        check(Server { sessions: store(), ..server(&authority) }, true);
        check(Server { sessions: store(), tickets: tickets(), ..server(&authority) }, true);
        check(server(&authority), false);
        let timeout = std::time::Duration::ZERO;
        check(Server { sessions: store(), session_timeout: timeout, ..server(&authority) }, false);
    }
}

#[test]
fn a_session_of_one_server_is_not_taken_up_by_another() {
    let authority = Authority::new("context");
    let tickets = Some(Arc::new(TicketKeys::random()));
    let store = Some(Arc::new(Store::new(1 << 20)));
    let made = || Server { tickets: tickets.clone(), sessions: store.clone(), ..server(&authority) };
    let (one, other) = (made(), made());
    for protocol in ["-tls1_2", "-tls1_3"] {
        let file = authority.file("session");
        heard(&one, &format!("{protocol} -sess_out {file}")).unwrap();
        assert!(!heard(&other, &format!("{protocol} -sess_in {file}")).unwrap().resumed);
    }
}

#[test]
fn early_data_comes_once() {
    let authority = Authority::new("early");
    let settings =
        Server { early_data: true, tickets: Some(Arc::new(TicketKeys::random())), ..server(&authority) };
    let (session, early) = (authority.file("session"), authority.file("early"));
    std::fs::write(&early, "early\n").unwrap();
    let serving = serve(&settings);
    s_client(serving.port, &format!("-sess_out {session}"));
    assert_eq!(serving.next().unwrap().early, "");
    let again = format!("-sess_in {session} -early_data {early}");
    let said = s_client(serving.port, &again);
    assert!(said.contains("Early data was accepted"), "{said}");
    let second = serving.next().unwrap();
    assert_eq!((second.early.as_str(), second.text.as_str()), ("early\n", "early\nhello\n"));
    // The same session with the same data again: a full handshake, and what came early is not believed.
    let said = s_client(serving.port, &again);
    assert!(said.contains("Early data was rejected"), "{said}");
    let third = serving.next().unwrap();
    assert_eq!((third.early.as_str(), third.text.as_str(), third.resumed), ("", "hello\n", false));
}

#[test]
fn clients_show_certificates() {
    let authority = Authority::new("clients");
    let stranger = Authority::new("stranger");
    let (good, gone) = (authority.pair(EC, "good"), authority.pair(RSA, "revoked"));
    let (old, unknown) = (authority.version_1("old"), stranger.pair(EC, "unknown"));
    let lists = files::revocations("crl", &authority.revoke(&gone)).unwrap();
    let check = |ask, revocations: bool, client: Option<&peers::Pair>, expected: &str, accepted| {
        let trusted = files::authorities("ca", &authority.pem()).unwrap();
        let lists = if revocations { &lists[..] } else { &[] };
        let (trust, warnings) = Trust::new(trusted.clone(), lists, 1);
        assert!(warnings.is_empty(), "{warnings:?}");
        let clients = Arc::new(Clients::new(ask, trust, &trusted));
        let settings = Server { clients: Some(clients.clone()), ..server(&authority) };
        for protocol in ["-tls1_2", "-tls1_3"] {
            let with =
                client.map_or(String::new(), |pair| format!("-cert {} -key {}", pair.path, pair.key_path));
            let serving = serve(&settings);
            let said = s_client(serving.port, &format!("{protocol} {with}"));
            assert!(said.contains("/CN=ca-clients") || said.contains("CN = ca-clients"), "{said}");
            let heard = serving.next().unwrap_or_else(|| panic!("{protocol}: {said}"));
            let verdict = clients.check(&heard.certificates, rustls::pki_types::UnixTime::now());
            assert!(format!("{verdict:?}").contains(expected), "{protocol} {verdict:?}, not {expected}");
            assert_eq!(clients.accepts(verdict), accepted, "{verdict:?}");
        }
    };
    check(Ask::On, false, Some(&good), "Success", true);
    check(Ask::On, false, None, "None", false);
    check(Ask::Optional, false, None, "None", true);
    check(Ask::Optional, false, Some(&unknown), "unable to verify the first certificate", false);
    check(Ask::OptionalNoCa, false, Some(&unknown), "unable to verify the first certificate", true);
    check(Ask::On, false, Some(&stranger.own()), "self-signed certificate", false);
    check(Ask::On, false, Some(&authority.own()), "Success", true);
    check(Ask::On, false, Some(&old), "Success", true);
    check(Ask::On, true, Some(&good), "Success", true);
    check(Ask::On, true, Some(&gone), "certificate revoked", false);
    check(Ask::OptionalNoCa, true, Some(&gone), "certificate revoked", false);
    check(Ask::On, true, Some(&old), "Success", true);
}

#[test]
fn client_sessions_remember_the_certificate() {
    let authority = Authority::new("remember");
    let trusted = files::authorities("ca", &authority.pem()).unwrap();
    let clients = Arc::new(Clients::new(Ask::On, Trust::new(trusted.clone(), &[], 1).0, &trusted));
    let tickets = Some(Arc::new(TicketKeys::random()));
    let settings = Server { clients: Some(clients), tickets, ..server(&authority) };
    let good = authority.pair(EC, "good");
    for protocol in ["-tls1_2", "-tls1_3"] {
        let file = authority.file("session");
        let with = format!("{protocol} -cert {} -key {}", good.path, good.key_path);
        let first = heard(&settings, &format!("{with} -sess_out {file}")).unwrap();
        let second = heard(&settings, &format!("{protocol} -sess_in {file}")).unwrap();
        assert!(second.resumed);
        assert_eq!(first.certificates[..1], second.certificates[..1]);
    }
}

#[test]
fn towards_a_server() {
    let authority = Authority::new("upstream");
    let local = authority.pair(EC, "localhost");
    let trust = || Some(Trust::new(files::authorities("ca", &authority.pem()).unwrap(), &[], 1).0);
    let check = |server: &str, settings: Client, name: &str, expected: Result<&str, &str>| {
        let server = s_server(&format!("-cert {} -key {} {server}", local.path, local.key_path));
        let agreed = connect(server.port, settings, name);
        match (agreed, expected) {
            (Ok(agreed), Ok(expected)) => assert_eq!(agreed, format!("{expected}, olleh")),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (agreed, expected) => panic!("{agreed:?}, not {expected:?}"),
        }
    };
    let new = Ok("TLSv1.3 TLS_AES_256_GCM_SHA384 X25519");
    check("", Client::default(), "localhost", new);
    check("", Client::default(), "another.name", new);
    check("", Client { trust: trust(), ..Client::default() }, "localhost", new);
    check(
        "",
        Client { trust: trust(), ..Client::default() },
        "another.name",
        Err("upstream SSL certificate does not match \"another.name\""),
    );
    let nobody = Trust::new(files::authorities("ca", &Authority::new("nobody").pem()).unwrap(), &[], 1).0;
    check(
        "",
        Client { trust: Some(nobody), ..Client::default() },
        "localhost",
        Err("upstream SSL certificate verify error: (21:unable to verify the first certificate)"),
    );
    let old = Client { common: common("TLSv1.2", "AES128", "prime256v1"), ..Client::default() };
    check("", old, "localhost", Ok("TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 prime256v1"));
    let old = Client { common: common("TLSv1.2", "AES128", "prime256v1"), ..Client::default() };
    check("-tls1_3", old, "localhost", Err("tlsv1 alert protocol version"));
    let shown = authority.pair(RSA, "me").certified();
    let with = Client { certificate: Some(Arc::new(shown)), ..Client::default() };
    let ask = format!("-Verify 1 -verify_return_error -CAfile {}", authority.path());
    check(&ask, with, "localhost", new);
}

#[test]
fn a_name_may_stand_in_the_subject_alone() {
    let authority = Authority::new("subject");
    let trust = || Some(Trust::new(files::authorities("ca", &authority.pem()).unwrap(), &[], 1).0);
    let check = |common_name: &str, name: &str, expected: bool| {
        let pair = authority.version_1(common_name);
        let server = s_server(&format!("-cert {} -key {}", pair.path, pair.key_path));
        let agreed = connect(server.port, Client { trust: trust(), ..Client::default() }, name);
        assert_eq!(agreed.is_ok(), expected, "{common_name} {name}: {agreed:?}");
    };
    check("example.com", "example.com", true);
    check("example.com", "www.example.com", false);
    check("*.example.com", "www.example.com", true);
    check("*.example.com", "a.www.example.com", false);
    check("*.com", "example.com", false);
}
