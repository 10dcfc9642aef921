//! Certificates, keys and revocation lists from the bytes of PEM files, with nginx's words when they are of no use.
//!
//! What a name stands for (a path, or `data:` and the PEM itself) is read elsewhere; here it only appears in messages.

use std::fmt;
use std::io;
use std::sync::Arc;

use pem::Pem;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::signed::NotingKey;

mod help;
mod legacy;

pub use help::help;

/// Why a file is of no use, in nginx's words; nothing is put in front of or behind it but file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError(String);

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

/// What a file is for; nginx words its errors by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ssl_certificate`.
    Certificate,
    /// `ssl_certificate_key`.
    Key,
    /// `ssl_client_certificate`, `ssl_trusted_certificate`.
    Trusted,
    /// `ssl_crl`.
    Crl,
    /// `ssl_dhparam`.
    Parameters,
}

/// A file that could not be read.
pub fn unreadable(kind: Kind, name: &str, error: &io::Error) -> FileError {
    let errno = error.raw_os_error().unwrap_or_default();
    let text = sys::errno::words(error);
    let opened = format!(
        "SSL: error:{:08X}:system library::{text}:calling fopen({name}, r)",
        0x8000_0000_u32 | errno as u32
    );
    let missing = match errno {
        ENOENT => " error:10000080:BIO routines::no such file",
        _ => " error:10080002:BIO routines::system lib",
    };
    FileError(match kind {
        Kind::Certificate | Kind::Trusted => {
            format!("cannot load certificate \"{name}\": BIO_new_file() failed ({opened}{missing})")
        }
        Kind::Key => {
            format!("cannot load certificate key \"{name}\": BIO_new_file() failed ({opened}{missing})")
        }
        Kind::Crl => format!("cannot load CRL \"{name}\": BIO_new_file() failed ({opened}{missing})"),
        Kind::Parameters => format!("BIO_new_file(\"{name}\") failed ({opened}{missing})"),
    })
}

/// The kernel's number for a file that is not there.
const ENOENT: i32 = 2;

/// The PEM text of a value that carries it instead of a path (`data:-----BEGIN ...`).
pub fn inline(value: &str) -> Option<&str> {
    value.strip_prefix("data:")
}

/// A certificate and those that go with it, in the order of the file. At least one.
pub fn certificates(name: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let failed = |reason| {
        FileError(format!(
            "cannot load certificate \"{name}\": PEM_read_bio_X509_AUX() failed (SSL: {reason})"
        ))
    };
    let blocks = blocks(text).map_err(|_| failed("error:04800066:PEM routines::bad end line"))?;
    let chain: Vec<_> = blocks.into_iter().filter_map(certificate).collect();
    if chain.is_empty() {
        if is_cut_off(text) {
            return Err(failed("error:04800066:PEM routines::bad end line"));
        }
        return Err(failed("error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE"));
    }
    let bad = chain.iter().find(|der| Certificate::from_der(der).is_err());
    bad.map_or(Ok(()), |_| Err(failed("error:0480000D:PEM routines::ASN1 lib")))?;
    Ok(chain)
}

/// Certificates of authorities (`ssl_client_certificate`, `ssl_trusted_certificate`). At least one.
pub fn authorities(name: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    certificates(name, text)
}

/// Revocation lists (`ssl_crl`). At least one.
pub fn revocations(name: &str, text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let blocks = blocks(text).unwrap_or_default().into_iter();
    let found: Vec<_> = blocks
        .filter(|block| block.tag() == "X509 CRL")
        .map(|block| CertificateRevocationListDer::from(block.into_contents()))
        .collect();
    match found.is_empty() {
        true => Err(FileError(format!(
            "cannot load CRL \"{name}\": PEM_read_bio_X509_CRL() failed \
             (SSL: error:0480006C:PEM routines::no start line:Expecting: X509 CRL)"
        ))),
        false => Ok(found),
    }
}

/// A private key: PKCS#1, PKCS#8 or SEC1. An encrypted one is tried with each password in order (`ssl_password_file`).
pub fn key(name: &str, text: &[u8], passwords: &[Vec<u8>]) -> Result<PrivateKeyDer<'static>, FileError> {
    let failed = |reason: &str| {
        FileError(format!(
            "cannot load certificate key \"{name}\": PEM_read_bio_PrivateKey() failed (SSL: {reason})"
        ))
    };
    let blocks = blocks(text).map_err(|_| failed("error:1E08010C:DECODER routines::unsupported"))?;
    let block = blocks.into_iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
    let block = block.ok_or_else(|| {
        failed("error:1E08010C:DECODER routines::unsupported:No supported data to decode. Input type: PEM")
    })?;
    let key = match is_encrypted(&block) {
        true if passwords.is_empty() => {
            return Err(failed("error:0480006D:PEM routines::problems getting password"));
        }
        true => passwords
            .iter()
            .find_map(|password| decrypted(&block, password))
            .ok_or_else(|| failed(bad_decrypt(&block)))?,
        false => bare(block.tag(), block.contents().to_vec()),
    };
    // Read it once, so that what is no key is found with the file's name at hand.
    key.filter(|key| any_supported_type(key).is_ok())
        .ok_or_else(|| failed("error:1E08010C:DECODER routines::unsupported"))
}

