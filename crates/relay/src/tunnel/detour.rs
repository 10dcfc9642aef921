//! What becomes of bytes that don't go out as they came in: TLS at either end, frames of ours, a goodbye said.

use sys::socket::Moved;
use wire::tls::{State, TlsError};

use super::{Lent, Next, Rare, Socket, Tunnel};
use crate::handover::{Side, Tls};
use crate::pump::{Event, Wants};

/// Frames of ours that may wait for a boundary, in bytes a direction.
const WAITING_FRAME_BYTES_MAX: usize = 4096;

/// Scratch space larger than this goes back to the allocator.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;

/// Buffers of the loop, lent to one step after another. To be replaced after a panic.
pub(crate) struct Scratch {
    pub(crate) received: Box<[u8]>,
    plain: Vec<u8>,
    out: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new(received_bytes: usize) -> Scratch {
        Scratch { received: vec![0; received_bytes].into_boxed_slice(), plain: Vec::new(), out: Vec::new() }
    }
}

impl<S: Socket> Tunnel<S> {
    /// Writes a whole frame to one side, behind the frame that is under way there (rule 7). False when that direction
    /// has ended, isn't scanned, has carried a Close frame, or has too much waiting already (rule 8).
    pub(crate) fn inject(&mut self, to: Side, frame: &[u8], lent: &mut Lent<'_>) -> (bool, Next) {
        let from = to.other();
        let pump = &mut self.pumps[from as usize];
        if !pump.takes_frames() || pump.is_full() {
            return (false, Next::Wait);
        }
        let waiting = &mut self.rare.get_or_insert_default().frames[to as usize];
        if waiting.len() + frame.len() > WAITING_FRAME_BYTES_MAX {
            return (false, Next::Wait);
        }
        waiting.extend_from_slice(frame);
        pump.set_frame_waits(true);
        let _ = self.emit(from, &[], lent);
        let next = self.pump(from, lent);
        (true, self.settle(next, lent))
    }

    /// The source has ended or broke: its reader is told so in a frame, where the plan says so, and then by the FIN.
    #[cold]
    pub(super) fn end_source(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        if self.tells_of_the_end(from) {
            self.tell(from.other(), lent);
        }
        self.pumps[from as usize].step(Event::SourceEnded, lent.pool, lent.now_ms)
    }

    /// Whether the plan has a word of ours for the reader when the source ends now.
    fn tells_of_the_end(&self, from: Side) -> bool {
        let broke = self.lost.is_some_and(|(side, _)| side == from);
        broke || self.goodbye.as_ref().is_some_and(|goodbye| goodbye.on_eof)
    }

    /// Tells both ends, as far as it can be done without waiting, that it's over: for a tunnel that a timer ends.
    pub(crate) fn say_last_words(&mut self, lent: &mut Lent<'_>) {
        for side in super::SIDES {
            self.tell(side, lent);
            let _ = self.pump(side.other(), lent);
        }
    }

    /// Ends TLS towards whoever still could be told and is not owed anything that would have to go first.
    pub(super) fn close_tls_at_last(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        for side in super::SIDES {
            let towards = &self.pumps[side.other() as usize];
            let Some(tls) = rare.tls[side as usize].as_mut() else { continue };
            let mut word = Vec::new();
            if !towards.has_ended() && !towards.holds() && tls.end.close(&mut word).is_ok() {
                // What the kernel doesn't take now is lost with the connection.
                let _ = self.ends[side as usize].socket.send(&word);
            }
        }
    }

    /// Whether the plan has a frame for the other end, and it could still be told.
    pub(super) fn will_say_goodbye(&self, lost: Side) -> bool {
        let frame = self.goodbye.as_ref().map(|goodbye| goodbye.frame_for(lost.other()));
        frame.is_some_and(|frame| !frame.is_empty()) && self.pumps[lost as usize].takes_frames()
    }

    fn tell(&mut self, to: Side, lent: &mut Lent<'_>) {
        let from = to.other();
        let Some(goodbye) = self.goodbye.clone().filter(|_| self.will_say_goodbye(from)) else { return };
        let pump = &mut self.pumps[from as usize];
        if pump.takes_frame_now() {
            pump.set_frame_waits(true);
            let waiting = &mut self.rare.get_or_insert_default().frames[to as usize];
            waiting.extend_from_slice(goodbye.frame_for(to));
            let _ = self.emit(from, &[], lent);
        }
    }

    /// Takes over the TLS of both ends. Anything they had received already is decrypted by [`Tunnel::open_held`].
    pub(super) fn set_tls(&mut self, tls: [Option<Tls>; 2]) {
        let [client, upstream] = [tls[0].is_some(), tls[1].is_some()];
        if client || upstream {
            self.pumps[Side::Client as usize].set_tls(client, upstream);
            self.pumps[Side::Upstream as usize].set_tls(upstream, client);
            self.rare.get_or_insert_default().tls = tls;
        }
    }

