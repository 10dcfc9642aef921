//! The passive scanner: one direction's frames, known by their headers alone.
//!
//! ```text
//!            14 bytes or fewer           `left` reaches 0
//!   Header ───────────────────▶ Payload ──────────────────▶ Header
//!      │ nonsense
//!      ▼
//!    Lost   stays lost: the bytes still pass, nobody counts them and nothing may be injected
//! ```

/// Frame types (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// True for Close, Ping and Pong, which may come between the frames of a message.
    pub fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }

    fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }
}

/// What has passed in one direction. Kept apart from the scanner so that who needs no figures carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data frames whose header has passed: Continuation, Text, Binary.
    pub data: [u64; 3],
    /// Messages whose last byte has passed.
    pub messages: u64,
    /// Payload bytes of all frames.
    pub payload_bytes: u64,
    /// The code of the last Close frame; 1005 if it had none (RFC 6455 section 7.4.1).
    pub close_code: Option<u16>,
    /// Control frames whose header has passed: Close, Ping, Pong. Narrower than the others, because every tunnel holds two
    /// of these; at 4 billion they stand still.
    pub control: [u32; 3],
}

impl Counts {
    /// Frames of one type.
    pub fn frames_of(&self, opcode: Opcode) -> u64 {
        match slot(opcode) {
            (false, at) => self.data[at],
            (true, at) => u64::from(self.control[at]),
        }
    }

    /// Frames of all types.
    pub fn frames_total(&self) -> u64 {
        self.data.iter().sum::<u64>() + self.control.iter().map(|&count| u64::from(count)).sum::<u64>()
    }
}

/// Whether it is a control frame's, and its place.
fn slot(opcode: Opcode) -> (bool, usize) {
    (opcode.is_control(), opcode as usize & 7)
}

/// A frame whose header has just been completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub opcode: Opcode,
    /// The last frame of its message.
    pub is_final: bool,
    /// The key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Payload length in bytes.
    pub payload_bytes: u64,
    /// Length of the header in bytes, 2 to 14.
    pub header_bytes: u8,
    /// Where the payload starts in the slice being scanned; the header may have begun in an earlier one.
    pub payload_start: usize,
}

/// Follows one direction of a tunnel through any division of its bytes into slices, without keeping any payload.
///
/// Masking and reserved bit 1 (compression) are taken as they come, and lengths need not be minimal: both ends may have
/// agreed on what we were not told. Lost is who breaks what delimits frames and messages: an unknown opcode, reserved bits
/// 2 and 3, a control frame that is long or in pieces, a length beyond 2^63, a continuation of nothing, or a message inside
/// another.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// Payload bytes of the frame that are still to come.
    left: u64,
    /// The header as far as it has come; a whole one leaves its first byte here.
    header: [u8; 14],
    /// Bytes of an incomplete header; 0 while payload passes.
    have: u8,
    state: State,
    /// A message has begun whose last frame has not.
    in_message: bool,
    close_seen: bool,
    /// Bytes of a Close frame's code that are still to come, and the first of them.
    code_left: u8,
    code_first: u8,
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Payload,
    Lost,
}

