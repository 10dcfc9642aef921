//! A server's certificates, of which each client gets the one it can verify.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, NamedGroup, SignatureAlgorithm, SignatureScheme};

use crate::names;

/// A certificate with its key.
pub use rustls::sign::CertifiedKey as Pair;

/// Certificates with their keys, say one of RSA and one of ECDSA. OCSP answers can be put to them at any time.
#[derive(Debug)]
pub struct Certificates {
    /// The preferred first.
    keys: Vec<RwLock<Arc<CertifiedKey>>>,
    watcher: OnceLock<Box<dyn Watch>>,
}

/// Who wants to know that certificates are used: to renew their OCSP answers in time.
pub trait Watch: Send + Sync + std::fmt::Debug {
    /// A handshake needs one of them now. It does not wait.
    fn used(&self);
}

impl Certificates {
    /// Those of one server. OpenSSL has one place for each kind of key: of two RSA pairs the last counts, so it does here.
    pub fn new(pairs: Vec<CertifiedKey>) -> Certificates {
        Certificates::shared(pairs.into_iter().map(Arc::new))
    }

    /// The same of pairs that others hold too.
    pub fn shared(pairs: impl IntoIterator<Item = Arc<CertifiedKey>>) -> Certificates {
        let mut keys: Vec<Arc<CertifiedKey>> = Vec::new();
        for pair in pairs {
            match keys.iter_mut().find(|known| known.key.algorithm() == pair.key.algorithm()) {
                Some(known) => *known = pair,
                None => keys.push(pair),
            }
        }
        // A client that can do both gets the smaller signature, as OpenSSL's order has it.
        keys.sort_by_key(|pair| is_rsa(pair));
        Certificates { keys: keys.into_iter().map(RwLock::new).collect(), watcher: OnceLock::new() }
    }

    /// Who is told of their use from now on; the first counts.
    pub fn watch(&self, watcher: Box<dyn Watch>) {
        let _ = self.watcher.set(watcher);
    }

    /// Staples an OCSP answer (DER) to the certificate it is about, given by the leaf. Nothing unstaples it. False if there
    /// is no such certificate.
    pub fn staple(&self, leaf: &[u8], answer: Option<Vec<u8>>) -> bool {
        for slot in &self.keys {
            let mut pair = slot.write().unwrap_or_else(PoisonError::into_inner);
            if pair.cert.first().is_some_and(|certificate| **certificate == *leaf) {
                let mut stapled = CertifiedKey::clone(&pair);
                stapled.ocsp = answer;
                *pair = Arc::new(stapled);
                return true;
            }
        }
        false
    }

    /// The pairs as they are now.
    pub fn pairs(&self) -> impl Iterator<Item = Arc<CertifiedKey>> {
        self.keys.iter().map(|slot| slot.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Certificates as one configuration uses them: with TLS 1.2 the suite decides which kind is meant.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) certificates: Arc<Certificates>,
    /// Suites of the configuration, in its order.
    pub(super) suites: Vec<CipherSuite>,
    pub(super) tls13: bool,
    pub(super) server_preference: bool,
}

impl Resolver {
    /// The kind of each suite that both sides have, in the order that decides, as OpenSSL walks them.
    fn kinds(&self, offered: &[CipherSuite]) -> Vec<bool> {
        let (order, others) = match self.server_preference {
            true => (&self.suites[..], offered),
            false => (offered, &self.suites[..]),
        };
        order.iter().filter(|suite| others.contains(suite)).filter_map(|suite| wants_rsa(*suite)).collect()
    }
}

/// Whether a suite of TLS 1.2 wants an RSA key; one of TLS 1.3 doesn't mind.
fn wants_rsa(suite: CipherSuite) -> Option<bool> {
    let name = names::cipher(suite);
    name.starts_with("ECDHE-").then(|| name.starts_with("ECDHE-RSA"))
}

fn is_rsa(pair: &CertifiedKey) -> bool {
    pair.key.algorithm() == SignatureAlgorithm::RSA
}

/// Whether a client of TLS 1.2 can do with the curve the certificate's key is on (RFC 8422 section 5.1); TLS 1.3 says it in
/// its signature schemes.
fn has_curve(pair: &CertifiedKey, groups: Option<&[NamedGroup]>) -> bool {
    let curve = pair.key.choose_scheme(&ECDSA_SCHEMES).and_then(|signer| match signer.scheme() {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(NamedGroup::secp256r1),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(NamedGroup::secp384r1),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Some(NamedGroup::secp521r1),
        _ => None,
    });
    curve.is_none_or(|curve| groups.is_none_or(|groups| groups.contains(&curve)))
}

const ECDSA_SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
];

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(watcher) = self.certificates.watcher.get() {
            watcher.used();
        }
        let pairs: Vec<Arc<CertifiedKey>> = self.certificates.pairs().collect();
        let fits = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let on_curve = |pair: &CertifiedKey| has_curve(pair, hello.named_groups());
        let mut new = hello.cipher_suites().iter().filter(|suite| wants_rsa(**suite).is_none());
        let found = match self.tls13 && new.any(|suite| self.suites.contains(suite)) {
            true => pairs.iter().find(fits),
            false => self
                .kinds(hello.cipher_suites())
                .into_iter()
                .find_map(|rsa| pairs.iter().filter(|pair| is_rsa(pair) == rsa && on_curve(pair)).find(fits)),
        };
        // If none fits, rustls says so better than we could.
        found.or(pairs.first()).cloned()
    }
}
