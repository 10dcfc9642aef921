//! One file per nginx module.
#![forbid(unsafe_code)]

pub mod proxy;
pub mod upstream;
pub mod websocket;
