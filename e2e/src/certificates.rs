//! Certificates made while a test runs: an authority, and what it issues.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::proxy::Place;

/// What kind of key a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// P-256.
    Ecdsa,
    /// 2048 bits. Making one takes a good part of a second.
    Rsa,
}

impl Kind {
    fn key(self) -> KeyPair {
        match self {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .expect("a key")
    }
}

/// Somebody who issues certificates, and whom clients trust if told to.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One of that name.
    pub fn new(name: &str) -> Authority {
        Authority::with_key(Kind::Ecdsa, name)
    }

    /// The same with a key of that kind: who knows no ECDSA believes one with an RSA key only.
    pub fn with_key(kind: Kind, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, kind.key()).expect("a certificate"))
    }

    /// A certificate whose subject is `name` and which holds for that, for 127.0.0.1 and for `also`.
    pub fn issue(&self, kind: Kind, name: &str, also: &[&str]) -> Pair {
        self.sign(kind, params(name, also))
    }

    /// The same, out of date since long.
    pub fn issue_expired(&self, name: &str) -> Pair {
        let mut params = params(name, &[]);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(Kind::Ecdsa, params)
    }

    /// The same for servers alone.
    pub fn issue_for_servers(&self, name: &str) -> Pair {
        let mut params = params(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(Kind::Ecdsa, params)
    }

    fn sign(&self, kind: Kind, params: CertificateParams) -> Pair {
        let key = kind.key();
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Its own certificate and key.
    pub fn own(&self) -> Pair {
        Pair { certificate: self.0.pem(), key: self.0.key().serialize_pem() }
    }

    /// What a client needs to trust it.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority's certificate");
        Arc::new(roots)
    }
}

fn params(name: &str, also: &[&str]) -> CertificateParams {
    let names: Vec<String> = [name, "127.0.0.1"].iter().chain(also).map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A certificate and its key, PEM both.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Pair {
    /// Writes `FILE.crt` and `FILE.key`; the file's name may differ from the certificate's.
    pub fn write(&self, place: &Place, file: &str) {
        place.dir.write(&format!("{file}.crt"), self.certificate.as_bytes());
        place.dir.write(&format!("{file}.key"), self.key.as_bytes());
    }

    /// As rustls has them.
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM"))
    }
}
