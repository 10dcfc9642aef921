//! WebSocket (RFC 6455) as a proxy needs it: who asks for it, whether the answer is right, and where frames begin and end.
//!
//! Nothing here assembles a message or changes a byte. What to do about what is seen is left to others.

mod frame;
mod handshake;
mod scanner;

pub use frame::{CLOSE_REASON_BYTES_MAX, close_frame, frame, ping_frame, pong_frame};
pub use handshake::{Bad101, Handshake, accept_key, check_101, handshake};
pub use scanner::{Counts, Frame, Opcode, Scanner};