    /// Decrypts what an end had received before the hand-over.
    pub(super) fn open_held(&mut self, from: Side, lent: &mut Lent<'_>) {
        let Some(tls) = self.tls(from) else { return };
        if tls.end.state() == State::PeerClosed {
            // It came with the head: nothing that is still to be received would tell.
            let _ = self.end_tls(from, lent);
        } else if !tls.input.is_empty() {
            let _ = self.open(from, 0, lent);
        }
    }

    /// Passes on the first `count` bytes of the scratch space, of which `most` may be filled, on any path but the straight
    /// one.
    #[cold]
    pub(super) fn pass_on_by_detour(
        &mut self,
        from: Side,
        count: usize,
        most: usize,
        lent: &mut Lent<'_>,
    ) -> Wants {
        if self.tls(from).is_some() {
            return self.open(from, count, lent);
        }
        let (count, end) = self.look_for_the_end(from, count, most, lent);
        let received = std::mem::take(&mut lent.scratch.received);
        let wants = self.emit_last(from, &received[..count], end == Some(Moved::Bytes(0)), lent);
        lent.scratch.received = received;
        match end {
            None => wants,
            Some(end) => self.source_ended(from, end, lent),
        }
    }

    /// Where the kernel has told of a FIN behind these bytes, it is read before they are encrypted: close_notify then goes
    /// out with them. Returns how many bytes there are, and what the end is if it has come.
    fn look_for_the_end(
        &mut self,
        from: Side,
        count: usize,
        most: usize,
        lent: &mut Lent<'_>,
    ) -> (usize, Option<Moved>) {
        let reader_wants_tls = self.tls(from.other()).is_some();
        let end = &mut self.ends[from as usize];
        if !end.read_on || count == most || !reader_wants_tls {
            return (count, None);
        }
        match end.socket.recv(&mut lent.scratch.received[count..most]) {
            Moved::Bytes(more @ 1..) => {
                lent.received += more as u64;
                (count + more, None)
            }
            Moved::Blocked => {
                end.readable = false;
                end.read_on = false;
                (count, None)
            }
            end @ (Moved::Bytes(0) | Moved::Failed(_)) => (count, Some(end)),
        }
    }

    /// The bytes that end a TLS connection towards this end, once.
    pub(super) fn close_tls(&mut self, to: Side, lent: &mut Lent<'_>) -> bool {
        let Some(tls) = self.rare.as_mut().and_then(|rare| rare.tls[to as usize].as_mut()) else {
            return false;
        };
        lent.scratch.out.clear();
        // Without it the FIN says the same, less politely.
        if tls.end.close(&mut lent.scratch.out).is_err() || lent.scratch.out.is_empty() {
            return false;
        }
        self.pumps[to.other() as usize].step(Event::Owed(&lent.scratch.out), lent.pool, lent.now_ms);
        true
    }

    /// Decrypts what was received, sends what the protocol answers, and passes on the plain text.
    fn open(&mut self, from: Side, count: usize, lent: &mut Lent<'_>) -> Wants {
        let scratch = &mut *lent.scratch;
        scratch.plain.clear();
        scratch.out.clear();
        let rare = self.rare.get_or_insert_default();
        let Some(tls) = rare.tls[from as usize].as_mut() else {
            return self.pumps[from as usize].wants(lent.pool);
        };
        let opened = decrypt(tls, &mut scratch.received[..count], &mut scratch.plain, &mut scratch.out);
        if !scratch.out.is_empty() {
            self.pumps[from.other() as usize].step(Event::Owed(&scratch.out), lent.pool, lent.now_ms);
            self.recheck = true;
        }
        let plain = std::mem::take(&mut scratch.plain);
        let wants = self.emit(from, &plain, lent);
        lent.scratch.plain = plain;
        lent.scratch.plain.shrink_to(SCRATCH_BYTES_MAX);
        match opened {
            Ok(State::PeerClosed) => self.end_tls(from, lent),
            Ok(State::Open | State::Handshake) => wants,
            Err(error) => {
                self.fail_tls(from, error, lent);
                self.end_source(from, lent)
            }
        }
    }

    /// TLS's own word for the end has come: a FIN need not follow.
    fn end_tls(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        self.ends[from as usize].readable = false;
        self.first_eof.get_or_insert(from);
        self.end_source(from, lent)
    }

    /// Sends bytes that came from a side, and frames of ours at the first boundary; encrypted where the reader wants it.
    pub(super) fn emit(&mut self, from: Side, bytes: &[u8], lent: &mut Lent<'_>) -> Wants {
        self.emit_last(from, bytes, false, lent)
    }

