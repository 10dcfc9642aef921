//! The tunnel engine: pump, tunnel, drivers.
//!
//! A tunnel arrives here once as a [`Handover`], is moved byte by byte in [`Tunnels`] and leaves as one [`Report`]. No
//! HTTP, no configuration, no log line, no async. What holds here:
//!
//! - Every byte is delivered in order or the tunnel ends; a FIN follows the last byte of its own direction only.
//! - A direction allocates only while its reader is slow, within its limit and the process's [`Budget`].
//! - Traffic arms no timer: a tunnel stands in the wheel once and is looked at when its time comes.
//! - A panic in one tunnel's step ends that tunnel and no other.
#![forbid(unsafe_code)]

mod alone;
mod budget;
mod epoll;
mod handover;
mod pump;
mod remote;
mod tunnel;
mod wheel;

pub use alone::Loop;
pub use budget::Budget;
pub use epoll::Tunnels;
pub use handover::{
    End, EndReport, EndedBy, Goodbye, Handover, Keep, Limits, Plan, Progress, Report, Side, Timers, Tls,
    Token, Watch,
};
pub use remote::{Counts, Leave, Remote};
