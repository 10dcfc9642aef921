//! What `openssl s_client` gets from us, and from nginx on the same configuration: protocols, ciphers, curves, names,
//! client certificates, stapled answers, early data; and what the error log has for each.
#![forbid(unsafe_code)]

use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::openssl::{self, s_client};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};

const CONFIG: &str = "
    ssl_certificate %%DIR%%/a.crt; ssl_certificate_key %%DIR%%/a.key;
    ssl_certificate %%DIR%%/rsa.crt; ssl_certificate_key %%DIR%%/rsa.key;
    ssl_client_certificate %%DIR%%/ca.crt;
    server { listen 127.0.0.1:%%PORT%%; return 204; }

    server { listen 127.0.0.1:%%ANY%% ssl; server_name any;
             return 200 'any $ssl_protocol $ssl_cipher $ssl_curve $ssl_server_name\\n'; }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name one.test; return 200 'one $ssl_server_name\\n'; }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name *.wild.test; return 200 'wild $ssl_server_name\\n'; }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name signed.test; ssl_verify_client optional;
             return 200 '$ssl_sigalg,$ssl_client_sigalg\\n'; }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name no.test; ssl_reject_handshake on; }

    server { listen 127.0.0.1:%%ANY%% ssl; server_name on.test; ssl_verify_client on; %%WHO%% }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name optional.test; ssl_verify_client optional; %%WHO%% }
    server { listen 127.0.0.1:%%ANY%% ssl; server_name noca.test; ssl_verify_client optional_no_ca; %%WHO%% }

    server { listen 127.0.0.1:%%NO%% ssl; ssl_reject_handshake on; }
    server { listen 127.0.0.1:%%NO%% ssl; server_name yes.test; return 200 'yes\\n'; }

    server { listen 127.0.0.1:%%OLD%% ssl; ssl_protocols TLSv1.2;
             ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384;
             return 200 '$ssl_protocol $ssl_cipher\\n'; }
    server { listen 127.0.0.1:%%NEW%% ssl; ssl_protocols TLSv1.3; ssl_ecdh_curve secp384r1;
             return 200 '$ssl_protocol $ssl_curve\\n'; }

    server { listen 127.0.0.1:%%STAPLE%% ssl; ssl_certificate %%DIR%%/a.crt; ssl_certificate_key %%DIR%%/a.key;
             ssl_stapling on; ssl_stapling_file %%DIR%%/ocsp.der; return 200 'stapled\\n'; }
    server { listen 127.0.0.1:%%EARLY%% ssl; ssl_early_data on; ssl_session_cache shared:early:1m;
             return 200 '$ssl_session_reused early=$ssl_early_data\\n'; }
    server { listen 127.0.0.1:%%LATE%% ssl; ssl_session_cache shared:late:1m;
             return 200 '$ssl_session_reused early=$ssl_early_data\\n'; }";

const PORTS: [&str; 8] = ["PORT", "ANY", "NO", "OLD", "NEW", "STAPLE", "EARLY", "LATE"];

/// A proxy with certificates of all kinds in its directory.
fn start(kind: Kind) -> Proxy {
    let place = Place::new(&PORTS);
    let authority = Authority::new("ca");
    let issue = |key, name: &str| authority.issue(key, name, &[]);
    authority.own().write(&place, "ca");
    issue(Key::Ecdsa, "a").write(&place, "a");
    issue(Key::Rsa, "rsa").write(&place, "rsa");
    issue(Key::Ecdsa, "good").write(&place, "good");
    authority.issue_expired("expired").write(&place, "expired");
    authority.issue_for_servers("server").write(&place, "server");
    let other = Authority::new("other");
    other.issue(Key::Ecdsa, "wrong", &[]).write(&place, "wrong");
    other.issue_expired("stale").write(&place, "stale");
    other.issue_for_servers("both").write(&place, "both");
    stapled_answer(&place);
    let who = "return 200 '$ssl_client_verify $ssl_client_s_dn $server_name\\n';";
    let mut proxy = Proxy::start(kind, place, &whole(&CONFIG.replace("%%WHO%%", who)));
    PORTS.iter().for_each(|port| proxy.wait_listening(port));
    proxy
}

