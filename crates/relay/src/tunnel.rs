//! Two pumps and the sockets between them.
//!
//! Knows how to ask a socket for bytes and what its answers mean; which socket is ready, and when it is time to look at
//! the clock, is the driver's business.

mod deadline;
mod detour;

use std::sync::Arc;

use sys::socket::Moved;

use crate::budget::Pool;
use crate::handover::{EndReport, EndedBy, Goodbye, Handover, Keep, Plan, Progress, Report, Side, Tls};
use crate::pump::{Event, Moment, Pump, Wants, Write};
use deadline::{CompactTimers, Leaving};

pub(crate) use detour::Scratch;

/// A connected stream socket that never blocks.
pub(crate) trait Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> Moved;
    fn send(&mut self, bytes: &[u8]) -> Moved;
    /// The same for bytes behind which, in this turn or the next, the FIN or more of them will come: they may wait for that.
    fn send_before_fin(&mut self, bytes: &[u8]) -> Moved;
    /// Sends the FIN. When the other direction has ended before, the socket `closes` at once, with nothing unread: then the
    /// close may send it.
    fn shut(&mut self, closes: bool);
    /// The errno the kernel keeps, if any.
    fn take_error(&mut self) -> Option<i32>;
}

/// What a driver lends a tunnel for one step.
pub(crate) struct Lent<'a> {
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) pool: &'a mut Pool,
    pub(crate) now_ms: u64,
    /// Bytes received during the step, for the gauges.
    pub(crate) received: u64,
}

/// What the kernel said about one end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There is something to read.
    pub(crate) read: bool,
    /// A FIN, an error or urgent data: a short read doesn't mean that the rest will be announced.
    pub(crate) read_on: bool,
    /// The FIN has come, behind what there is to read.
    pub(crate) ending: bool,
    /// There is room to write.
    pub(crate) write: bool,
    /// The connection broke.
    pub(crate) broken: bool,
}

/// How a step left the tunnel; of two steps, the later variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    /// Nothing to do until the kernel or the clock speaks.
    Wait,
    /// Its share of the turn is used up, and there is more to do.
    Again,
    /// To be removed.
    Over,
}

/// What a tunnel has under way at the hand-over, by side.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) unsent: [Vec<u8>; 2],
    pub(crate) leftover: [Vec<u8>; 2],
    pub(crate) tls: [Option<Tls>; 2],
}

pub(crate) struct Tunnel<S> {
    ends: [End<S>; 2],
    /// By the side each comes from.
    pumps: [Pump; 2],
    keep: Box<dyn Keep>,
    goodbye: Option<Arc<Goodbye>>,
    rare: Option<Box<Rare>>,
    started: Moment,
    /// When the driver's wheel will look at this tunnel.
    pub(crate) looked_at: Moment,
    timers: CompactTimers,
    lost: Option<(Side, i32)>,
    first_eof: Option<Side>,
    /// Something happened to the direction that wasn't being run.
    recheck: bool,
    /// A deadline may have come nearer than `looked_at`.
    pub(crate) nearer: bool,
    /// In the driver's list of those to be run again.
    pub(crate) listed: bool,
}

struct End<S> {
    socket: S,
    /// The kernel may have bytes that it won't announce again.
    readable: bool,
    read_on: bool,
    ending: bool,
}

/// What few tunnels have.
#[derive(Default)]
struct Rare {
    tls: [Option<Tls>; 2],
    tls_failed: Option<(Side, String)>,
    /// Frames of ours that wait for a boundary, by the side they go to.
    frames: [Vec<u8>; 2],
    leaving: Option<Leaving>,
}

/// Reads of one direction in one turn, before others get theirs.
const READS_PER_TURN: u32 = 4;

/// Steps of one direction in one turn: more than the reads and what follows from them come to, so that a mistake of ours
/// could keep one tunnel busy, and never the loop.
const STEPS_PER_TURN: u32 = 64;

/// What a broken connection is reported as when the kernel has told its errno already.
const ECONNRESET: i32 = 104;

pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Upstream];

impl Held {
    /// Takes a hand-over apart: the two sockets, what is under way, the plan.
    pub(crate) fn of(handover: Handover) -> ([std::os::fd::OwnedFd; 2], Held, Plan) {
        let Handover { client, upstream, plan } = handover;
        let held = Held {
            unsent: [client.unsent, upstream.unsent],
            leftover: [client.leftover, upstream.leftover],
            tls: [client.tls, upstream.tls],
        };
        ([client.socket, upstream.socket], held, plan)
    }
}

