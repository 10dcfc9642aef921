//! A tunnel between two simulated connections, under random but repeatable sequences of everything that can happen.
//! A failure names its seed; `check(seed, …)` plays it again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use wire::tls::{Decrypted, State, TlsEnd, TlsError};

use super::*;
use crate::budget::Budget;
use crate::handover::{Limits, Timers};

const LIMIT: usize = 8192;
const TIMERS: Timers =
    Timers { idle_ms: 60_000, send_client_ms: 40_000, send_upstream_ms: 50_000, fin_ms: 10_000 };
const OURS: &[u8] = b"\x89\x04INJ!";
const LOST: &[u8] = b"\x88\x02\x03\xf4";

/// Small and good enough: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A connection as the kernel keeps it, and what epoll would say about it.
#[derive(Default)]
struct Wire {
    to_us: VecDeque<u8>,
    fin_to_us: bool,
    to_peer: VecDeque<u8>,
    /// Behind `to_peer`, and kept until there is more or the FIN.
    held: Vec<u8>,
    /// How often something went out.
    packets: u32,
    room: usize,
    fin_to_peer: bool,
    broken: bool,
    error_told: bool,
    /// A send found no room: the kernel will say when there is some.
    no_space: bool,
    /// Something happened since the last event.
    edge: bool,
}

struct Sim(Rc<RefCell<Wire>>);

impl Socket for Sim {
    fn recv(&mut self, buffer: &mut [u8]) -> Moved {
        assert!(!buffer.is_empty(), "an empty receive looks like a FIN");
        let mut wire = self.0.borrow_mut();
        let count = wire.to_us.len().min(buffer.len());
        if count > 0 {
            buffer.iter_mut().zip(wire.to_us.drain(..count)).for_each(|(to, from)| *to = from);
            return Moved::Bytes(count);
        }
        match (wire.broken && !wire.error_told, wire.fin_to_us || wire.broken) {
            (true, _) => {
                wire.error_told = true;
                Moved::Failed(ECONNRESET)
            }
            (false, true) => Moved::Bytes(0),
            (false, false) => Moved::Blocked,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Moved {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.fin_to_peer, "nothing follows the FIN");
        if wire.broken {
            wire.error_told = true;
            return Moved::Failed(32);
        }
        wire.push();
        wire.packets += 1;
        let count = bytes.len().min(wire.room - wire.to_peer.len());
        wire.no_space = count < bytes.len();
        wire.to_peer.extend(&bytes[..count]);
        if count == 0 && !bytes.is_empty() { Moved::Blocked } else { Moved::Bytes(count) }
    }

    fn send_before_fin(&mut self, bytes: &[u8]) -> Moved {
        let moved = self.send(bytes);
        let mut wire = self.0.borrow_mut();
        if moved == Moved::Bytes(bytes.len()) {
            let at = wire.to_peer.len() - bytes.len() % 100;
            wire.held = wire.to_peer.split_off(at).into();
            wire.packets -= u32::from(wire.held.len() == bytes.len());
        }
        moved
    }

    fn shut(&mut self, _closes: bool) {
        let mut wire = self.0.borrow_mut();
        wire.push();
        wire.packets += 1;
        wire.fin_to_peer = true;
    }

    fn take_error(&mut self) -> Option<i32> {
        self.0.borrow().broken.then_some(ECONNRESET)
    }
}

impl Wire {
    /// What was kept back goes.
    fn push(&mut self) {
        self.to_peer.extend(self.held.drain(..));
    }

