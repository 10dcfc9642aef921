//! Which signature algorithms a handshake has used. rustls keeps them to itself, but it has our keys sign and our verifiers
//! verify, on the thread that takes the connection a step further: there they are noted, and its end takes them.

use std::cell::Cell;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// What was signed with in a handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// By us.
    pub(crate) own: Option<SignatureScheme>,
    /// By the peer, and verified.
    pub(crate) peers: Option<SignatureScheme>,
}

impl Signed {
    /// Adds what came later.
    pub(crate) fn add(&mut self, later: Signed) {
        self.own = later.own.or(self.own);
        self.peers = later.peers.or(self.peers);
    }
}

thread_local! {
    static NOTED: Cell<Signed> = const { Cell::new(Signed { own: None, peers: None }) };
}

/// What was noted in this thread since the last call.
pub(crate) fn take() -> Signed {
    NOTED.take()
}

/// The peer's signature is good.
pub(crate) fn verified(scheme: SignatureScheme) {
    NOTED.set(Signed { peers: Some(scheme), ..NOTED.get() });
}

/// A key that has noted what it signs with.
#[derive(Debug)]
pub(crate) struct NotingKey(pub(crate) Arc<dyn SigningKey>);

impl SigningKey for NotingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered).map(|signer| Box::new(NotingSigner(signer)) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct NotingSigner(Box<dyn Signer>);

impl Signer for NotingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(message)?;
        NOTED.set(Signed { own: Some(self.scheme()), ..NOTED.get() });
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