/// What OpenSSL says when no password is the one.
fn bad_decrypt(block: &Pem) -> &'static str {
    match block.tag() {
        "ENCRYPTED PRIVATE KEY" => {
            "error:1C800064:Provider routines::bad decrypt error:11800074:PKCS12 routines::pkcs12 cipherfinal \
             error:maybe wrong password"
        }
        _ => "error:1C800064:Provider routines::bad decrypt error:04800065:PEM routines::bad decrypt",
    }
}

/// A certificate and its key, if they belong together.
pub fn pair(
    certificate_name: &str,
    chain: Vec<CertificateDer<'static>>,
    key_name: &str,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, FileError> {
    let unsupported = |_| {
        FileError(format!(
            "cannot load certificate key \"{key_name}\": PEM_read_bio_PrivateKey() failed \
             (SSL: error:1E08010C:DECODER routines::unsupported)"
        ))
    };
    let signer = any_supported_type(key).map_err(unsupported)?;
    let leaf = chain.first().ok_or_else(|| {
        FileError(format!("cannot load certificate \"{certificate_name}\": no certificate"))
    })?;
    if !belong_together(leaf, &signer) {
        return Err(FileError(format!(
            "SSL_CTX_use_PrivateKey(\"{key_name}\") failed \
             (SSL: error:05800074:x509 certificate routines::key values mismatch)"
        )));
    }
    Ok(CertifiedKey::new(chain, Arc::new(NotingKey(signer))))
}

/// Whether two keys are of one kind: RSA, elliptic curves.
pub fn same_kind(one: &PrivateKeyDer<'_>, other: &PrivateKeyDer<'_>) -> bool {
    let kind = |key| any_supported_type(key).ok().map(|key| key.algorithm());
    kind(one) == kind(other)
}

/// Whether a file has parameters for finite-field Diffie-Hellman, which nobody here uses; the error is nginx's.
pub fn parameters(name: &str, text: &[u8]) -> Result<(), FileError> {
    match blocks(text).is_ok_and(|blocks| blocks.iter().any(|block| block.tag().ends_with("DH PARAMETERS"))) {
        true => Ok(()),
        false => Err(FileError(format!(
            "PEM_read_bio_DHparams(\"{name}\") failed \
             (SSL: error:0480006C:PEM routines::no start line:Expecting: DH PARAMETERS)"
        ))),
    }
}

/// Passwords of a password file, one a line, for [`key`].
pub fn passwords(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// SHA-256, for telling bytes apart.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}

/// A certificate as OpenSSL writes it, PEM with lines of 64 characters.
pub fn to_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}

/// Whether a certificate begins that does not end.
fn is_cut_off(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.rsplit_once("-----BEGIN CERTIFICATE-----").is_some_and(|(_, rest)| !rest.contains("-----END"))
}

fn blocks(text: &[u8]) -> Result<Vec<Pem>, pem::PemError> {
    pem::parse_many(text)
}

fn certificate(block: Pem) -> Option<CertificateDer<'static>> {
    match block.tag() {
        "CERTIFICATE" | "X509 CERTIFICATE" => Some(CertificateDer::from(block.into_contents())),
        // What OpenSSL's own trust settings add stands behind the certificate.
        "TRUSTED CERTIFICATE" => {
            let der = block.into_contents();
            let (_, trust) = Certificate::from_der_partial(&der).ok()?;
            Some(CertificateDer::from(der[..der.len() - trust.len()].to_vec()))
        }
        _ => None,
    }
}

/// Whether the first key of a file is encrypted; such keys are not kept in caches, as in nginx.
pub fn has_encrypted_key(text: &[u8]) -> bool {
    let blocks = blocks(text).unwrap_or_default();
    blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")).is_some_and(is_encrypted)
}

fn is_encrypted(block: &Pem) -> bool {
    block.tag() == "ENCRYPTED PRIVATE KEY"
        || block.headers().get("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED"))
}

/// A key without its encryption: nothing if the password is not the one. Inside is what can't be read as a key.
fn decrypted(block: &Pem, password: &[u8]) -> Option<Option<PrivateKeyDer<'static>>> {
    if block.tag() != "ENCRYPTED PRIVATE KEY" {
        let der = legacy::decrypt(block.headers().get("DEK-Info")?, password, block.contents())?;
        // A wrong password may leave good padding by chance.
        return bare(block.tag(), der).filter(|key| any_supported_type(key).is_ok()).map(Some);
    }
    let info = pkcs8::EncryptedPrivateKeyInfoRef::try_from(block.contents()).ok()?;
    let document = info.decrypt(password).ok()?;
    Some(Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()))))
}

fn bare(tag: &str, der: Vec<u8>) -> Option<PrivateKeyDer<'static>> {
    match tag {
        "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))),
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der))),
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der))),
        _ => None,
    }
}

fn belong_together(leaf: &CertificateDer<'_>, signer: &Arc<dyn SigningKey>) -> bool {
    let certified = Certificate::from_der(leaf).ok();
    let signing = signer.public_key().and_then(|der| SubjectPublicKeyInfoOwned::from_der(&der).ok());
    match (certified, signing) {
        (Some(certified), Some(signing)) => {
            certified.tbs_certificate().subject_public_key_info().subject_public_key
                == signing.subject_public_key
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
