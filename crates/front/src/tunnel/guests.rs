//! The tunnels in their worker's loop.

use std::cell::RefCell;

use reactor::{Guest, Reactor};
use relay::{Handover, Tunnels};
use sys::epoll::{Event, Flags};

/// The engine of a worker's tunnels, as the loop's guest.
pub(crate) struct Guests(RefCell<Tunnels>);

const _: () =
    assert!(Tunnels::TOKENS == Reactor::GUEST, "the loop tells a tunnel's events from others by this bit");

impl Guests {
    pub(crate) fn new(tunnels: Tunnels) -> Guests {
        Guests(RefCell::new(tunnels))
    }

    /// Starts a tunnel.
    pub(super) fn insert(&self, handover: Handover) {
        self.0.borrow_mut().insert(handover);
    }
}

impl Guest for Guests {
    fn awake(&self) {
        self.0.borrow_mut().awake();
    }

    #[inline]
    fn event(&self, event: Event) {
        self.0.borrow_mut().event(event);
    }

    #[inline]
    fn lent_event(&self, name: u32, flags: Flags) {
        self.0.borrow_mut().passed(name, flags);
    }

    fn turn(&self) {
        self.0.borrow_mut().turn();
    }

    fn wait_ms(&self) -> Option<u64> {
        self.0.borrow().wait_ms()
    }

    /// The lines of a turn, those of tunnels among them, are written before the loop waits.
    fn tasks_ran(&self) {
        http::log::end_of_turn();
    }

    fn distrust(&self) {
        self.0.borrow_mut().distrust();
    }
}
