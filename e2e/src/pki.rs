//! Certificates for the scenarios: an authority, and certificates of servers and clients that it signed.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};

use crate::temp::TempDir;

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// On the curve P-256.
    Ecdsa,
    /// Of 2048 bits.
    Rsa,
}

/// A certificate and its key, PEM both.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, dir: &TempDir, name: &str) {
        dir.write(&format!("{name}.crt"), self.certificate.as_bytes());
        dir.write(&format!("{name}.key"), self.key.as_bytes());
    }
}

/// Who signs.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one of that name. A client that knows no ECDSA believes one with an RSA key only.
    pub fn new(name: &str, key: Key) -> Authority {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, generate(key)).expect("a certificate of our own"))
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` and 127.0.0.1 whose subject is this name.
    pub fn server(&self, name: &str, key: Key) -> Pair {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.sign(named(name, names), ExtendedKeyUsagePurpose::ServerAuth, key)
    }

    /// A client's certificate whose subject is this name.
    pub fn client(&self, name: &str, key: Key) -> Pair {
        self.sign(named(name, Vec::new()), ExtendedKeyUsagePurpose::ClientAuth, key)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, key: Key) -> Pair {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = generate(key);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn named(name: &str, names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("plain names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn generate(key: Key) -> KeyPair {
    match key {
        Key::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        Key::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .expect("a key")
}
