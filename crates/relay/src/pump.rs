//! One direction of a tunnel, without I/O. Written once for every driver.
//!
//! ```text
//!            FIN read                queue empty, FIN sent
//!   Open ───────────────▶ Ending ───────────────────────▶ Ended
//!     └───────────────── the reader is gone ───────────────▲
//! ```
//!
//! The driver offers bytes as it read them ([`Event::Received`]) and, while nothing is queued, sends them from where
//! they are; only what the kernel didn't take is copied ([`Event::Sent`]).

use wire::websocket::{Counts, Scanner};

use crate::budget::{Pool, Queue, READ_BYTES_MIN};

/// One direction: from the end it is named after to the other one.
pub(crate) struct Pump {
    /// What the reader must still get, before anything new. `None` while it keeps up.
    queue: Option<Box<Queue>>,
    scanner: Scanner,
    counts: Counts,
    received: u64,
    sent: u64,
    /// When a byte last moved, in or out.
    moved: Moment,
    /// While blocked: when the reader last took a byte, or refused the first.
    waiting_since: Moment,
    buffer_bytes_max: u32,
    flow: Flow,
    /// The kernel refused bytes and hasn't asked for more since.
    blocked: bool,
    scan: bool,
    /// A frame of ours waits for the next frame boundary.
    frame_waits: bool,
    /// We said goodbye in the source's place: what it still sends is read and dropped.
    hushed: bool,
    /// What is written is encrypted; what the kernel takes says nothing about plain bytes.
    sealed: bool,
    /// The bytes received are not what is sent: see [`Pump::note`].
    detour: bool,
}

/// Milliseconds in 48 bits, enough for 8,900 years, that fit between other small fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment([u16; 3]);

impl Moment {
    /// Later than all others.
    pub(crate) const NEVER: Moment = Moment([u16::MAX; 3]);

    pub(crate) fn of(ms: u64) -> Moment {
        Moment([ms as u16, (ms >> 16) as u16, (ms >> 32) as u16])
    }