/// `ocsp.der`: that `a` is good.
fn stapled_answer(place: &Place) {
    let dir = place.dir.path();
    let serial = openssl::run(dir, "x509 -in a.crt -noout -serial");
    let serial = serial.trim().strip_prefix("serial=").expect("a serial");
    place.dir.write("index.txt", format!("V\t401231235959Z\t\t{serial}\tunknown\t/CN=a\n").as_bytes());
    openssl::run(dir, "ocsp -issuer ca.crt -cert a.crt -reqout request.der");
    openssl::run(
        dir,
        "ocsp -index index.txt -CA ca.crt -rsigner ca.crt -rkey ca.key -reqin request.der -respout ocsp.der -ndays 2",
    );
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";

/// What the error log has, but for what whoever looks whether a port listens leaves there.
fn reasons(proxy: &Proxy) -> Vec<String> {
    let mut reasons = proxy.reasons();
    reasons.retain(|line| !line.contains(" client closed connection while "));
    reasons
}

struct Checks {
    proxy: Proxy,
    /// Lines seen so far.
    seen: usize,
    wrong: Vec<String>,
}

impl Checks {
    fn new(kind: Kind) -> Checks {
        Checks { proxy: start(kind), seen: 0, wrong: Vec::new() }
    }

    /// What comes of one client: its answer or its alert, and the log lines.
    fn check(&mut self, port: &str, switches: &str, ours: &str, nginx: &str) {
        let expected = if self.proxy.kind == Kind::Nginx && nginx != SAME { nginx } else { ours };
        let host = switches
            .split_once("-servername ")
            .map_or("any", |(_, rest)| rest.split(' ').next().unwrap_or_default());
        let said = self.said(port, switches, &REQUEST.replace("HOST", host));
        let came = match (said.answer(), said.alert()) {
            (Some(answer), _) => answer,
            (None, Some(alert)) => format!("alert {alert}"),
            (None, None) => "nothing".to_owned(),
        };
        self.compare(&format!("{port} {switches}"), expected, came);
    }

    fn said(&self, port: &str, switches: &str, input: &str) -> openssl::Said {
        s_client(self.proxy.place.port(port).number(), switches, self.proxy.place.dir.path(), input)
    }

    fn compare(&mut self, what: &str, expected: &str, came: String) {
        // Whoever has an answer here was served after everything that came before.
        assert!(self.proxy.get("/").starts_with("HTTP/1.1 204"));
        let wants_line = expected.contains(" | ");
        let seen = self.seen;
        if wants_line {
            self.proxy.wait_until("a line", |proxy| reasons(proxy).len() > seen);
        }
        let lines = reasons(&self.proxy);
        self.seen = lines.len();
        let came = [&[came], &lines[seen..]].concat().join(" | ");
        if expected != came {
            self.wrong.push(format!("{what}\n     came: {came}\n expected: {expected}"));
        }
    }

    fn done(self) {
        assert!(self.wrong.is_empty(), "{}:\n{}", self.proxy.kind, self.wrong.join("\n"));
    }
}

/// nginx does as we do.
const SAME: &str = "=";

const UNSUPPORTED: &str = "alert 70 | info: SSL_do_handshake() failed (SSL: error:0A000102:SSL routines::unsupported \
                           protocol) while SSL handshaking";
const NO_CIPHER: &str = "alert 40 | info: SSL_do_handshake() failed (SSL: error:0A0000C1:SSL routines::no shared \
                         cipher) while SSL handshaking";
const NO_SHARE: &str = "alert 40 | info: SSL_do_handshake() failed (SSL: error:0A000065:SSL routines::no suitable key \
                        share) while SSL handshaking";
const NO_PROTOCOL: &str = "alert 120 | info: SSL_do_handshake() failed (SSL: error:0A0000EB:SSL routines::no application \
                           protocol) while SSL handshaking";
const NO_NAME: &str = "alert 47 | info: SSL_do_handshake() failed (SSL: peer misbehaved: ServerNameMustContainOneHostName) \
                       while SSL handshaking";
const REJECTED: &str = "alert 112 | info: handshake rejected while SSL handshaking";
const NO_CERTIFICATE: &str = "400 No required SSL certificate was sent | info: client sent no required SSL certificate \
                              while reading client request headers";
const WRONG: &str = "400 The SSL certificate error | info: client SSL certificate verify error: (21:unable to verify the \
                     first certificate) while reading client request headers";
const EXPIRED: &str = "400 The SSL certificate error | info: client SSL certificate verify error: (10:certificate has \
                       expired) while reading client request headers";

const UNFIT: &str = "400 The SSL certificate error | info: client SSL certificate verify error: (26:unsuitable \
                     certificate purpose) while reading client request headers";

fn protocols_and_ciphers(kind: Kind) {
    let mut checks = Checks::new(kind);
    let mut check = |port: &str, switches: &str, ours: &str, nginx: &str| {
        let known = |text: &str| match text {
            "unsupported" => UNSUPPORTED.to_owned(),
            "no cipher" => NO_CIPHER.to_owned(),
            text => text.to_owned(),
        };
        checks.check(port, switches, &known(ours), &known(nginx));
    };
    check("ANY", "", "200 any TLSv1.3 TLS_AES_256_GCM_SHA384 X25519", SAME);
    check("ANY", "-tls1_2", "200 any TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519", SAME);
    check("ANY", "-tls1_1 -cipher DEFAULT@SECLEVEL=0", "unsupported", SAME);
    check("ANY", "-tls1 -cipher DEFAULT@SECLEVEL=0", "unsupported", SAME);
    check("OLD", "-tls1_3", "unsupported", SAME);
    check("NEW", "-tls1_2", "unsupported", SAME);
    check("OLD", "", "200 TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384", SAME);
    check("NEW", "", "200 TLSv1.3 secp384r1", SAME);
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"] {
        check("ANY", &format!("-ciphersuites {suite}"), &format!("200 any TLSv1.3 {suite} X25519"), SAME);
    }
    check("ANY", "-ciphersuites TLS_AES_128_CCM_SHA256", "no cipher", SAME);
    for (suite, in_old) in [
        ("ECDHE-ECDSA-AES256-GCM-SHA384", true),
        ("ECDHE-RSA-AES256-GCM-SHA384", false),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", false),
        ("ECDHE-RSA-CHACHA20-POLY1305", false),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", false),
        ("ECDHE-RSA-AES128-GCM-SHA256", true),
    ] {
        let switches = format!("-tls1_2 -cipher {suite}");
        check("ANY", &switches, &format!("200 any TLSv1.2 {suite} X25519"), SAME);
        let expected = if in_old { format!("200 TLSv1.2 {suite}") } else { "no cipher".to_owned() };
        check("OLD", &switches, &expected, SAME);
    }
    for (suite, group) in [("ECDHE-RSA-AES128-SHA256", "X25519"), ("AES256-GCM-SHA384", "")] {
        let nginx = format!("200 any TLSv1.2 {suite} {group}");
        check("ANY", &format!("-tls1_2 -cipher {suite}"), "no cipher", nginx.trim_end());
        check("OLD", &format!("-tls1_2 -cipher {suite}"), "no cipher", SAME);
    }
    check("ANY", "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384", "no cipher", SAME);
    checks.done();
}

