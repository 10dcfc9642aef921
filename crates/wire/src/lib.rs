//! Protocols without I/O: HTTP/1, WebSocket handshake and frame scanner, TLS end.
#![forbid(unsafe_code)]