impl Scanner {
    /// A scanner for a direction of which nothing has passed yet.
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// True if no frame has begun that has not ended: the place to inject one (RFC 6455 section 5.4 allows control frames
    /// inside a message, see [`Scanner::in_message`]).
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.state == State::Header && self.have == 0
    }

    /// True inside a fragmented message, between its frames included.
    pub fn in_message(&self) -> bool {
        self.in_message
    }

    /// True once the bytes were not WebSocket.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// True once a Close frame has begun: nothing may be injected behind it.
    pub fn close_seen(&self) -> bool {
        self.close_seen
    }

    /// Payload bytes of the current frame that are still to come; 0 at a boundary.
    pub fn left_bytes(&self) -> u64 {
        self.left
    }

    /// Follows the next bytes of the direction.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8], counts: &mut Counts) {
        self.scan_frames(bytes, counts, |_| true);
    }

    /// Follows the next bytes and shows each frame as its header is complete. If `on_frame` says false the scan stops there:
    /// returned is how far it came, and the rest of the slice is for the next call. Otherwise it is the slice's length.
    #[inline]
    pub fn scan_frames(
        &mut self,
        bytes: &[u8],
        counts: &mut Counts,
        mut on_frame: impl FnMut(&Frame) -> bool,
    ) -> usize {
        let mut at = 0;
        loop {
            match self.state {
                State::Payload => {
                    let len = self.left.min((bytes.len() - at) as u64) as usize;
                    if self.code_left > 0 {
                        self.close_code(&bytes[at..at + len], counts);
                    }
                    counts.payload_bytes += len as u64;
                    self.left -= len as u64;
                    at += len;
                    if self.left > 0 {
                        return at;
                    }
                    self.frame_ended(counts);
                }
                State::Lost => return bytes.len(),
                State::Header => {}
            }
            if at == bytes.len() {
                return at;
            }
            let Some(frame) = self.header(bytes, &mut at) else { continue };
            self.frame_began(&frame, counts);
            if !on_frame(&frame) {
                if self.left == 0 {
                    self.frame_ended(counts);
                }
                return at;
            }
        }
    }

    /// Reads the header at `at` or what is there of it.
    #[inline]
    fn header(&mut self, bytes: &[u8], at: &mut usize) -> Option<Frame> {
        let rest = &bytes[*at..];
        if self.have == 0 {
            // Nearly always the whole header is here.
            if let Some(size) = header_bytes(rest)
                && let Some(header) = rest.get(..size)
            {
                *at += size;
                self.header[0] = header[0];
                return self.decode(header, *at);
            }
        }
        self.header_piece(rest, at)
    }

    #[cold]
    fn header_piece(&mut self, rest: &[u8], at: &mut usize) -> Option<Frame> {
        for &byte in rest {
            self.header[usize::from(self.have)] = byte;
            self.have += 1;
            *at += 1;
            let have = usize::from(self.have);
            if header_bytes(&self.header[..have]) == Some(have) {
                let header = self.header;
                self.have = 0;
                return self.decode(&header[..have], *at);
            }
        }
        None
    }

    /// `header` is a whole header. `None`: it is nonsense, and the state says so.
    #[inline]
    fn decode(&mut self, header: &[u8], payload_start: usize) -> Option<Frame> {
        let [first, second, ..] = *header else { return None };
        let is_final = first & 0x80 != 0;
        let (mask, lengths) = match header.len() {
            len if second & 0x80 != 0 && len >= 6 => {
                let (lengths, mask) = header[2..].split_at(len - 6);
                (mask.first_chunk::<4>().copied(), lengths)
            }
            _ => (None, &header[2..]),
        };
        let payload_bytes = match (second & 0x7f, lengths) {
            (126, lengths) => u64::from(lengths.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))),
            (127, lengths) => lengths.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            (len, _) => u64::from(len),
        };
        let opcode = Opcode::of(first & 0x0f).filter(|opcode| {
            let begins = matches!(opcode, Opcode::Text | Opcode::Binary);
            let fits = if opcode.is_control() {
                is_final && payload_bytes <= 125
            } else {
                begins != self.in_message && payload_bytes <= i64::MAX as u64
            };
            fits && first & 0x30 == 0
        });
        let Some(opcode) = opcode else {
            self.state = State::Lost;
            return None;
        };
        let header_bytes = header.len() as u8;
        Some(Frame { opcode, is_final, mask, payload_bytes, header_bytes, payload_start })
    }

    #[inline]
    fn frame_began(&mut self, frame: &Frame, counts: &mut Counts) {
        match slot(frame.opcode) {
            (false, at) => counts.data[at] += 1,
            (true, at) => counts.control[at] = counts.control[at].saturating_add(1),
        }
        self.left = frame.payload_bytes;
        self.state = State::Payload;
        if !frame.opcode.is_control() {
            self.in_message = true;
        } else if frame.opcode == Opcode::Close {
            self.close_seen = true;
            self.mask = frame.mask.unwrap_or_default();
            self.code_left = if frame.payload_bytes >= 2 { 2 } else { 0 };
            counts.close_code = if frame.payload_bytes == 0 { Some(1005) } else { None };
        }
    }

    #[inline]
    fn frame_ended(&mut self, counts: &mut Counts) {
        self.state = State::Header;
        let is_final = self.header[0] & 0x80 != 0;
        let is_control = self.header[0] & 8 != 0;
        if is_final && !is_control {
            self.in_message = false;
            counts.messages += 1;
        }
    }

    #[cold]
    fn close_code(&mut self, payload: &[u8], counts: &mut Counts) {
        for &byte in payload.iter().take(usize::from(self.code_left)) {
            if self.code_left == 2 {
                self.code_first = byte ^ self.mask[0];
            } else {
                counts.close_code = Some(u16::from_be_bytes([self.code_first, byte ^ self.mask[1]]));
            }
            self.code_left -= 1;
        }
    }
}

/// The length of the header that starts with these bytes, once enough of them are there to know it.
#[inline]
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    Some(2 + length + mask)
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
