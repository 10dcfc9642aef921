//! A server's certificates, of which each client gets the one it can verify.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates with their keys, say one of RSA and one of ECDSA. OCSP answers can be put to them at any time.
#[derive(Debug)]
pub struct Certificates {
    /// The preferred first.
    keys: Vec<RwLock<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Those of one server. OpenSSL has one place for each kind of key: of two RSA pairs the last counts, so it does here.
    pub fn new(pairs: Vec<CertifiedKey>) -> Certificates {
        let mut keys: Vec<CertifiedKey> = Vec::new();
        for pair in pairs {
            match keys.iter_mut().find(|known| known.key.algorithm() == pair.key.algorithm()) {
                Some(known) => *known = pair,
                None => keys.push(pair),
            }
        }
        // A client that can do both gets the smaller signature, as OpenSSL's order has it.
        keys.sort_by_key(|pair| pair.key.algorithm() == SignatureAlgorithm::RSA);
        Certificates { keys: keys.into_iter().map(|pair| RwLock::new(Arc::new(pair))).collect() }
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

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        // If none fits, rustls says so better than we could.
        self.pairs().find(fits).or_else(|| self.pairs().next())
    }
}
