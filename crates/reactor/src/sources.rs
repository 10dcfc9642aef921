//! What a loop knows of its sockets, and whose events they are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;
use sys::epoll::{Event, Flags};

use crate::guest::Guest;

/// What is known of a socket.
pub(crate) struct State {
    /// Bits of the constants below.
    known: Cell<u8>,
    /// They stay where they are when they have fired: mostly the same task waits again.
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

/// A read would tell something.
pub(crate) const READ: u8 = 1;
/// A write would take something.
pub(crate) const WRITE: u8 = 2;
/// The peer's FIN or a reset has come, maybe behind bytes.
pub(crate) const GONE: u8 = 4;
/// There are or were urgent data: a short read does not mean that nothing is left.
pub(crate) const URGENT: u8 = 8;
/// The reader's waker is to be woken.
const READER_WAITS: u8 = 16;
/// The writer's waker is to be woken.
const WRITER_WAITS: u8 = 32;

/// The sockets of a loop. Their tokens carry a generation, so that a late event never meets the next tenant of a place.
#[derive(Default)]
pub(crate) struct Sources {
    entries: Slab<Entry>,
    /// What is known of those that are tasks'.
    states: Slab<Rc<State>>,
    generation: u32,
}

/// Small, because every idle tunnel has two.
struct Entry {
    generation: u32,
    owner: Owner,
}

/// Whose events they are: a task's, with the place in `states` (below `GUESTS`), or the guest's.
#[derive(Clone, Copy)]
struct Owner(u32);

/// Names of the guest's sockets are below this, and have this bit here.
pub(crate) const GUESTS: u32 = 1 << 31;

impl State {
    pub(crate) fn new(known: u8) -> State {
        State { known: Cell::new(known), reader: Cell::default(), writer: Cell::default() }
    }

    pub(crate) fn known(&self) -> u8 {
        self.known.get()
    }

    pub(crate) fn has(&self, bits: u8) -> bool {
        self.known.get() & bits != 0
    }

    pub(crate) fn forget(&self, bits: u8) {
        self.known.set(self.known.get() & !bits);
    }

    /// Waits for bytes, or for the end.
    #[inline]
    pub(crate) fn poll_reader(&self, bit: u8, cx: &Context<'_>) -> Poll<()> {
        self.poll(bit, READER_WAITS, &self.reader, cx)
    }

    /// Waits for room.
    #[inline]
    pub(crate) fn poll_writer(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(WRITE, WRITER_WAITS, &self.writer, cx)
    }

    #[inline]
    fn poll(&self, bit: u8, waits: u8, place: &Cell<Option<Waker>>, cx: &Context<'_>) -> Poll<()> {
        let known = self.known.get();
        if known & bit != 0 {
            return Poll::Ready(());
        }
        self.known.set(known | waits);
        let waker = place.take().filter(|waker| waker.will_wake(cx.waker()));
        place.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// Takes in what the kernel says.
    #[inline]
    fn learn(&self, flags: Flags) {
        let mut known = self.known.get();
        if flags.contains(Flags::IN) {
            known |= READ;
        }
        if flags.contains(Flags::OUT) {
            known |= WRITE;
        }
        if flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR) {
            known |= READ | GONE;
        }
        if flags.intersects(Flags::HUP | Flags::ERR) {
            known |= WRITE;
        }
        if flags.contains(Flags::PRI) {
            known |= READ | URGENT;
        }
        let wakes_reader = known & READER_WAITS != 0 && known & READ != 0;
        let wakes_writer = known & WRITER_WAITS != 0 && known & WRITE != 0;
        if wakes_reader {
            known &= !READER_WAITS;
        }
        if wakes_writer {
            known &= !WRITER_WAITS;
        }
        self.known.set(known);
        if wakes_reader {
            wake(&self.reader);
        }
        if wakes_writer {
            wake(&self.writer);
        }
    }
}

fn wake(place: &Cell<Option<Waker>>) {
    if let Some(waker) = place.take() {
        waker.wake_by_ref();
        place.set(Some(waker));
    }
}

impl Sources {
    /// Enters a task's socket; its token is for the kernel.
    pub(crate) fn add(&mut self, state: Rc<State>) -> u64 {
        // One bit less than a word: the highest is the guest's.
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let generation = self.generation;
        let narrow = |key: usize| u32::try_from(key).ok().filter(|key| *key < GUESTS).expect(DESCRIPTORS);
        let owner = Owner(narrow(self.states.insert(state)));
        let key = narrow(self.entries.insert(Entry { generation, owner }));
        u64::from(generation) << 32 | u64::from(key)
    }

    pub(crate) fn remove(&mut self, token: u64) {
        if let Some(owner) = self.owner(token) {
            self.entries.remove(token as u32 as usize);
            self.forget(owner);
        }
    }

    /// From now on its events are the guest's, who knows it by this name below [`GUESTS`].
    pub(crate) fn lend(&mut self, token: u64, name: u32) {
        if let Some(old) = self.owner(token) {
            self.forget(old);
            self.entries[token as u32 as usize].owner = Owner(GUESTS | name);
        }
    }

    fn forget(&mut self, owner: Owner) {
        if owner.0 < GUESTS {
            self.states.try_remove(owner.0 as usize);
        }
    }

    /// Whose token it is, if still somebody's.
    #[inline]
    fn owner(&self, token: u64) -> Option<Owner> {
        let entry = self.entries.get(token as u32 as usize)?;
        (u64::from(entry.generation) == token >> 32).then_some(entry.owner)
    }
}

const DESCRIPTORS: &str = "descriptors are counted in 31 bits";

/// Passes an event on to its socket, or to the guest.
#[inline]
pub(crate) fn tell(sources: &RefCell<Sources>, event: Event, guest: &impl Guest) {
    let borrowed = sources.borrow();
    match borrowed.owner(event.token) {
        Some(Owner(name)) if name >= GUESTS => {
            drop(borrowed);
            guest.lent_event(name & !GUESTS, event.flags);
        }
        Some(Owner(key)) => {
            let state = borrowed.states.get(key as usize).cloned();
            // Waking runs code of others, which may make sockets.
            drop(borrowed);
            if let Some(state) = state {
                state.learn(event.flags);
            }
        }
        None => {}
    }
}

/// Has every socket looked at: after a turn that was lost.
pub(crate) fn distrust_all(sources: &RefCell<Sources>) {
    let all: Vec<Rc<State>> = sources.borrow().states.iter().map(|(_, state)| state.clone()).collect();
    for state in all {
        state.learn(Flags::IN | Flags::OUT);
    }
}
