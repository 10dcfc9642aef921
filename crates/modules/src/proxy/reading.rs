//! The response body on its way from the upstream: where it ends, and which bytes are its.

use std::ops::Range;

use http::pool::Buf;
use wire::http1::{Body as Ends, Chunk, ChunkDecoder, ResponseHead};

/// How the response body ends, and how far it is.
#[derive(Debug)]
pub(crate) enum Reading {
    Done,
    Length(u64),
    Chunks(ChunkDecoder),
    UntilClose,
}

/// The chunked coding is broken: `upstream sent invalid chunked response`. Where the bytes before the damage are.
#[derive(Debug)]
pub(crate) struct BadBody(pub(crate) Range<usize>);

impl Reading {
    /// Takes the body's bytes out of `buf[start..]`, moved together to the returned range. `Done` afterwards means
    /// that the body ended; what stands behind it is returned as a count.
    pub(crate) fn take(&mut self, buf: &mut Buf, start: usize) -> Result<(Range<usize>, usize), BadBody> {
        let end = buf.len();
        match self {
            Reading::Done => Ok((start..start, end - start)),
            Reading::UntilClose => Ok((start..end, 0)),
            Reading::Length(left) => {
                let have = (end - start) as u64;
                let taken = have.min(*left);
                *left -= taken;
                if *left == 0 {
                    *self = Reading::Done;
                }
                Ok((start..start + taken as usize, (have - taken) as usize))
            }
            Reading::Chunks(decoder) => {
                let (mut at, mut to) = (start, start);
                loop {
                    match decoder.step(&buf[at..]).map_err(|_| BadBody(start..to))? {
                        Chunk::Data(range) => {
                            let (from, len) = (at + range.start, range.len());
                            if from != to {
                                buf.copy_within(from..from + len, to);
                            }
                            to += len;
                            at = from + len;
                        }
                        Chunk::More => return Ok((start..to, 0)),
                        Chunk::End(used) => {
                            *self = Reading::Done;
                            return Ok((start..to, end - at - used));
                        }
                    }
                }
            }
        }
    }
}

/// How the body of this response ends.
pub(super) fn reading(head: &ResponseHead, to_head: bool) -> Reading {
    match head.body(to_head) {
        Ends::None => Reading::Done,
        Ends::Length(length) => Reading::Length(length),
        Ends::Chunked => Reading::Chunks(ChunkDecoder::new()),
        Ends::UntilClose => Reading::UntilClose,
    }
}
