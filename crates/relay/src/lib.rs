//! The tunnel engine: pump, tunnel, drivers.
#![forbid(unsafe_code)]
