//! Listen, accept, HTTP/1: bytes to requests and back; the hand-over and the table of live tunnels.
#![forbid(unsafe_code)]
