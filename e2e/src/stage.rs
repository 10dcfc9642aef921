//! Plays one case against a running proxy: all clients and all upstreams are nonblocking sockets on one thread, so the
//! order of the script is the order of events.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::case::{Act, Case, Step};
use crate::outcome::{Outcome, Seen, normalise, without_ports};
use crate::proxy::{Kind, Place, Proxy, whole};
use crate::raw::{DEADLINE, End, Socket, escape, wait_readable};

/// Silence after which an outcome that is as expected is believed to be all of it.
const QUIET_KNOWN: Duration = Duration::from_millis(60);
/// The same when nobody knows what to expect: while recording.
const QUIET_UNKNOWN: Duration = Duration::from_millis(700);

/// How long nothing happens before we stop hoping for an expected outcome, or believe an unknown one.
fn quiet(expected: Option<&Outcome>) -> Duration {
    if expected.is_some() { QUIET_KNOWN * 25 } else { QUIET_UNKNOWN }
}

/// Starts `kind`, plays the case and returns what was seen, or what went wrong on the way.
///
/// `expected` only makes it quicker: the outcome is returned as soon as it is equal and stays so. Otherwise the proxy has
/// until the deadline to get there.
pub fn play(kind: Kind, case: &Case, expected: Option<&Outcome>) -> Result<Outcome, String> {
    let place = Place::new(&["PORT", "PORT2", "U", "V"]);
    for (name, content) in &case.files {
        place.dir.write(name, content);
    }
    let proxy = Proxy::start(kind, place, &whole(&case.config));
    let mut stage = Stage::new(&proxy.place, case);
    let result = case
        .steps
        .iter()
        .filter(|step| step.only.is_none_or(|only| only == kind))
        .try_for_each(|step| stage.step(step).map_err(|error| format!("{error}\n{}", stage.describe())));
    let result = result.map(|()| stage.settle(expected));
    let outcome = stage.outcome();
    drop(stage);
    finish(proxy, outcome, result)
}

/// Stops the proxy, then reads the access log, which is complete only now.
fn finish(mut proxy: Proxy, mut outcome: Outcome, played: Result<(), String>) -> Result<Outcome, String> {
    let left = proxy.stop();
    played.map_err(|error| format!("{error}\n{}", proxy.logs()))?;
    let log = proxy.error_log();
    if let Some(line) = log.lines().find(|line| line.contains("[alert]") || line.contains("[emerg]")) {
        return Err(format!("the error log has: {line}"));
    }
    if !left {
        return Err(format!("{} did not stop on QUIT\n{}", proxy.kind, proxy.logs()));
    }
    let access = without_ports(proxy.place.dir.read("access.log"), &proxy.place);
    outcome.log = access.lines().map(str::to_owned).collect();
    Ok(outcome)
}

struct Stage<'a> {
    place: &'a Place,
    listeners: BTreeMap<char, TcpListener>,
    sockets: BTreeMap<String, Actor>,
}

struct Actor {
    /// `None` once we closed or reset it ourselves.
    socket: Option<Socket>,
    got: Vec<u8>,
    end: End,
    /// An upstream's connection whose request was waited for.
    awaited: bool,
}