/// The certificate of ECDSA is on P-256: with TLS 1.2 who doesn't know that curve gets the one of RSA.
fn curves(kind: Kind) {
    let mut checks = Checks::new(kind);
    for (curve, named, ours) in [
        ("X25519", "X25519", true),
        ("P-256", "prime256v1", true),
        ("P-384", "secp384r1", true),
        ("P-521", "secp521r1", true),
        ("X448", "X448", false),
    ] {
        let new = format!("200 any TLSv1.3 TLS_AES_256_GCM_SHA384 {named}");
        let key = if curve == "P-256" { "ECDSA" } else { "RSA" };
        let old = format!("200 any TLSv1.2 ECDHE-{key}-AES256-GCM-SHA384 {named}");
        let (our_new, our_old) = if ours { (&new[..], &old[..]) } else { (NO_SHARE, NO_CIPHER) };
        checks.check("ANY", &format!("-curves {curve}"), our_new, &new);
        checks.check("ANY", &format!("-tls1_2 -curves {curve}"), our_old, &old);
        let only = if curve == "P-384" { "200 TLSv1.3 secp384r1" } else { NO_SHARE };
        checks.check("NEW", &format!("-curves {curve}"), only, SAME);
    }
    // With a retry: the client's guess is another group.
    checks.check("NEW", "-curves X25519:P-384", "200 TLSv1.3 secp384r1", SAME);
    checks.done();
}

