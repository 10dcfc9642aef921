//! Protocols without I/O: HTTP/1, WebSocket handshake and frame scanner, PROXY protocol, TLS end.
//!
//! Nothing here owns a socket, reads a clock or draws randomness: bytes come in as arguments, and what was learned from
//! them goes out. What a byte means is nginx's to say wherever nginx reads it too.
#![forbid(unsafe_code)]

pub mod http1;
pub mod proxy_protocol;
pub mod tls;
pub mod websocket;

mod ascii;
mod span;

pub use ascii::same;
pub use span::Span;
