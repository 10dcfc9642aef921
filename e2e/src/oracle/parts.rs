//! What is sent, in parts that can be taken away one by one.

use crate::random::Random;

/// Bytes that belong together: a line, a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Sent by itself, some time after what is before it.
    pub apart: bool,
}

/// One answer of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Answers when the head is there; otherwise when the body is, too.
    pub early: bool,
    /// Of an answer to HEAD only the head is sent.
    pub fits_head: bool,
    /// What is sent.
    pub parts: Vec<Part>,
    /// And then.
    pub then: Then,
}

/// What the upstream does behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Waits for another request.
    Stay,
    /// Ends its direction and reads on.
    Close,
}

impl Answer {
    /// Its bytes in the pieces they are sent in.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        pieces(&self.parts)
    }

    /// The same for an answer to HEAD.
    pub fn pieces_to_head(&self) -> Vec<Vec<u8>> {
        let blank = |part: &Part| matches!(&part.bytes[..], b"\r\n") || part.bytes.ends_with(b"\r\n\r\n");
        let end = self.parts.iter().position(blank).map_or(self.parts.len(), |at| at + 1);
        if self.fits_head { pieces(&self.parts[..end]) } else { self.pieces() }
    }
}

impl Part {
    /// Sent together with what is before it.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Part {
        Part { bytes: bytes.into(), apart: false }
    }
}

/// Sends some parts apart, and in a few cases cuts them anywhere.
pub fn scatter(parts: &mut Vec<Part>, random: &mut Random) {
    if random.percent(75) {
        return;
    }
    let cut = random.percent(50);
    for _ in 0..1 + random.below(3) {
        let at = random.below(parts.len().max(1));
        let Some(part) = parts.get_mut(at) else { return };
        if cut && part.bytes.len() > 1 {
            let tail = part.bytes.split_off(1 + random.below(part.bytes.len() - 1));
            parts.insert(at + 1, Part { bytes: tail, apart: true });
        } else {
            part.apart = true;
        }
    }
}

/// The bytes of some parts in the pieces they are sent in.
pub fn pieces(parts: &[Part]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        match pieces.last_mut().filter(|_| !part.apart) {
            Some(piece) => piece.extend_from_slice(&part.bytes),
            None => pieces.push(part.bytes.clone()),
        }
    }
    pieces
}
