//! Upstream groups, peers, balancing, keepalive pools, connect.
#![forbid(unsafe_code)]
