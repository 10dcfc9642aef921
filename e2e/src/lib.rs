//! The real binary under scenarios: starts it, plays both of its neighbours byte for byte, and keeps what they saw.
//!
//! [`proxy`] runs tidegate or real nginx on the same configuration text; [`raw`] is a client or an upstream made of plain
//! sockets; [`case`] reads the scripts under `cases/`; [`stage`] plays one of them and returns an [`outcome::Outcome`];
//! [`ask`] is the short way to a proxy's answers and log lines; [`ws`] has just enough of RFC 6455 to run a thousand tunnels from one thread.
//! [`certificates`] issues what TLS needs, and [`secure`] is a client or an upstream that speaks it; [`programs`] and
//! [`browser`] are other people's clients. [`random`] and [`threads`] are for tests that do much at once. The tests themselves
//! are in `tests/`.
#![forbid(unsafe_code)]

pub mod ask;
pub mod browser;
pub mod case;
pub mod certificates;
pub mod openssl;
pub mod outcome;
pub mod places;
pub mod ports;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod recorded;
pub mod secure;
pub mod stage;
pub mod temp;
pub mod threads;
pub mod ws;
