//! What a request is: the directive contract, the snapshot, variables, phases, filters, logs.
//!
//! This crate is where the modules and the front meet. It moves no bytes of its own: `front` implements
//! [`Client`] over a protocol, `modules` implement handlers, and [`serve`] walks one request through the
//! list its location was compiled to.
#![forbid(unsafe_code)]

mod chunk;
mod client;
pub mod clock;
mod conditional;
pub mod config;
pub mod files;
pub mod hash;
mod location;
pub mod log;
pub mod message;
pub mod output;
mod phase;
pub mod pool;
mod range;
pub mod server_name;
mod template;
#[doc(hidden)]
pub mod testing;
mod tunnel;
pub mod variable;

pub use client::{BodyError, Client, Gone};
pub use config::{CoreConf, Location, LocationId, Server, ServerId, Snapshot};
pub use message::{Body, Connection, Request, Response};
pub use phase::{
    Flow, Handler, LocalFuture, NGINX_VERSION, Outcome, Phase, Redirect, Waits, is_head, refuse, serve,
};
pub use template::{Template, TemplatePart};
pub use tunnel::{Counted, Guard, Guards, TunnelPlan};