    fn readiness(&mut self) -> Option<Readiness> {
        if !std::mem::take(&mut self.edge) {
            return None;
        }
        let last_words = self.fin_to_us || self.broken;
        Some(Readiness {
            read: !self.to_us.is_empty() || last_words,
            read_on: last_words,
            ending: self.fin_to_us && !self.broken,
            write: self.to_peer.len() < self.room || self.broken,
            broken: self.broken,
        })
    }
}

/// Records of type, length and a payload under a one-byte key: the shape of TLS without its worth.
struct Toy {
    state: State,
    closed: bool,
}

const DATA: u8 = 2;
const QUESTION: u8 = 3;
const CLOSE: u8 = 4;
const RECORD_BYTES_MAX: usize = 100;

fn record(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend(payload.iter().map(|byte| byte ^ 0x5a));
}

impl TlsEnd for Toy {
    fn decrypt(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError> {
        let mut used = 0;
        while let [kind, high, low, rest @ ..] = &input[used..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(payload) = rest.get(..length) else { break };
            used += 3 + length;
            match *kind {
                DATA => plain.extend(payload.iter().map(|byte| byte ^ 0x5a)),
                QUESTION => record(QUESTION, b"answer", reply),
                CLOSE => {
                    self.state = State::PeerClosed;
                    break;
                }
                _ => return Err(TlsError::new("unknown record")),
            }
        }
        Ok(Decrypted { used, state: self.state })
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        assert!(!self.closed);
        plain.chunks(RECORD_BYTES_MAX).for_each(|part| record(DATA, part, out));
        Ok(())
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if !std::mem::replace(&mut self.closed, true) {
            record(CLOSE, b"", out);
        }
        Ok(())
    }

    fn state(&self) -> State {
        self.state
    }
}

/// The far end of one connection.
struct Peer {
    wire: Rc<RefCell<Wire>>,
    tls: bool,
    /// Plain bytes it has sent; frames when the tunnel scans.
    sent: Vec<u8>,
    /// As they came, still encrypted with TLS.
    received: Vec<u8>,
    done: bool,
    reset: bool,
    /// It had sent its FIN before the reset: nobody lost it.
    left: bool,
}

impl Peer {
    fn new(tls: bool, room: usize) -> Peer {
        let wire = Rc::new(RefCell::new(Wire { room, ..Wire::default() }));
        Peer { wire, tls, sent: Vec::new(), received: Vec::new(), done: false, reset: false, left: false }
    }

    fn send(&mut self, random: &mut Random, scan: bool) {
        let mut plain = Vec::new();
        let length = [0, 1, 100, 125, 126, 700, 20_000][random.below(7)] + random.below(9);
        if scan {
            plain.push(0x82);
            match length {
                0..=125 => plain.push(length as u8),
                _ => {
                    plain.push(126);
                    plain.extend_from_slice(&(length as u16).to_be_bytes());
                }
            }
        }
        plain.extend((0..length).map(|i| (i + self.sent.len()) as u8));
        self.sent.extend_from_slice(&plain);
        let mut out = Vec::new();
        match self.tls {
            true => plain.chunks(RECORD_BYTES_MAX).for_each(|part| record(DATA, part, &mut out)),
            false => out = plain,
        }
        if self.tls && random.one_in(4) {
            record(QUESTION, b"", &mut out);
        }
        let mut wire = self.wire.borrow_mut();
        wire.to_us.extend(out);
        wire.edge = true;
    }

    fn finish(&mut self, random: &mut Random) {
        self.done = true;
        let mut wire = self.wire.borrow_mut();
        if self.tls && random.one_in(2) {
            wire.to_us.extend([CLOSE, 0, 0]);
        }
        wire.fin_to_us = true;
        wire.edge = true;
    }

    fn reset(&mut self, random: &mut Random) {
        self.left = self.done;
        (self.done, self.reset) = (true, true);
        let mut wire = self.wire.borrow_mut();
        if random.one_in(2) {
            wire.to_us.clear();
        }
        wire.broken = true;
        wire.edge = true;
    }

    fn read(&mut self, most: usize) {
        let mut wire = self.wire.borrow_mut();
        let count = most.min(wire.to_peer.len());
        self.received.extend(wire.to_peer.drain(..count));
        if wire.no_space && wire.to_peer.len() <= wire.room * 2 / 3 {
            wire.no_space = false;
            wire.edge = true;
        }
    }