fn names(kind: Kind) {
    let mut checks = Checks::new(kind);
    for (protocol, agreed) in [
        ("-tls1_2", "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519"),
        ("-tls1_3", "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519"),
    ] {
        let mut check = |port: &str, name: &str, ours: &str, nginx: &str| {
            checks.check(port, &format!("{protocol} {name}"), &ours.replace("AGREED", agreed), nginx);
        };
        check("ANY", "-noservername", "200 any AGREED", SAME);
        check("ANY", "-servername one.test", "200 one one.test", SAME);
        check("ANY", "-servername ONE.test", "200 one one.test", "200 one ONE.test");
        check("ANY", "-servername a.wild.test", "200 wild a.wild.test", SAME);
        check("ANY", "-servername b.a.wild.test", "200 wild b.a.wild.test", SAME);
        check("ANY", "-servername wild.test", "200 any AGREED wild.test", SAME);
        check("ANY", "-servername other.test", "200 any AGREED other.test", SAME);
        check("ANY", "-servername no.test", REJECTED, SAME);
        check("NO", "-noservername", REJECTED, SAME);
        check("NO", "-servername other.test", REJECTED, SAME);
        check("NO", "-servername yes.test", "200 yes", SAME);
    }
    checks.done();
}

/// Names and protocols that nobody should ask for, and a handshake within a connection.
fn oddities(kind: Kind) {
    let mut checks = Checks::new(kind);
    for (protocol, agreed) in [
        ("-tls1_2", "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519"),
        ("-tls1_3", "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519"),
    ] {
        let mut check = |rest: &str, ours: &str, nginx: &str| {
            let with = |text: &str| text.replace("AGREED", agreed);
            checks.check("ANY", &format!("{protocol} {rest}"), &with(ours), &with(nginx));
        };
        check("-alpn http/1.1", "200 any AGREED", SAME);
        check("-alpn http/1.0,h2", "200 any AGREED", SAME);
        check("-alpn h2", NO_PROTOCOL, SAME);
        check("-alpn x,HTTP/1.1", NO_PROTOCOL, SAME);
        check("-servername one.test.", "200 one one.test", "200 one one.test.");
        check("-servername on_e.test", "200 any AGREED on_e.test", SAME);
        check("-servername 127.0.0.1", "200 any AGREED", "200 any AGREED 127.0.0.1");
        // No host is called like this.
        check("-servername -", NO_NAME, "200 any AGREED -");
        let invalid =
            "400 Bad Request | info: client sent invalid host header while reading client request headers";
        check("-servername one..test", NO_NAME, invalid);
        check("-servername a/b", NO_NAME, invalid);
    }
    let said = openssl::renegotiate(checks.proxy.place.port("ANY").number(), "-tls1_2");
    let came =
        format!("{}, {}", said.text().contains("RENEGOTIATING"), said.text().contains("no renegotiation"));
    let refused = "true, true | info: SSL_read() failed (SSL: error:0A000410:SSL routines::ssl/tls alert handshake \
                   failure:SSL alert number 40) while waiting for request";
    checks.compare("renegotiation", refused, came);
    checks.done();
}

