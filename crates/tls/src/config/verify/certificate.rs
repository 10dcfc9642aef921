//! Questions to one certificate: who has issued it, and what it may issue itself.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::Encode;
use x509_cert::der::asn1::BitString;
use x509_cert::ext::pkix;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::Reason;

pub(super) const NOT_YET_VALID: Reason = Reason::new(9, "certificate is not yet valid");
pub(super) const EXPIRED: Reason = Reason::new(10, "certificate has expired");

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

/// Whether a certificate may issue others, as OpenSSL's `X509_check_ca` has it: it says so, or it is from before one could.
pub(super) fn may_issue(certificate: &Certificate) -> bool {
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

/// The same of one between a peer's and a trusted one: OpenSSL believes it only if it says outright that it is an authority.
pub(super) fn may_issue_between(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate().get_extension::<pkix::BasicConstraints>();
    may_issue(certificate) && constraints.is_ok_and(|constraints| constraints.is_some_and(|(_, at)| at.ca))
}

/// Whether it limits the names of those below it, as far as one can tell.
pub(super) fn has_constraints(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate().get_extension::<pkix::NameConstraints>();
    constraints.map_or(true, |constraints| constraints.is_some())
}

pub(super) fn may_sign_lists(certificate: &Certificate) -> bool {
    let usage = certificate.tbs_certificate().get_extension::<pkix::KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.crl_sign()))
}

pub(super) fn path_length(certificate: &Certificate) -> Option<usize> {
    let constraints = certificate.tbs_certificate().get_extension::<pkix::BasicConstraints>().ok()??.1;
    constraints.path_len_constraint.map(usize::from)
}

pub(super) fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
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
