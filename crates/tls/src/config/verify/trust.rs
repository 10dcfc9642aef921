//! A chain of certificates: webpki's judgement in OpenSSL's words, and what webpki does not look at.
//!
//! webpki takes an authority as it is given; OpenSSL looks at it too, and so do we: it must be one that may issue others, for
//! this purpose, in its time, with no more certificates below it than it allows, and what issued it, if we have that, is part
//! of the chain (its length, its revocation lists). Certificates of version 1 and such that may issue others, which webpki
//! refuses to take for a peer's, and chains with critical extensions that OpenSSL knows and webpki does not, are checked here
//! alone.

use std::cell::Cell;
use std::cmp::Reverse;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, OwnedCertRevocationList,
    RevocationOptions, RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;

use super::Reason;
use super::certificate::{
    EXPIRED, NOT_YET_VALID, has_constraints, in_time, is_issued, is_self_issued, is_signed, may_issue,
    may_issue_between, may_sign_lists, path_length,
};
use super::list::List;
use super::purpose::{Place, UNKNOWN_EXTENSION, fits};

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
            fits(&parsed, purpose, Place::Peer)?;
            return in_time(&parsed, now).map(|()| vec![parsed]);
        }
        if self.revoked.is_empty() && self.lists.is_empty() && self.has_lists {
            // None of the lists can be read: nobody can be told from those who are revoked.
            return Err(NO_CRL);
        }
        let mut verified = self.verify(leaf, others, purpose, now);
        if let Err(Refused::Ours(NOT_PERMITTED)) = verified {
            // webpki looks no further up than to the first that is trusted: as others of the chain it sees through ours.
            let all: Vec<_> = others.iter().chain(&self.certificates).cloned().collect();
            verified = self.verify(leaf, &all, purpose, now);
        }
        match verified {
            Ok(path) => Ok(path),
            Err(Refused::Ours(reason)) => Err(reason),
            Err(Refused::Webpki(
                webpki::Error::UnsupportedCertVersion
                | webpki::Error::CaUsedAsEndEntity
                | webpki::Error::UnsupportedCriticalExtension,
            )) => self.check_alone(&parsed, others, purpose, now),
            Err(Refused::Webpki(webpki::Error::UnknownIssuer)) => {
                Err(unknown_issuer(&parsed, others, purpose, now))
            }
            Err(Refused::Webpki(error)) => Err(reason(&error)),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Refused> {
        let (ours, found) = (Cell::new(None), Cell::new(Vec::new()));
        let look_further = |path: &VerifiedPath<'_>| match self.check_path(path, purpose, now) {
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
                Anything,
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
    fn check_path(
        &self,
        path: &VerifiedPath<'_>,
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Reason> {
        let at = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let authority = at.and_then(|at| self.authorities.get(at)).ok_or(UNSPECIFIED)?;
        let mut below: Vec<Certificate> = [path.end_entity().der()]
            .into_iter()
            .chain(path.intermediate_certificates().map(|certificate| certificate.der()))
            .map(|der| Certificate::from_der(&der).map_err(|_| UNSPECIFIED))
            .collect::<Result<_, _>>()?;
        fits(&below[0], purpose, Place::Peer)?;
        for issuer in &below[1..] {
            if !may_issue_between(issuer) {
                return Err(INVALID_CA);
            }
            fits(issuer, purpose, Place::Issuer)?;
        }
        if self.has_lists && self.revoked.is_empty() {
            let issuers = below[1..].iter().chain([authority]);
            below.iter().zip(issuers).try_for_each(|(one, issuer)| self.not_revoked(one, issuer, now))?;
        }
        let above = self.check_above(authority, &below[1..], purpose, now)?;
        below.extend(above.into_iter().cloned());
        Ok(below)
    }

    /// An authority at the end of a chain, and those above it that we have, which come back; `between` are the certificates
    /// between it and the peer's.
    fn check_above<'a>(
        &'a self,
        authority: &'a Certificate,
        between: &[Certificate],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<&'a Certificate>, Reason> {
        let mut chain = vec![authority];
        // Those a certificate has issued to itself, say with a new key, do not count for what it allows.
        let mut counted = between.iter().filter(|certificate| !is_self_issued(certificate)).count();
        let mut last = authority;
        loop {
            fits(last, purpose, Place::Issuer)?;
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
            if !may_issue_between(last) {
                return Err(INVALID_CA);
            }
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

    /// Verifies what webpki does not look at: a peer's certificate of version 1, which has no extensions that could limit it,
    /// one that may issue others, and chains with critical extensions that limit nothing here.
    fn check_alone(
        &self,
        leaf: &Certificate,
        others: &[CertificateDer<'_>],
        purpose: ObjectIdentifier,
        now: UnixTime,
    ) -> Result<Vec<Certificate>, Reason> {
        let chain = self.chain_of(leaf, others);
        let last = chain.last().unwrap_or(leaf);
        let authority = self.issuer_of(last).ok_or_else(|| unknown_issuer(leaf, others, purpose, now))?;
        fits(leaf, purpose, Place::Peer)?;
        let between = &chain[1..];
        for (at, issuer) in between.iter().enumerate() {
            if !may_issue_between(issuer) {
                return Err(INVALID_CA);
            }
            fits(issuer, purpose, Place::Issuer)?;
            let counted = between[..at].iter().filter(|below| !is_self_issued(below)).count();
            if path_length(issuer).is_some_and(|allowed| counted > allowed) {
                return Err(PATH_TOO_LONG);
            }
        }
        if between.iter().chain([authority]).any(has_constraints) {
            return Err(NOT_PERMITTED);
        }
        chain.iter().try_for_each(|certificate| in_time(certificate, now))?;
        if self.has_lists {
            let issuers = between.iter().chain([authority]);
            chain.iter().zip(issuers).try_for_each(|(one, issuer)| self.not_revoked(one, issuer, now))?;
        }
        let above = self.check_above(authority, between, purpose, now)?;
        Ok(chain.iter().chain(above).cloned().collect())
    }

    /// A certificate, and those a peer has sent that lead from it towards an authority.
    fn chain_of(&self, leaf: &Certificate, others: &[CertificateDer<'_>]) -> Vec<Certificate> {
        let mut left: Vec<Certificate> =
            others.iter().take(OTHERS_MAX).filter_map(|der| Certificate::from_der(der).ok()).collect();
        let mut chain = vec![leaf.clone()];
        while let Some(last) = chain.last().filter(|last| self.issuer_of(last).is_none()) {
            let is_next = |other: &Certificate| may_issue(other) && is_issued(last, other);
            let Some(at) = left.iter().position(is_next) else { break };
            chain.push(left.swap_remove(at));
        }
        chain
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

/// Certificates of a peer's, besides its own, that are tried for a chain: each costs a signature, and again for each step.
const OTHERS_MAX: usize = 8;

/// [`fits`] says what a certificate is for.
struct Anything;

impl ExtendedKeyUsageValidator for Anything {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Who refused, and why.
enum Refused {
    Webpki(webpki::Error),
    Ours(Reason),
}

const INVALID_CA: Reason = Reason::new(79, "invalid CA certificate");
const UNSPECIFIED: Reason = Reason::new(1, "unspecified certificate verification error");
const NO_CRL: Reason = Reason::new(3, "unable to get certificate CRL");
const CRL_EXPIRED: Reason = Reason::new(12, "CRL has expired");
const CHAIN_TOO_LONG: Reason = Reason::new(22, "certificate chain too long");
const REVOKED: Reason = Reason::new(23, "certificate revoked");
const PATH_TOO_LONG: Reason = Reason::new(25, "path length constraint exceeded");
pub(super) const NOT_PERMITTED: Reason = Reason::new(47, "permitted subtree violation");

fn revocation<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    // Without lists there is nothing to look at. With them the defaults are nginx's: the whole chain, unknown is refused.
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(builder.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build())
}

/// What OpenSSL says of a chain that leads nowhere depends on how far it got, and on what else is wrong with what there is: it
/// looks at all of it, and what it finds last counts.
fn unknown_issuer(
    leaf: &Certificate,
    others: &[CertificateDer<'_>],
    purpose: ObjectIdentifier,
    now: UnixTime,
) -> Reason {
    let others: Vec<Certificate> = others.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    let mut chain = vec![leaf];
    while let Some(last) = chain.last().filter(|last| chain.len() <= others.len() && !is_self_issued(last)) {
        let issuer = last.tbs_certificate().issuer();
        let Some(next) = others.iter().find(|other| other.tbs_certificate().subject() == issuer) else {
            break;
        };
        chain.push(next);
    }
    let nowhere = match &chain[..] {
        [one] if is_self_issued(one) => Reason::new(18, "self-signed certificate"),
        [_] => Reason::new(21, "unable to verify the first certificate"),
        [.., last] if is_self_issued(last) => Reason::new(19, "self-signed certificate in certificate chain"),
        _ => Reason::new(20, "unable to get local issuer certificate"),
    };
    let issuers = chain[1..].iter().enumerate().map(|(at, issuer)| {
        // The last of them stands where a trusted one would.
        let may = if at + 2 < chain.len() { may_issue_between(issuer) } else { may_issue(issuer) };
        if may { fits(issuer, purpose, Place::Issuer) } else { Err(INVALID_CA) }
    });
    // A certificate alone that is not its own issuer's is said to be that once more, when all but its time was looked at.
    let unfit = [fits(leaf, purpose, Place::Peer)].into_iter().chain(issuers).filter(|_| nowhere.code != 21);
    let untimely = chain.iter().rev().map(|certificate| in_time(certificate, now));
    unfit.chain(untimely).filter_map(Result::err).next_back().unwrap_or(nowhere)
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
        webpki::Error::UnsupportedCriticalExtension => UNKNOWN_EXTENSION,
        webpki::Error::NameConstraintViolation => NOT_PERMITTED,
        webpki::Error::UnsupportedSignatureAlgorithmContext(_)
        | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Reason::new(68, "CA signature digest algorithm too weak")
        }
        _ => UNSPECIFIED,
    }
}
