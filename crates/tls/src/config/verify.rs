//! Whom to trust: chains of certificates, verified by webpki and refused in OpenSSL's words.
//!
//! nginx lets a client with any certificate finish its handshake and looks at the result when it has a request to answer
//! (`ssl_verify_client`, `$ssl_client_verify`, 495). So a handshake here only proves that the client has the key, and
//! [`Clients::check`] says what its certificate is worth. A server's certificate is verified within the handshake.
//!
//! Where OpenSSL takes what webpki refuses on principle, and people have it, the rule is followed here: a certificate that
//! is itself among the trusted ones, one of X.509 version 1, one that may sign others, and a name that stands in the subject
//! alone.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use webpki::{EndEntityCert, RawPublicKeyEntity, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::der::{Decode, Encode};

use crate::signed;

mod certificate;
mod list;
mod name;
mod purpose;
mod trust;

pub(crate) use certificate::{in_time, is_issued, is_signed};
use name::{Named, named};
pub use trust::Trust;

/// Why a certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// OpenSSL's `X509_V_ERR_` number.
    pub code: u32,
    /// OpenSSL's words for it.
    pub words: &'static str,
}

impl Reason {
    const fn new(code: u32, words: &'static str) -> Reason {
        Reason { code, words }
    }

    /// One that OpenSSL has no number for.
    pub const fn without_code(words: &'static str) -> Reason {
        Reason { code: 0, words }
    }

    /// Whether `ssl_verify_client optional_no_ca` overlooks it: only the authority is unknown.
    pub fn is_unknown_authority(self) -> bool {
        matches!(self.code, 18..=21 | 27)
    }
}

/// As nginx logs it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            0 => f.write_str(self.words),
            code => write!(f, "({code}:{})", self.words),
        }
    }
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It must come, and be trusted: `ssl_verify_client on`.
    On,
    /// It must be trusted if it comes: `optional`.
    Optional,
    /// It may come from anybody: `optional_no_ca`.
    OptionalNoCa,
}

/// What a client's certificate is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is none: `$ssl_client_verify` is `NONE`.
    None,
    /// It is trusted: `SUCCESS`.
    Success,
    /// It is not: `FAILED:` and the words.
    Failed(Reason),
}

/// How clients are verified.
#[derive(Debug)]
pub struct Clients {
    /// Whether they are asked.
    pub ask: Ask,
    /// Whom their certificates must come from.
    pub trust: Trust,
    hints: Vec<DistinguishedName>,
}

impl Clients {
    /// Asks clients for certificates. They are told the names of `hinted` authorities (`ssl_client_certificate`), not those
    /// of others that are trusted (`ssl_trusted_certificate`).
    pub fn new(ask: Ask, trust: Trust, hinted: &[CertificateDer<'_>]) -> Clients {
        let anchors = hinted.iter().filter_map(|der| anchor_from_trusted_cert(der).ok());
        let mut hints: Vec<DistinguishedName> = Vec::new();
        for anchor in anchors {
            let name = DistinguishedName::in_sequence(&anchor.subject);
            // OpenSSL says each name once, however often the file has it.
            if hints.iter().all(|known| known.as_ref() != name.as_ref()) {
                hints.push(name);
            }
        }
        Clients { ask, trust, hints }
    }

    /// What a client's certificates, its own first, are worth.
    pub fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Verdict {
        match self.trust.check(chain, ID_KP_CLIENT_AUTH, now) {
            _ if chain.is_empty() => Verdict::None,
            Ok(()) => Verdict::Success,
            Err(reason) => Verdict::Failed(reason),
        }
    }

    /// [`Clients::check`] at this moment, of certificates as bytes.
    pub fn check_now(&self, chain: &[Box<[u8]>]) -> Verdict {
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(&**der)).collect();
        self.check(&chain, UnixTime::now())
    }

    /// Whether a request may be served: if not, nginx answers 400 with 495 (a bad certificate) or 496 (none).
    pub fn accepts(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Success => true,
            Verdict::None => self.ask != Ask::On,
            Verdict::Failed(reason) => self.ask == Ask::OptionalNoCa && reason.is_unknown_authority(),
        }
    }
}

/// A client's handshake: any certificate will do, but it must have the key.
#[derive(Debug)]
pub(super) struct Handshake(pub(super) Arc<Clients>);

impl ClientCertVerifier for Handshake {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        noted(signed, tls12_signature(message, leaf, signed, &self.0.trust.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        noted(signed, tls13_signature(message, leaf, signed, &self.0.trust.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.trust.algorithms.supported_schemes()
    }
}

/// Keeps in mind what a good signature was made with.
fn noted(
    by: &DigitallySignedStruct,
    verified: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    verified.inspect(|_| signed::verified(by.scheme))
}

fn tls12_signature(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(leaf).is_ok() {
        return verify_tls12_signature(message, leaf, signed, algorithms);
    }
    // The scheme doesn't tell the curve.
    let fit = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    raw_signature(message, leaf, signed, fit.flat_map(|(_, algorithms)| *algorithms))
}

fn tls13_signature(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(leaf).is_ok() {
        return verify_tls13_signature(message, leaf, signed, algorithms);
    }
    let spki = public_key(leaf)?;
    rustls::crypto::verify_tls13_signature_with_raw_key(message, &spki, signed, algorithms)
}

/// A signature by the key of a certificate that webpki doesn't read.
fn raw_signature<'a>(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    mut algorithms: impl Iterator<Item = &'a &'static dyn SignatureVerificationAlgorithm>,
) -> Result<HandshakeSignatureValid, Error> {
    let spki = public_key(leaf)?;
    let key = RawPublicKeyEntity::try_from(&spki)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match algorithms.any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()),
    }
}

fn public_key(leaf: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let certificate = Certificate::from_der(leaf).map_err(bad)?;
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(bad)?;
    Ok(SubjectPublicKeyInfoDer::from(spki))
}

/// How servers are verified (`proxy_ssl_verify`): a chain to whom we trust and the right name, or not at all.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) trust: Option<Trust>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// A server that isn't trusted, in nginx's words.
#[derive(Debug)]
enum Untrusted {
    Chain(Reason),
    Name(String),
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untrusted::Chain(reason) => write!(f, "upstream SSL certificate verify error: {reason}"),
            Untrusted::Name(name) => write!(f, "upstream SSL certificate does not match \"{name}\""),
        }
    }
}

impl std::error::Error for Untrusted {}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let chain: Vec<CertificateDer<'_>> = [leaf].into_iter().chain(others).cloned().collect();
        let untrusted = |why| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))));
        let refused = |reason| untrusted(Untrusted::Chain(reason));
        let path = trust.path(&chain, ID_KP_SERVER_AUTH, now).map_err(refused)?;
        match named(leaf, name) {
            Named::Properly => Ok(ServerCertVerified::assertion()),
            Named::Not => Err(untrusted(Untrusted::Name(name.to_str().into_owned()))),
            // Nobody has held it to the names its issuers may give.
            Named::BySubject if path[1..].iter().any(certificate::has_constraints) => {
                Err(refused(trust::NOT_PERMITTED))
            }
            Named::BySubject => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
