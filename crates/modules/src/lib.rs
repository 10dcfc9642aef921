//! One file per nginx module.
#![forbid(unsafe_code)]
