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
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RawPublicKeyEntity,
    RevocationOptions, RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{BitString, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

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

    /// Whether `ssl_verify_client optional_no_ca` overlooks it: only the authority is unknown.
    pub fn is_unknown_authority(self) -> bool {
        matches!(self.code, 18..=21 | 27)
    }
}

/// As nginx logs it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}:{})", self.code, self.words)
    }
}

/// Authorities, revocation lists, and how long a chain may be.
#[derive(Debug)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// The lists in both forms: webpki's, and as they came.
    revoked: Vec<CertRevocationList<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    depth: usize,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trusts `authorities`. With revocation lists, there must be one for every authority of a chain (`ssl_crl`). `depth` is
    /// how many certificates may stand between a peer's and an authority's (`ssl_verify_depth`). Authorities and lists that
    /// cannot be read are left out; the second value names them, a line each.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        lists: &[CertificateRevocationListDer<'static>],
        depth: usize,
    ) -> (Trust, Vec<String>) {
        let mut warnings = Vec::new();
        let mut anchors = Vec::new();
        for (number, authority) in authorities.iter().enumerate() {
            match anchor_from_trusted_cert(authority) {
                Ok(anchor) => anchors.push(anchor.to_owned()),
                Err(error) => warnings.push(format!("certificate {} is not trusted: {error}", number + 1)),
            }
        }
        let mut revoked = Vec::new();
        for (number, list) in lists.iter().enumerate() {
            match OwnedCertRevocationList::from_der(list) {
                Ok(list) => revoked.push(list.into()),
                Err(error) => warnings.push(format!("revocation list {} is not used: {error}", number + 1)),
            }
        }
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let lists = lists.to_vec();
        (Trust { certificates: authorities, anchors, revoked, lists, depth, algorithms }, warnings)
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    fn check(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<(), Reason> {
        let Some((leaf, others)) = chain.split_first() else { return Err(UNSPECIFIED) };
        let parsed = Certificate::from_der(leaf).map_err(|_| UNSPECIFIED)?;
        if self.lists.is_empty() && self.certificates.iter().any(|trusted| trusted == leaf) {
            return in_time(&parsed, now);
        }
        if self.revoked.is_empty() && !self.lists.is_empty() {
            // None of the lists can be read: nobody can be told from those who are revoked.
            return Err(NO_CRL);
        }
        let usage = match purpose {
            ID_KP_CLIENT_AUTH => KeyUsage::client_auth(),
            _ => KeyUsage::server_auth(),
        };
        match self.verify(leaf, others, usage, now) {
            Ok(()) => Ok(()),
            Err(webpki::Error::UnsupportedCertVersion | webpki::Error::CaUsedAsEndEntity) => {
                self.check_directly(&parsed, others, purpose, now)
            }
            Err(webpki::Error::UnknownIssuer) => Err(unknown_issuer(&parsed, others)),
            Err(error) => Err(reason(&error)),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let not_too_long = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count() {
            count if count > self.depth => Err(webpki::Error::MaximumPathDepthExceeded),
            _ => Ok(()),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                others,
                now,
                usage,
                revocation(&lists),
                Some(&not_too_long),
            )
            .map(drop)
    }

    /// Verifies a certificate that an authority has issued itself and webpki does not look at: of version 1, which has no
    /// extensions that could limit it, or one that may issue others.
    fn check_directly(
        &self,
        leaf: &Certificate,
        others: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<(), Reason> {
        let issuer = leaf.tbs_certificate().issuer();
        let authorities = self.certificates.iter().filter_map(|der| Certificate::from_der(der).ok());
        let mut signers = authorities.filter(|authority| {
            let key = authority.tbs_certificate().subject_public_key_info();
            authority.tbs_certificate().subject() == issuer
                && self.is_signed(
                    key,
                    leaf.signature_algorithm(),
                    leaf.tbs_certificate().to_der(),
                    leaf.signature(),
                )
        });
        let authority = signers.next().ok_or_else(|| unknown_issuer(leaf, others))?;
        in_time(leaf, now)?;
        let purposes = leaf.tbs_certificate().get_extension::<ExtendedKeyUsage>();
        if purposes.is_ok_and(|purposes| purposes.is_some_and(|(_, purposes)| !purposes.0.contains(&purpose)))
        {
            return Err(BAD_PURPOSE);
        }
        self.not_revoked(leaf, &authority, now)
    }

    /// Whether `key` has made a signature. All is DER.
    fn is_signed(
        &self,
        key: &SubjectPublicKeyInfoOwned,
        algorithm: &AlgorithmIdentifierOwned,
        message: der::Result<Vec<u8>>,
        signature: &BitString,
    ) -> bool {
        // Without the header of its sequence, which is short.
        let inside =
            |algorithm: &AlgorithmIdentifierOwned| algorithm.to_der().ok()?.get(2..).map(<[u8]>::to_vec);
        let (Some(of_key), Some(of_signature)) = (inside(&key.algorithm), inside(algorithm)) else {
            return false;
        };
        let (Ok(message), Some(key), Some(signature)) =
            (message, key.subject_public_key.as_bytes(), signature.as_bytes())
        else {
            return false;
        };
        let mut fit = self.algorithms.all.iter().filter(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == of_key
                && algorithm.signature_alg_id().as_ref() == of_signature
        });
        fit.any(|algorithm| algorithm.verify_signature(key, &message, signature).is_ok())
    }

    /// By the lists of the leaf's issuer; without one the answer is unknown, which is no.
    fn not_revoked(&self, leaf: &Certificate, authority: &Certificate, now: UnixTime) -> Result<(), Reason> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let lists = self.lists.iter().filter_map(|der| CertificateList::from_der(der).ok());
        let key = authority.tbs_certificate().subject_public_key_info();
        let mut own = lists.filter(|list| {
            list.tbs_cert_list.issuer == *authority.tbs_certificate().subject()
                && self.is_signed(
                    key,
                    &list.signature_algorithm,
                    list.tbs_cert_list.to_der(),
                    &list.signature,
                )
        });
        let list = own.next().ok_or(NO_CRL)?.tbs_cert_list;
        if list.next_update.is_some_and(|time| time.to_unix_duration().as_secs() < now.as_secs()) {
            return Err(CRL_EXPIRED);
        }
        let serial = leaf.tbs_certificate().serial_number();
        match list.revoked_certificates.iter().flatten().any(|revoked| revoked.serial_number == *serial) {
            true => Err(REVOKED),
            false => Ok(()),
        }
    }
}

const UNSPECIFIED: Reason = Reason::new(1, "unspecified certificate verification error");
const NO_CRL: Reason = Reason::new(3, "unable to get certificate CRL");
const NOT_YET_VALID: Reason = Reason::new(9, "certificate is not yet valid");
const EXPIRED: Reason = Reason::new(10, "certificate has expired");
const CRL_EXPIRED: Reason = Reason::new(12, "CRL has expired");
const REVOKED: Reason = Reason::new(23, "certificate revoked");
const BAD_PURPOSE: Reason = Reason::new(26, "unsuitable certificate purpose");

fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    // Without lists there is nothing to look at. With them the defaults are nginx's: the whole chain, unknown is refused.
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(builder.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build())
}

