//! Who else lives in a loop.

use sys::epoll::{Event, Flags};

/// An engine that lives in the same loop, with sockets of its own in the same epoll instance.
pub trait Guest {
    /// The loop has waited; the time is another, and events may follow.
    fn awake(&self) {}

    /// Something happened to one of its own sockets: the token has the bit [`crate::Reactor::GUEST`].
    fn event(&self, event: Event);

    /// Something happened to a socket that a task has lent it ([`crate::Source::lend`]) under this name.
    fn lent_event(&self, name: u32, flags: Flags);

    /// The events of a turn were told.
    fn turn(&self);

    /// Milliseconds until [`Guest::turn`] must be called if nothing happens; `None`: for ever.
    fn wait_ms(&self) -> Option<u64>;

    /// Tasks have run, and the loop is about to ask the kernel.
    fn tasks_ran(&self) {}

    /// A turn was lost to a panic, and with it what the kernel announced once.
    fn distrust(&self) {}
}

/// No guest.
impl Guest for () {
    fn event(&self, _: Event) {}

    fn lent_event(&self, _: u32, _: Flags) {}

    fn turn(&self) {}

    fn wait_ms(&self) -> Option<u64> {
        None
    }
}
