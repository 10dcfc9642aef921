//! TLS on the client's side: on rustls, with buffers all connections share, and without looking at the server's
//! certificate, so that the load costs less than what it measures.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use tls::end::ClientEnd;
use wire::tls::{State, TlsEnd};

use super::orders::Offer;

/// The name clients ask for and the certificate is made for.
pub(crate) const NAME: &str = "bench.test";

const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// What all connections have in common.
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Decrypted last.
    pub(crate) plain: Vec<u8>,
    /// To be sent at once, and then cleared: what TLS itself has to say, and what was encrypted.
    pub(crate) out: Vec<u8>,
    /// What the first connection agreed upon.
    pub(crate) agreed: Option<String>,
}

/// One connection.
pub(crate) struct Secure {
    end: ClientEnd,
    /// The start of a record.
    input: Vec<u8>,
}

impl Tls {
    /// Connections that offer this and resume nothing.
    pub(crate) fn new(offer: Offer) -> io::Result<Self> {
        let mut provider = provider::default_provider();
        let mut versions = rustls::ALL_VERSIONS;
        if offer == Offer::Equal {
            provider.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
            provider.kx_groups = vec![provider::kx_group::X25519];
            versions = ONLY_TLS13;
        }
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let mut config = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::new(provider))
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(schemes)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), plain: Vec::new(), out: Vec::new(), agreed: None })
    }

    /// A new connection.
    pub(crate) fn connection(&self) -> io::Result<Secure> {
        let end = ClientEnd::new(self.config.clone(), NAME).map_err(io::Error::other)?;
        Ok(Secure { end, input: Vec::new() })
    }

    /// Decrypts into `plain`, and adds to `out` what TLS has to say to that: at first, to nothing, the ClientHello. True
    /// once data may be sent.
    pub(crate) fn unseal(&mut self, secure: &mut Secure, bytes: &mut [u8]) -> io::Result<bool> {
        self.plain.clear();
        let greeted = secure.end.state() != State::Handshake;
        if secure.input.is_empty() {
            let done = secure.end.decrypt(bytes, &mut self.plain, &mut self.out).map_err(io::Error::other)?;
            secure.input.extend_from_slice(&bytes[done.used..]);
        } else {
            secure.input.extend_from_slice(bytes);
            let done = secure
                .end
                .decrypt(&mut secure.input, &mut self.plain, &mut self.out)
                .map_err(io::Error::other)?;
            secure.input.drain(..done.used);
        }
        let open = secure.end.state() != State::Handshake;
        if open && !greeted && self.agreed.is_none() {
            self.agreed = secure.end.facts().map(|facts| {
                format!("{} {} {}", facts.protocol, facts.cipher, facts.curve.unwrap_or("no group"))
            });
        }
        Ok(open)
    }

    /// Adds these bytes to `out`, encrypted.
    pub(crate) fn seal(&mut self, secure: &mut Secure, bytes: &[u8]) -> io::Result<()> {
        secure.end.encrypt(bytes, &mut self.out).map_err(io::Error::other)
    }
}

/// Verifies nothing.
#[derive(Debug)]
struct Trusting(Vec<SignatureScheme>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tls::end::ServerEnd;

    use super::*;

    fn server() -> ServerEnd {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a pair");
        ServerEnd::new(Arc::new(config)).expect("a server")
    }

    #[test]
    fn a_message_goes_both_ways_in_pieces() {
        let check = |offer: Offer, piece: usize, expected: &str| {
            let (mut tls, mut server) = (Tls::new(offer).expect("client"), server());
            let mut client = tls.connection().expect("connection");
            let (mut received, mut plain, mut reply) = (Vec::new(), Vec::new(), Vec::new());
            tls.unseal(&mut client, &mut []).expect("hello");
            while server.state() == State::Handshake {
                received.append(&mut tls.out);
                let done = server.decrypt(&mut received, &mut plain, &mut reply).expect("a server's step");
                received.drain(..done.used);
                for part in std::mem::take(&mut reply).chunks_mut(piece) {
                    tls.unseal(&mut client, part).expect("a client's step");
                }
            }
            assert_eq!(tls.agreed.as_deref(), Some(expected));
            server.encrypt(b"message", &mut reply).expect("sealed");
            let mut got = Vec::new();
            for part in reply.chunks_mut(piece) {
                tls.unseal(&mut client, part).expect("opened");
                got.extend_from_slice(&tls.plain);
            }
            assert_eq!(got, b"message");
        };
        for piece in [1, 100, 100_000] {
            check(Offer::Equal, piece, "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519");
            check(Offer::Everything, piece, "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768");
        }
    }
}
