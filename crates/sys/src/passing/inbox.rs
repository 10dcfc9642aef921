//! Receiving: what is there is taken, and nobody waits for the rest of a message.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

use super::{
    BODY_BYTES_MAX, CONTROL_BYTES, Channel, DESCRIPTORS_MAX, DESCRIPTORS_PER_CALL, HEADER_BYTES, Header,
    Message, invalid,
};

/// What a message may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of its body.
    pub body_bytes_max: usize,
    /// Descriptors that come with it.
    pub descriptors_max: usize,
}

impl Bounds {
    /// All that a channel carries.
    pub const NONE: Bounds = Bounds { body_bytes_max: BODY_BYTES_MAX, descriptors_max: DESCRIPTORS_MAX };
}

/// What an [`Inbox`] found.
#[derive(Debug)]
pub enum Taken<M = Message> {
    /// A whole message.
    Message(M),
    /// Less than that, for now.
    Nothing,
    /// The other end was closed between messages.
    Closed,
}

impl<M> Taken<M> {
    /// Makes something else of a message.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn try_map<N>(self, make: impl FnOnce(M) -> io::Result<N>) -> io::Result<Taken<N>> {
        Ok(match self {
            Taken::Message(message) => Taken::Message(make(message)?),
            Taken::Nothing => Taken::Nothing,
            Taken::Closed => Taken::Closed,
        })
    }
}

/// The message that comes in on one channel, as far as it is there.
#[derive(Debug)]
pub struct Inbox {
    bounds: Bounds,
    header: [u8; HEADER_BYTES],
    /// Known once all of its bytes are there.
    announced: Option<Header>,
    /// Bytes still to come that carry descriptors.
    carriers: usize,
    /// Of the part that comes in: the header, then the body.
    filled: usize,
    message: Message,
    begun: Option<Instant>,
}

impl Inbox {
    /// Nothing has come yet, and no more than that will.
    pub fn new(bounds: Bounds) -> Inbox {
        Inbox {
            bounds,
            header: [0; HEADER_BYTES],
            announced: None,
            carriers: 0,
            filled: 0,
            message: Message::default(),
            begun: None,
        }
    }

    /// Since when a message is under way whose end is not there.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Takes what is there of the next message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the channel was closed within one, `InvalidData` for bytes that are no frame or more than the
    /// bounds allow. After an error the channel is of no further use.
    pub fn take(&mut self, channel: &Channel) -> io::Result<Taken> {
        loop {
            let Some(header) = self.announced else {
                match self.fill(channel)? {
                    Filled::Whole => self.announce()?,
                    Filled::Part => return Ok(Taken::Nothing),
                    Filled::Closed => return Ok(Taken::Closed),
                }
                continue;
            };
            if self.carriers == 0 && self.filled == self.message.body.len() {
                let bounds = self.bounds;
                let message = std::mem::replace(self, Inbox::new(bounds)).message;
                return message.complete(header).map(Taken::Message);
            }
            match self.fill(channel)? {
                Filled::Part => return Ok(Taken::Nothing),
                Filled::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Filled::Whole => {}
            }
        }
    }

    fn announce(&mut self) -> io::Result<()> {
        let header = Header::decode(&self.header, self.bounds)?;
        // The first lot came with the header.
        self.carriers = (header.descriptors as usize).div_ceil(DESCRIPTORS_PER_CALL).saturating_sub(1);
        self.announced = Some(header);
        self.filled = 0;
        self.message.body = vec![0; header.body as usize];
        Ok(())
    }

    /// Goes on with the part that comes in: the header, a byte that carries descriptors, or the body.
    fn fill(&mut self, channel: &Channel) -> io::Result<Filled> {
        let carries = self.carriers > 0;
        let mut carrier = [0];
        let part = match self.announced {
            None => &mut self.header[self.filled..],
            Some(_) if carries => &mut carrier[..],
            Some(_) => &mut self.message.body[self.filled..],
        };
        let wanted = part.len();
        let Some(Received { count, is_cut }) = receive(channel, part, &mut self.message.descriptors)? else {
            return Ok(Filled::Part);
        };
        // The message comes without them; its bytes do all the same.
        self.message.is_bereft |= is_cut;
        if self.message.descriptors.len() > self.bounds.descriptors_max {
            return Err(invalid("more descriptors than are taken"));
        }
        if count == 0 {
            return match self.begun {
                None => Ok(Filled::Closed),
                Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        self.begun.get_or_insert_with(Instant::now);
        match carries {
            true => self.carriers -= 1,
            false => self.filled += count,
        }
        Ok(if count == wanted { Filled::Whole } else { Filled::Part })
    }
}

enum Filled {
    Whole,
    Part,
    Closed,
}

impl Message {
    /// All its bytes are there.
    fn complete(mut self, header: Header) -> io::Result<Message> {
        if self.is_bereft {
            self.descriptors.clear();
        } else if self.descriptors.len() != header.descriptors as usize {
            return Err(invalid("not as many descriptors as announced"));
        }
        Ok(self)
    }
}

struct Received {
    /// Bytes.
    count: usize,
    /// The kernel has cut the list of descriptors: this process may open no more.
    is_cut: bool,
}

/// Bytes into the buffer, and descriptors that came with them; nothing when nothing is there.
fn receive(
    channel: &Channel,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Option<Received>> {
    loop {
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let answer =
            rustix::net::recvmsg(&channel.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                descriptors.extend(more);
            }
        }
        match answer {
            Ok(got) => {
                let is_cut = got.flags.contains(ReturnFlags::CTRUNC);
                return Ok(Some(Received { count: got.bytes, is_cut }));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
