//! Listen, accept, HTTP/1: bytes to requests and back; the hand-over of tunnels.
//!
//! A [`Fleet`] is all of a serving process that touches clients: workers, each a thread with one loop for its requests and its
//! tunnels. It serves a [`http::Snapshot`] and can be given another at any time ([`Fleet::install`]); what runs under the
//! old one goes on. It names no module and opens nothing: sockets are handed to it.
#![forbid(unsafe_code)]

mod accept;
mod fleet;
mod h1;
mod handle;
mod run;
mod shared;
mod sleepers;
mod snapshots;
mod spare;
mod stream;
mod tls;
mod tunnel;
mod worker;

pub use fleet::{Fleet, FleetOptions};
pub use handle::Listening;
pub use relay::{Goodbye, Leave};
pub use shared::Counts;
pub use snapshots::Retired;
