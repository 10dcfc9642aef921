//! Two pumps and the sockets between them.
//!
//! Knows how to ask a socket for bytes and what its answers mean; which socket is ready, and when it is time to look at
//! the clock, is the driver's business.

use std::sync::Arc;

use sys::socket::Moved;

use crate::budget::Pool;
use crate::handover::{EndReport, EndedBy, Keep, Plan, Report, Side, Timers};
use crate::pump::{Event, Pump, Wants, Write};
use crate::remote::Leave;

/// A connected stream socket that never blocks.
pub(crate) trait Socket {
    fn recv(&mut self, buffer: &mut [u8]) -> Moved;
    fn send(&mut self, bytes: &[u8]) -> Moved;
    /// Sends the FIN.
    fn shut(&mut self);
    /// The errno the kernel keeps, if any.
    fn take_error(&mut self) -> Option<i32>;
}

/// What a driver lends a tunnel for one step.
pub(crate) struct Lent<'a> {
    pub(crate) buffer: &'a mut [u8],
    pub(crate) pool: &'a mut Pool,
    pub(crate) now_ms: u64,
    /// Bytes received during the turn, for the gauges.
    pub(crate) received: u64,
}

/// What the kernel said about one end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There is something to read.
    pub(crate) read: bool,
    /// A FIN, an error or urgent data: a short read doesn't mean that the rest will be announced.
    pub(crate) read_on: bool,
    /// There is room to write.
    pub(crate) write: bool,
    /// The connection broke.
    pub(crate) broken: bool,
}

/// How a step left the tunnel; the later variant wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    /// Nothing to do until the kernel or the clock speaks.
    Wait,
    /// Its share of the turn is used up, and there is more to do.
    Again,
    /// To be removed.
    Over,
}

pub(crate) struct Tunnel<S> {
    ends: [End<S>; 2],
    /// By the side each comes from.
    pumps: [Pump; 2],
    keep: Box<dyn Keep>,
    rare: Option<Box<Rare>>,
    started_ms: u64,
    /// When the driver's wheel will look at this tunnel.
    pub(crate) looked_at_ms: u64,
    timers: CompactTimers,
    lost: Option<(Side, i32)>,
    first_eof: Option<Side>,
    /// A connection broke while the other direction was run: what it sent last may wait in the kernel.
    recheck: bool,
    /// A deadline may have come nearer than `looked_at_ms`.
    pub(crate) nearer: bool,
    /// In the driver's list of those to be run again.
    pub(crate) listed: bool,
}

struct End<S> {
    socket: S,
    /// The kernel may have bytes that it won't announce again.
    readable: bool,
    read_on: bool,
}

/// What few tunnels have.
#[derive(Default)]
struct Rare {
    /// Frames of ours that wait for a boundary, by the side they go to.
    frames: [Vec<u8>; 2],
    leaving: Option<Leaving>,
}

/// A tunnel that was asked to leave.
struct Leaving {
    how: Arc<Leave>,
    /// When to say goodbye; once that was said, when to be cut.
    at_ms: u64,
    said: bool,
}

/// Milliseconds; 0 is without end.
struct CompactTimers {
    idle: u32,
    send: [u32; 2],
    fin: u32,
}

/// Reads of one direction in one turn, before others get theirs.
const READS_PER_TURN: u32 = 4;

/// Frames of ours that may wait for a boundary, in bytes a direction.
const WAITING_FRAME_BYTES_MAX: usize = 4096;

/// The coarse clock is behind by up to a tick; deadlines are put off by the longest one, so that none fires early.
const CLOCK_TICK_MS: u64 = 10;

/// What a broken connection is reported as when the kernel has told its errno already.
const ECONNRESET: i32 = 104;

const SIDES: [Side; 2] = [Side::Client, Side::Upstream];

impl<S: Socket> Tunnel<S> {
    pub(crate) fn new(client: S, upstream: S, plan: Plan, now_ms: u64) -> Tunnel<S> {
        let pump = || Pump::new(plan.limits.buffer_bytes_max, plan.scan, now_ms);
        let end = |socket| End { socket, readable: false, read_on: false };
        Tunnel {
            ends: [end(client), end(upstream)],
            pumps: [pump(), pump()],
            timers: CompactTimers::from(plan.timers),
            keep: plan.keep,
            rare: None,
            started_ms: now_ms,
            looked_at_ms: u64::MAX,
            lost: None,
            first_eof: None,
            recheck: false,
            nearer: true,
            listed: false,
        }
    }