    /// As [`Tunnel::emit`]; and if these are the `last` bytes, close_notify with them, unless a frame of ours is to come.
    fn emit_last(&mut self, from: Side, mut bytes: &[u8], last: bool, lent: &mut Lent<'_>) -> Wants {
        lent.scratch.out.clear();
        loop {
            let pump = &mut self.pumps[from as usize];
            if pump.frame_waits() && pump.takes_frame_now() {
                self.place_frames(from, lent);
                continue;
            }
            if bytes.is_empty() {
                break;
            }
            let count = match pump.frame_waits() && pump.takes_frames() {
                true => pump.note_to_boundary(bytes, lent.now_ms),
                false => {
                    pump.note(bytes, lent.now_ms);
                    bytes.len()
                }
            };
            if !pump.is_hushed() {
                self.seal(from.other(), &bytes[..count], lent);
            }
            bytes = &bytes[count..];
        }
        let pump = &self.pumps[from as usize];
        if last
            && pump.is_open()
            && !pump.frame_waits()
            && !self.tells_of_the_end(from)
            && let Some(tls) = self.rare.as_mut().and_then(|rare| rare.tls[from.other() as usize].as_mut())
        {
            // Without it the FIN says the same, less politely.
            let _ = tls.end.close(&mut lent.scratch.out);
        }
        self.send_out(from, lent)
    }

    fn place_frames(&mut self, from: Side, lent: &mut Lent<'_>) {
        let to = from.other();
        let pump = &mut self.pumps[from as usize];
        pump.set_frame_waits(false);
        let rare = self.rare.get_or_insert_default();
        if rare.leaving.as_ref().is_some_and(|leaving| leaving.has_told(to)) {
            // What waited ends with our Close frame.
            pump.hush();
        }
        let frames = std::mem::take(&mut rare.frames[to as usize]);
        self.seal(to, &frames, lent);
    }

    /// Adds bytes to what is to be sent, in the form the reader expects.
    fn seal(&mut self, to: Side, bytes: &[u8], lent: &mut Lent<'_>) {
        let tls = self.rare.as_mut().and_then(|rare| rare.tls[to as usize].as_mut());
        let Some(tls) = tls else {
            return lent.scratch.out.extend_from_slice(bytes);
        };
        match tls.end.encrypt(bytes, &mut lent.scratch.out) {
            Ok(()) => self.pumps[to.other() as usize].note_sealed(bytes.len()),
            Err(error) => {
                self.fail_tls(to, error, lent);
                // We are in the middle of sending to it: no goodbye, no last words.
                self.pumps[to.other() as usize].step(Event::ReaderGone, lent.pool, lent.now_ms);
                self.pumps[to as usize].step(Event::SourceEnded, lent.pool, lent.now_ms);
            }
        }
    }

    /// Sends what [`Tunnel::seal`] has gathered, behind what is queued.
    fn send_out(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        let out = std::mem::take(&mut lent.scratch.out);
        let pump = &mut self.pumps[from as usize];
        let wants = if out.is_empty() || pump.has_ended() {
            pump.wants(lent.pool)
        } else if pump.holds() {
            pump.step(Event::Owed(&out), lent.pool, lent.now_ms)
        } else {
            match self.ends[from.other() as usize].socket.send(&out) {
                Moved::Bytes(taken) => {
                    pump.step(Event::Sent { offered: &out, taken }, lent.pool, lent.now_ms)
                }
                Moved::Blocked => pump.step(Event::Sent { offered: &out, taken: 0 }, lent.pool, lent.now_ms),
                Moved::Failed(errno) => self.lose_reader(from, errno, lent),
            }
        };
        lent.scratch.out = out;
        lent.scratch.out.shrink_to(SCRATCH_BYTES_MAX);
        wants
    }

    /// The connection is of no use in either direction; an alert that explains it is queued already.
    fn fail_tls(&mut self, side: Side, error: TlsError, lent: &mut Lent<'_>) {
        // One try to send the alert: what the kernel doesn't take now is lost with the connection.
        let towards = &self.pumps[side.other() as usize];
        if towards.holds() && towards.waiting_since_ms().is_none() {
            let _ = self.ends[side as usize].socket.send(towards.queued());
        }
        self.ends[side as usize].readable = false;
        let rare = self.rare.get_or_insert_default();
        rare.tls_failed.get_or_insert((side, error.to_string()));
        self.lose(side, super::ECONNRESET, lent);
    }

    fn tls(&self, side: Side) -> Option<&Tls> {
        self.rare.as_deref().and_then(|rare: &Rare| rare.tls[side as usize].as_ref())
    }
}

/// Decrypts what an end has received, in place where nothing was held back; holds back what is less than a record.
fn decrypt(
    tls: &mut Tls,
    received: &mut [u8],
    plain: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) -> Result<State, TlsError> {
    if tls.input.is_empty() {
        let opened = tls.end.decrypt(received, plain, reply)?;
        tls.input.extend_from_slice(&received[opened.used.min(received.len())..]);
        return Ok(opened.state);
    }
    tls.input.extend_from_slice(received);
    let opened = tls.end.decrypt(&mut tls.input, plain, reply)?;
    tls.input.drain(..opened.used.min(tls.input.len()));
    if tls.input.is_empty() {
        // An idle connection keeps no buffer.
        tls.input = Vec::new();
    }
    Ok(opened.state)
}
