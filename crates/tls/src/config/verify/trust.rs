//! A chain of certificates: webpki's judgement in OpenSSL's words, and the few cases that webpki does not look at.

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::oid::db::rfc5280::ID_KP_CLIENT_AUTH;
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::Reason;

/// Authorities, revocation lists, and how long a chain may be.
#[derive(Debug)]
pub struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// The lists in both forms: webpki's, and as they came.
    revoked: Vec<CertRevocationList<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    depth: usize,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
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

    pub(in crate::config) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn check(
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