    /// Takes over what was under way at the hand-over and sends what can be sent.
    pub(crate) fn start(
        &mut self,
        unsent: [Vec<u8>; 2],
        leftover: [Vec<u8>; 2],
        lent: &mut Lent<'_>,
    ) -> Next {
        let [client_unsent, upstream_unsent] = unsent;
        self.pumps[Side::Upstream as usize].step(Event::Owed(client_unsent), lent.pool, lent.now_ms);
        self.pumps[Side::Client as usize].step(Event::Owed(upstream_unsent), lent.pool, lent.now_ms);
        for (side, bytes) in SIDES.into_iter().zip(leftover) {
            // An empty queue would have these sent from where they are; they are few, and this is once.
            self.deliver(side, &bytes, lent);
        }
        self.run(SIDES, lent)
    }

    /// The kernel said something about one end.
    pub(crate) fn ready(&mut self, side: Side, ready: Readiness, lent: &mut Lent<'_>) -> Next {
        let end = &mut self.ends[side as usize];
        end.readable |= ready.read;
        end.read_on |= ready.read_on;
        let readable = end.readable;
        if ready.broken && !self.pumps[side as usize].is_open() {
            // Nothing will be read there that would tell.
            let errno = self.ends[side as usize].socket.take_error();
            self.lose(side, errno.unwrap_or(ECONNRESET), lent);
        }
        let towards = side.other();
        let mut next = Next::Wait;
        if ready.write && self.pumps[towards as usize].waiting_since_ms().is_some() {
            self.pumps[towards as usize].step(Event::Writable, lent.pool, lent.now_ms);
            next = self.pump(towards, lent);
        }
        if readable {
            next = next.max(self.pump(side, lent));
        }
        self.settle(next, lent)
    }

    /// Goes on where an earlier step stopped.
    pub(crate) fn resume(&mut self, lent: &mut Lent<'_>) -> Next {
        self.run(SIDES, lent)
    }

    /// Forgets what is known about readiness and asks both sockets: after a turn that was lost.
    pub(crate) fn distrust(&mut self, lent: &mut Lent<'_>) -> Next {
        for side in SIDES {
            self.ends[side as usize].readable = true;
            self.ends[side as usize].read_on = true;
            self.pumps[side as usize].step(Event::Writable, lent.pool, lent.now_ms);
        }
        self.run(SIDES, lent)
    }

    /// Writes a whole frame to one side, behind the frame that is under way there (rule 7). False when that direction
    /// has ended, isn't scanned, or has too much waiting already.
    pub(crate) fn inject(&mut self, to: Side, frame: &[u8], lent: &mut Lent<'_>) -> (bool, Next) {
        let from = to.other();
        let pump = &mut self.pumps[from as usize];
        if !pump.takes_frames() {
            return (false, Next::Wait);
        }
        if pump.takes_frame_now() {
            pump.step(Event::Owed(frame.to_vec()), lent.pool, lent.now_ms);
            let next = self.pump(from, lent);
            return (true, self.settle(next, lent));
        }
        let waiting = &mut self.rare.get_or_insert_default().frames[to as usize];
        if waiting.len() + frame.len() > WAITING_FRAME_BYTES_MAX {
            return (false, Next::Wait);
        }
        waiting.extend_from_slice(frame);
        pump.set_inject_waits(true);
        (true, Next::Wait)
    }

    /// Asks the tunnel to leave at a time; asked again, the earlier time holds.
    pub(crate) fn leave(&mut self, how: Arc<Leave>, at_ms: u64) {
        let leaving = &mut self.rare.get_or_insert_default().leaving;
        if leaving.as_ref().is_none_or(|leaving| at_ms < leaving.at_ms) {
            let said = leaving.as_ref().is_some_and(|leaving| leaving.said);
            *leaving = Some(Leaving { how, at_ms, said });
        }
        self.nearer = true;
    }

    /// Whether it is time for [`Tunnel::say_goodbye`].
    pub(crate) fn says_goodbye_by(&self, now_ms: u64) -> bool {
        self.leaving().is_some_and(|leaving| !leaving.said && leaving.at_ms <= now_ms)
    }

    /// Writes the frames it was asked to leave with, and allows for the answer.
    pub(crate) fn say_goodbye(&mut self, lent: &mut Lent<'_>) -> Next {
        let Some(leaving) = self.rare.as_mut().and_then(|rare| rare.leaving.as_mut()) else {
            return Next::Wait;
        };
        leaving.said = true;
        leaving.at_ms = lent.now_ms + leaving.how.grace_ms;
        let how = leaving.how.clone();
        let mut next = Next::Wait;
        for (to, frame) in [(Side::Client, &how.client_frame), (Side::Upstream, &how.upstream_frame)] {
            if !frame.is_empty() {
                next = next.max(self.inject(to, frame, lent).1);
            }
        }
        next
    }

