//! What request and response heads share: limits, the place to go on from, and the outcome of a step.

/// Limits and settings for reading a request head. All sizes in bytes.
///
/// nginx never splits a line over two buffers, so what fits depends on where lines end; the three sizes below are counted
/// exactly as nginx would have filled its buffers for a first request of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// `client_header_buffer_size`: the first buffer.
    pub first_buffer_bytes: usize,
    /// Size in `large_client_header_buffers`: the longest line, its line end included.
    pub line_bytes_max: usize,
    /// Number in `large_client_header_buffers`.
    pub buffers_max: usize,
    /// `max_headers`: fields kept; dropped invalid ones are not counted.
    pub count_max: usize,
    /// `underscores_in_headers`.
    pub underscores: bool,
    /// `ignore_invalid_headers`: drop fields with odd names instead of keeping them.
    pub ignore_invalid: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `allow_connect`: CONNECT in HTTP/1.1 is let through instead of answered 405.
    pub allow_connect: bool,
}

impl Default for HeadLimits {
    /// nginx's defaults.
    fn default() -> Self {
        HeadLimits {
            first_buffer_bytes: 1024,
            line_bytes_max: 8192,
            buffers_max: 4,
            count_max: 1000,
            underscores: false,
            ignore_invalid: true,
            merge_slashes: true,
            allow_connect: false,
        }
    }
}

impl HeadLimits {
    /// The most bytes a head can have without being refused: what the caller's buffer must be able to hold.
    pub fn head_bytes_max(&self) -> usize {
        self.first_buffer_bytes + self.line_bytes_max * self.buffers_max
    }
}

/// How a step of an incremental parser ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Everything so far is fine, but it is not the whole: call again with more bytes behind the same ones.
    More,
    /// The whole has been read.
    Done(T),
}

/// How far a head has been looked at, so that no byte is looked at twice however small the pieces are.
///
/// Belongs to one head: `Resume::default()` before the first byte, untouched between the steps. The buffer may move or
/// grow between steps, but the bytes already shown must stay the same and start at the same offset 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resume {
    /// Offset of the next byte to look at.
    pub(crate) at: usize,
    /// End of the last line of a request that was read whole and has the form of one.
    pub(crate) good: usize,
    pub(crate) part: Part,
    /// State inside the first line, see `request_line` and `response`.
    pub(crate) first: u8,
    pub(crate) line: super::line::LineState,
    pub(crate) buffer: BufferCount,
}

impl Resume {
    /// Bytes already looked at.
    pub fn seen_bytes(&self) -> usize {
        self.at
    }

    /// Bytes at the front whose lines have the form they must have: what nginx counts of a request it refuses.
    pub fn good_bytes(&self) -> usize {
        self.good
    }

    /// True once a byte that is not part of blank lines before the head has been seen.
    pub fn is_started(&self) -> bool {
        self.part != Part::FirstLine || self.first != 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    #[default]
    FirstLine,
    Fields,
}

/// Which of nginx's buffers the parser would be in. Lines move to a new buffer whole, so counting needs line ends only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BufferCount {
    start: usize,
    end: usize,
    used: usize,
}

/// The line does not fit, or there are no more buffers to put it in. `end` is where the last buffer ends.
pub(crate) struct Full {
    pub(crate) end: usize,
}

impl BufferCount {
    /// Starts the first buffer at offset 0.
    pub(crate) fn open(&mut self, limits: &HeadLimits) {
        if self.end == 0 {
            *self = BufferCount { start: 0, end: limits.first_buffer_bytes.max(1), used: 0 };
        }
    }

    /// nginx empties a buffer that holds nothing but line ends before a request and starts over.
    pub(crate) fn blank(&mut self, at: usize) {
        if at >= self.end {
            let size = self.end - self.start;
            self.start = at - (at - self.end) % size;
            self.end = self.start + size;
        }
    }

    /// A line starts at `at` and is about to be read.
    #[inline]
    pub(crate) fn line_starts(&mut self, at: usize, limits: &HeadLimits) -> Result<(), Full> {
        if at < self.end { Ok(()) } else { self.take(at, limits) }
    }

    /// The line that began at `start` has its last byte before `end`.
    #[inline]
    pub(crate) fn line_ends(&mut self, start: usize, end: usize, limits: &HeadLimits) -> Result<(), Full> {
        if end <= self.end { Ok(()) } else { self.move_line(start, end, limits) }
    }

    /// The line that began at `start` is not complete though all bytes before `end` have been read.
    #[inline]
    pub(crate) fn line_waits(&mut self, start: usize, end: usize, limits: &HeadLimits) -> Result<(), Full> {
        if end < self.end { Ok(()) } else { self.move_line(start, end + 1, limits) }
    }

    #[cold]
    fn move_line(&mut self, start: usize, end: usize, limits: &HeadLimits) -> Result<(), Full> {
        while end > self.end {
            if self.end - start >= limits.line_bytes_max {
                return Err(Full { end: self.end });
            }
            self.take(start, limits)?;
        }
        Ok(())
    }

    #[cold]
    fn take(&mut self, start: usize, limits: &HeadLimits) -> Result<(), Full> {
        if self.used >= limits.buffers_max || limits.line_bytes_max == 0 {
            return Err(Full { end: self.end });
        }
        *self = BufferCount { start, end: start + limits.line_bytes_max, used: self.used + 1 };
        Ok(())
    }
}
