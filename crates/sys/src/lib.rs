//! The kernel: epoll, sockets, descriptor passing, credentials, signals. The only home of `unsafe`.
//!
//! Everything here is a thin, safe and synchronous wrapper: one function is one or two system calls, errors are
//! [`std::io::Error`] with the kernel's errno inside. What the calls are for is decided in the rooms above.

pub mod clock;
pub mod credentials;
pub mod epoll;
pub mod errno;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod options;
pub mod passing;
pub mod process;
pub mod signals;
pub mod socket;
mod text;
pub mod waker;
