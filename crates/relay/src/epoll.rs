//! The epoll driver: many tunnels in one loop, no async.
//!
//! Each socket is registered once, edge-triggered, for reading, writing and the FIN. So a message costs one receive and
//! one send, and no registration ever changes: a read shorter than the buffer tells that the kernel has no more, and
//! [`Readiness::read_on`] covers the cases where it might.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slab::Slab;
use sys::clock::monotonic_ms;
use sys::epoll::{EDGE, Epoll, Event, Flags};
use sys::socket::{self, Moved, Shutdown};
use sys::waker::Waker;

use crate::budget::{Budget, Pool};
use crate::handover::{EndedBy, Handover, Progress, Side, Token, Watch};
use crate::pump::Moment;
use crate::remote::{Command, Counts, Leave, Remote, Shared};
use crate::tunnel::{Held, Lent, Next, Readiness, SIDES, Scratch, Socket, Tunnel};
use crate::wheel::Wheel;

/// What one receive may bring, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// No tunnel has it: indices stay far below.
const WAKER_TOKEN: u64 = u64::MAX;

/// Watched for beside [`EDGE`]: a receive stops short of urgent data.
const WATCHED: Flags = EDGE.union(Flags::PRI);

/// The tunnels of a loop that is somebody else's: it waits on the epoll instance, passes on the events whose token has the
/// bit [`Tunnels::TOKENS`], and calls [`Tunnels::turn`] behind them, and when [`Tunnels::wait_ms`] has passed.
pub struct Tunnels {
    epoll: Arc<Epoll>,
    shared: Arc<Shared>,
    /// Somebody rang for [`Shared::take`].
    rung: bool,
    stopped: bool,
    slots: Slab<Slot>,
    /// Goes into the token of each tunnel, so that a late event or command never meets its slot's next tenant.
    generation: u32,
    /// All were asked to leave: whoever still comes is asked at once.
    leaving: Option<Arc<Leave>>,
    wheel: Wheel<u64>,
    /// Those with more to do than their share of a turn.
    again: Vec<u64>,
    pool: Pool,
    scratch: Scratch,
    now_ms: u64,
    started: u64,
    bytes_received: u64,
}

struct Slot {
    generation: u32,
    tunnel: Tunnel<Descriptor>,
}

struct Descriptor(OwnedFd);

impl Tunnels {
    /// The bit that all tokens in the epoll instance have, and no other's may.
    pub const TOKENS: u64 = TOKENS;

