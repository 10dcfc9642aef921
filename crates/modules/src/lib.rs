//! One file per nginx module, and the ordered list of them.
//!
//! A module is one value: its directives, its variables, what its blocks write and what holds after inheritance, and the
//! handlers it puts into locations. Modules don't name each other; they meet in the contracts of `http`. The order of
//! [`MODULES`] is the order of handlers within a phase and of filters in the chain.
#![forbid(unsafe_code)]

use http::config::Module;

pub mod absent;
pub mod answers;
pub mod core;
pub mod headers;
pub mod http_core;
pub mod log;
pub mod map;
pub mod proxy;
pub mod reference;
pub mod resolver;
pub mod rewrite;
pub mod ssl;
pub mod static_files;
pub mod try_files;
mod unused;
pub mod upstream;
pub mod websocket;

#[cfg(test)]
mod tests;

/// All modules, in their order; the answers to what is not a module of ours yet come last.
pub static MODULES: &[&Module] = &OWN_AND_ANSWERS;

const OWN: [&Module; 14] = [
    &core::MODULE,
    &http_core::MODULE,
    &rewrite::MODULE,
    &map::MODULE,
    &upstream::MODULE,
    &resolver::MODULE,
    &websocket::MODULE,
    &proxy::MODULE,
    &log::MODULE,
    &headers::MODULE,
    &try_files::MODULE,
    &static_files::MODULE,
    &ssl::MODULE,
    &absent::OTHERS,
];

static OWN_AND_ANSWERS: [&Module; OWN.len() + answers::MODULES.len()] = {
    let mut all = [OWN[0]; OWN.len() + answers::MODULES.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < OWN.len() { OWN[at] } else { answers::MODULES[at - OWN.len()] };
        at += 1;
    }
    all
};
