//! The chunked coding: a decoder that says which bytes are data and copies none, and what an encoder writes around them.

use std::ops::Range;

use super::error::ResponseError;
use super::field::{Field, FieldId, Fields};
use super::head::Step;
use super::line::{self, Line, LineState};
use super::response::UPSTREAM_NAMES;

/// The bytes are not the chunked coding as nginx reads it. On a request: 400; on a response: the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

/// What the bytes at the front of the slice are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// These are data, what is before them is not, and what is behind them is still to be shown.
    Data(Range<usize>),
    /// There are no more data in the slice; all of it is used up.
    More,
    /// The coding has ended and took so many bytes of the slice.
    End(usize),
}

/// Reads the chunked coding from slices of any size. As in nginx every line ends in CR LF, extensions are skipped, and
/// trailers are skipped too or left to [`Trailers`].
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    keep_trailers: bool,
    /// Bytes of the chunk that are still to come, or its size as far as it has been read.
    size: u64,
    /// Bytes of extensions and trailers so far, less those of data and [`EXTRA_BYTES_FREE`] a chunk.
    extra: u32,
}

/// What extensions and trailers may take in bytes, before the peer is thought to waste our time: no other limit counts
/// them (Go's CVE-2023-39326).
const EXTRA_BYTES_MAX: u32 = 64 * 1024;
/// What a chunk's extension may take in bytes for nothing.
const EXTRA_BYTES_FREE: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Size,
    Extension,
    ExtensionLf,
    Data,
    DataCr,
    DataLf,
    LastExtension,
    LastExtensionLf,
    Trailer,
    TrailerLf,
    TrailerLine,
    TrailerLineLf,
    End,
}

impl ChunkDecoder {
    /// Trailers are skipped; the end is the empty line behind them.
    pub fn new() -> Self {
        ChunkDecoder { state: State::Start, keep_trailers: false, size: 0, extra: 0 }
    }

    /// The end is the line of the last chunk: what follows is for [`Trailers`].
    pub fn keep_trailers() -> Self {
        ChunkDecoder { keep_trailers: true, ..ChunkDecoder::new() }
    }

    /// Bytes left in the chunk whose data are being read, 0 between chunks.
    pub fn left_in_chunk(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Says what the bytes at the front of `buf` are. Go on with what is behind the returned range until `More` or `End`.
    pub fn step(&mut self, buf: &[u8]) -> Result<Chunk, BadChunk> {
        let mut at = 0;
        while let Some(&byte) = buf.get(at) {
            match self.state {
                State::Data => {
                    let len = self.size.min((buf.len() - at) as u64);
                    self.size -= len;
                    self.extra = self.extra.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Chunk::Data(at..at + len as usize));
                }
                State::End => return Ok(Chunk::End(at)),
                State::Extension | State::LastExtension | State::TrailerLine => {
                    let rest = &buf[at..];
                    let found = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    self.extra = self.extra.saturating_add(found as u32);
                    if self.extra > EXTRA_BYTES_MAX {
                        return Err(BadChunk);
                    }
                    at += found;
                    let Some(&byte) = buf.get(at) else { break };
                    self.state = self.next(byte)?;
                }
                _ => self.state = self.next(byte)?,
            }
            at += 1;
            if self.state == State::End {
                return Ok(Chunk::End(at));
            }
        }
        Ok(Chunk::More)
    }

    fn next(&mut self, byte: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, byte) {
            (State::Start, _) => {
                self.size = hex(byte).ok_or(BadChunk)?;
                self.extra = self.extra.saturating_sub(EXTRA_BYTES_FREE);
                State::Size
            }
            (State::Size, b'\r') if self.size == 0 => State::LastExtensionLf,
            (State::Size, b'\r') => State::ExtensionLf,
            (State::Size, b';' | b' ' | b'\t') if self.size == 0 => State::LastExtension,
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Size, _) => {
                if self.size > i64::MAX as u64 / 16 {
                    return Err(BadChunk);
                }
                self.size = self.size * 16 + hex(byte).ok_or(BadChunk)?;
                if self.size > i64::MAX as u64 - 9 {
                    return Err(BadChunk);
                }
                State::Size
            }
            (State::Extension, b'\r') => State::ExtensionLf,
            (State::ExtensionLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::LastExtension, b'\r') => State::LastExtensionLf,
            (State::LastExtensionLf, b'\n') if self.keep_trailers => State::End,
            (State::LastExtensionLf, b'\n') => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, b'\n') => return Err(BadChunk),
            (State::Trailer, _) => {
                self.extra = self.extra.saturating_add(1);
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => State::End,
            (State::TrailerLine, b'\r') => State::TrailerLineLf,
            (State::TrailerLineLf, b'\n') => State::Trailer,
            _ => return Err(BadChunk),
        })
    }
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        ChunkDecoder::new()
    }
}