    /// No tunnel yet, in a loop that waits on `epoll`. Slow readers borrow from `budget`.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new(budget: Arc<Budget>, epoll: Arc<Epoll>) -> io::Result<(Tunnels, Remote)> {
        let waker = Waker::new()?;
        epoll.add(&waker, WAKER_TOKEN, Flags::IN)?;
        let shared = Arc::new(Shared::new(waker));
        let now_ms = monotonic_ms();
        let tunnels = Tunnels {
            epoll,
            shared: shared.clone(),
            rung: false,
            stopped: false,
            slots: Slab::new(),
            generation: 0,
            leaving: None,
            wheel: Wheel::new(now_ms),
            again: Vec::new(),
            pool: Pool::new(budget),
            scratch: Scratch::new(READ_BYTES),
            now_ms,
            started: 0,
            bytes_received: 0,
        };
        Ok((tunnels, Remote(shared)))
    }

    /// Gives the loop a tunnel, from its own thread.
    pub fn insert(&mut self, handover: Handover) {
        self.now_ms = monotonic_ms();
        self.begin(handover);
        self.shared.publish(self.counts());
    }

    /// The loop has waited: to be called before the events of a turn.
    pub fn awake(&mut self) {
        self.now_ms = monotonic_ms();
    }

    /// One of its sockets is ready, or somebody has sent a command.
    #[inline]
    pub fn event(&mut self, event: Event) {
        if event.token == WAKER_TOKEN {
            self.rung = self.shared.waker.clear();
            return;
        }
        self.ready(event.token, event.flags);
    }

    /// A socket is ready that was given as [`Watch::Passed`]; the name is that of [`Token::name`].
    #[inline]
    pub fn passed(&mut self, name: u32, flags: Flags) {
        if let Some(slot) = self.slots.get(index_of(u64::from(name))) {
            self.ready(token_of(0, slot.generation) | u64::from(name), flags);
        }
    }

    #[inline]
    fn ready(&mut self, token: u64, flags: Flags) {
        let side = if token & 1 == 0 { Side::Client } else { Side::Upstream };
        let last_words = Flags::RDHUP | Flags::HUP | Flags::ERR | Flags::PRI;
        let ready = Readiness {
            read: flags.intersects(Flags::IN | last_words),
            read_on: flags.intersects(last_words),
            ending: flags.contains(Flags::RDHUP) && !flags.intersects(Flags::ERR | Flags::PRI),
            write: flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR),
            broken: flags.contains(Flags::ERR),
        };
        self.step(token & !1, |tunnel, lent| tunnel.ready(side, ready, lent));
    }

    /// Goes on with tunnels that had more to do than their share, obeys commands, looks at the clock. To be called in every
    /// turn of the loop, behind its events. False once it was told to stop.
    pub fn turn(&mut self) -> bool {
        for token in std::mem::take(&mut self.again) {
            self.resume(token);
        }
        if std::mem::take(&mut self.rung) {
            for command in self.shared.take() {
                self.obey(command);
            }
        }
        self.look_at_the_clock();
        self.shared.publish(self.counts());
        !self.stopped
    }

    /// How many milliseconds [`Tunnels::turn`] may be put off when nothing happens; `None`: for ever.
    pub fn wait_ms(&self) -> Option<u64> {
        if !self.again.is_empty() {
            return Some(0);
        }
        Some(self.wheel.next_ms()?.saturating_sub(monotonic_ms()))
    }

    /// Asks every socket: after a turn that was lost to a panic, and with it what the kernel had announced once.
    pub fn distrust(&mut self) {
        self.rung = true;
        for token in self.tokens() {
            self.step(token, |tunnel, lent| {
                tunnel.listed = false;
                tunnel.nearer = true;
                tunnel.looked_at = Moment::NEVER;
                tunnel.distrust(lent)
            });
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Insert(handover) => self.begin(*handover),
            Command::Inject { token, to, frame } => {
                self.step(token.0, |tunnel, lent| tunnel.inject(to, &frame, lent).1);
            }
            Command::Leave { which: Some(token), how } => self.leave(token.0, how, 0),
            Command::Leave { which: None, how } => {
                self.leave_all(&how);
                self.leaving = Some(how);
            }
            Command::Progress { which, tell } => {
                let all = self.progress(which);
                // Code from above, like a keep.
                let _ = catch_unwind(AssertUnwindSafe(|| tell(all)));
            }
            Command::Stop => {
                self.stopped = true;
                self.end_all();
            }
        }
    }

    fn counts(&self) -> Counts {
        Counts { live: self.slots.len() as u64, started: self.started, bytes_received: self.bytes_received }
    }

    fn begin(&mut self, handover: Handover) {
        let watches = [handover.client.watch, handover.upstream.watch];
        let (sockets, held, plan) = Held::of(handover);
        let sockets = sockets.map(Descriptor);
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
        let entry = self.slots.vacant_entry();
        let token = token_of(entry.key(), self.generation);
        let mut watched = Ok(());
        for (side, socket) in SIDES.into_iter().zip(&sockets) {
            if watched.is_ok() && watches[side as usize] == Watch::Own {
                watched = watch(&self.epoll, &socket.0, token | side as u64);
            }
        }
        let mut tunnel = Tunnel::new(sockets, plan, self.now_ms);
        for (side, watch) in SIDES.into_iter().zip(watches) {
            tunnel.expect(side, watch == Watch::Passed { readable: true });
        }
        entry.insert(Slot { generation: self.generation, tunnel });
        self.started += 1;
        if let Err(error) = watched {
            return self.end(token, EndedBy::Failed(format!("epoll_ctl() failed ({error})")));
        }
        self.step(token, |tunnel, lent| {
            tunnel.keep().started(Token(token));
            tunnel.start(held, lent)
        });
        if let Some(how) = self.leaving.clone() {
            self.leave(token, how, 0);
        }
    }

    fn resume(&mut self, token: u64) {
        self.step(token, |tunnel, lent| {
            tunnel.listed = false;
            tunnel.run(lent)
        });
    }

    /// Runs one step of one tunnel and does what it asks for. A panic ends that tunnel.
    #[inline]
    fn step(&mut self, token: u64, step: impl FnOnce(&mut Tunnel<Descriptor>, &mut Lent<'_>) -> Next) {
        let Some(slot) = self.slots.get_mut(index_of(token)) else { return };
        if slot.generation != generation_of(token) {
            return;
        }
        let tunnel = &mut slot.tunnel;
        let mut lent =
            Lent { scratch: &mut self.scratch, pool: &mut self.pool, now_ms: self.now_ms, received: 0 };
        // A tunnel that panicked is removed unseen, and what was lent to it is replaced; the pool counts, no more.
        let stepped = catch_unwind(AssertUnwindSafe(|| step(tunnel, &mut lent)));
        self.bytes_received += lent.received;
        match stepped {
            Ok(Next::Over) => {
                let why = tunnel.ended_by();
                return self.end(token, why);
            }
            Ok(Next::Again) if !tunnel.listed => {
                tunnel.listed = true;
                self.again.push(token);
            }
            Ok(Next::Again | Next::Wait) => {}
            Err(panic) => {
                self.scratch = Scratch::new(READ_BYTES);
                return self.end(token, EndedBy::Failed(message_of(&*panic)));
            }
        }
        if tunnel.nearer {
            tunnel.nearer = false;
            self.file(token);
        }
    }

    /// Has the wheel look at a tunnel by its deadline, unless it will anyway.
    fn file(&mut self, token: u64) {
        let tunnel = &mut self.slots[index_of(token)].tunnel;
        if let Some(deadline) = tunnel.deadline_ms()
            && deadline < tunnel.looked_at.ms()
        {
            tunnel.looked_at = Moment::of(self.wheel.insert(deadline, token));
        }
    }

    fn look_at_the_clock(&mut self) {
        while let Some(due) = self.wheel.expired(self.now_ms) {
            for token in due {
                self.look_at(token);
            }
        }
    }

    fn look_at(&mut self, token: u64) {
        let Some(slot) = self.slots.get_mut(index_of(token)) else { return };
        // An entry that was overtaken by a nearer one is dropped; the one in force takes its place.
        if slot.generation != generation_of(token) || slot.tunnel.looked_at.ms() > self.now_ms {
            return;
        }
        slot.tunnel.looked_at = Moment::NEVER;
        if slot.tunnel.says_goodbye_by(self.now_ms) {
            self.step(token, |tunnel, lent| tunnel.say_goodbye(lent));
        }
        let Some(slot) = self.slots.get_mut(index_of(token)) else { return };
        match slot.tunnel.timed_out(self.now_ms) {
            Some(why) => {
                if why != EndedBy::Shutdown {
                    self.step(token, |tunnel, lent| {
                        tunnel.say_last_words(lent);
                        Next::Wait
                    });
                }
                self.end(token, why);
            }
            None => self.file(token),
        }
    }

    fn leave(&mut self, token: u64, how: Arc<Leave>, after_ms: u64) {
        let at_ms = self.now_ms + after_ms;
        self.step(token, |tunnel, _| {
            tunnel.leave(how, at_ms);
            Next::Wait
        });
        if after_ms == 0
            && self.slots.get(index_of(token)).is_some_and(|s| s.generation == generation_of(token))
        {
            self.slots[index_of(token)].tunnel.looked_at = Moment::of(0);
            self.look_at(token);
        }
    }

    fn leave_all(&mut self, how: &Arc<Leave>) {
        let tokens = self.tokens();
        let count = tokens.len() as u64;
        for (index, token) in tokens.into_iter().enumerate() {
            let after_ms = u128::from(how.over_ms) * index as u128 / u128::from(count);
            self.leave(token, how.clone(), after_ms as u64);
        }
    }

    fn progress(&self, which: Option<Token>) -> Vec<(Token, Progress)> {
        let wanted = self.slots.iter().map(|(index, slot)| (Token(token_of(index, slot.generation)), slot));
        wanted
            .filter(|(token, _)| which.is_none_or(|which| which == *token))
            .map(|(token, slot)| (token, slot.tunnel.progress(self.now_ms)))
            .collect()
    }

    fn end_all(&mut self) {
        for token in self.tokens() {
            self.end(token, EndedBy::Shutdown);
        }
    }

    fn tokens(&self) -> Vec<u64> {
        self.slots.iter().map(|(index, slot)| token_of(index, slot.generation)).collect()
    }

    /// Removes a tunnel, closes its sockets and tells its keep.
    #[cold]
    fn end(&mut self, token: u64, why: EndedBy) {
        if self.slots.get(index_of(token)).is_none_or(|slot| slot.generation != generation_of(token)) {
            return;
        }
        let slot = self.slots.remove(index_of(token));
        let now_ms = self.now_ms;
        let pool = &mut self.pool;
        // The keep is code from above; if it panics, its tunnel is over all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let (keep, report) = slot.tunnel.finish(why, pool, now_ms);
            keep.ended(report);
        }));
    }
}

