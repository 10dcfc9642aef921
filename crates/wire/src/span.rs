//! A piece of a buffer somebody else keeps.

use std::ops::Range;

/// Where some bytes stand in the buffer the caller keeps: an offset and a length, both in bytes.
///
/// Heads are bounded far below 4 GiB, so 32 bits each are enough and a field stays at 20 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// No bytes, at offset 0.
    pub const EMPTY: Span = Span { start: 0, len: 0 };

    /// The bytes from `start` up to `end`; empty if `end` is before `start`.
    #[inline]
    pub fn between(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// Offset just behind the last byte.
    #[inline]
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// True if there are no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The offsets as a range.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end()
    }

    /// The bytes in `buf`; empty if `buf` is not (or no longer) long enough.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.range()).unwrap_or_default()
    }
}
