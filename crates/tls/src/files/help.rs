//! What a person can do about the errors that come from OpenSSL's words, which say little to who hasn't seen them before.

/// A line of help for nginx's message about certificates, keys and authorities, if there is one.
pub fn help(message: &str) -> Option<&'static str> {
    HELP.iter().find(|(words, _)| words.iter().all(|word| message.contains(word))).map(|(_, help)| *help)
}

/// The first row whose words are all in the message.
const HELP: [(&[&str], &str); 13] = [
    (
        &["key values mismatch"],
        "the key belongs to another certificate: these must print the same: openssl x509 -noout -pubkey -in CERTIFICATE, \
         openssl pkey -pubout -in KEY; of several certificates in a file the server's own comes first",
    ),
    (
        &["problems getting password"],
        "the key is encrypted: put its password on a line of a file and name that in \"ssl_password_file\" \
         (towards upstreams \"proxy_ssl_password_file\")",
    ),
    (&["bad decrypt"], "the key is encrypted, and no line of the password file is its password"),
    (
        &["Expecting: TRUSTED CERTIFICATE"],
        "there is no \"-----BEGIN CERTIFICATE-----\" in the file: a key in its place, or another format? \
         DER: openssl x509 -inform der -in FILE; PKCS#12: openssl pkcs12 -nodes -in FILE",
    ),
    (
        &["Input type: PEM"],
        "there is no \"-----BEGIN PRIVATE KEY-----\" in the file: a certificate in its place, or another format? \
         DER: openssl pkey -inform der -in FILE; PKCS#12: openssl pkcs12 -nodes -in FILE",
    ),
    (
        &["Expecting: X509 CRL"],
        "there is no \"-----BEGIN X509 CRL-----\" in the file; DER: openssl crl -inform der -in FILE",
    ),
    (&["bad end line"], "the file breaks off before \"-----END CERTIFICATE-----\""),
    (
        &["no \"ssl_certificate_key\""],
        "each \"ssl_certificate\" needs an \"ssl_certificate_key\" in the same block",
    ),
    (
        &["no \"proxy_ssl_certificate_key\""],
        "\"proxy_ssl_certificate\" needs a \"proxy_ssl_certificate_key\" in the same block",
    ),
    (
        &["for ssl_verify_client"],
        "name a file with the certificate of the authority that signed your clients' in \"ssl_client_certificate\"",
    ),
    (
        &["for proxy_ssl_verify"],
        "name a file with the authorities to believe, such as /etc/ssl/certs/ca-certificates.crt, in \
         \"proxy_ssl_trusted_certificate\"",
    ),
    (
        &["No such file", "fopen"],
        "a path that does not begin with / is taken from the directory of the configuration file",
    ),
    (
        &["Permission denied", "fopen"],
        "files are read with the rights of who starts the server, before it changes to \"user\"",
    ),
];
