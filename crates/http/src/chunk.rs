//! A piece of a body, wherever its bytes are.

use std::ops::Range;
use std::sync::Arc;

use wire::http1::ChunkPrefix;

use crate::pool::Buf;

/// Bytes of a body, with what the writer must know.
#[derive(Debug, Default)]
pub struct Chunk {
    data: Data,
    start: usize,
    end: usize,
    /// Nothing follows.
    pub last: bool,
    /// Send what is queued rather than wait for more.
    pub flush: bool,
}

#[derive(Debug)]
enum Data {
    Pooled(Buf),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
    Prefix(ChunkPrefix),
}

impl Default for Data {
    fn default() -> Data {
        Data::Static(b"")
    }
}

impl Chunk {
    /// The bytes of a pooled buffer within `range`.
    pub fn pooled(buf: Buf, range: Range<usize>) -> Chunk {
        debug_assert!(range.end <= buf.len());
        Chunk {
            start: range.start,
            end: range.end.min(buf.len()),
            data: Data::Pooled(buf),
            last: false,
            flush: false,
        }
    }

    /// Bytes made for this body.
    pub fn owned(bytes: Vec<u8>) -> Chunk {
        let end = bytes.len();
        Chunk { data: Data::Pooled(Buf::from_vec(bytes)), start: 0, end, last: false, flush: false }
    }

    /// Bytes that many bodies share.
    pub fn shared(bytes: Arc<[u8]>) -> Chunk {
        let end = bytes.len();
        Chunk { data: Data::Shared(bytes), start: 0, end, last: false, flush: false }
    }

    /// Bytes of the program.
    pub fn fixed(bytes: &'static [u8]) -> Chunk {
        Chunk { data: Data::Static(bytes), start: 0, end: bytes.len(), last: false, flush: false }
    }

    /// What stands before a chunk of the chunked coding.
    pub fn prefix(prefix: &ChunkPrefix) -> Chunk {
        let end = prefix.as_bytes().len();
        Chunk { data: Data::Prefix(*prefix), start: 0, end, last: false, flush: false }
    }

    /// The end of a body.
    pub fn end() -> Chunk {
        Chunk { last: true, flush: true, ..Chunk::default() }
    }

    /// This chunk as the body's last.
    pub fn last(mut self) -> Chunk {
        (self.last, self.flush) = (true, true);
        self
    }

    /// The bytes not yet consumed.
    pub fn bytes(&self) -> &[u8] {
        let all = match &self.data {
            Data::Pooled(buf) => &buf[..],
            Data::Shared(bytes) => bytes,
            Data::Static(bytes) => bytes,
            Data::Prefix(prefix) => prefix.as_bytes(),
        };
        &all[self.start..self.end]
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Appends bytes when they fit the room of its buffer, as a short body fits behind its head.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        match &mut self.data {
            Data::Pooled(buf) if self.end == buf.len() && bytes.len() <= buf.capacity() - buf.len() => {
                buf.extend_from_slice(bytes);
                self.end = buf.len();
                true
            }
            _ => false,
        }
    }

    /// Drops `count` bytes from the front.
    pub fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Drops all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }
}
