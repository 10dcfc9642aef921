//! Sockets in a loop: registered once, edge-triggered, and read or written only when the kernel has said that it is worth it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use slab::Slab;
use sys::epoll::{EDGE, Event, Flags};
use sys::socket::{self, Moved};

use crate::here;
use crate::run::Guest;

/// What a stream is watched for: bytes, room, the FIN, and urgent data, which a receive stops short of.
const STREAM: Flags = EDGE.union(Flags::PRI);

/// A socket of this thread's loop.
pub struct Source {
    fd: OwnedFd,
    state: Rc<State>,
    place: Place,
}

/// A socket's place in its loop, left when dropped, on the loop's thread.
#[derive(Debug)]
pub struct Place {
    key: u32,
    generation: u32,
}

impl Place {
    /// From now on the socket's events are the guest's ([`Guest::lent_event`]), who knows them by this name, which is less
    /// than 2^31.
    pub fn point_to(&self, name: u32) {
        debug_assert!(name < GUESTS, "a bit is ours");
        here::with(|here| here.sources.borrow_mut().set_owner(self.token(), Owner(GUESTS | name)));
    }

    fn token(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.key)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        here::with(|here| here.sources.borrow_mut().remove(self));
    }
}

/// A socket on its way from a task to the guest.
#[derive(Debug)]
pub struct Lent {
    /// The socket itself.
    pub fd: OwnedFd,
    /// Who keeps this gets the events, once it points to somebody.
    pub place: Place,
    /// The kernel has told of something to read, which nobody has read, and won't tell again.
    pub readable: bool,
}

/// What is known of a socket.
pub(crate) struct State {
    /// Bits of the constants below.
    known: Cell<u8>,
    /// They stay where they are when they have fired: mostly the same task waits again.
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

/// A read would tell something.
const READ: u8 = 1;
/// A write would take something.
const WRITE: u8 = 2;
/// The peer's FIN or a reset has come, maybe behind bytes.
const GONE: u8 = 4;
/// There are or were urgent data: a short read does not mean that nothing is left.
const URGENT: u8 = 8;
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

const GUESTS: u32 = 1 << 31;

impl Source {
    /// Takes a connected, non-blocking stream socket into this thread's loop.
    ///
    /// # Errors
    /// The kernel's at the user's limit of watches; `NotConnected` on a thread without a loop.
    pub fn stream(fd: OwnedFd) -> io::Result<Source> {
        Source::register(fd, STREAM, WRITE)
    }

    /// The same for one that is being connected: ready to write when that has come to an end.
    ///
    /// # Errors
    /// As [`Source::stream`].
    pub fn connecting(fd: OwnedFd) -> io::Result<Source> {
        Source::register(fd, STREAM, 0)
    }

    /// The same for a listener. It shows as readable in every turn it is: after [`Source::forget_readable`], only if the
    /// kernel says so again.
    ///
    /// # Errors
    /// As [`Source::stream`].
    pub fn listener(fd: OwnedFd) -> io::Result<Source> {
        Source::register(fd, Flags::IN, 0)
    }

    fn register(fd: OwnedFd, flags: Flags, known: u8) -> io::Result<Source> {
        let state = State { known: Cell::new(known), reader: Cell::default(), writer: Cell::default() };
        let state = Rc::new(state);
        let registered = here::with(|here| -> io::Result<Place> {
            let mut sources = here.sources.borrow_mut();
            let place = sources.add(state.clone());
            if let Err(error) = here.home.epoll.add(&fd, place.token(), flags) {
                sources.remove(&place);
                // Its place is left already.
                drop(sources);
                return Err(error);
            }
            Ok(place)
        });
        match registered {
            Some(place) => Ok(Source { fd, state, place: place? }),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether a read would tell something: bytes, the end, or an error.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll(READ, READER_WAITS, &self.state.reader, cx)
    }

    /// Whether a write would take something, or tell an error.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll(WRITE, WRITER_WAITS, &self.state.writer, cx)
    }

    /// Ready when the peer has sent its FIN or reset the connection, also when bytes that nobody reads yet came before.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll(GONE, READER_WAITS, &self.state.reader, cx)
    }

    /// Whether the kernel has told of the peer's FIN or of an error.
    pub fn is_gone(&self) -> bool {
        self.state.has(GONE)
    }

