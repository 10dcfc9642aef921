//! The project's own commands as a library, so that the tidy rules can be run as tests.
#![forbid(unsafe_code)]

pub mod circles;
pub mod install;
pub mod pages;
pub mod run;
pub mod suite;
pub mod tidy;
