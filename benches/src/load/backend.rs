//! The backend: answers handshakes, echoes messages, closes when told to close, and answers GETs with a small 200.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::net::SocketFlags;

use super::socket::{self, Received};
use super::text::{self, Frame};

/// Marks the backend's tokens in the loop it shares with the client.
pub(crate) const TOKEN: u64 = 1 << 63;
/// Marks a listener among them.
const LISTENER: u64 = 1 << 62;

/// All listeners and connections of the backend.
pub(crate) struct Backend {
    listeners: Vec<OwnedFd>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    small_answer: Vec<u8>,
    tunnels: usize,
    gone: Vec<usize>,
}

struct Connection {
    fd: OwnedFd,
    /// A tunnel since its 101.
    tunnel: bool,
    /// Bytes of a message or head that is not complete yet.
    partial: Vec<u8>,
    /// Bytes the socket did not take yet.
    unsent: Vec<u8>,
}

enum Fate {
    Lives,
    Ends,
}

impl Backend {
    /// Listens on as many loopback ports as asked and returns them too.
    pub(crate) fn listen(epoll: &OwnedFd, ports: usize) -> io::Result<(Self, Vec<u16>)> {
        let mut listeners = Vec::new();
        let mut numbers = Vec::new();
        for index in 0..ports {
            let (listener, port) = socket::listen_loopback()?;
            epoll::add(
                epoll,
                &listener,
                epoll::EventData::new_u64(TOKEN | LISTENER | index as u64),
                epoll::EventFlags::IN,
            )?;
            listeners.push(listener);
            numbers.push(port);
        }
        let backend = Self {
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            small_answer: text::small_answer(),
            tunnels: 0,
            gone: Vec::new(),
        };
        Ok((backend, numbers))
    }

    /// Tunnels open now.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels
    }

    /// Handles one event; `scratch` is the loop's shared buffer.
    pub(crate) fn event(
        &mut self,
        epoll: &OwnedFd,
        event: epoll::Event,
        scratch: &mut [u8],
    ) -> io::Result<()> {
        let token = event.data.u64();
        let index = (token & !(TOKEN | LISTENER)) as usize;
        if token & LISTENER != 0 {
            return self.accept(epoll, index);
        }
        let Some(connection) = self.connections[index].as_mut() else { return Ok(()) };
        let was_tunnel = connection.tunnel;
        let fate = connection.progress(scratch, &self.small_answer, socket::is_ending(event.flags));
        if connection.tunnel && !was_tunnel {
            self.tunnels += 1;
        }
        if matches!(fate, Fate::Ends) {
            self.tunnels -= usize::from(connection.tunnel);
            self.connections[index] = None;
            self.gone.push(index);
        }
        Ok(())
    }

    /// Ends a batch of events: only now may the places of closed connections be used again, because an event of the
    /// same batch may still name them.
    pub(crate) fn batch_done(&mut self) {
        self.free.append(&mut self.gone);
    }

    fn accept(&mut self, epoll: &OwnedFd, listener: usize) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match rustix::net::accept_with(&self.listeners[listener], flags) {
                Ok(fd) => fd,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            socket::watch(epoll, &fd, TOKEN | index as u64)?;
            self.connections[index] =
                Some(Connection { fd, tunnel: false, partial: Vec::new(), unsent: Vec::new() });
        }
    }
}

impl Connection {
    /// Reads what is there and answers it. The socket is edge triggered, so it reads until less than a buffer came.
    fn progress(&mut self, scratch: &mut [u8], small_answer: &[u8], ending: bool) -> Fate {
        if socket::flush(&self.fd, &mut self.unsent).is_err() {
            return Fate::Ends;
        }
        loop {
            let (count, more) = match socket::receive(&self.fd, scratch, ending) {
                Received::Bytes { count, more } => (count, more),
                Received::Nothing => return Fate::Lives,
                Received::End => return Fate::Ends,
            };
            if let Fate::Ends = self.answer(&mut scratch[..count], small_answer) {
                return Fate::Ends;
            }
            if !more {
                return Fate::Lives;
            }
        }
    }

    /// Answers straight from the shared buffer when messages came whole (small ones always do); else collects.
    fn answer(&mut self, fresh: &mut [u8], small_answer: &[u8]) -> Fate {
        if self.partial.is_empty() {
            let Ok(used) = self.answer_whole(fresh, small_answer) else { return Fate::Ends };
            self.partial.extend_from_slice(&fresh[used..]);
            return Fate::Lives;
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(fresh);
        let Ok(used) = self.answer_whole(&mut all, small_answer) else { return Fate::Ends };
        all.drain(..used);
        self.partial = all;
        Fate::Lives
    }

    /// Answers every whole request or message in `bytes`; returns how many bytes that used. An error ends the
    /// connection: a Close was answered, or the peer sent nonsense.
    fn answer_whole(&mut self, bytes: &mut [u8], small_answer: &[u8]) -> Result<usize, ()> {
        let mut used = 0;
        while used < bytes.len() {
            let step = match self.tunnel {
                true => self.answer_frame(&mut bytes[used..])?,
                false => self.answer_head(&bytes[used..], small_answer)?,
            };
            match step {
                0 => break,
                step => used += step,
            }
        }
        Ok(used)
    }

    fn answer_head(&mut self, bytes: &[u8], small_answer: &[u8]) -> Result<usize, ()> {
        let Some(length) = text::head_length(bytes) else {
            return if bytes.len() > text::HEAD_BYTES_MAX { Err(()) } else { Ok(0) };
        };
        match text::switching(&bytes[..length]) {
            Some(answer) => {
                self.tunnel = true;
                self.send(&answer)?;
            }
            None => self.send(small_answer)?,
        }
        Ok(length)
    }

    /// Echoes one frame without its mask: the reply's header is written over the end of the request's, so the bytes
    /// are sent from where they lie.
    fn answer_frame(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        let Some(frame) = Frame::parse(bytes) else { return Ok(0) };
        let end = frame.header_bytes + frame.payload_bytes;
        if bytes.len() < end {
            return Ok(0);
        }
        let Some(mask) = frame.mask else { return Err(()) };
        if mask != [0; 4] {
            let payload = &mut bytes[frame.header_bytes..end];
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        bytes.copy_within(0..frame.header_bytes - 4, 4);
        bytes[5] &= 0x7f;
        self.send(&bytes[4..end])?;
        if frame.opcode == 8 { Err(()) } else { Ok(end) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        socket::send(&self.fd, &mut self.unsent, bytes).map_err(|_| ())
    }
}