impl Socket for Descriptor {
    #[inline]
    fn recv(&mut self, buffer: &mut [u8]) -> Moved {
        socket::recv(&self.0, buffer)
    }

    #[inline]
    fn send(&mut self, bytes: &[u8]) -> Moved {
        socket::send(&self.0, bytes)
    }

    fn send_before_fin(&mut self, bytes: &[u8]) -> Moved {
        socket::send_more(&self.0, bytes)
    }

    fn shut(&mut self, closes: bool) {
        if !closes {
            socket::shutdown(&self.0, Shutdown::Write);
        }
    }

    fn take_error(&mut self) -> Option<i32> {
        socket::take_error(&self.0)
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        for command in self.shared.close() {
            if let Command::Insert(handover) = command {
                self.begin(*handover);
            }
        }
        self.end_all();
        self.shared.publish(self.counts());
    }
}

/// Registers a socket, or gives it our token where the loop has it registered for something else. That also has the kernel
/// announce again what it has announced to whom the socket belonged before.
fn watch(epoll: &Epoll, socket: &OwnedFd, token: u64) -> io::Result<()> {
    match epoll.modify(socket, token, WATCHED) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => epoll.add(socket, token, WATCHED),
        done => done,
    }
}

const TOKENS: u64 = 1 << 63;

/// Our bit, generation, index, and a bit for the side.
fn token_of(index: usize, generation: u32) -> u64 {
    debug_assert!(index < 1 << 30, "descriptors are counted in 31 bits, and a tunnel has two");
    TOKENS | u64::from(generation) << 32 | (index as u64) << 1
}

fn index_of(token: u64) -> usize {
    (token as u32 >> 1) as usize
}

fn generation_of(token: u64) -> u32 {
    ((token & !TOKENS) >> 32) as u32
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "panic".to_owned(),
    }
}

#[cfg(test)]
mod tests;