fn client_certificates(kind: Kind) {
    let mut checks = Checks::new(kind);
    for protocol in ["-tls1_2", "-tls1_3"] {
        let mut check = |server: &str, own: &str, expected: &str| {
            let own = if own.is_empty() { String::new() } else { format!(" -cert {own}.crt -key {own}.key") };
            checks.check("ANY", &format!("{protocol} -servername {server}.test{own}"), expected, SAME);
        };
        check("on", "", NO_CERTIFICATE);
        check("optional", "", "200 NONE  optional.test");
        check("noca", "", "200 NONE  noca.test");
        for server in ["on", "optional", "noca"] {
            check(server, "good", &format!("200 SUCCESS CN=good {server}.test"));
            check(server, "expired", EXPIRED);
            check(server, "server", UNFIT);
            // That nobody knows the authority is overlooked by one of them; what else is wrong is not.
            check(server, "stale", EXPIRED);
        }
        check("on", "wrong", WRONG);
        check("optional", "wrong", WRONG);
        // With TLS 1.2 the curve is not the algorithm's, and the hash that is asked for first is taken.
        let clients = if protocol == "-tls1_2" { "ecdsa_secp384r1_sha384" } else { "ecdsa_secp256r1_sha256" };
        let ours = &format!("200 ecdsa_secp256r1_sha256,{clients}");
        checks.check(
            "ANY",
            &format!("{protocol} -servername signed.test -cert good.crt -key good.key"),
            ours,
            "200 ,",
        );
        let rsa = format!("{protocol} -servername signed.test -sigalgs rsa_pss_rsae_sha512");
        checks.check("ANY", &rsa, "200 rsa_pss_rsae_sha512,", "200 ,");
        let mut check = |server: &str, own: &str, expected: &str| {
            let own = format!(" -cert {own}.crt -key {own}.key");
            checks.check("ANY", &format!("{protocol} -servername {server}.test{own}"), expected, SAME);
        };
        check("noca", "both", "200 FAILED:unable to verify the first certificate CN=both noca.test");
        check("noca", "wrong", "200 FAILED:unable to verify the first certificate CN=wrong noca.test");
    }
    checks.done();
}

fn stapled_answers(kind: Kind) {
    let mut checks = Checks::new(kind);
    for protocol in ["-tls1_2", "-tls1_3"] {
        for (port, status, expected) in
            [("STAPLE", "-status", "good"), ("STAPLE", "", "none"), ("ANY", "-status", "no response sent")]
        {
            let said = checks.said(port, &format!("{protocol} {status}"), &REQUEST.replace("HOST", "any"));
            let has = |text: &str| said.text().contains(text);
            let came = match () {
                () if has("OCSP Response Status: successful") && has("Cert Status: good") => "good",
                () if has("OCSP response: no response sent") => "no response sent",
                () if has("OCSP") => "something else",
                () => "none",
            };
            checks.compare(&format!("{protocol} {port} {status}"), expected, came.to_owned());
        }
    }
    checks.done();
}

/// Early data are taken once with each session; nginx takes them again.
fn early_data(kind: Kind) {
    let mut checks = Checks::new(kind);
    let request = REQUEST.replace("HOST", "any");
    checks.proxy.place.dir.write("early", request.as_bytes());
    let mut check = |port: &str, switches: &str, ours: &str, nginx: &str| {
        let switches = format!("-tls1_3 {}", switches.replace("FILE", &format!("{port}.pem")));
        let said = checks.said(port, &switches, &request);
        let words = ["accepted", "rejected", "not sent"];
        let word = words.into_iter().find(|word| said.text().contains(&format!("Early data was {word}")));
        let mut came = format!("{}, {}", word.unwrap_or("?"), said.answer().unwrap_or_default());
        // nginx looks whether the handshake is over while it answers: a client that is quick has ended it by then. We keep
        // what was so when the request was read.
        if kind == Kind::Nginx && came == "accepted, 200 r early=" {
            came.push('1');
        }
        checks.compare(
            &format!("{port} {switches}"),
            if kind == Kind::Nginx && nginx != SAME { nginx } else { ours },
            came,
        );
    };
    check("EARLY", "-sess_out FILE", "not sent, 200 . early=", SAME);
    check("EARLY", "-sess_in FILE -early_data early", "accepted, 200 r early=1", SAME);
    check("EARLY", "-sess_in FILE -early_data early", "rejected, 200 . early=", "accepted, 200 r early=1");
    check("LATE", "-sess_out FILE", "not sent, 200 . early=", SAME);
    check("LATE", "-sess_in FILE", "not sent, 200 r early=", SAME);
    check("LATE", "-sess_in FILE -early_data early", "not sent, 200 r early=", SAME);
    checks.done();
}

tidegate_e2e::openssl_beside_nginx!(
    protocols_and_ciphers,
    curves,
    names,
    oddities,
    client_certificates,
    stapled_answers,
    early_data
);
