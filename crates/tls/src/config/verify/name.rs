//! Whether a server's certificate is for the name it was called by.

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;

/// What makes a certificate one for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Not,
    /// One of its alternative names.
    Properly,
    /// Its subject, which name constraints say nothing about.
    BySubject,
}

/// Whether a certificate is for that name: one of its alternative names, or without any the subject's, as in
/// `X509_check_host`.
pub(super) fn named(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Named {
    if EndEntityCert::try_from(leaf).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok()) {
        return Named::Properly;
    }
    let (Ok(leaf), ServerName::DnsName(name)) = (Certificate::from_der(leaf), name) else {
        return Named::Not;
    };
    // Names that nobody can read are names.
    let has_names =
        leaf.tbs_certificate().get_extension::<SubjectAltName>().map_or(true, |names| names.is_some());
    match !has_names && common_names(&leaf).iter().any(|common| matches(common, name.as_ref())) {
        true => Named::BySubject,
        false => Named::Not,
    }
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
