//! Everything between "this request goes to that upstream" and a connected socket: groups of peers, the balancing
//! contract and round robin, passive health, live counts that outlive a configuration, keepalive pools, connect.
//!
//! This room knows no directive and speaks no protocol: modules hand it plain structs ([`GroupSpec`],
//! [`ConnectOptions`]) and get sockets back. Requests, TLS settings and retry policy (`proxy_next_upstream`) are its
//! callers'; TLS itself runs here, behind [`wire::tls::TlsEnd`].
//!
//! Shared between workers: [`Group`], [`Registry`], [`PeerGuard`]. Owned by one worker: [`Pool`], [`Connection`].
#![forbid(unsafe_code)]

mod address;
mod attempt;
mod connect;
mod connection;
mod directory;
mod error;
mod group;
mod health;
mod method;
mod names;
mod peer;
mod pool;
mod registry;
mod resolve;
mod round_robin;
mod tls;

pub use address::{Address, PeerAddr, Url, parse_address, parse_plain, parse_url};
pub use attempt::{Attempt, Health, NoLive, PeerRef};
pub use connect::{ConnectError, ConnectOptions, connect};
pub use connection::{Connection, Counters, Parts};
pub use directory::{Implicit, Key, Upstreams, Wanted, group_of};
pub use error::{Blame, Failure};
pub use group::{Group, GroupSpec, KeepaliveSpec, SpecError};
pub use health::Weights;
pub use method::{Chooser, Method, Peers, PickContext};
pub use names::{NameError, Names, Resolver, group_by_name};
pub use peer::{LiveCount, Peer, PeerGuard, PeerSpec};
pub use pool::{Pool, PoolKey, Refused};
pub use registry::Registry;
pub use resolve::resolve;
pub use round_robin::RoundRobin;
pub use tls::{HandshakeError, recv_failed, send_failed};
