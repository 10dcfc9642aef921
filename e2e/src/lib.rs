//! The real binary under scenarios.
#![forbid(unsafe_code)]
