//! Sockets in a loop: registered once, edge-triggered, and read or written only when the kernel has said that it is worth it.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use sys::epoll::{EDGE, Flags};
use sys::socket::{self, Moved};

use crate::here;
use crate::sources::{GONE, GUESTS, READ, State, URGENT, WRITE};

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
    token: u64,
}

impl Place {
    /// From now on the socket's events are the guest's ([`crate::Guest::lent_event`]), who knows them by this name, which is less
    /// than 2^31.
    pub fn point_to(&self, name: u32) {
        debug_assert!(name < GUESTS, "a bit is ours");
        here::with(|here| here.sources.borrow_mut().lend(self.token, name));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        here::with(|here| here.sources.borrow_mut().remove(self.token));
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
        let state = Rc::new(State::new(known));
        let registered = here::with(|here| -> io::Result<Place> {
            let mut sources = here.sources.borrow_mut();
            let token = sources.add(state.clone());
            if let Err(error) = here.home.epoll.add(&fd, token, flags) {
                sources.remove(token);
                return Err(error);
            }
            Ok(Place { token })
        });
        match registered {
            Some(place) => Ok(Source { fd, state, place: place? }),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether a read would tell something: bytes, the end, or an error.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll_reader(READ, cx)
    }

    /// Whether a write would take something, or tell an error.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll_writer(cx)
    }

    /// Ready when the peer has sent its FIN or reset the connection, also when bytes that nobody reads yet came before.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.poll_reader(GONE, cx)
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
        let changed = here::with(|here| here.home.epoll.modify(&self.fd, self.place.token, flags));
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
        f.debug_struct("Source").field("fd", &self.fd).field("known", &self.state.known()).finish()
    }
}
