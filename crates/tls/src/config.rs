//! nginx's TLS settings as plain structs, and what they come to in rustls.
pub(crate) mod ciphers;
