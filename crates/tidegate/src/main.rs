//! A reverse proxy that runs your nginx.conf and is built around the connection that stays open.
#![forbid(unsafe_code)]

fn main() {}