fn hex(digit: u8) -> Option<u64> {
    char::from(digit).to_digit(16).map(u64::from)
}

/// Reads the field lines behind the last chunk (`proxy_pass_trailers`).
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    at: usize,
    line: LineState,
}

impl Trailers {
    /// Reads trailers from the front of `buf` into `fields`, spans into `buf`; `Done` has the number of bytes they took,
    /// the empty line included. As with heads: call it again with more bytes behind the same ones. More than `bytes_max`
    /// bytes are [`ResponseError::TooBigTrailers`].
    pub fn read(
        &mut self,
        buf: &[u8],
        fields: &mut Fields,
        bytes_max: usize,
    ) -> Result<Step<usize>, ResponseError> {
        let seen = &buf[..buf.len().min(bytes_max)];
        loop {
            match line::read(seen, self.at, &mut self.line, UPSTREAM_NAMES) {
                Ok(Line::Field { name, value, next, .. }) => {
                    self.at = next;
                    fields.push(Field { name, value, id: FieldId::of(name.of(seen)) });
                }
                Ok(Line::End { next }) => return Ok(Step::Done(next)),
                Ok(Line::More) if buf.len() >= bytes_max => return Err(ResponseError::TooBigTrailers),
                Ok(Line::More) => {
                    self.at = seen.len();
                    return Ok(Step::More);
                }
                Err(bad) => return Err(ResponseError::InvalidTrailer(bad.line, bad.byte_in(seen))),
            }
        }
    }
}

/// What stands before a chunk's data: its size in hex and CR LF.
#[derive(Clone, Copy, Debug)]
pub struct ChunkPrefix {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkPrefix {
    /// The prefix for a chunk of `size` bytes, which must not be 0: that would end the coding. Behind the data comes CR LF.
    pub fn new(size: u64) -> ChunkPrefix {
        debug_assert!(size > 0);
        let mut bytes = [0; 18];
        bytes[16..].copy_from_slice(b"\r\n");
        let mut start = 16;
        let mut left = size;
        while left > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
        }
        ChunkPrefix { bytes, start: start as u8 }
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// What ends the coding when there are no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes taken until the end, if it comes to one.
    fn read(text: &[u8]) -> Result<usize, BadChunk> {
        let (mut decoder, mut at) = (ChunkDecoder::new(), 0);
        loop {
            match decoder.step(&text[at..])? {
                Chunk::Data(range) => at += range.end,
                Chunk::More => return Ok(text.len()),
                Chunk::End(used) => return Ok(at + used),
            }
        }
    }

    #[test]
    fn what_is_not_data_has_a_bound() {
        let check = |piece: &str, count: usize, is_good: bool| {
            let text = format!("{}0\r\n\r\n", piece.repeat(count));
            assert_eq!(read(text.as_bytes()).ok(), is_good.then_some(text.len()), "{count} of {piece:.20}");
        };
        let (short, long) = (";".repeat(12), ";".repeat(1000));
        check(&format!("1{short}\r\na\r\n"), 100_000, true);
        check(&format!("1{long}\r\na\r\n"), 50, true);
        check(&format!("1{long}\r\na\r\n"), 100, false);
        check(&format!("400{long}\r\n{}\r\n", "a".repeat(0x400)), 1000, true);
        let trailers = |count: usize| format!("0\r\n{}\r\n", "a\r\n".repeat(count));
        assert!(read(trailers(1000).as_bytes()).is_ok());
        assert_eq!(read(trailers(100_000).as_bytes()), Err(BadChunk));
    }
}
