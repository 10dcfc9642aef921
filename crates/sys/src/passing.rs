//! Messages with descriptors between two of our own processes, over a unix stream socket pair.
//!
//! A frame is a header (magic, descriptor count, body length), then the body. The kernel takes at most
//! [`DESCRIPTORS_PER_CALL`] descriptors with one `sendmsg`; the first lot rides on the header, each further lot on one
//! filler byte before the body. Both sides are the same program on the same machine, so integers are in native order;
//! what arrives is checked all the same.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};

/// `SCM_MAX_FD` of the kernel.
pub const DESCRIPTORS_PER_CALL: usize = 253;

/// The most descriptors one message may carry.
pub const DESCRIPTORS_MAX: usize = 65_536;

/// The longest body one message may carry, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 30;

const MAGIC: u32 = u32::from_be_bytes(*b"TGfd");
const HEADER_BYTES: usize = 16;
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_CALL));

mod inbox;

pub use inbox::{Bounds, Inbox, Taken};

/// One end of a pair that carries [`Message`]s. Sending blocks, whatever the descriptor's mode, and an [`Inbox`] receives
/// without blocking; each side is meant for one thread at a time.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// How long the other end may take no byte of what is sent to it.
    patience: Option<Duration>,
}

/// What travels: bytes in the sender's own format, and descriptors.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub body: Vec<u8>,
    /// In the sender's order, each closed on exec.
    pub descriptors: Vec<OwnedFd>,
    /// This process has no room for all the descriptors: there are none.
    pub is_bereft: bool,
}

