//! What a certificate says it is for, and what it wants to be understood: OpenSSL's `X509_check_purpose` and its list of
//! extensions that may be critical. It holds for every certificate of a chain, the authority's too.

use x509_cert::der::Decode;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::ext::pkix;
use x509_cert::{Certificate, TbsCertificate};

use super::Reason;

/// Where a certificate stands in its chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the peer's own.
    Peer,
    /// It has issued another.
    Issuer,
}

/// Whether a certificate may be used for that, at that place.
///
/// # Errors
/// It is for something else, or has a critical extension that nobody here follows.
pub(super) fn fits(certificate: &Certificate, purpose: ObjectIdentifier, place: Place) -> Result<(), Reason> {
    let tbs = certificate.tbs_certificate();
    if has_unknown_extension(tbs) {
        return Err(UNKNOWN_EXTENSION);
    }
    let is_meant = match purpose {
        ID_KP_CLIENT_AUTH | ID_KP_SERVER_AUTH => {
            is_among_extended(tbs, purpose)
                && is_of_type(tbs, purpose, place)
                && (place == Place::Issuer || may_sign_in(tbs, purpose))
        }
        // Who verifies a signature over an OCSP answer looks at the signer's itself.
        _ => true,
    };
    if is_meant { Ok(()) } else { Err(BAD_PURPOSE) }
}

const BAD_PURPOSE: Reason = Reason::new(26, "unsuitable certificate purpose");
pub(super) const UNKNOWN_EXTENSION: Reason = Reason::new(34, "unhandled critical extension");

/// "Server gated cryptography", which once stood for a server's purpose, of two makers.
const SGC: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.3"),
    ObjectIdentifier::new_unwrap("2.16.840.1.113730.4.1"),
];

/// Of what it may be used for this is one, or it doesn't say. Any purpose (`anyExtendedKeyUsage`) is none, as in OpenSSL.
fn is_among_extended(tbs: &TbsCertificate, purpose: ObjectIdentifier) -> bool {
    match tbs.get_extension::<pkix::ExtendedKeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, purposes))) => {
            purposes.0.iter().any(|one| *one == purpose || purpose == ID_KP_SERVER_AUTH && SGC.contains(one))
        }
        Err(_) => false,
    }
}

/// A peer's key signs in the handshake, or agrees on a secret, or decrypts one (servers only).
fn may_sign_in(tbs: &TbsCertificate, purpose: ObjectIdentifier) -> bool {
    tbs.get_extension::<pkix::KeyUsage>().is_ok_and(|usage| {
        usage.is_none_or(|(_, usage)| {
            usage.digital_signature()
                || usage.key_agreement()
                || purpose == ID_KP_SERVER_AUTH && usage.key_encipherment()
        })
    })
}

/// Netscape's type of a certificate, from before there were extended key usages; `openssl ca` still knows how to make one.
const CERTIFICATE_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1");

fn is_of_type(tbs: &TbsCertificate, purpose: ObjectIdentifier, place: Place) -> bool {
    let mut extensions = tbs.extensions().into_iter().flatten();
    let Some(found) = extensions.find(|extension| extension.extn_id == CERTIFICATE_TYPE) else { return true };
    // Of an issuer it is asked only where nothing else says that it is one, and then it is none here.
    if place == Place::Issuer {
        return true;
    }
    let bits = BitString::from_der(found.extn_value.as_bytes());
    let first = bits.ok().and_then(|bits| bits.raw_bytes().first().copied()).unwrap_or_default();
    first & if purpose == ID_KP_CLIENT_AUTH { 0x80 } else { 0x40 } != 0
}

/// A critical extension beside those that are looked at, or that limit nothing here: policies are not asked for.
fn has_unknown_extension(tbs: &TbsCertificate) -> bool {
    const KNOWN: [ObjectIdentifier; 14] = [
        pkix::BasicConstraints::OID,
        pkix::KeyUsage::OID,
        pkix::ExtendedKeyUsage::OID,
        pkix::SubjectAltName::OID,
        pkix::NameConstraints::OID,
        pkix::CrlDistributionPoints::OID,
        pkix::CertificatePolicies::OID,
        pkix::PolicyMappings::OID,
        pkix::PolicyConstraints::OID,
        pkix::InhibitAnyPolicy::OID,
        pkix::SubjectKeyIdentifier::OID,
        pkix::AuthorityKeyIdentifier::OID,
        CERTIFICATE_TYPE,
        // id-pkix-ocsp-nocheck
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5"),
    ];
    let mut extensions = tbs.extensions().into_iter().flatten();
    extensions.any(|extension| extension.critical && !KNOWN.contains(&extension.extn_id))
}