    pub(crate) fn ms(self) -> u64 {
        let Moment([low, middle, high]) = self;
        u64::from(low) | u64::from(middle) << 16 | u64::from(high) << 32
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The source has ended, or broke; what is queued is still to be delivered, then the FIN.
    Ending,
    Ended,
}

/// What happened to a direction.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// These bytes came from the source. With [`Write::Fresh`] in the answer the driver now sends them.
    Received(&'a [u8]),
    /// Of the bytes just received, the kernel took so many.
    Sent { offered: &'a [u8], taken: usize },
    /// Of the queued bytes, the kernel took so many.
    Drained(usize),
    /// The kernel asks for more bytes.
    Writable,
    /// The source sent its FIN, or broke after its last byte.
    SourceEnded,
    /// The FIN was passed on.
    Shut,
    /// Nobody will read what this direction carries any more.
    ReaderGone,
    /// As [`Event::ReaderGone`], but the source is let finish: what it still sends is dropped.
    ReaderDeaf,
    /// Bytes that are not the source's are to be written behind those already received.
    Owed(&'a [u8]),
}

/// What a direction wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wants {
    /// The most bytes to read; 0: none now.
    pub(crate) read: usize,
    /// What to send now.
    pub(crate) write: Write,
    /// Pass the FIN on.
    pub(crate) shut: bool,
    /// A deadline may have come nearer: the direction has just become blocked or has just ended.
    pub(crate) timer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Nothing,
    /// The bytes of the [`Event::Received`] this answers.
    Fresh,
    /// [`Pump::queued`].
    Queued,
}

impl Pump {
    pub(crate) fn new(buffer_bytes_max: usize, scan: bool, now_ms: u64) -> Pump {
        let limit = buffer_bytes_max.max(READ_BYTES_MIN);
        Pump {
            queue: None,
            scanner: Scanner::default(),
            counts: Counts::default(),
            received: 0,
            sent: 0,
            moved: Moment::of(now_ms),
            waiting_since: Moment::of(now_ms),
            buffer_bytes_max: u32::try_from(limit).unwrap_or(u32::MAX),
            flow: Flow::Open,
            blocked: false,
            scan,
            frame_waits: false,
            hushed: false,
            sealed: false,
            detour: false,
        }
    }

    /// Takes an event in and answers what to do next. An event that can't be (bytes after the FIN) changes nothing.
    #[inline]
    pub(crate) fn step(&mut self, event: Event<'_>, pool: &mut Pool, now_ms: u64) -> Wants {
        let (was_blocked, was) = (self.blocked, self.flow);
        let mut fresh = false;
        match (event, self.flow) {
            (Event::Received(bytes), Flow::Open) => {
                debug_assert!(!self.takes_detour(), "the tunnel treats what it receives before it is sent");
                self.note(bytes, now_ms);
                fresh = self.queue.is_none() && !bytes.is_empty();
                if !fresh {
                    pool.append(&mut self.queue, bytes);
                }
            }
            (Event::Sent { offered, taken }, Flow::Open) => {
                self.count_out(taken, now_ms);
                self.blocked = taken < offered.len();
                pool.append(&mut self.queue, &offered[taken.min(offered.len())..]);
            }
            (Event::Drained(taken), Flow::Open | Flow::Ending) => {
                self.count_out(taken, now_ms);
                pool.consume(&mut self.queue, taken);
                self.blocked = self.queue.is_some();
            }
            (Event::Writable, _) => self.blocked = false,
            (Event::SourceEnded, Flow::Open) => {
                self.flow = Flow::Ending;
                self.moved = Moment::of(now_ms);
            }
            (Event::Shut, Flow::Ending) => self.flow = Flow::Ended,
            (Event::ReaderGone, _) | (Event::ReaderDeaf, Flow::Ending) => {
                pool.release(&mut self.queue);
                self.blocked = false;
                self.flow = Flow::Ended;
            }
            (Event::ReaderDeaf, Flow::Open) => {
                pool.release(&mut self.queue);
                self.blocked = false;
                self.hushed = true;
            }
            (Event::Owed(bytes), Flow::Open | Flow::Ending) => pool.append(&mut self.queue, bytes),
            // A late answer of the kernel, or a driver that asks twice.
            (_, Flow::Open | Flow::Ending | Flow::Ended) => {}
        }
        if self.blocked && !was_blocked {
            self.waiting_since = Moment::of(now_ms);
        }
        let mut wants = self.wants(pool);
        if fresh {
            wants.write = Write::Fresh;
        }
        wants.timer = (self.blocked && !was_blocked) || self.flow != was;
        wants
    }

    /// What the direction wants as it stands.
    #[inline]
    pub(crate) fn wants(&self, pool: &Pool) -> Wants {
        let write = match self.queue.is_some() && !self.blocked {
            true => Write::Queued,
            false => Write::Nothing,
        };
        let shut = self.flow == Flow::Ending && self.queue.is_none();
        Wants { read: self.room(pool), write, shut, timer: false }
    }

    /// The bytes [`Write::Queued`] speaks of.
    pub(crate) fn queued(&self) -> &[u8] {
        self.queue.as_ref().map_or(&[], |queue| queue.bytes())
    }

    /// Counts and scans bytes of the source. For those that don't go out as they came in: the driver sends what becomes
    /// of them and reports that as [`Event::Sent`], or as [`Event::Owed`] while bytes are queued.
    #[inline]
    pub(crate) fn note(&mut self, bytes: &[u8], now_ms: u64) {
        self.received += bytes.len() as u64;
        self.moved = Moment::of(now_ms);
        if self.scan {
            self.scanner.scan(bytes, &mut self.counts);
        }
    }

    /// As [`Pump::note`], up to the next frame boundary; returns how many bytes that were.
    pub(crate) fn note_to_boundary(&mut self, bytes: &[u8], now_ms: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            // The rest of a payload at once, a header byte by byte.
            let piece = self.scanner.left_bytes().clamp(1, (bytes.len() - at) as u64) as usize;
            self.note(&bytes[at..at + piece], now_ms);
            at += piece;
            if self.scanner.at_boundary() {
                break;
            }
        }
        at
    }

    /// Counts plain bytes as sent that are about to be encrypted.
    pub(crate) fn note_sealed(&mut self, plain_bytes: usize) {
        if self.sealed {
            self.sent += plain_bytes as u64;
        }
    }

    /// Whether bytes wait, so that new ones must go behind them.
    pub(crate) fn holds(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether as much waits as may. What isn't the source's (frames of ours, TLS's answers) is not added then.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.len() >= self.buffer_bytes_max as usize)
    }

    /// Whether a frame of ours may be written behind what was received so far (rule 7).
    pub(crate) fn takes_frame_now(&self) -> bool {
        self.takes_frames() && self.scanner.at_boundary()
    }

    /// Whether a frame of ours may still be written: nothing follows a Close frame (RFC 6455 section 5.5.1).
    pub(crate) fn takes_frames(&self) -> bool {
        let passes = self.scan && self.flow == Flow::Open && !self.hushed;
        passes && !self.scanner.close_seen() && !self.scanner.is_lost()
    }

    /// Whether a whole Close frame has passed, and nothing was begun behind it.
    pub(crate) fn close_passed(&self) -> bool {
        self.scan && self.scanner.close_seen() && self.scanner.at_boundary()
    }

    #[cfg(test)]
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    pub(crate) fn frame_waits(&self) -> bool {
        self.frame_waits
    }

    pub(crate) fn set_frame_waits(&mut self, waits: bool) {
        self.frame_waits = waits;
    }

    /// Whether what the source sends is dropped from now on.
    pub(crate) fn is_hushed(&self) -> bool {
        self.hushed
    }

    pub(crate) fn hush(&mut self) {
        self.hushed = true;
    }

    /// The source's bytes are decrypted before they are sent, or the reader's are encrypted.
    pub(crate) fn set_tls(&mut self, source: bool, reader: bool) {
        self.sealed = reader;
        self.detour = source || reader;
    }

    /// Whether the bytes received are not what is to be sent.
    #[inline]
    pub(crate) fn takes_detour(&self) -> bool {
        self.detour || self.frame_waits || self.hushed
    }

    /// Whether the source may still send.
    pub(crate) fn is_open(&self) -> bool {
        self.flow == Flow::Open
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.flow == Flow::Ended
    }

    /// When a byte last moved, in or out, or the source ended.
    pub(crate) fn moved_ms(&self) -> u64 {
        self.moved.ms()
    }

    /// Since when the reader has taken nothing, while it is asked to.
    pub(crate) fn waiting_since_ms(&self) -> Option<u64> {
        self.blocked.then(|| self.waiting_since.ms())
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    #[inline]
    fn count_out(&mut self, taken: usize, now_ms: u64) {
        if !self.sealed {
            self.sent += taken as u64;
        }
        if taken > 0 {
            self.moved = Moment::of(now_ms);
            self.waiting_since = Moment::of(now_ms);
        }
    }

    /// How many bytes may be read. A direction that holds bytes reads on only from half its limit downwards, so that a
    /// reader that takes a little at a time doesn't cause as many small reads.
    #[inline]
    fn room(&self, pool: &Pool) -> usize {
        let limit = self.buffer_bytes_max as usize;
        match (self.flow, &self.queue) {
            (Flow::Open, None) => pool.grant(limit),
            (Flow::Open, Some(queue)) if queue.len() <= limit / 2 => pool.grant_more(limit - queue.len()),
            _ => 0,
        }
    }
}
