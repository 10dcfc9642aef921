//! Files as openssl writes them.

use std::process::{Command, Stdio};

use super::*;

/// Runs openssl with something to read; what it writes.
fn openssl(args: &str, input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(args.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A new key and a certificate for it.
fn made(kind: &str) -> (Vec<u8>, Vec<u8>) {
    let key = openssl(&format!("genpkey {kind}"), b"");
    let certificate = openssl("req -x509 -key /dev/stdin -subj /CN=localhost -days 2", &key);
    (key, certificate)
}

const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

fn check(text: &[u8], passwords: &[&str], certificate: &[u8]) {
    let passwords: Vec<Vec<u8>> = passwords.iter().map(|password| password.as_bytes().to_vec()).collect();
    let key = key("k", text, &passwords).unwrap();
    pair("c", certificates("c", certificate).unwrap(), "k", &key).unwrap();
}

#[test]
fn keys_of_every_form() {
    for kind in [EC, RSA, "-algorithm ED25519"] {
        let (key, certificate) = made(kind);
        check(&key, &[], &certificate);
        check(&key, &["not needed"], &certificate);
        // Scrypt is slow on purpose: once is enough.
        let scrypt = (kind == EC).then_some("-scrypt");
        for cipher in
            ["-v2 aes-256-cbc", "-v2 aes-128-cbc -v2prf hmacWithSHA1", "-v2 des3"].into_iter().chain(scrypt)
        {
            let encrypted = openssl(&format!("pkcs8 -topk8 {cipher} -passout pass:secret"), &key);
            check(&encrypted, &["wrong", "secret"], &certificate);
        }
    }
    for (kind, tool) in [(EC, "ec"), (RSA, "rsa -traditional")] {
        let (key, certificate) = made(kind);
        let bare = openssl(tool, &key);
        assert!(String::from_utf8_lossy(&bare).contains(if tool == "ec" {
            "EC PRIVATE"
        } else {
            "RSA PRIVATE"
        }));
        check(&bare, &[], &certificate);
        // As openssl ecparam writes it: parameters first.
        let mut with_parameters = openssl("ecparam -name prime256v1", b"");
        with_parameters.extend_from_slice(&bare);
        check(&with_parameters, &[], &certificate);
        for cipher in ["aes128", "aes192", "aes256", "des3"] {
            let encrypted = openssl(&format!("{tool} -{cipher} -passout pass:secret"), &key);
            assert!(String::from_utf8_lossy(&encrypted).contains("DEK-Info"));
            check(&encrypted, &["wrong", "secret"], &certificate);
        }
    }
}

#[test]
fn chains() {
    let (_, first) = made(EC);
    let (_, second) = made(EC);
    let text = [b"a comment\n", &first[..], b"\n\n", &second].concat();
    let chain = certificates("c", &text).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[..1], certificates("c", &first).unwrap());
    assert_eq!(authorities("c", &text).unwrap(), chain);
    let crlf = String::from_utf8(text).unwrap().replace('\n', "\r\n");
    assert_eq!(certificates("c", crlf.as_bytes()).unwrap(), chain);
    let trusted = openssl("x509 -trustout -addtrust serverAuth", &first);
    assert_eq!(certificates("c", &trusted).unwrap(), chain[..1]);
}

#[test]
fn words_of_refusal() {
    let (ec_key, ec) = made(EC);
    let (rsa_key, _) = made(RSA);
    let encrypted = openssl("pkcs8 -topk8 -passout pass:secret", &ec_key);
    let check = |error: FileError, words: &str| assert_eq!(error.to_string(), words);
    check(
        certificates("/etc/x.pem", b"nothing").unwrap_err(),
        "cannot load certificate \"/etc/x.pem\": PEM_read_bio_X509_AUX() failed \
         (SSL: error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE)",
    );
    check(
        key("x.key", &ec, &[]).unwrap_err(),
        "cannot load certificate key \"x.key\": PEM_read_bio_PrivateKey() failed \
         (SSL: error:1E08010C:DECODER routines::unsupported:No supported data to decode. Input type: PEM)",
    );
    check(
        key("x.key", &encrypted, &[b"wrong".to_vec()]).unwrap_err(),
        "cannot load certificate key \"x.key\": PEM_read_bio_PrivateKey() failed \
         (SSL: error:1C800064:Provider routines::bad decrypt error:11800074:PKCS12 routines::pkcs12 cipherfinal \
         error:maybe wrong password)",
    );
    check(
        key("x.key", &encrypted, &[]).unwrap_err(),
        "cannot load certificate key \"x.key\": PEM_read_bio_PrivateKey() failed \
         (SSL: error:0480006D:PEM routines::problems getting password)",
    );
    let other = key("x.key", &rsa_key, &[]).unwrap();
    check(
        pair("x.pem", certificates("x.pem", &ec).unwrap(), "x.key", &other).unwrap_err(),
        "SSL_CTX_use_PrivateKey(\"x.key\") failed (SSL: error:05800074:x509 certificate routines::key values mismatch)",
    );
    check(
        unreadable(Kind::Certificate, "no.pem", &io::Error::from_raw_os_error(2)),
        "cannot load certificate \"no.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or \
         directory:calling fopen(no.pem, r) error:10000080:BIO routines::no such file)",
    );
    check(
        authorities("ca.pem", b"").unwrap_err(),
        "cannot load certificate \"ca.pem\": PEM_read_bio_X509_AUX() failed \
         (SSL: error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE)",
    );
    check(
        revocations("crl.pem", &ec).unwrap_err(),
        "cannot load CRL \"crl.pem\": PEM_read_bio_X509_CRL() failed \
         (SSL: error:0480006C:PEM routines::no start line:Expecting: X509 CRL)",
    );
    check(
        certificates("half.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap_err(),
        "cannot load certificate \"half.pem\": PEM_read_bio_X509_AUX() failed \
         (SSL: error:04800066:PEM routines::bad end line)",
    );
    check(
        unreadable(Kind::Crl, "no.pem", &io::Error::from_raw_os_error(13)),
        "cannot load CRL \"no.pem\": BIO_new_file() failed (SSL: error:8000000D:system library::Permission denied:\
         calling fopen(no.pem, r) error:10080002:BIO routines::system lib)",
    );
    assert_eq!(inline("data:-----BEGIN"), Some("-----BEGIN"));
    assert_eq!(passwords(b"one\r\ntwo\n\nthree"), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
}

#[test]
fn help_says_what_to_do() {
    let check = |error: FileError, expected: &str| {
        let text = error.to_string();
        assert!(help(&text).is_some_and(|help| help.contains(expected)), "{text}: {:?}", help(&text));
    };
    let (key, certificate) = made(EC);
    check(certificates("c", &key).unwrap_err(), "a key in its place");
    check(super::key("k", &certificate, &[]).unwrap_err(), "a certificate in its place");
    let encrypted = openssl("pkcs8 -topk8 -passout pass:secret", &key);
    check(super::key("k", &encrypted, &[]).unwrap_err(), "ssl_password_file");
    check(super::key("k", &encrypted, &[b"wrong".to_vec()]).unwrap_err(), "no line of the password file");
    let other = super::key("k", &made(EC).0, &[]).unwrap();
    check(
        pair("c", certificates("c", &certificate).unwrap(), "k", &other).unwrap_err(),
        "another certificate",
    );
    let unread = |errno| unreadable(Kind::Key, "k", &io::Error::from_raw_os_error(errno));
    check(unread(2), "directory of the configuration file");
    check(unread(13), "rights of who starts");
    check(certificates("c", b"-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap_err(), "breaks off");
    check(revocations("c", b"").unwrap_err(), "X509 CRL");
    assert_eq!(help("invalid value"), None);
}
