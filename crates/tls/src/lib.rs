//! TLS without sockets and without configuration language: connections, settings and certificates as plain data.
//!
//! - [`end`]: one connection, driven through [`wire::tls::TlsEnd`] from its first byte to its last.
//! - [`config`]: nginx's settings as plain structs, made into what rustls wants; what rustls will not do comes back as
//!   warnings.
//! - [`files`]: certificates and private keys from the bytes of PEM files, with nginx's words when they are of no use.
//! - [`cache`]: pairs of certificate and key that are read at handshakes.
//! - [`ocsp`]: questions about a certificate's revocation, and what answers are worth.
//! - [`subject`] and [`names`]: what certificates and numbers of the protocol are called.
//!
//! Nothing here reads a file or a clock that a caller cannot set, and nothing knows a directive's name but its messages.
#![forbid(unsafe_code)]

pub mod cache;
pub mod config;
pub mod end;
pub mod files;
pub mod names;
pub mod ocsp;
mod signed;
pub mod subject;