impl Channel {
    /// Two connected ends, closed on exec.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Channel::from_fd(a), Channel::from_fd(b)))
    }

    /// An end that was inherited or received. It must be a unix stream socket.
    pub fn from_fd(socket: OwnedFd) -> Channel {
        Channel { socket, patience: None }
    }

    /// From now on, sending to an end that takes nothing for so long is an error.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Channel {
        Channel { patience: Some(patience), ..self }
    }

    /// Sends one message; the descriptors stay open here too.
    ///
    /// # Errors
    /// `EPIPE` when the other end is gone, `TimedOut` when it takes nothing for longer than our patience, `InvalidInput`
    /// beyond the limits, `ETOOMANYREFS` when too many descriptors are in flight. After an error the channel is of no further use.
    pub fn send(&self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if body.len() > BODY_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large for a channel"));
        }
        let header = Header { descriptors: descriptors.len() as u32, body: body.len() as u64 }.encode();
        let (first, rest) = descriptors.split_at(descriptors.len().min(DESCRIPTORS_PER_CALL));
        self.send_all(&header, first)?;
        for lot in rest.chunks(DESCRIPTORS_PER_CALL) {
            self.send_all(&[0], lot)?;
        }
        self.send_all(body, &[])
    }

    /// Waits for one message, however long; `None` when the other end was closed between messages.
    ///
    /// # Errors
    /// Those of [`Inbox::take`].
    pub fn recv(&self) -> io::Result<Option<Message>> {
        let mut inbox = Inbox::new(Bounds::NONE);
        loop {
            match inbox.take(self)? {
                Taken::Message(message) => return Ok(Some(message)),
                Taken::Closed => return Ok(None),
                Taken::Nothing => self.wait_for(PollFlags::IN, None)?,
            }
        }
    }

    /// Sends every byte; the descriptors ride on the first.
    fn send_all(&self, mut bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut unsent = descriptors;
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !unsent.is_empty() {
                let pushed = control.push(SendAncillaryMessage::ScmRights(unsent));
                debug_assert!(pushed, "a lot fits the space by the size of both");
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    unsent = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::OUT, self.patience)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_for(&self, what: PollFlags, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&self.socket, what)], limit.as_ref()) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.socket
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    descriptors: u32,
    body: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.descriptors.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.body.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES], bounds: Bounds) -> io::Result<Header> {
        let [a, b, c, d, e, f, g, h, body @ ..] = *bytes;
        let header = Header { descriptors: u32::from_ne_bytes([e, f, g, h]), body: u64::from_ne_bytes(body) };
        let sound = u32::from_ne_bytes([a, b, c, d]) == MAGIC
            && header.descriptors as usize <= bounds.descriptors_max
            && header.body <= bounds.body_bytes_max as u64;
        if sound { Ok(header) } else { Err(invalid("not a message of ours")) }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    /// Sends `count` pipes' read ends and `length` bytes, and compares what arrives.
    fn check(count: usize, length: usize) {
        let (a, b) = Channel::pair().unwrap();
        let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let shared = File::open("/dev/null").unwrap();
        let list: Vec<_> = (0..count).map(|_| shared.as_fd()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                a.send(&body, &list).unwrap();
                a.send(b"next", &[]).unwrap();
            });
            let message = b.recv().unwrap().expect("a message");
            assert_eq!(message.descriptors.len(), count);
            assert!(message.body == body, "{count} descriptors, {length} bytes");
            assert_eq!(b.recv().unwrap().expect("the next").body, b"next");
        });
        drop(a);
        assert!(b.recv().unwrap().is_none());
    }

    #[test]
    fn who_does_not_listen_is_not_waited_for() {
        let (a, b) = Channel::pair().unwrap();
        let a = a.with_patience(Duration::from_millis(20));
        let body = vec![1; 1000];
        let error = std::iter::repeat_with(|| a.send(&body, &[])).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(b.recv().unwrap().expect("the first").body, body);
    }

    #[test]
    fn any_number_of_descriptors_and_bytes_arrives_whole() {
        check(0, 0);
        check(0, 1);
        check(1, 0);
        check(3, 1 << 20);
        check(DESCRIPTORS_PER_CALL, 10);
        check(DESCRIPTORS_PER_CALL + 1, 10);
        check(600, 300_000);
    }

    /// In a process of its own limit: the message comes without them, and the next one is whole.
    #[test]
    fn without_room_for_the_descriptors_the_rest_arrives() {
        if std::env::var_os(ALONE).is_none() {
            let own = std::env::current_exe().unwrap();
            let name = "passing::tests::without_room_for_the_descriptors_the_rest_arrives";
            let mut alone = std::process::Command::new(own);
            let output = alone.args(["--exact", name]).env(ALONE, "1").output().unwrap();
            return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        use std::os::fd::AsRawFd;
        let (a, b) = Channel::pair().unwrap();
        let shared = File::open("/dev/null").unwrap();
        for count in [1, 3, 30, 300] {
            a.send(b"body", &vec![shared.as_fd(); count]).unwrap();
            a.send(b"next", &[shared.as_fd()]).unwrap();
            let limit = getrlimit(Resource::Nofile);
            // Numbers are given out from below.
            let free = shared.as_fd().try_clone_to_owned().unwrap().as_raw_fd() as u64;
            setrlimit(Resource::Nofile, Rlimit { current: Some(free + count as u64 / 2), ..limit }).unwrap();
            let message = b.recv().unwrap().expect("a message");
            setrlimit(Resource::Nofile, limit).unwrap();
            assert!(message.is_bereft && message.descriptors.is_empty(), "{count} descriptors");
            assert_eq!(message.body, b"body");
            let next = b.recv().unwrap().expect("the next");
            assert_eq!((&next.body[..], next.descriptors.len(), next.is_bereft), (&b"next"[..], 1, false));
        }
    }

    /// Tells a test that its process is its own.
    const ALONE: &str = "TIDEGATE_TEST_ALONE";

    #[test]
    fn descriptors_keep_their_order() {
        let (a, b) = Channel::pair().unwrap();
        let files: Vec<File> = (0..300u32)
            .map(|i| {
                let mut file =
                    File::from(rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
                file.write_all(&i.to_ne_bytes()).unwrap();
                file
            })
            .collect();
        a.send(b"", &files.iter().map(|file| file.as_fd()).collect::<Vec<_>>()).unwrap();
        for (i, fd) in b.recv().unwrap().unwrap().descriptors.into_iter().enumerate() {
            let mut file = File::from(fd);
            let mut number = [0; 4];
            file.rewind().unwrap();
            file.read_exact(&mut number).unwrap();
            assert_eq!(u32::from_ne_bytes(number), i as u32);
        }
    }

    #[test]
    fn noise_and_a_cut_message_are_errors() {
        let (a, b) = Channel::pair().unwrap();
        a.send_all(&[9; 64], &[]).unwrap();
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);

        let (a, b) = Channel::pair().unwrap();
        a.send_all(&Header { descriptors: 0, body: 10 }.encode(), &[]).unwrap();
        drop(a);
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (a, b) = Channel::pair().unwrap();
        a.send_all(&Header { descriptors: 2, body: 0 }.encode(), &[]).unwrap();
        a.send_all(&[0], &[]).unwrap();
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// A message in pieces, each of which is taken before the next is there.
    #[test]
    fn nobody_waits_for_the_rest_of_a_message() {
        let (a, b) = Channel::pair().unwrap();
        let mut inbox = Inbox::new(Bounds { body_bytes_max: 10, descriptors_max: 2 });
        let mut takes = |expected: &str| {
            let taken = match inbox.take(&b) {
                Ok(Taken::Message(message)) => format!("{} {:?}", message.descriptors.len(), message.body),
                Ok(Taken::Nothing) => format!("nothing, begun: {}", inbox.begun().is_some()),
                Ok(Taken::Closed) => "closed".to_owned(),
                Err(error) => error.kind().to_string(),
            };
            assert_eq!(taken, expected);
        };
        takes("nothing, begun: false");
        let null = File::open("/dev/null").unwrap();
        let header = Header { descriptors: 1, body: 3 }.encode();
        a.send_all(&header[..1], &[null.as_fd()]).unwrap();
        takes("nothing, begun: true");
        a.send_all(&header[1..], &[]).unwrap();
        takes("nothing, begun: true");
        a.send_all(&[7, 8], &[]).unwrap();
        takes("nothing, begun: true");
        a.send_all(&[9], &[]).unwrap();
        a.send(&[1], &[]).unwrap();
        takes("1 [7, 8, 9]");
        takes("0 [1]");
        takes("nothing, begun: false");
        a.send(&[0; 11], &[]).unwrap();
        takes("invalid data");
    }

    #[test]
    fn bounds_hold_for_descriptors_too() {
        let (a, b) = Channel::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        a.send(b"", &[null.as_fd(); 3]).unwrap();
        let mut inbox = Inbox::new(Bounds { body_bytes_max: 10, descriptors_max: 2 });
        assert!(inbox.take(&b).is_err_and(|error| error.kind() == io::ErrorKind::InvalidData));
        // Those that nobody announced.
        a.send_all(&Header { descriptors: 0, body: 0 }.encode(), &[null.as_fd()]).unwrap();
        let mut inbox = Inbox::new(Bounds { body_bytes_max: 10, descriptors_max: 2 });
        assert!(inbox.take(&b).is_err());
        drop(a);
    }

    #[test]
    fn a_closed_reader_is_a_broken_pipe() {
        let (a, b) = Channel::pair().unwrap();
        drop(b);
        assert_eq!(a.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
