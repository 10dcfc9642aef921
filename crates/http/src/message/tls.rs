//! What a connection's handshake agreed upon.

use std::cell::Cell;

use tls::config::verify::Verdict;

/// A client's TLS, once its handshake is over; for variables, the log, and the question whom it may ask.
#[derive(Debug)]
pub struct Tls {
    /// `$ssl_protocol`
    pub protocol: &'static str,
    /// `$ssl_cipher`
    pub cipher: &'static str,
    /// `$ssl_curve`
    pub curve: Option<&'static str>,
    /// Whether an earlier session was taken up.
    pub resumed: bool,
    /// The protocol agreed upon by ALPN.
    pub alpn: Option<Box<[u8]>>,
    /// The name the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether a server has that name.
    pub named: bool,
    /// Numbers of the cipher suites the client offered.
    pub ciphers: Box<[u16]>,
    /// Numbers of the groups the client offered.
    pub curves: Box<[u16]>,
    /// Numbers of the signature algorithms the client offered.
    pub signatures: Box<[u16]>,
    /// The client's certificate and what it sent to go with it, DER.
    pub certificates: Box<[Box<[u8]>]>,
    /// What that is worth to the server that asked for it; [`Verdict::None`] when none did.
    pub verdict: Verdict,
    /// The handshake is not over: what was read is early data, which could have been replayed.
    pub early: Cell<bool>,
}