impl<S: Socket> Tunnel<S> {
    pub(crate) fn new([client, upstream]: [S; 2], plan: Plan, now_ms: u64) -> Tunnel<S> {
        let pump = || Pump::new(plan.limits.buffer_bytes_max, plan.scan, now_ms);
        let end = |socket| End { socket, readable: false, read_on: false, ending: false };
        Tunnel {
            ends: [end(client), end(upstream)],
            pumps: [pump(), pump()],
            timers: CompactTimers::from(plan.timers),
            keep: plan.keep,
            goodbye: plan.goodbye,
            rare: None,
            started: Moment::of(now_ms),
            looked_at: Moment::NEVER,
            lost: None,
            first_eof: None,
            recheck: false,
            nearer: true,
            listed: false,
        }
    }

    /// Before the start: whether an end has bytes, or its end, that the kernel won't announce again.
    pub(crate) fn expect(&mut self, side: Side, readable: bool) {
        let end = &mut self.ends[side as usize];
        (end.readable, end.read_on) = (readable, readable);
    }

    /// Takes over what was under way at the hand-over and sends what can be sent.
    pub(crate) fn start(&mut self, held: Held, lent: &mut Lent<'_>) -> Next {
        for (side, unsent) in SIDES.into_iter().zip(&held.unsent) {
            self.pumps[side.other() as usize].step(Event::Owed(unsent), lent.pool, lent.now_ms);
        }
        self.set_tls(held.tls);
        for (side, leftover) in SIDES.into_iter().zip(&held.leftover) {
            let _ = self.emit(side, leftover, lent);
            self.open_held(side, lent);
        }
        self.run(lent)
    }

    /// The kernel said something about one end.
    pub(crate) fn ready(&mut self, side: Side, ready: Readiness, lent: &mut Lent<'_>) -> Next {
        let end = &mut self.ends[side as usize];
        end.readable |= ready.read;
        end.read_on |= ready.read_on;
        end.ending |= ready.ending;
        if ready.broken && !self.pumps[side as usize].is_open() {
            // Nothing will be read there that would tell.
            let errno = end.socket.take_error().unwrap_or(ECONNRESET);
            self.lose(side, errno, lent);
        }
        let towards = side.other();
        let mut next = Next::Wait;
        if ready.write && self.pumps[towards as usize].waiting_since_ms().is_some() {
            self.pumps[towards as usize].step(Event::Writable, lent.pool, lent.now_ms);
            next = self.pump(towards, lent);
        }
        if self.ends[side as usize].readable {
            next = next.max(self.pump(side, lent));
        }
        self.settle(next, lent)
    }

    /// Goes on where an earlier step stopped.
    pub(crate) fn run(&mut self, lent: &mut Lent<'_>) -> Next {
        let mut next = Next::Wait;
        for side in SIDES {
            next = next.max(self.pump(side, lent));
        }
        self.settle(next, lent)
    }

    /// Forgets what is known about readiness and asks both sockets: after a turn that was lost.
    pub(crate) fn distrust(&mut self, lent: &mut Lent<'_>) -> Next {
        for side in SIDES {
            self.ends[side as usize].readable = true;
            self.ends[side as usize].read_on = true;
            self.pumps[side as usize].step(Event::Writable, lent.pool, lent.now_ms);
        }
        self.run(lent)
    }

    /// Why it is over, for one that a step found to be.
    pub(crate) fn ended_by(&self) -> EndedBy {
        if let Some((side, message)) = self.rare.as_ref().and_then(|rare| rare.tls_failed.clone()) {
            return EndedBy::TlsFailed(side, message);
        }
        if self.leaving().is_some_and(|leaving| leaving.said) {
            return EndedBy::Shutdown;
        }
        match (self.lost, self.first_eof) {
            (Some((Side::Client, errno)), _) => EndedBy::ClientReset(errno),
            (Some((Side::Upstream, errno)), _) => EndedBy::UpstreamReset(errno),
            (None, Some(Side::Upstream)) => EndedBy::UpstreamClosed,
            (None, _) => EndedBy::ClientClosed,
        }
    }

    /// Whether one of the connections broke, or its TLS.
    fn has_broken(&self) -> bool {
        self.lost.is_some() || self.rare.as_ref().is_some_and(|rare| rare.tls_failed.is_some())
    }