    /// What came, decrypted, without our own frames, and whether the end was said.
    fn heard(&self, scan: bool) -> (Vec<u8>, usize) {
        let mut plain = Vec::new();
        match self.tls {
            true => {
                let (mut toy, mut bytes) = (Toy { state: State::Open, closed: false }, self.received.clone());
                toy.decrypt(&mut bytes, &mut plain, &mut Vec::new()).unwrap();
            }
            false => plain.clone_from(&self.received),
        }
        if !scan {
            return (plain, 0);
        }
        let (mut theirs, mut ours, mut at) = (Vec::new(), 0, 0);
        while at < plain.len() {
            let frame = &plain[at..];
            let length = match frame {
                [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
                [_, length, ..] if *length < 126 => 2 + usize::from(*length),
                _ => frame.len(),
            };
            let frame = &frame[..length.min(frame.len())];
            match frame.first() {
                Some(0x89) => ours += 1,
                // Cut short where this end broke too.
                Some(0x88) => assert!(LOST.starts_with(&plain[at..]), "the last frame"),
                _ => theirs.extend_from_slice(frame),
            }
            at += frame.len();
        }
        (theirs, ours)
    }
}

struct Nobody;

impl Keep for Nobody {
    fn ended(self: Box<Self>, _: Report) {}
}

/// What a run allows.
#[derive(Clone, Copy)]
struct Kind {
    scan: bool,
    tls: [bool; 2],
    resets: bool,
    /// Who loses the other side is told.
    goodbye: bool,
}

fn goodbye() -> Goodbye {
    Goodbye { client_frame: LOST.to_vec(), upstream_frame: LOST.to_vec(), on_eof: false }
}

struct World {
    random: Random,
    kind: Kind,
    tunnel: Tunnel<Sim>,
    peers: [Peer; 2],
    scratch: Scratch,
    pool: Pool,
    budget: std::sync::Arc<Budget>,
    now_ms: u64,
    next: Next,
    injected: [usize; 2],
    timed_out: Option<EndedBy>,
}

impl World {
    fn new(seed: u64, kind: Kind) -> World {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.below(2);
        }
        let room = [64, 3_000, 100_000][random.below(3)];
        let mut peers = kind.tls.map(|tls| Peer::new(tls, room));
        let plan = Plan {
            limits: Limits { buffer_bytes_max: LIMIT },
            timers: TIMERS,
            scan: kind.scan,
            goodbye: kind.goodbye.then(|| Arc::new(goodbye())),
            keep: Box::new(Nobody),
        };
        let sockets = [Sim(peers[0].wire.clone()), Sim(peers[1].wire.clone())];
        let mut held = Held::default();
        for (side, peer) in peers.iter_mut().enumerate() {
            if random.one_in(2) {
                // What the peer said before the hand-over: taken from the wire by somebody else.
                peer.send(&mut random, kind.scan);
                let bytes: Vec<u8> = peer.wire.borrow_mut().to_us.drain(..).collect();
                match kind.tls[side] {
                    true => {
                        let end = Box::new(Toy { state: State::Open, closed: false });
                        held.tls[side] = Some(Tls { end, input: bytes });
                    }
                    false => held.leftover[side] = bytes,
                }
            } else if kind.tls[side] {
                let end = Box::new(Toy { state: State::Open, closed: false });
                held.tls[side] = Some(Tls { end, input: Vec::new() });
            }
        }
        let budget = Budget::new([20_000, 1 << 20][random.below(2)]);
        let mut world = World {
            tunnel: Tunnel::new(sockets, plan, 1_000),
            random,
            kind,
            peers,
            scratch: Scratch::new([100, 4_096, 65_536][seed as usize % 3]),
            pool: Pool::new(budget.clone()),
            budget,
            now_ms: 1_000,
            next: Next::Wait,
            injected: [0; 2],
            timed_out: None,
        };
        world.step(|tunnel, lent| tunnel.start(held, lent));
        world
    }