fn in_time(certificate: &Certificate, now: UnixTime) -> Result<(), Reason> {
    let validity = certificate.tbs_certificate().validity();
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(NOT_YET_VALID);
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(EXPIRED);
    }
    Ok(())
}

/// What OpenSSL says of a chain that leads nowhere depends on how far it got.
fn unknown_issuer(leaf: &Certificate, others: &[CertificateDer<'_>]) -> Reason {
    let is_self_signed = |certificate: &Certificate| {
        certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
    };
    let others: Vec<Certificate> = others.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if is_self_signed(leaf) {
        return Reason::new(18, "self-signed certificate");
    }
    if others.iter().any(is_self_signed) {
        return Reason::new(19, "self-signed certificate in certificate chain");
    }
    let issuer = leaf.tbs_certificate().issuer();
    match others.iter().any(|other| other.tbs_certificate().subject() == issuer) {
        true => Reason::new(20, "unable to get local issuer certificate"),
        false => Reason::new(21, "unable to verify the first certificate"),
    }
}

fn reason(error: &webpki::Error) -> Reason {
    match error {
        webpki::Error::CertExpired { .. } => EXPIRED,
        webpki::Error::CertNotValidYet { .. } => NOT_YET_VALID,
        webpki::Error::CertRevoked => REVOKED,
        webpki::Error::UnknownRevocationStatus => NO_CRL,
        webpki::Error::CrlExpired { .. } => CRL_EXPIRED,
        webpki::Error::InvalidCrlSignatureForPublicKey => Reason::new(8, "CRL signature failure"),
        webpki::Error::InvalidSignatureForPublicKey => Reason::new(7, "certificate signature failure"),
        webpki::Error::MaximumPathDepthExceeded => Reason::new(22, "certificate chain too long"),
        webpki::Error::PathLenConstraintViolated => Reason::new(25, "path length constraint exceeded"),
        webpki::Error::EndEntityUsedAsCa => Reason::new(79, "invalid CA certificate"),
        webpki::Error::RequiredEkuNotFoundContext(_) => BAD_PURPOSE,
        webpki::Error::UnsupportedCriticalExtension => Reason::new(34, "unhandled critical extension"),
        webpki::Error::NameConstraintViolation => Reason::new(47, "permitted subtree violation"),
        webpki::Error::UnsupportedSignatureAlgorithmContext(_)
        | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Reason::new(68, "CA signature digest algorithm too weak")
        }
        _ => UNSPECIFIED,
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
        let hints = anchors.map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
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
        tls12_signature(message, leaf, signed, &self.0.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, leaf, signed, &self.0.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.trust.algorithms.supported_schemes()
    }
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
        trust.check(&chain, ID_KP_SERVER_AUTH, now).map_err(|reason| untrusted(Untrusted::Chain(reason)))?;
        if !is_named(leaf, name) {
            return Err(untrusted(Untrusted::Name(name.to_str().into_owned())));
        }
        Ok(ServerCertVerified::assertion())
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

/// Whether a certificate is for that name: one of its alternative names, or without any the subject's, as in
/// `X509_check_host`.
fn is_named(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    if EndEntityCert::try_from(leaf).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok()) {
        return true;
    }
    let (Ok(leaf), ServerName::DnsName(name)) = (Certificate::from_der(leaf), name) else { return false };
    let has_names =
        leaf.tbs_certificate().get_extension::<SubjectAltName>().is_ok_and(|names| names.is_some());
    !has_names && common_names(&leaf).iter().any(|common| matches(common, name.as_ref()))
}

fn common_names(leaf: &Certificate) -> Vec<String> {
    let attributes = leaf.tbs_certificate().subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let text = attributes.filter_map(|attribute| {
        let utf8 = attribute.value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
        let printable =
            || attribute.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
        utf8.or_else(|_| printable()).ok()
    });
    text.collect()
}

/// A name or `*.` and what follows its first label.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(pattern), Some((first, rest))) => {
            !first.is_empty() && pattern.contains('.') && pattern.eq_ignore_ascii_case(rest)
        }
        (Some(_), None) => false,
        (None, _) => pattern.eq_ignore_ascii_case(name),
    }
}