    /// Gives borrowed memory back, ends what is still open (TLS in its own words), closes the sockets, and hands out what
    /// is left: whom to tell, and what.
    pub(crate) fn finish(
        mut self,
        ended_by: EndedBy,
        pool: &mut Pool,
        now_ms: u64,
    ) -> (Box<dyn Keep>, Report) {
        self.close_tls_at_last();
        let ended_by = match ended_by {
            // The other end was let answer our goodbye: that it did not is not what ended the tunnel.
            EndedBy::FinTimeout if self.has_broken() => self.ended_by(),
            ended_by => ended_by,
        };
        let report = Report {
            client: self.end_report(Side::Client),
            upstream: self.end_report(Side::Upstream),
            ended_by,
            first_eof: self.first_eof,
            lasted_ms: now_ms.saturating_sub(self.started.ms()),
        };
        for pump in &mut self.pumps {
            pump.step(Event::ReaderGone, pool, now_ms);
        }
        (self.keep, report)
    }

    /// What it has been so far.
    pub(crate) fn progress(&self, now_ms: u64) -> Progress {
        let moved_ms = self.pumps[0].moved_ms().max(self.pumps[1].moved_ms());
        Progress {
            client: self.end_report(Side::Client),
            upstream: self.end_report(Side::Upstream),
            first_eof: self.first_eof,
            lasted_ms: now_ms.saturating_sub(self.started.ms()),
            idle_ms: now_ms.saturating_sub(moved_ms),
        }
    }

    pub(crate) fn keep(&mut self) -> &mut dyn Keep {
        &mut *self.keep
    }

    /// Ends a step: nothing may be left that only another event would bring to light.
    #[inline]
    fn settle(&mut self, mut next: Next, lent: &mut Lent<'_>) -> Next {
        if self.recheck {
            self.recheck = false;
            for side in SIDES {
                next = next.max(self.pump(side, lent));
            }
            if self.recheck {
                next = next.max(Next::Again);
            }
        }
        if self.pumps.iter().all(Pump::has_ended) { Next::Over } else { next }
    }

    /// Moves one direction as far as it goes, within its share of the turn.
    fn pump(&mut self, from: Side, lent: &mut Lent<'_>) -> Next {
        let mut reads = 0;
        let mut wants = self.pumps[from as usize].wants(lent.pool);
        for _ in 0..STEPS_PER_TURN {
            self.nearer |= wants.timer;
            if wants.write == Write::Queued {
                wants = self.send_queued(from, lent);
                continue;
            }
            if wants.shut {
                wants = self.shut(from, lent);
                continue;
            }
            if wants.read == 0 || !self.ends[from as usize].readable || self.answers_pile_up(from) {
                return Next::Wait;
            }
            if reads == READS_PER_TURN {
                return Next::Again;
            }
            reads += 1;
            wants = self.read(from, wants.read, lent);
        }
        debug_assert!(false, "a few reads and what follows from them are fewer steps");
        Next::Again
    }

    /// One receive, and the send that follows from it.
    #[inline]
    fn read(&mut self, from: Side, most: usize, lent: &mut Lent<'_>) -> Wants {
        let end = &mut self.ends[from as usize];
        let buffer = &mut lent.scratch.received;
        let most = most.min(buffer.len());
        match end.socket.recv(&mut buffer[..most]) {
            ended @ (Moved::Bytes(0) | Moved::Failed(_)) => self.source_ended(from, ended, lent),
            Moved::Bytes(count) => {
                // Less than asked for: the kernel has no more, and announces what comes later.
                end.readable = count == most || end.read_on;
                lent.received += count as u64;
                self.pass_on(from, count, most, lent)
            }
            Moved::Blocked => {
                end.readable = false;
                end.read_on = false;
                self.pumps[from as usize].wants(lent.pool)
            }
        }
    }

    /// A receive found the FIN, or a broken connection.
    #[cold]
    fn source_ended(&mut self, from: Side, how: Moved, lent: &mut Lent<'_>) -> Wants {
        self.ends[from as usize].readable = false;
        match how {
            Moved::Failed(errno) => self.lose(from, errno, lent),
            Moved::Bytes(_) | Moved::Blocked => drop(self.first_eof.get_or_insert(from)),
        }
        self.end_source(from, lent)
    }

