//! A chain of certificates: webpki's judgement in OpenSSL's words, and what webpki does not look at.
//!
//! webpki takes an authority as it is given; OpenSSL looks at it too, and so do we: it must be one that may issue others, in
//! its time, with no more certificates below it than it allows, and what issued it, if we have that, is part of the chain
//! (its length, its revocation lists). Certificates of version 1 and such that may issue others, which webpki refuses to take
//! for a peer's, are checked here alone, and only when an authority has issued them itself.

use std::cell::Cell;
use std::cmp::Reverse;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_OCSP_SIGNING};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{Certificate, TbsCertificate};

use super::Reason;
use super::list::List;

/// Authorities, revocation lists, and how long a chain may be.
#[derive(Debug)]
pub struct Trust {
    /// All that was given; a peer may show one of them itself.
    certificates: Vec<CertificateDer<'static>>,
    /// Those that may issue others, in webpki's form and in whole, in the same order.
    anchors: Vec<TrustAnchor<'static>>,
    authorities: Vec<Certificate>,
    /// The lists in webpki's form, if it can read all of them.
    revoked: Vec<CertRevocationList<'static>>,
    lists: Vec<List>,
    /// Whether there were any lists, read or not.
    has_lists: bool,
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
        let (mut anchors, mut issuers) = (Vec::new(), Vec::new());
        for (number, authority) in authorities.iter().enumerate() {
            match (anchor_from_trusted_cert(authority), Certificate::from_der(authority)) {
                (Ok(anchor), Ok(certificate)) if may_issue(&certificate) => {
                    anchors.push(anchor.to_owned());
                    issuers.push(certificate);
                }
                // A peer may show it itself, no more.
                (Ok(_), Ok(_)) => {}
                (Err(error), _) => {
                    warnings.push(format!("certificate {} is not trusted: {error}", number + 1));
                }
                (_, Err(error)) => {
                    warnings.push(format!("certificate {} is not trusted: {error}", number + 1));
                }
            }
        }
        let mut own = Vec::new();
        for (number, list) in lists.iter().enumerate() {
            match List::from_der(list) {
                Ok(list) => own.push(list),
                Err(error) => warnings.push(format!("revocation list {} is not used: {error}", number + 1)),
            }
        }
        // Of several lists of one issuer the first is asked: the newest.
        let mut newest = lists.to_vec();
        newest.sort_by_key(|list| Reverse(List::from_der(list).ok().map(|list| list.this_update_s)));
        let revoked: Result<Vec<_>, _> =
            newest.iter().map(|list| OwnedCertRevocationList::from_der(list).map(Into::into)).collect();
        let trust = Trust {
            certificates: authorities,
            anchors,
            authorities: issuers,
            revoked: revoked.unwrap_or_default(),
            lists: own,
            has_lists: !lists.is_empty(),
            depth,
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        };
        (trust, warnings)
    }

    pub(in crate::config) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<(), Reason> {
        self.path(chain, purpose, now).map(drop)
    }

    /// The chain that a peer's certificate is trusted by, as far up as it is known; a peer may have sent others, too.
    pub(crate) fn path(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Reason> {
        let Some((leaf, others)) = chain.split_first() else { return Err(UNSPECIFIED) };
        let parsed = Certificate::from_der(leaf).map_err(|_| UNSPECIFIED)?;
        if !self.has_lists && self.certificates.iter().any(|trusted| trusted == leaf) {
            return fits(&parsed, purpose, now).map(|()| vec![parsed]);
        }
        if self.revoked.is_empty() && self.lists.is_empty() && self.has_lists {
            // None of the lists can be read: nobody can be told from those who are revoked.
            return Err(NO_CRL);
        }
        let usage = match purpose {
            ID_KP_CLIENT_AUTH => KeyUsage::client_auth(),
            // Of the certificates above the signer's; the signer's own is looked at by who asks.
            ID_KP_OCSP_SIGNING => KeyUsage::required_if_present(ID_KP_OCSP_SIGNING.as_bytes()),
            _ => KeyUsage::server_auth(),
        };
        match self.verify(leaf, others, usage, now) {
            Ok(path) => Ok(path),
            Err(Refused::Ours(reason)) => Err(reason),
            Err(Refused::Webpki(
                webpki::Error::UnsupportedCertVersion | webpki::Error::CaUsedAsEndEntity,
            )) => self.check_directly(&parsed, others, purpose, now),
            Err(Refused::Webpki(webpki::Error::UnknownIssuer)) => Err(unknown_issuer(&parsed, others)),
            Err(Refused::Webpki(error)) => Err(reason(&error)),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Refused> {
        let (ours, found) = (Cell::new(None), Cell::new(Vec::new()));
        let look_further = |path: &VerifiedPath<'_>| match self.check_path(path, now) {
            Ok(path) => {
                found.set(path);
                Ok(())
            }
            Err(reason) => {
                ours.set(Some(reason));
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        let verified = EndEntityCert::try_from(leaf).and_then(|leaf| {
            leaf.verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                others,
                now,
                usage,
                revocation(&lists),
                Some(&look_further),
            )
            .map(drop)
        });
        match verified {
            Ok(()) => Ok(found.take()),
            Err(error) => Err(ours.take().map_or(Refused::Webpki(error), Refused::Ours)),
        }
    }

    /// What webpki leaves open about a path it has found; the path with what is above it.
    fn check_path(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<Vec<Certificate>, Reason> {
        let at = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let authority = at.and_then(|at| self.authorities.get(at)).ok_or(UNSPECIFIED)?;
        let mut below: Vec<Certificate> = [path.end_entity().der()]
            .into_iter()
            .chain(path.intermediate_certificates().map(|certificate| certificate.der()))
            .map(|der| Certificate::from_der(&der).map_err(|_| UNSPECIFIED))
            .collect::<Result<_, _>>()?;
        if !below[1..].iter().all(may_issue) {
            return Err(INVALID_CA);
        }
        if self.has_lists && self.revoked.is_empty() {
            let issuers = below[1..].iter().chain([authority]);
            below.iter().zip(issuers).try_for_each(|(one, issuer)| self.not_revoked(one, issuer, now))?;
        }
        let above = self.check_above(authority, &below[1..], now)?;
        below.extend(above.into_iter().cloned());
        Ok(below)
    }

    /// An authority at the end of a chain, and those above it that we have, which come back; `between` are the certificates
    /// between it and the peer's.
    fn check_above<'a>(
        &'a self,
        authority: &'a Certificate,
        between: &[Certificate],
        now: UnixTime,
    ) -> Result<Vec<&'a Certificate>, Reason> {
        let mut chain = vec![authority];
        // Those a certificate has issued to itself, say with a new key, do not count for what it allows.
        let mut counted = between.iter().filter(|certificate| !is_self_issued(certificate)).count();
        let mut last = authority;
        loop {
            in_time(last, now)?;
            if path_length(last).is_some_and(|allowed| counted > allowed) {
                return Err(PATH_TOO_LONG);
            }
            if between.len() + chain.len() - 1 > self.depth {
                return Err(CHAIN_TOO_LONG);
            }
            if is_self_issued(last) {
                return Ok(chain);
            }
            let Some(above) = self.issuer_of(last) else { return Ok(chain) };
            if has_constraints(above) {
                // webpki has not seen them.
                return Err(NOT_PERMITTED);
            }
            if self.has_lists {
                self.not_revoked(last, above, now)?;
            }
            chain.push(above);
            (counted, last) = (counted + 1, above);
        }
    }

    /// The authority that has issued and signed a certificate.
    fn issuer_of(&self, certificate: &Certificate) -> Option<&Certificate> {
        self.authorities.iter().find(|authority| is_issued(certificate, authority))
    }

    /// Verifies a certificate that an authority has issued itself and webpki does not look at: of version 1, which has no
    /// extensions that could limit it, or one that may issue others.
    fn check_directly(
        &self,
        leaf: &Certificate,
        others: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Reason> {
        let authority = self.issuer_of(leaf).ok_or_else(|| unknown_issuer(leaf, others))?;
        fits(leaf, purpose, now)?;
        if has_constraints(authority) {
            return Err(NOT_PERMITTED);
        }
        if self.has_lists {
            self.not_revoked(leaf, authority, now)?;
        }
        let above = self.check_above(authority, &[], now)?;
        Ok([leaf].into_iter().chain(above).cloned().collect())
    }

    /// By the newest list of its issuer; without one the answer is unknown, which is no.
    fn not_revoked(&self, one: &Certificate, issuer: &Certificate, now: UnixTime) -> Result<(), Reason> {
        if !may_sign_lists(issuer) {
            return Err(NO_CRL);
        }
        let own = self.lists.iter().filter(|list| list.is_of(issuer) && list.has_begun(now));
        let signed = own.filter(|list| is_signed(issuer, &list.algorithm, &list.tbs, &list.signature));
        let list = signed.max_by_key(|list| list.made_s()).ok_or(NO_CRL)?;
        if list.is_expired(now) {
            return Err(CRL_EXPIRED);
        }
        if list.names(one) { Err(REVOKED) } else { Ok(()) }
    }
}

/// Whether a certificate's key has made a signature.
pub(crate) fn is_signed(
    signer: &Certificate,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &BitString,
) -> bool {
    // Without the header of its sequence, which is short.
    let inside = |algorithm: &AlgorithmIdentifierOwned| algorithm.to_der().ok()?.get(2..).map(<[u8]>::to_vec);
    let key = signer.tbs_certificate().subject_public_key_info();
    let (Some(of_key), Some(of_signature)) = (inside(&key.algorithm), inside(algorithm)) else {
        return false;
    };
    let (Some(key), Some(signature)) = (key.subject_public_key.as_bytes(), signature.as_bytes()) else {
        return false;
    };
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut fit = algorithms.all.iter().filter(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == of_key
            && algorithm.signature_alg_id().as_ref() == of_signature
    });
    fit.any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// Whether `issuer` has issued and signed a certificate.
pub(crate) fn is_issued(certificate: &Certificate, issuer: &Certificate) -> bool {
    let tbs = certificate.tbs_certificate();
    let algorithm = certificate.signature_algorithm();
    issuer.tbs_certificate().subject() == tbs.issuer()
        && tbs.signature() == algorithm
        && tbs.to_der().is_ok_and(|message| is_signed(issuer, algorithm, &message, certificate.signature()))
}

/// Who refused, and why.
enum Refused {
    Webpki(webpki::Error),
    Ours(Reason),
}

const INVALID_CA: Reason = Reason::new(79, "invalid CA certificate");
const UNSPECIFIED: Reason = Reason::new(1, "unspecified certificate verification error");
const NO_CRL: Reason = Reason::new(3, "unable to get certificate CRL");
const NOT_YET_VALID: Reason = Reason::new(9, "certificate is not yet valid");
const EXPIRED: Reason = Reason::new(10, "certificate has expired");
const CRL_EXPIRED: Reason = Reason::new(12, "CRL has expired");
const CHAIN_TOO_LONG: Reason = Reason::new(22, "certificate chain too long");
const REVOKED: Reason = Reason::new(23, "certificate revoked");
const PATH_TOO_LONG: Reason = Reason::new(25, "path length constraint exceeded");
const BAD_PURPOSE: Reason = Reason::new(26, "unsuitable certificate purpose");
const UNKNOWN_EXTENSION: Reason = Reason::new(34, "unhandled critical extension");
pub(super) const NOT_PERMITTED: Reason = Reason::new(47, "permitted subtree violation");

fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    // Without lists there is nothing to look at. With them the defaults are nginx's: the whole chain, unknown is refused.
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(builder.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build())
}

/// Whether a certificate may issue others, as OpenSSL's `X509_check_ca` has it: it says so, or it is from before one could.
fn may_issue(certificate: &Certificate) -> bool {
    let tbs = certificate.tbs_certificate();
    let (Ok(usage), Ok(constraints)) =
        (tbs.get_extension::<pkix::KeyUsage>(), tbs.get_extension::<pkix::BasicConstraints>())
    else {
        return false;
    };
    match (usage, constraints) {
        (Some((_, usage)), _) if !usage.key_cert_sign() => false,
        (_, Some((_, constraints))) => constraints.ca,
        (Some(_), None) => true,
        (None, None) => tbs.version() == Version::V1 && is_self_issued(certificate),
    }
}

/// Whether it limits the names of those below it, as far as one can tell.
pub(super) fn has_constraints(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate().get_extension::<pkix::NameConstraints>();
    constraints.map_or(true, |constraints| constraints.is_some())
}

fn may_sign_lists(certificate: &Certificate) -> bool {
    let usage = certificate.tbs_certificate().get_extension::<pkix::KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.crl_sign()))
}

