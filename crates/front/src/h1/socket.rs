//! A client's socket and what was received from it. While nothing was, it holds no buffer.

use std::io;
use std::task::{Context, Poll, ready};

use http::output::Chunk;
use http::pool::Buf;

use crate::stream::Stream;

/// A stream, and received bytes that nobody used yet.
pub(crate) struct Socket {
    pub(crate) stream: Stream,
    input: Buf,
    /// Bytes of `input` before this are used.
    at: usize,
}

impl Socket {
    pub(crate) fn new(stream: Stream) -> Socket {
        Socket { stream, input: Buf::default(), at: 0 }
    }

    /// Received bytes that belong to nobody yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.at..]
    }

    /// Marks bytes at the front as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.input.len());
    }

    /// Drops what was received and gives the buffer back.
    pub(crate) fn forget(&mut self) {
        self.input = Buf::default();
        self.at = 0;
    }

    /// Takes the unread bytes out.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.unread().to_vec();
        self.forget();
        unread
    }

    /// Takes the first `count` unread bytes out as a buffer that starts with them; what follows them stays.
    pub(crate) fn take_front(&mut self, count: usize) -> Buf {
        self.align();
        let mut rest = Buf::default();
        if self.input.len() > count {
            rest = Buf::with_capacity(self.input.len() - count);
            rest.extend_from_slice(&self.input[count..]);
        }
        let mut front = std::mem::replace(&mut self.input, rest);
        front.truncate(count);
        front
    }

    /// Takes the first `count` unread bytes out as a piece of a body: the buffer itself when nothing follows them and
    /// a copy would cost more than it saves.
    pub(crate) fn cut(&mut self, count: usize) -> Chunk {
        let range = self.at..self.at + count;
        if range.end == self.input.len() && count > COPIED_MAX {
            self.at = 0;
            return Chunk::pooled(std::mem::take(&mut self.input), range);
        }
        let mut copy = Buf::with_capacity(count);
        copy.extend_from_slice(&self.input[range]);
        self.at += count;
        Chunk::pooled(copy, 0..count)
    }

    /// Moves the unread bytes to the front of their buffer.
    pub(crate) fn align(&mut self) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
    }

    /// Reads more behind what is unread; ready with the count, 0 at the end. `room` is what a new buffer has, and how far
    /// a full one grows.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.at == self.input.len() {
            self.forget();
        }
        if self.input.capacity() == 0 {
            let mut input = Buf::with_capacity(room);
            // Not kept while nothing comes: most polls of an idle connection find nothing.
            let count = ready!(self.stream.poll_read(cx, &mut input))?;
            self.input = input;
            return Poll::Ready(Ok(count));
        }
        if self.input.len() == self.input.capacity() {
            self.align();
        }
        if self.input.len() == self.input.capacity() {
            self.input.reserve_exact(room.max(1));
        }
        self.stream.poll_read(cx, &mut self.input)
    }
}

/// Body pieces up to this many bytes are copied out of their buffer rather than taking it along.
const COPIED_MAX: usize = 4 * 1024;