    fn step(&mut self, step: impl FnOnce(&mut Tunnel<Sim>, &mut Lent<'_>) -> Next) {
        let mut lent =
            Lent { scratch: &mut self.scratch, pool: &mut self.pool, now_ms: self.now_ms, received: 0 };
        let next = step(&mut self.tunnel, &mut lent);
        // `Again` stays asked for until the tunnel is run.
        self.next = self.next.max(next);
        // Both directions, twice what they hold as vectors grow; sealed bytes are more, and what was left over at the
        // hand-over (up to 20 KB a side) is kept whatever the limit.
        let bound = 2 * 2 * (LIMIT + 4_096 + 20_100) * if self.kind.tls == [false; 2] { 1 } else { 2 };
        assert!(self.budget.used() <= bound, "{} bytes held", self.budget.used());
    }

    fn over(&self) -> bool {
        self.next == Next::Over || self.timed_out.is_some()
    }

    /// Gives the tunnel what epoll would; false when there is nothing.
    fn deliver(&mut self, side: Side) -> bool {
        let ready = self.peers[side as usize].wire.borrow_mut().readiness();
        let Some(ready) = ready else { return false };
        self.step(|tunnel, lent| tunnel.ready(side, ready, lent));
        true
    }

    fn run_again(&mut self) -> bool {
        if self.next != Next::Again {
            return false;
        }
        self.next = Next::Wait;
        self.step(|tunnel, lent| tunnel.run(lent));
        true
    }

    fn look_at_the_clock(&mut self) {
        if let Some(why) = self.tunnel.timed_out(self.now_ms) {
            let moved = self.tunnel.pumps[0].moved_ms().max(self.tunnel.pumps[1].moved_ms());
            let least = match why {
                EndedBy::IdleTimeout => TIMERS.idle_ms,
                EndedBy::FinTimeout => TIMERS.fin_ms,
                EndedBy::SendTimeout(_) => 0,
                ref other => panic!("{other:?} is no timer"),
            };
            assert!(self.now_ms - moved >= least, "{why:?} too early");
            self.timed_out = Some(why);
        }
    }

    fn act(&mut self) {
        let side = SIDES[self.random.below(2)];
        let random = &mut self.random;
        let peer = &mut self.peers[side as usize];
        match random.below(20) {
            0..=4 if !peer.done => peer.send(random, self.kind.scan),
            5..=9 => peer.read([1, 50, 5_000, 1 << 20][random.below(4)]),
            10 if !peer.done && random.one_in(6) => peer.finish(random),
            11 if self.kind.resets && !peer.reset && random.one_in(10) => peer.reset(random),
            12 if self.kind.scan => {
                let mut taken = false;
                self.step(|tunnel, lent| {
                    let (accepted, next) = tunnel.inject(side, OURS, lent);
                    taken = accepted;
                    next
                });
                self.injected[side as usize] += usize::from(taken);
            }
            13 => {
                self.now_ms += [1, 100, 5_000][self.random.below(3)];
                self.look_at_the_clock();
            }
            14 => {
                self.run_again();
            }
            _ => {
                self.deliver(side);
            }
        }
    }

    /// Lets everything under way arrive.
    fn drain(&mut self) {
        let mut rounds = 0;
        loop {
            let mut busy = false;
            for side in SIDES {
                let before = self.peers[side as usize].received.len();
                self.peers[side as usize].read(usize::MAX);
                busy |= self.peers[side as usize].received.len() > before;
                if self.next != Next::Over {
                    busy |= self.deliver(side);
                }
            }
            busy |= self.run_again();
            if !busy && self.kind.goodbye && self.next != Next::Over {
                // Told so, an end closes.
                for peer in &mut self.peers {
                    if peer.wire.borrow().fin_to_peer && !peer.done {
                        peer.finish(&mut self.random);
                        busy = true;
                    }
                }
            }
            if !busy {
                return;
            }
            rounds += 1;
            assert!(rounds < 1_000_000, "never silent");
        }
    }

    fn verify(&self, seed: u64) {
        for side in SIDES {
            let (from, to) = (&self.peers[side as usize], &self.peers[side.other() as usize]);
            let (heard, ours) = to.heard(self.kind.scan);
            assert!(from.sent.starts_with(&heard), "seed {seed}: bytes of {side:?} out of order");
            if self.kind.goodbye && from.reset && !from.left && !to.reset && self.timed_out.is_none() {
                // Frames whole or not, everything that left the kernel arrived; whole, our goodbye came behind them.
                let whole = self.tunnel.pumps[side as usize].is_at_boundary();
                let told = to.received.ends_with(LOST) || to.tls;
                assert_eq!(told, whole || to.tls, "seed {seed}: goodbye to {:?}", side.other());
                assert!(to.wire.borrow().fin_to_peer, "seed {seed}: FIN behind the goodbye");
            }
            let cut = self.peers.iter().any(|peer| peer.reset) || self.timed_out.is_some();
            if cut {
                continue;
            }
            assert_eq!(heard.len(), from.sent.len(), "seed {seed}: bytes of {side:?} lost");
            assert_eq!(to.wire.borrow().fin_to_peer, from.done, "seed {seed}: FIN of {side:?}");
            // Ours may wait behind a frame whose end never came, but frames here are whole.
            assert_eq!(
                ours,
                self.injected[side.other() as usize],
                "seed {seed}: frames to {:?}",
                side.other()
            );
            let pump = &self.tunnel.pumps[side as usize];
            assert_eq!(pump.received(), from.sent.len() as u64, "seed {seed}");
            let ours_bytes = (ours * OURS.len()) as u64;
            assert_eq!(pump.sent(), heard.len() as u64 + ours_bytes, "seed {seed}");
        }
        let (done, reset) = (self.peers.iter().all(|p| p.done), self.peers.iter().any(|p| p.reset));
        if self.timed_out.is_none() {
            assert_eq!(self.next == Next::Over, done || reset, "seed {seed}: {:?}", self.next);
        }
    }
}

fn check(seed: u64, kind: Kind) {
    let mut world = World::new(seed, kind);
    let steps = 20 + world.random.below(400);
    for _ in 0..steps {
        if world.over() {
            break;
        }
        world.act();
    }
    if world.timed_out.is_none() {
        world.drain();
    }
    world.verify(seed);
    if !world.over() {
        // It stands still: the right timer ends it, and the deadline was known.
        let deadline = world.tunnel.deadline_ms().expect("a tunnel at rest has a deadline");
        world.now_ms = deadline - 1;
        world.look_at_the_clock();
        assert!(!world.over(), "seed {seed}: too early");
        world.now_ms = deadline;
        world.look_at_the_clock();
        let half = world.peers.iter().any(|peer| peer.done);
        let wanted = if half { EndedBy::FinTimeout } else { EndedBy::IdleTimeout };
        assert_eq!(world.timed_out, Some(wanted), "seed {seed}");
    }
    let World { tunnel, mut pool, budget, now_ms, .. } = world;
    let _ = tunnel.finish(EndedBy::Shutdown, &mut pool, now_ms);
    assert_eq!(budget.used(), 0, "seed {seed}: something stayed borrowed");
}

fn check_many(kind: Kind) {
    for seed in 0..200 {
        let checked = std::panic::catch_unwind(|| check(seed, kind));
        assert!(checked.is_ok(), "seed {seed}");
    }
}

#[test]
fn plain_tunnels_lose_nothing() {
    check_many(Kind { scan: false, tls: [false; 2], resets: false, goodbye: false });
}

#[test]
fn plain_tunnels_survive_resets() {
    check_many(Kind { scan: false, tls: [false; 2], resets: true, goodbye: false });
}

#[test]
fn frames_of_ours_never_break_theirs() {
    check_many(Kind { scan: true, tls: [false; 2], resets: false, goodbye: false });
    check_many(Kind { scan: true, tls: [true, false], resets: false, goodbye: false });
}

#[test]
fn who_loses_the_other_side_is_told() {
    check_many(Kind { scan: true, tls: [false; 2], resets: true, goodbye: true });
    check_many(Kind { scan: true, tls: [true, false], resets: true, goodbye: true });
}

#[test]
fn tls_at_either_end_changes_nothing() {
    check_many(Kind { scan: false, tls: [true, false], resets: false, goodbye: false });
    check_many(Kind { scan: false, tls: [false, true], resets: true, goodbye: false });
    check_many(Kind { scan: true, tls: [true, true], resets: false, goodbye: false });
}

#[test]
fn an_end_that_asks_and_never_reads_is_not_read_for_ever() {
    let mut world = World::new(8, Kind { scan: false, tls: [true, false], resets: false, goodbye: false });
    let questions: Vec<u8> = [QUESTION, 0, 0].repeat(100_000);
    {
        let mut wire = world.peers[0].wire.borrow_mut();
        wire.to_us.extend(questions);
        wire.edge = true;
    }
    world.deliver(Side::Client);
    while world.run_again() {}
    let unread = world.peers[0].wire.borrow().to_us.len();
    assert!(unread > 100_000, "{unread}");
    assert!(world.budget.used() < 1 << 20);
    world.drain();
    assert_eq!(world.peers[0].wire.borrow().to_us.len(), 0, "read again once it reads");
}

/// The word for the end may come in one piece with the head: then whoever read the head has it, and nothing follows.
#[test]
fn an_end_that_was_said_before_the_hand_over_is_passed_on() {
    for side in SIDES {
        let tls = SIDES.map(|at| at == side);
        let mut world = World::new(8, Kind { scan: false, tls, resets: false, goodbye: false });
        let peers = [false; 2].map(|tls| Peer::new(tls, 100_000));
        let sockets = [Sim(peers[0].wire.clone()), Sim(peers[1].wire.clone())];
        let plan = Plan {
            limits: Limits { buffer_bytes_max: LIMIT },
            timers: TIMERS,
            scan: false,
            goodbye: None,
            keep: Box::new(Nobody),
        };
        world.tunnel = Tunnel::new(sockets, plan, world.now_ms);
        let mut held = Held::default();
        let end = Box::new(Toy { state: State::PeerClosed, closed: false });
        held.tls[side as usize] = Some(Tls { end, input: Vec::new() });
        held.leftover[side as usize] = b"last words".to_vec();
        world.step(|tunnel, lent| tunnel.start(held, lent));
        let wire = peers[side.other() as usize].wire.borrow();
        assert!(wire.fin_to_peer && wire.to_peer.len() == 10, "{side:?}");
    }
}

#[test]
fn last_words_and_the_fin_are_one_packet() {
    for side in SIDES {
        let mut world = World::new(9, Kind { scan: true, tls: [false; 2], resets: false, goodbye: false });
        let (from, to) = (&world.peers[side as usize], world.peers[side.other() as usize].wire.clone());
        to.borrow_mut().room = 100_000;
        from.wire.borrow_mut().to_us.extend(b"\x88\x02\x03\xe8");
        from.wire.borrow_mut().fin_to_us = true;
        let ready = Readiness { read: true, read_on: true, ending: true, ..Readiness::default() };
        world.step(|tunnel, lent| tunnel.ready(side, ready, lent));
        let wire = to.borrow();
        assert_eq!((wire.to_peer.len(), wire.fin_to_peer, wire.packets), (4, true, 1), "{side:?}");
    }
}