fn path_length(certificate: &Certificate) -> Option<usize> {
    let constraints = certificate.tbs_certificate().get_extension::<pkix::BasicConstraints>().ok()??.1;
    constraints.path_len_constraint.map(usize::from)
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
}

/// What a peer's certificate says of itself: its time, what it is for, and nothing that nobody here understands.
fn fits(leaf: &Certificate, purpose: ObjectIdentifier, now: UnixTime) -> Result<(), Reason> {
    in_time(leaf, now)?;
    let tbs = leaf.tbs_certificate();
    if has_unknown_extension(tbs) {
        return Err(UNKNOWN_EXTENSION);
    }
    let is_for_it = match tbs.get_extension::<pkix::ExtendedKeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, purposes))) => purposes.0.contains(&purpose),
        Err(_) => false,
    };
    if is_for_it { Ok(()) } else { Err(BAD_PURPOSE) }
}

/// A critical extension beside those that are looked at, or that limit nothing here.
fn has_unknown_extension(tbs: &TbsCertificate) -> bool {
    const KNOWN: [ObjectIdentifier; 6] = [
        pkix::BasicConstraints::OID,
        pkix::KeyUsage::OID,
        pkix::ExtendedKeyUsage::OID,
        pkix::SubjectAltName::OID,
        pkix::SubjectKeyIdentifier::OID,
        pkix::AuthorityKeyIdentifier::OID,
    ];
    let mut extensions = tbs.extensions().into_iter().flatten();
    extensions.any(|extension| extension.critical && !KNOWN.contains(&extension.extn_id))
}

pub(crate) fn in_time(certificate: &Certificate, now: UnixTime) -> Result<(), Reason> {
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
    let others: Vec<Certificate> = others.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if is_self_issued(leaf) {
        return Reason::new(18, "self-signed certificate");
    }
    if others.iter().any(is_self_issued) {
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
        webpki::Error::MaximumPathDepthExceeded => CHAIN_TOO_LONG,
        webpki::Error::PathLenConstraintViolated => PATH_TOO_LONG,
        webpki::Error::EndEntityUsedAsCa => INVALID_CA,
        webpki::Error::RequiredEkuNotFoundContext(_) => BAD_PURPOSE,
        webpki::Error::UnsupportedCriticalExtension => UNKNOWN_EXTENSION,
        webpki::Error::NameConstraintViolation => NOT_PERMITTED,
        webpki::Error::UnsupportedSignatureAlgorithmContext(_)
        | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Reason::new(68, "CA signature digest algorithm too weak")
        }
        _ => UNSPECIFIED,
    }
}
