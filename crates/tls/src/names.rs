//! What nginx calls protocols, cipher suites and groups: OpenSSL's names.

use std::borrow::Cow;

use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

mod offered;

/// `$ssl_protocol`.
pub(crate) fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}

/// The suites there are: number, OpenSSL's name.
pub(crate) const CIPHERS: [(CipherSuite, &str); 9] = [
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
];

/// `$ssl_cipher`.
pub(crate) fn cipher(suite: CipherSuite) -> &'static str {
    CIPHERS.iter().find(|(number, _)| *number == suite).map_or("unknown", |(_, name)| name)
}

/// `$ssl_curve`.
pub(crate) fn group(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "prime256v1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        NamedGroup::MLKEM1024 => "MLKEM1024",
        _ => "unknown",
    }
}

/// `$ssl_sigalg`
pub(crate) fn signature(scheme: SignatureScheme) -> Option<&'static str> {
    Some(match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        _ => return None,
    })
}

/// A cipher suite by its number: OpenSSL's name, or `0x` and the number.
pub fn cipher_of(number: u16) -> Cow<'static, str> {
    match cipher(CipherSuite::from(number)) {
        "unknown" => {
            offered::find(&offered::CIPHERS, number).map_or_else(|| hexadecimal(number), Cow::Borrowed)
        }
        name => Cow::Borrowed(name),
    }
}

/// A group by its number: OpenSSL's name, or `0x` and the number.
pub fn group_of(number: u16) -> Cow<'static, str> {
    match group(NamedGroup::from(number)) {
        "unknown" => {
            offered::find(&offered::GROUPS, number).map_or_else(|| hexadecimal(number), Cow::Borrowed)
        }
        name => Cow::Borrowed(name),
    }
}

/// A signature algorithm as nginx writes those a client offers: `0x` and the number (`$ssl_sigalgs`).
pub fn hexadecimal(number: u16) -> Cow<'static, str> {
    Cow::Owned(format!("0x{number:04x}"))
}