    /// What was read or accepted last showed that nothing is left: ready again when the kernel says so.
    pub fn forget_readable(&self) {
        self.state.forget(READ | URGENT);
    }

    /// Reads into the spare room of `buf`; 0 is the end of the stream (or that there is no room). Pending also when the task has
    /// read its share of the turn.
    ///
    /// A read that does not fill the room counts as having emptied the socket, so that waiting for more costs no read that
    /// finds nothing.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let room = buf.capacity() - buf.len();
        self.poll_receive(cx, room, |fd| socket::recv_into(fd, buf))
    }

    /// As [`Source::poll_read`], into a slice.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read_slice(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let room = buf.len();
        self.poll_receive(cx, room, |fd| socket::recv(fd, buf))
    }

    #[inline]
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        mut receive: impl FnMut(BorrowedFd<'_>) -> Moved,
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        loop {
            ready!(self.poll_readable(cx));
            if !here::may_read() {
                here::defer(cx.waker());
                return Poll::Pending;
            }
            match receive(self.fd.as_fd()) {
                Moved::Bytes(count) => {
                    if count < room && !self.state.has(GONE | URGENT) {
                        self.state.forget(READ);
                    }
                    return Poll::Ready(Ok(count));
                }
                Moved::Blocked => self.forget_readable(),
                Moved::Failed(errno) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            }
        }
    }

    /// Whether bytes or an end are there, found out without taking any.
    pub fn poll_stirred(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.poll_readable(cx));
            // What is known may be left over from before; only the socket knows.
            match self.is_gone() || socket::peek(&self.fd) != Moved::Blocked {
                true => return Poll::Ready(()),
                false => self.forget_readable(),
            }
        }
    }

    /// Writes what the socket takes now.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; then, and after a part, [`Source::poll_writable`] waits for room. The socket's.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.state.has(WRITE) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A send is cheaper than a message of one piece.
        let (total, moved) = match slices {
            [one] => (one.len(), socket::send(&self.fd, one)),
            many => (many.iter().map(|slice| slice.len()).sum(), socket::writev(&self.fd, many)),
        };
        match moved {
            Moved::Bytes(count) => {
                if count < total {
                    self.state.forget(WRITE);
                }
                Ok(count)
            }
            Moved::Blocked => {
                self.state.forget(WRITE);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Moved::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Writes what the socket takes, once it takes something.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_writable(cx)),
                done => return Poll::Ready(done),
            }
        }
    }

    /// Has the kernel say nothing of a listener, until [`Source::unmute`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn mute(&self) -> io::Result<()> {
        self.watch(Flags::empty())
    }

    /// Takes [`Source::mute`] back.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unmute(&self) -> io::Result<()> {
        self.watch(Flags::IN)
    }

    fn watch(&self, flags: Flags) -> io::Result<()> {
        let changed = here::with(|here| here.home.epoll.modify(&self.fd, self.place.token(), flags));
        changed.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Gives the socket to the loop's guest, still registered.
    pub fn lend(self) -> Lent {
        let readable = self.state.has(READ);
        Lent { fd: self.fd, place: self.place, readable }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("fd", &self.fd).field("known", &self.state.known.get()).finish()
    }
}

impl State {
    fn has(&self, bits: u8) -> bool {
        self.known.get() & bits != 0
    }

    fn forget(&self, bits: u8) {
        self.known.set(self.known.get() & !bits);
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
    fn add(&mut self, state: Rc<State>) -> Place {
        // One bit less than a word: the highest is the guest's.
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let generation = self.generation;
        let narrow = |key: usize| u32::try_from(key).ok().filter(|key| *key < GUESTS).expect(DESCRIPTORS);
        let owner = Owner(narrow(self.states.insert(state)));
        Place { key: narrow(self.entries.insert(Entry { generation, owner })), generation }
    }

    fn remove(&mut self, place: &Place) {
        if let Some(owner) = self.owner(place.token()) {
            self.entries.remove(place.key as usize);
            self.forget(owner);
        }
    }

    fn set_owner(&mut self, token: u64, new: Owner) {
        if let Some(old) = self.owner(token) {
            self.forget(old);
            self.entries[token as u32 as usize].owner = new;
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
