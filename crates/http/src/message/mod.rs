//! Requests and responses: one buffer and spans each (D10).

mod captures;
mod connection;
mod pcre;
mod pcre_fault;
mod request;
mod response;
mod slots;
mod tls;

pub use captures::{Captures, Pattern};
pub use connection::{Connection, SnapshotRef};
pub use request::{Lineage, REDIRECTS_MAX, Request};
pub use response::{Body, Response};
pub use slots::{HeldBody, Slots};
pub use tls::{Judged, Tls};