    /// When to look at the clock again, in milliseconds; `None`: never.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadlines().into_iter().flatten().map(|(at, _)| at).min()
    }

    /// The timer that has fired by now.
    pub(crate) fn timed_out(&self, now_ms: u64) -> Option<EndedBy> {
        let fired = self.deadlines().into_iter().flatten().filter(|(at, _)| *at <= now_ms);
        fired.min_by_key(|(at, _)| *at).map(|(_, why)| why)
    }

    /// Why it is over, for one that a step found to be.
    pub(crate) fn ended_by(&self) -> EndedBy {
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

    /// Gives borrowed memory back, closes the sockets, and hands out what is left: whom to tell, and what.
    pub(crate) fn finish(
        mut self,
        ended_by: EndedBy,
        pool: &mut Pool,
        now_ms: u64,
    ) -> (Box<dyn Keep>, Report) {
        let report = Report {
            client: self.end_report(Side::Client),
            upstream: self.end_report(Side::Upstream),
            ended_by,
            first_eof: self.first_eof,
            lasted_ms: now_ms.saturating_sub(self.started_ms),
        };
        for pump in &mut self.pumps {
            pump.step(Event::ReaderGone, pool, now_ms);
        }
        (self.keep, report)
    }

    pub(crate) fn keep(&mut self) -> &mut dyn Keep {
        &mut *self.keep
    }

    fn run(&mut self, sides: [Side; 2], lent: &mut Lent<'_>) -> Next {
        let mut next = Next::Wait;
        for side in sides {
            next = next.max(self.pump(side, lent));
        }
        self.settle(next, lent)
    }

    /// Ends a step: nothing may be left that only another event would bring to light.
    #[inline]
    fn settle(&mut self, mut next: Next, lent: &mut Lent<'_>) -> Next {
        // Each round is due to one of the two connections breaking, which happens once to each.
        while std::mem::take(&mut self.recheck) {
            for side in SIDES {
                next = next.max(self.pump(side, lent));
            }
        }
        if self.pumps.iter().all(Pump::has_ended) { Next::Over } else { next }
    }

    /// Moves one direction as far as it goes, within its share of the turn.
    fn pump(&mut self, from: Side, lent: &mut Lent<'_>) -> Next {
        let mut reads = 0;
        let mut wants = self.pumps[from as usize].wants(lent.pool);
        loop {
            self.nearer |= wants.timer;
            if wants.write == Write::Queued {
                wants = self.send_queued(from, lent);
                continue;
            }
            if wants.shut {
                self.ends[from.other() as usize].socket.shut();
                wants = self.pumps[from as usize].step(Event::Shut, lent.pool, lent.now_ms);
                continue;
            }
            if wants.read == 0 || !self.ends[from as usize].readable {
                return Next::Wait;
            }
            if reads == READS_PER_TURN {
                return Next::Again;
            }
            reads += 1;
            wants = self.read(from, wants.read, lent);
        }
    }

    /// One receive, and the send that follows from it.
    #[inline]
    fn read(&mut self, from: Side, most: usize, lent: &mut Lent<'_>) -> Wants {
        let end = &mut self.ends[from as usize];
        let most = most.min(lent.buffer.len());
        match end.socket.recv(&mut lent.buffer[..most]) {
            Moved::Bytes(0) => {
                end.readable = false;
                self.first_eof.get_or_insert(from);
                self.pumps[from as usize].step(Event::SourceEnded, lent.pool, lent.now_ms)
            }
            Moved::Bytes(count) => {
                // Less than asked for: the kernel has no more, and announces what comes later.
                end.readable = count == most || end.read_on;
                lent.received += count as u64;
                self.pass_on(from, count, lent)
            }
            Moved::Blocked => {
                end.readable = false;
                end.read_on = false;
                self.pumps[from as usize].wants(lent.pool)
            }
            Moved::Failed(errno) => {
                end.readable = false;
                self.lose(from, errno, lent);
                self.pumps[from as usize].step(Event::SourceEnded, lent.pool, lent.now_ms)
            }
        }
    }

    /// Passes the first `count` bytes of the lent buffer on.
    #[inline]
    fn pass_on(&mut self, from: Side, count: usize, lent: &mut Lent<'_>) -> Wants {
        let pump = &mut self.pumps[from as usize];
        let bytes = &lent.buffer[..count];
        if pump.inject_waits() {
            return self.pass_on_with_frames(from, count, lent);
        }
        let wants = pump.step(Event::Received(bytes), lent.pool, lent.now_ms);
        if wants.write != Write::Fresh {
            return wants;
        }
        match self.ends[from.other() as usize].socket.send(bytes) {
            Moved::Bytes(taken) => pump.step(Event::Sent { offered: bytes, taken }, lent.pool, lent.now_ms),
            Moved::Blocked => pump.step(Event::Sent { offered: bytes, taken: 0 }, lent.pool, lent.now_ms),
            Moved::Failed(errno) => self.lose_reader(from, errno, lent),
        }
    }

    /// As [`Tunnel::pass_on`], with frames of ours that wait for a boundary; by way of the queue.
    #[cold]
    fn pass_on_with_frames(&mut self, from: Side, count: usize, lent: &mut Lent<'_>) -> Wants {
        let bytes = lent.buffer[..count].to_vec();
        self.deliver(from, &bytes, lent);
        self.pumps[from as usize].wants(lent.pool)
    }

    /// Queues bytes that came from a side, and frames of ours at the first boundary.
    fn deliver(&mut self, from: Side, mut bytes: &[u8], lent: &mut Lent<'_>) {
        let pump = &mut self.pumps[from as usize];
        if pump.inject_waits() {
            let before = pump.scan_to_boundary(bytes, lent.now_ms);
            pump.step(Event::Owed(bytes[..before].to_vec()), lent.pool, lent.now_ms);
            bytes = &bytes[before..];
            if pump.takes_frame_now() {
                pump.set_inject_waits(false);
                let rare = self.rare.get_or_insert_default();
                let frames = std::mem::take(&mut rare.frames[from.other() as usize]);
                pump.step(Event::Owed(frames), lent.pool, lent.now_ms);
            }
        }
        if !bytes.is_empty() {
            let wants = pump.step(Event::Received(bytes), lent.pool, lent.now_ms);
            if wants.write == Write::Fresh {
                pump.step(Event::Owed(bytes.to_vec()), lent.pool, lent.now_ms);
            }
        }
    }

    fn send_queued(&mut self, from: Side, lent: &mut Lent<'_>) -> Wants {
        let pump = &mut self.pumps[from as usize];
        match self.ends[from.other() as usize].socket.send(pump.queued()) {
            Moved::Bytes(taken) => pump.step(Event::Drained(taken), lent.pool, lent.now_ms),
            Moved::Blocked => pump.step(Event::Drained(0), lent.pool, lent.now_ms),
            Moved::Failed(errno) => self.lose_reader(from, errno, lent),
        }
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
        self.pumps[side.other() as usize].step(Event::ReaderGone, lent.pool, lent.now_ms);
    }

    fn leaving(&self) -> Option<&Leaving> {
        self.rare.as_ref()?.leaving.as_ref()
    }

    fn deadlines(&self) -> [Option<(u64, EndedBy)>; 5] {
        let [client, upstream] = &self.pumps;
        let after = |since: u64, ms: u32| (ms > 0).then(|| since + u64::from(ms) + CLOCK_TICK_MS);
        let send = |to: Side| {
            let since = self.pumps[to.other() as usize].waiting_since_ms()?;
            Some((after(since, self.timers.send[to as usize])?, EndedBy::SendTimeout(to)))
        };
        let idle_since = client.moved_ms().max(upstream.moved_ms());
        // Both moments of the direction that goes on, and the one its opposite ended at.
        let half_closed = !(client.is_open() && upstream.is_open());
        [
            self.leaving().map(|leaving| (leaving.at_ms, EndedBy::Shutdown)),
            after(idle_since, self.timers.idle).map(|at| (at, EndedBy::IdleTimeout)),
            send(Side::Client),
            send(Side::Upstream),
            match half_closed {
                true => after(idle_since, self.timers.fin).map(|at| (at, EndedBy::FinTimeout)),
                false => None,
            },
        ]
    }

    fn end_report(&self, side: Side) -> EndReport {
        let (from, to) = (&self.pumps[side as usize], &self.pumps[side.other() as usize]);
        EndReport {
            bytes_received: from.received(),
            bytes_sent: to.sent(),
            frames_received: from.counts().frames,
            messages_received: from.counts().messages,
            close_code: from.counts().close_code,
        }
    }
}

impl From<Timers> for CompactTimers {
    fn from(timers: Timers) -> CompactTimers {
        let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        CompactTimers {
            idle: ms(timers.idle_ms),
            send: [ms(timers.send_client_ms), ms(timers.send_upstream_ms)],
            fin: ms(timers.fin_ms),
        }
    }
}
