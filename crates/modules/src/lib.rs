//! One file per nginx module, and the ordered list of them.
//!
//! A module is one value: its directives, its variables, what its blocks write and what holds after inheritance, and the
//! handlers it puts into locations. Modules don't name each other; they meet in the contracts of `http`. The order of
//! [`MODULES`] is the order of handlers within a phase and of filters in the chain.
#![forbid(unsafe_code)]

use http::config::Module;

pub mod core;
pub mod headers;
pub mod http_core;
pub mod log;
pub mod map;
pub mod proxy;
pub mod rewrite;
pub mod static_files;
pub mod upstream;
pub mod websocket;

#[cfg(test)]
mod tests;

/// All modules, in their order.
pub static MODULES: &[&Module] = &[
    &core::MODULE,
    &http_core::MODULE,
    &rewrite::MODULE,
    &map::MODULE,
    &upstream::MODULE,
    &websocket::MODULE,
    &proxy::MODULE,
    &log::MODULE,
    &headers::MODULE,
    &static_files::MODULE,
    &INTERIM,
];

/// Until the answers stand in a table.
static INTERIM: Module = Module {
    name: "interim",
    directives: &[http::config::Directive {
        name: "client_body_temp_path",
        args: http::config::Args::Between(1, 4),
        answer: http::config::Answer::Sizing,
        ..http::config::Directive::NONE
    }],
    ..Module::NONE
};