    /// Passes on the first `count` bytes of the scratch space, of which `most` may be filled.
    #[inline]
    fn pass_on(&mut self, from: Side, count: usize, most: usize, lent: &mut Lent<'_>) -> Wants {
        let pump = &mut self.pumps[from as usize];
        if pump.takes_detour() {
            return self.pass_on_by_detour(from, count, most, lent);
        }
        let bytes = &lent.scratch.received[..count];
        let wants = pump.step(Event::Received(bytes), lent.pool, lent.now_ms);
        if wants.write != Write::Fresh {
            return wants;
        }
        // The last bytes and the FIN behind them are one packet: half of what a goodbye costs on either side.
        let ending = self.ends[from as usize].ending;
        let reader = &mut self.ends[from.other() as usize].socket;
        match if ending { reader.send_before_fin(bytes) } else { reader.send(bytes) } {
            Moved::Bytes(taken) => pump.step(Event::Sent { offered: bytes, taken }, lent.pool, lent.now_ms),
            Moved::Blocked => pump.step(Event::Sent { offered: bytes, taken: 0 }, lent.pool, lent.now_ms),
            Moved::Failed(errno) => self.lose_reader(from, errno, lent),
        }
    }

    /// Reading from an end with TLS may oblige us to write to it; one that makes us write and doesn't read is not read.
    #[inline]
    fn answers_pile_up(&self, from: Side) -> bool {
        self.pumps[from as usize].takes_detour() && self.pumps[from.other() as usize].is_full()
    }

    fn send_queued(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        // The other direction may wait for this one, see `answers_pile_up`.
        self.recheck |= self.pumps[from as usize].is_full();
        let pump = &mut self.pumps[from as usize];
        match self.ends[from.other() as usize].socket.send(pump.queued()) {
            Moved::Bytes(taken) => pump.step(Event::Drained(taken), lent.pool, lent.now_ms),
            Moved::Blocked => pump.step(Event::Drained(0), lent.pool, lent.now_ms),
            Moved::Failed(errno) => self.lose_reader(from, errno, lent),
        }
    }

    /// Passes the end of a direction on: TLS's own word for it first.
    #[cold]
    fn shut(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        if self.close_tls(from.other(), lent) {
            return self.pumps[from as usize].wants(lent.pool);
        }
        if self.has_said_goodbye(from.other()) {
            self.pumps[from.other() as usize].step(Event::ReaderGone, lent.pool, lent.now_ms);
        }
        let closes = self.lost.is_none() && self.pumps[from.other() as usize].has_ended();
        self.ends[from.other() as usize].socket.shut(closes);
        self.pumps[from as usize].step(Event::Shut, lent.pool, lent.now_ms)
    }

    /// Whether the direction from this side carries nothing any more though its FIN has not come: Close frames went both ways
    /// (RFC 6455 section 1.4: nothing follows them), the opposite end has closed, and nothing is under way. Then the tunnel
    /// is over, and one close an end says all; TLS has words of its own to say first.
    fn has_said_goodbye(&self, from: Side) -> bool {
        let quiet = |pump: &Pump| pump.close_passed() && !pump.holds() && !pump.takes_detour();
        self.lost.is_none() && !self.ends[from as usize].readable && self.pumps.iter().all(quiet)
    }

    /// A write failed. What that end sent before it broke may still be in the kernel, and its reader gets it.
    #[cold]
    fn lose_reader(&mut self, from: Side, errno: i32, lent: &mut Lent<'_>) -> Wants {
        let gone = from.other();
        self.ends[gone as usize].readable = true;
        self.ends[gone as usize].read_on = true;
        self.lose(gone, errno, lent);
        self.pumps[from as usize].wants(lent.pool)
    }

    /// A connection broke: nobody will read what goes there.
    #[cold]
    fn lose(&mut self, side: Side, errno: i32, lent: &mut Lent<'_>) {
        self.lost.get_or_insert((side, errno));
        self.nearer = true;
        self.recheck = true;
        let gone = match self.will_say_goodbye(side) {
            // Closed at once, with bytes of its own unread, the other end would never see our last frame.
            true => Event::ReaderDeaf,
            false => Event::ReaderGone,
        };
        self.pumps[side.other() as usize].step(gone, lent.pool, lent.now_ms);
    }

    fn end_report(&self, side: Side) -> EndReport {
        let (from, to) = (&self.pumps[side as usize], &self.pumps[side.other() as usize]);
        EndReport { bytes_received: from.received(), bytes_sent: to.sent(), frames: *from.counts() }
    }
}

#[cfg(test)]
mod tests;
