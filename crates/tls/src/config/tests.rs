//! What settings come to and what is said about them.

use super::*;

fn built(common: Common) -> Result<(Vec<String>, Vec<String>), String> {
    let built = client(Client { common, ..Client::default() })?;
    let suites = built.config.crypto_provider().cipher_suites.iter();
    let suites = suites.map(|suite| crate::names::cipher(suite.suite()).to_owned()).collect();
    Ok((suites, built.warnings))
}

/// How many suites are left, and what is said.
fn check(common: Common, suites: usize, warnings: &[&str]) {
    let (chosen, said) = built(common).unwrap();
    assert_eq!((chosen.len(), said), (suites, warnings.iter().map(|line| line.to_string()).collect()));
}

fn protocols(text: &str) -> Common {
    Common { protocols: text.split(' ').map(str::to_owned).collect(), ..Common::default() }
}

fn ciphers(text: &str) -> Common {
    Common { ciphers: text.to_owned(), ..Common::default() }
}

fn curves(text: &str) -> Common {
    Common { curves: text.to_owned(), ..Common::default() }
}

fn command(name: &str, value: &str) -> Common {
    Common { commands: vec![(name.to_owned(), value.to_owned())], ..Common::default() }
}

#[test]
fn what_is_not_done_is_said() {
    check(Common::default(), 9, &[]);
    check(
        protocols("TLSv1 TLSv1.1 TLSv1.2"),
        9,
        &["protocols older than TLSv1.2 are not supported and left out: TLSv1, TLSv1.1"],
    );
    check(
        protocols("SSLv3"),
        9,
        &[
            "protocols older than TLSv1.2 are not supported and left out: SSLv3",
            "no supported protocol is left, TLSv1.2 is used",
        ],
    );
    check(
        ciphers("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:AES128-SHA"),
        4,
        &["ciphers that are not supported are left out: DHE-RSA-AES128-GCM-SHA256, AES128-SHA"],
    );
    check(
        ciphers("AES128-SHA"),
        9,
        &[
            "ciphers that are not supported are left out: AES128-SHA",
            "none of the ciphers is supported, the defaults are used",
        ],
    );
    check(curves("X25519:secp521r1"), 9, &[]);
    check(curves("X25519:X448"), 9, &["curves that are not supported are left out: X448"]);
    check(command("Ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), 7, &[]);
    check(command("CipherString", "aRSA"), 6, &[]);
    check(
        command("Options", "PrioritizeChaCha,-SessionTicket"),
        9,
        &["OpenSSL's option \"PrioritizeChaCha\" has no effect"],
    );
    check(
        command("SignatureAlgorithms", "RSA+SHA256"),
        9,
        &["OpenSSL's command \"SignatureAlgorithms\" has no effect"],
    );
    check(command("MaxProtocol", "TLSv1.2"), 9, &[]);
    check(command("MinProtocol", "TLSv1"), 9, &[]);
}

#[test]
fn what_nginx_refuses_is_refused() {
    let check = |common, words: &str| assert_eq!(built(common).unwrap_err(), words);
    check(
        ciphers("NOSUCH"),
        "SSL_CTX_set_cipher_list(\"NOSUCH\") failed (SSL: error:0A0000B9:SSL routines::no cipher match)",
    );
    check(
        curves("nonsense"),
        "SSL_CTX_set1_curves_list(\"nonsense\") failed \
         (SSL: error:0A080106:SSL routines::passed invalid argument:group 'nonsense' cannot be set)",
    );
    check(
        command("NoSuch", "x"),
        "SSL_CONF_cmd(\"NoSuch\", \"x\") failed (SSL: error:0A000182:SSL routines::unknown cmd name:cmd=NoSuch)",
    );
    check(
        command("Ciphersuites", "x"),
        "SSL_CONF_cmd(\"Ciphersuites\", \"x\") failed (SSL: error:0A0000B9:SSL routines::no cipher match \
         error:0A000180:SSL routines::bad value:cmd=Ciphersuites, value=x)",
    );
}

#[test]
fn sizes_of_records() {
    assert_eq!(
        (fragment_bytes(16_384), fragment_bytes(4096), fragment_bytes(1)),
        (None, Some(4101), Some(69))
    );
}