impl<'a> Stage<'a> {
    fn new(place: &'a Place, case: &Case) -> Stage<'a> {
        let up = [('u', "U"), ('v', "V")].into_iter().filter(|(name, _)| !case.down.contains(name));
        let listeners = up.map(|(name, port)| {
            let listener = place.port(port).listen();
            listener.set_nonblocking(true).expect("our own listener");
            (name, listener)
        });
        Stage { place, listeners: listeners.collect(), sockets: BTreeMap::new() }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let who = step.who.as_str();
        match &step.act {
            Act::Pause(time) => {
                self.pass(*time);
                Ok(())
            }
            Act::Connect(port) => self.connect(who, port),
            Act::Accept => self.accepted(who).map(|actor| actor.awaited = true),
            Act::Send(bytes) => self.send(who, &self.place.fill_bytes(bytes)),
            Act::Wait(pattern) => self.wait(who, &self.place.fill_bytes(pattern)),
            Act::Fin => {
                self.open(who)?.socket.as_mut().map(Socket::fin).ok_or_else(|| format!("{who} is closed"))
            }
            Act::Close => self.leave(who).map(drop),
            Act::Reset => self.leave(who).map(Socket::reset),
            Act::End => self.until(who, "the end", |actor| actor.end != End::Open),
            Act::Ended(End::Open) => {
                self.pass(QUIET_KNOWN);
                self.ended(who, End::Open)
            }
            Act::Ended(end) => {
                self.until(who, "the end", |actor| actor.end != End::Open)?;
                self.ended(who, *end)
            }
        }
    }

    fn connect(&mut self, who: &str, port: &str) -> Result<(), String> {
        let socket =
            Socket::connect(self.place.port(port).address()).map_err(|error| format!("{who}: {error}"))?;
        self.sockets.insert(who.to_owned(), Actor::new(socket));
        Ok(())
    }

    fn send(&mut self, who: &str, bytes: &[u8]) -> Result<(), String> {
        if who.starts_with('c') {
            if !self.sockets.contains_key(who) {
                self.connect(who, "PORT")?;
            }
        } else if !self.accepted(who)?.awaited {
            self.wait(who, b"\r\n\r\n")?;
        }
        let socket = self.open(who)?.socket.as_mut().ok_or_else(|| format!("{who} is closed"))?;
        socket.send(bytes);
        Ok(())
    }

    fn wait(&mut self, who: &str, pattern: &[u8]) -> Result<(), String> {
        if !who.starts_with('c') {
            self.accepted(who)?.awaited = true;
        }
        let what = format!("{:?}", escape(pattern));
        self.until(who, &what, |actor| actor.socket.as_mut().is_some_and(|socket| socket.found(pattern)))
    }

    /// An upstream's connection, waiting for the proxy to make it.
    fn accepted(&mut self, who: &str) -> Result<&mut Actor, String> {
        let deadline = Instant::now() + DEADLINE;
        while !self.sockets.contains_key(who) {
            if Instant::now() >= deadline {
                return Err(format!("{who}: no such connection came"));
            }
            self.turn(deadline);
        }
        self.open(who)
    }

    fn open(&mut self, who: &str) -> Result<&mut Actor, String> {
        self.sockets.get_mut(who).ok_or_else(|| format!("{who}: no such connection yet"))
    }

    fn leave(&mut self, who: &str) -> Result<Socket, String> {
        self.turn(Instant::now());
        let actor = self.open(who)?;
        let mut socket = actor.socket.take().ok_or_else(|| format!("{who} is closed already"))?;
        socket.pump();
        actor.got = socket.received().to_vec();
        actor.end = End::Left;
        Ok(socket)
    }

    fn until(&mut self, who: &str, what: &str, met: impl Fn(&mut Actor) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while !met(self.open(who)?) {
            let actor = self.open(who)?;
            if actor.end != End::Open || Instant::now() >= deadline {
                return Err(format!("{who}: waited for {what} in vain"));
            }
            self.turn(deadline);
        }
        Ok(())
    }

    fn ended(&mut self, who: &str, end: End) -> Result<(), String> {
        let actor = self.open(who)?;
        if actor.end == end { Ok(()) } else { Err(format!("{who}: ended {:?}, not {end:?}", actor.end)) }
    }

    /// Lets time go by, reading meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(until);
        }
    }

    /// Waits for anything to happen, then takes all that has.
    fn turn(&mut self, deadline: Instant) {
        let sockets: Vec<&Socket> = self.sockets.values().filter_map(|actor| actor.socket.as_ref()).collect();
        wait_readable(&sockets, &self.listeners.values().collect::<Vec<_>>(), deadline);
        for (letter, listener) in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                let socket = Socket::over(stream).expect("an accepted stream takes options");
                let name = next_name(*letter, &self.sockets);
                self.sockets.insert(name, Actor::new(socket));
            }
        }
        self.sockets.values_mut().for_each(Actor::pump);
    }

    /// Until the outcome is as expected and stays so, or nothing has happened for long; without expectation until quiet.
    fn settle(&mut self, expected: Option<&Outcome>) {
        let deadline = Instant::now() + DEADLINE;
        let mut last = self.outcome();
        let mut changed = Instant::now();
        while Instant::now() < deadline {
            let as_expected = expected.is_some_and(|expected| last.seen == expected.seen);
            self.pass(if as_expected { QUIET_KNOWN } else { Duration::from_millis(5) });
            let now = self.outcome();
            if now != last {
                (last, changed) = (now, Instant::now());
            } else if as_expected || changed.elapsed() >= quiet(expected) {
                return;
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let seen = self.sockets.iter().map(|(who, actor)| {
            let got = normalise(&actor.got, self.place);
            (who.clone(), Seen { got, end: actor.end })
        });
        Outcome { seen: seen.collect(), log: Vec::new() }
    }

    fn describe(&self) -> String {
        let lines = self
            .sockets
            .iter()
            .map(|(who, actor)| format!("    {who} got {:?}, {:?}\n", escape(&actor.got), actor.end));
        lines.collect()
    }
}

impl Actor {
    fn new(socket: Socket) -> Actor {
        Actor { socket: Some(socket), got: Vec::new(), end: End::Open, awaited: false }
    }

    fn pump(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.pump();
            self.end = socket.end();
            if self.got.len() != socket.received().len() {
                self.got = socket.received().to_vec();
            }
        }
    }
}

/// `u`, `u2`, `u3`.
fn next_name(letter: char, taken: &BTreeMap<String, Actor>) -> String {
    let count = taken.keys().filter(|name| name.starts_with(letter)).count();
    if count == 0 { letter.to_string() } else { format!("{letter}{}", count + 1) }
}
