//! Revocation lists of either version. webpki reads version 2 alone; `openssl ca` makes version 1 unless it is told a number.

use std::collections::HashSet;

use rustls::pki_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::crl::RevokedCert;
use x509_cert::der::asn1::{BitString, ContextSpecific};
use x509_cert::der::{self, Decode, ErrorKind, Reader, SliceReader, Tag, TagNumber};
use x509_cert::ext::Extensions;
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

/// A revocation list (RFC 5280 section 5.1).
#[derive(Debug)]
pub(super) struct List {
    pub(super) issuer: Name,
    /// What is signed, as it came.
    pub(super) tbs: Vec<u8>,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) signature: BitString,
    pub(super) this_update_s: u64,
    next_update_s: Option<u64>,
    serials: HashSet<Vec<u8>>,
}

impl List {
    /// Reads a list. One with a critical extension is an error: it may be about a part of the certificates only.
    pub(super) fn from_der(der: &[u8]) -> der::Result<List> {
        let mut reader = SliceReader::new(der)?;
        let list: der::Result<_> = reader.sequence(|list| {
            let tbs = list.tlv_bytes()?.to_vec();
            Ok((tbs, AlgorithmIdentifierOwned::decode(list)?, BitString::decode(list)?))
        });
        let (tbs, algorithm, signature) = list?;
        reader.finish()?;
        let inside = Inside::from_der(&tbs)?;
        if inside.algorithm != algorithm {
            return Err(ErrorKind::Failed.into());
        }
        let seconds = |time: Time| time.to_unix_duration().as_secs();
        Ok(List {
            issuer: inside.issuer,
            tbs,
            algorithm,
            signature,
            this_update_s: seconds(inside.this_update),
            next_update_s: inside.next_update.map(seconds),
            serials: inside.revoked.iter().map(|entry| entry.serial_number.as_bytes().to_vec()).collect(),
        })
    }

    /// Whether it is about the certificates of this issuer.
    pub(super) fn is_of(&self, issuer: &Certificate) -> bool {
        self.issuer == *issuer.tbs_certificate().subject()
    }

    /// When it was made, in seconds; the newest one counts.
    pub(super) fn made_s(&self) -> u64 {
        self.this_update_s
    }

    /// Whether its time is over.
    pub(super) fn is_expired(&self, now: UnixTime) -> bool {
        self.next_update_s.is_some_and(|until| until < now.as_secs())
    }

    /// Whether its time has come.
    pub(super) fn has_begun(&self, now: UnixTime) -> bool {
        self.this_update_s <= now.as_secs()
    }

    /// Whether a certificate of the issuer stands on it.
    pub(super) fn names(&self, certificate: &Certificate) -> bool {
        self.serials.contains(certificate.tbs_certificate().serial_number().as_bytes())
    }
}

struct Inside {
    algorithm: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    next_update: Option<Time>,
    revoked: Vec<RevokedCert>,
}

impl Inside {
    fn from_der(tbs: &[u8]) -> der::Result<Inside> {
        let mut reader = SliceReader::new(tbs)?;
        reader.sequence(|inside| {
            if Tag::peek(inside)? == Tag::Integer {
                u8::decode(inside)?;
            }
            let (algorithm, issuer) = (AlgorithmIdentifierOwned::decode(inside)?, Name::decode(inside)?);
            let (this_update, next_update) = (Time::decode(inside)?, Option::<Time>::decode(inside)?);
            let revoked = Option::<Vec<RevokedCert>>::decode(inside)?.unwrap_or_default();
            let extensions = ContextSpecific::<Extensions>::decode_explicit(inside, TagNumber(0))?;
            let of_entries = revoked.iter().filter_map(|entry| entry.crl_entry_extensions.as_ref());
            let all = extensions.iter().map(|extensions| &extensions.value).chain(of_entries);
            if all.flatten().any(|extension| extension.critical) {
                return Err(ErrorKind::Failed.into());
            }
            Ok(Inside { algorithm, issuer, this_update, next_update, revoked })
        })
    }
}
