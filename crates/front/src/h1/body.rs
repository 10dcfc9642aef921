//! A request body as it comes: so many bytes, or chunks.

use http::BodyError;
use http::output::Chunk;
use wire::http1::{self, ChunkDecoder, RequestHead};

use crate::h1::socket::Socket;

/// What of a request body is still to come.
pub(crate) struct RequestBody {
    left: Left,
    /// Body bytes taken so far, without the chunked coding.
    taken: u64,
    /// Bytes received for it so far, with the coding: `$request_length` counts these.
    pub(crate) received: u64,
}

enum Left {
    None,
    Length(u64),
    Chunks(ChunkDecoder),
}

/// Why a body ends before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadBody {
    /// Not the chunked coding.
    Malformed,
    /// A chunk of this size behind so many bytes is more than `client_max_body_size`.
    TooLarge(u64, u64),
}

impl From<BadBody> for BodyError {
    fn from(bad: BadBody) -> BodyError {
        match bad {
            BadBody::Malformed => BodyError::Malformed,
            BadBody::TooLarge(..) => BodyError::TooLarge,
        }
    }
}

impl RequestBody {
    /// No body.
    pub(crate) fn none() -> RequestBody {
        RequestBody { left: Left::None, taken: 0, received: 0 }
    }

    /// What follows this head.
    pub(crate) fn of(head: &RequestHead) -> RequestBody {
        let left = match head.content_length {
            _ if head.chunked => Left::Chunks(ChunkDecoder::new()),
            Some(length) if length > 0 => Left::Length(length),
            _ => Left::None,
        };
        RequestBody { left, ..RequestBody::none() }
    }

    /// Whether nothing is left.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.left, Left::None)
    }

    /// A piece from what was received; `None` when more must be read first, or at the end. `max` bounds chunked bodies,
    /// 0 is no bound; the length of others was checked when their head was read.
    pub(crate) fn piece(&mut self, socket: &mut Socket, max: u64) -> Result<Option<Chunk>, BadBody> {
        loop {
            let unread = socket.unread();
            let (skip, len) = match &mut self.left {
                Left::None => return Ok(None),
                Left::Length(_) if unread.is_empty() => return Ok(None),
                Left::Length(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                    *left -= len as u64;
                    (0, len)
                }
                Left::Chunks(decoder) => match decoder.step(unread).map_err(|_| BadBody::Malformed)? {
                    http1::Chunk::Data(range) => {
                        let size = range.len() as u64 + decoder.left_in_chunk();
                        if max != 0 && size > max.saturating_sub(self.taken) {
                            return Err(BadBody::TooLarge(self.taken, size));
                        }
                        (range.start, range.len())
                    }
                    http1::Chunk::More => (unread.len(), 0),
                    http1::Chunk::End(used) => {
                        self.left = Left::None;
                        (used, 0)
                    }
                },
            };
            self.taken += len as u64;
            self.received += (skip + len) as u64;
            socket.consume(skip);
            if matches!(self.left, Left::Length(0)) {
                self.left = Left::None;
            }
            if len > 0 {
                return Ok(Some(socket.cut(len)));
            }
            if matches!(self.left, Left::None) || socket.unread().is_empty() {
                return Ok(None);
            }
        }
    }

    /// Drops what was received of it. As on nginx no limit holds for a body that nobody reads.
    pub(crate) fn skip(&mut self, socket: &mut Socket) -> Result<(), BadBody> {
        while self.piece(socket, 0)?.is_some() {}
        Ok(())
    }
}
