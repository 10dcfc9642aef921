//! A worker's loop: the tasks, sockets and timers of one thread, on one epoll instance.
//!
//! [`Reactor::run`] turns a loop on the calling thread. Tasks ([`spawn`]) never leave it, so they need not be `Send`. A
//! socket ([`Source`]) is registered once, edge-triggered, for as long as it lives; what is known of its readiness stands in
//! plain cells beside it. A [`Timer`] that traffic pushes back costs nothing. Another engine may live in the same loop as its
//! [`Guest`]: it gets the events of sockets it has added to the epoll instance, and of those that tasks have lent it. What holds here:
//!
//! - A panic in a task ends that task and no other.
//! - A late event never reaches the next tenant of its socket's place.
//! - A turn is bounded: events, polls of tasks, and reads within one poll, before the kernel is asked again.
//! - Waking a task from its own thread takes no lock; from another thread it rings one eventfd.
#![forbid(unsafe_code)]

mod blocking;
mod guest;
mod here;
mod run;
mod source;
mod sources;
mod task;
mod timer;
mod wheel;

pub use blocking::{Died, blocking};
pub use guest::Guest;
pub use here::{is_behind, turn};
pub use run::Reactor;
pub use source::{Lent, Place, Source};
pub use task::{spawn, yield_now};
pub use timer::{Elapsed, Sleep, Timer, sleep, timeout};
