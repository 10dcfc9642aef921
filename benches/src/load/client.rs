//! The client: tunnels with one message in flight each, visits that only shake hands and leave, and keep-alive GETs.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;

use super::orders::{Pace, Ran, Run};
use super::secure::{Secure, Tls};
use super::socket::{self, Received};
use super::stream::Stream;
use super::text;

/// Connections that may be in the middle of connecting or shaking hands while a run is set up.
const OPENING_MAX: usize = 64;

/// The connections of one run, and its streams of operations.
pub(crate) struct Client {
    to: SocketAddr,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    gone: Vec<usize>,
    /// Connections ever made: spreads them over source addresses.
    made: usize,
    to_open: Vec<Kind>,
    opening: usize,
    visits: usize,
    visitors: usize,
    /// Before the load starts, nothing but opening happens; `hold` sends one message per tunnel.
    phase: Phase,
    echo: Stream,
    visit: Stream,
    get: Stream,
    handshake: Vec<u8>,
    message: Vec<u8>,
    echo_bytes: usize,
    close: Vec<u8>,
    request: Vec<u8>,
    tls: Option<Tls>,
}

#[derive(PartialEq, Clone, Copy)]
enum Phase {
    Opening,
    Loading,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Tunnel,
    Visit,
    Getter,
}

struct Slot {
    fd: OwnedFd,
    tls: Option<Secure>,
    kind: Kind,
    stage: Stage,
    /// When the operation under way was due.
    due: Instant,
    /// Start of an answer that is not complete.
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

enum Stage {
    Connecting,
    /// The TLS handshake is under way.
    Greeting,
    /// The handshake is sent.
    Shaking,
    Idle,
    /// So many bytes of the echo are still to come.
    Echoing(usize),
    /// The GET is sent.
    Asking,
    /// The Close is sent; the end of the stream is awaited.
    Leaving,
}

impl Client {
    /// A client for one run; nothing is opened yet.
    pub(crate) fn new(run: &Run, now: Instant) -> io::Result<Self> {
        let host = run.to.to_string();
        let message = text::client_frame(2, &vec![b'm'; run.message_bytes]);
        let mut to_open = vec![Kind::Tunnel; run.tunnels];
        to_open.extend(vec![Kind::Getter; run.getters]);
        Ok(Self {
            to: run.to,
            slots: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
            made: 0,
            to_open,
            opening: 0,
            visits: 0,
            visitors: run.visitors,
            phase: Phase::Opening,
            echo: Stream::new(Pace::Off, now),
            visit: Stream::new(Pace::Off, now),
            get: Stream::new(Pace::Off, now),
            handshake: text::handshake(&host),
            echo_bytes: message.len() - 4,
            message,
            close: text::client_frame(8, &1000u16.to_be_bytes()),
            request: text::get(&host),
            tls: run.tls.map(Tls::new).transpose()?,
        })
    }

    /// Everything that had to be opened is open.
    pub(crate) fn is_open(&self) -> bool {
        self.to_open.is_empty() && self.opening == 0
    }

    /// No echo is under way.
    pub(crate) fn is_quiet(&self, tunnels: usize) -> bool {
        self.echo.idle.len() == tunnels
    }

    /// Starts the load.
    pub(crate) fn start(&mut self, run: &Run, now: Instant) {
        for (stream, pace) in
            [(&mut self.echo, run.echo), (&mut self.visit, run.visit), (&mut self.get, run.get)]
        {
            let idle = std::mem::take(&mut stream.idle);
            *stream = Stream::new(pace, now);
            stream.idle = idle;
        }
        self.phase = Phase::Loading;
    }

    /// One message through every idle tunnel.
    pub(crate) fn echo_once(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..self.echo.idle.len() {
            let Some(index) = self.echo.idle.pop_front() else { break };
            self.begin_echo(index, now)?;
        }
        Ok(())
    }

    /// Starts the measured stretch.
    pub(crate) fn clear(&mut self) {
        self.echo.clear();
        self.visit.clear();
        self.get.clear();
    }

    /// Fills in what was measured.
    pub(crate) fn measured(&self, ran: &mut Ran) {
        ran.echo = self.echo.latencies();
        ran.visit = self.visit.latencies();
        ran.get = self.get.latencies();
        ran.agreed = self.tls.as_ref().and_then(|tls| tls.agreed.clone());
    }

    /// Starts whatever may start now.
    pub(crate) fn begin_due(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let now = Instant::now();
        if self.phase == Phase::Opening {
            while self.opening < OPENING_MAX
                && let Some(kind) = self.to_open.pop()
            {
                self.opening += 1;
                self.open(epoll, kind, now)?;
            }
            return Ok(());
        }
        self.echo.advance(now);
        self.visit.advance(now);
        self.get.advance(now);
        while let Some((index, due)) = self.echo.next_idle(now) {
            self.begin_echo(index, due)?;
        }
        while let Some((index, due)) = self.get.next_idle(now) {
            self.begin_get(index, due)?;
        }
        while self.visits < self.visitors
            && let Some(due) = self.visit.next(now)
        {
            self.visits += 1;
            self.open(epoll, Kind::Visit, due)?;
        }
        Ok(())
    }

    /// Handles one event. An error means that the proxy broke its word, and ends the run.
    pub(crate) fn event(&mut self, event: epoll::Event, scratch: &mut [u8]) -> io::Result<()> {
        let (index, ending) = (event.data.u64() as usize, socket::is_ending(event.flags));
        let Some(slot) = self.slots[index].as_mut() else { return Ok(()) };
        socket::flush(&slot.fd, &mut slot.unsent)?;
        if matches!(slot.stage, Stage::Connecting) {
            rustix::net::sockopt::socket_error(&slot.fd)??;
            return self.connected(index);
        }
        loop {
            let Some(slot) = self.slots[index].as_mut() else { return Ok(()) };
            let (count, more) = match socket::receive(&slot.fd, scratch, ending) {
                Received::Bytes { count, more } => (count, more),
                Received::Nothing => return Ok(()),
                Received::End => return self.ended(index),
            };
            match &slot.tls {
                None => self.answered(index, &scratch[..count])?,
                Some(_) => self.unsealed(index, &mut scratch[..count])?,
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Ends a batch of events; see the backend's.
    pub(crate) fn batch_done(&mut self) {
        self.free.append(&mut self.gone);
    }

    /// Cuts all connections.
    pub(crate) fn abort(self) {
        self.slots.into_iter().flatten().for_each(|slot| socket::abort(slot.fd));
    }

    fn open(&mut self, epoll: &OwnedFd, kind: Kind, due: Instant) -> io::Result<()> {
        let fd = socket::connect(self.to, self.made)?;
        self.made += usize::from(kind != Kind::Visit);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        socket::watch(epoll, &fd, index as u64)?;
        let tls = self.tls.as_ref().map(Tls::connection).transpose()?;
        let stage = Stage::Connecting;
        let slot = Slot { fd, tls, kind, stage, due, partial: Vec::new(), unsent: Vec::new() };
        self.slots[index] = Some(slot);
        Ok(())
    }

    fn slot(&mut self, index: usize) -> &mut Slot {
        self.slots[index]
            .as_mut()
            .expect("an index in use names a slot: idle lists hold open connections only")
    }

    fn begin_echo(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("idle tunnels are open");
        slot.stage = Stage::Echoing(self.echo_bytes);
        slot.due = due;
        slot.send(&mut self.tls, &self.message)
    }

    fn begin_get(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("idle connections are open");
        slot.stage = Stage::Asking;
        slot.due = due;
        slot.send(&mut self.tls, &self.request)
    }

    /// TCP is there: TLS next, or what the connection is for.
    fn connected(&mut self, index: usize) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("events come from an open connection");
        if slot.tls.is_none() {
            return self.secured(index);
        }
        slot.stage = Stage::Greeting;
        self.unsealed(index, &mut [])
    }

    /// Nothing stands between us and HTTP any more.
    fn secured(&mut self, index: usize) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("events come from an open connection");
        match slot.kind {
            Kind::Getter => {
                slot.send(&mut self.tls, &[])?;
                self.settle(index);
                Ok(())
            }
            Kind::Tunnel | Kind::Visit => {
                slot.stage = Stage::Shaking;
                slot.send(&mut self.tls, &self.handshake)
            }
        }
    }

    /// Encrypted bytes came.
    fn unsealed(&mut self, index: usize, bytes: &mut [u8]) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("bytes come from an open connection");
        let (Some(secure), Some(tls)) = (&mut slot.tls, &mut self.tls) else { return Ok(()) };
        let open = tls.unseal(secure, bytes)?;
        if matches!(slot.stage, Stage::Greeting) {
            match open {
                // Our last flight goes out with the request.
                true => self.secured(index)?,
                false => slot.send(&mut self.tls, &[])?,
            }
        }
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if tls.plain.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut tls.plain);
        let done = self.answered(index, &plain);
        if let Some(tls) = &mut self.tls {
            tls.plain = plain;
        }
        done
    }

    /// A connection became, or is again, free for the next operation.
    fn settle(&mut self, index: usize) {
        let slot = self.slot(index);
        let fresh = matches!(slot.stage, Stage::Connecting | Stage::Greeting | Stage::Shaking);
        slot.stage = Stage::Idle;
        match slot.kind {
            Kind::Getter => self.get.idle.push_back(index),
            Kind::Tunnel | Kind::Visit => self.echo.idle.push_back(index),
        }
        if fresh {
            self.opening -= 1;
        }
    }

    fn answered(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("bytes come from an open connection");
        match slot.stage {
            Stage::Echoing(left) if bytes.len() < left => slot.stage = Stage::Echoing(left - bytes.len()),
            Stage::Echoing(left) if bytes.len() == left => {
                self.echo.ended(slot.due);
                self.settle(index);
            }
            Stage::Shaking => {
                slot.partial.extend_from_slice(bytes);
                return self.shaken(index);
            }
            Stage::Asking => {
                slot.partial.extend_from_slice(bytes);
                return self.told(index);
            }
            Stage::Leaving => {}
            Stage::Idle | Stage::Connecting | Stage::Greeting | Stage::Echoing(_) => {
                return Err(broken(format!("{} bytes nobody asked for", bytes.len()), bytes));
            }
        }
        Ok(())
    }

    /// Looks at a handshake's answer.
    fn shaken(&mut self, index: usize) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("bytes come from an open connection");
        let Some(length) = text::head_length(&slot.partial) else { return Ok(()) };
        let accepted = text::header(&slot.partial, "sec-websocket-accept") == Some(text::ACCEPT);
        if !accepted || !slot.partial.starts_with(b"HTTP/1.1 101 ") || slot.partial.len() > length {
            return Err(broken("no clean 101".into(), &slot.partial));
        }
        slot.partial = Vec::new();
        if slot.kind == Kind::Tunnel {
            self.settle(index);
            return Ok(());
        }
        slot.stage = Stage::Leaving;
        slot.send(&mut self.tls, &self.close)?;
        let due = slot.due;
        self.visit.ended(due);
        Ok(())
    }

    /// Looks at a GET's answer.
    fn told(&mut self, index: usize) -> io::Result<()> {
        let slot = self.slots[index].as_mut().expect("bytes come from an open connection");
        let Some(head) = text::head_length(&slot.partial) else { return Ok(()) };
        let body =
            text::header(&slot.partial[..head], "content-length").and_then(|text| text.parse::<usize>().ok());
        let Some(body) = body.filter(|_| slot.partial.starts_with(b"HTTP/1.1 200 ")) else {
            return Err(broken("no 200 with a length".into(), &slot.partial));
        };
        if slot.partial.len() < head + body {
            return Ok(());
        }
        slot.partial.clear();
        self.get.ended(slot.due);
        self.settle(index);
        Ok(())
    }

    /// The proxy ended a connection: right for a visit that has said goodbye. nginx also ends a keep-alive connection
    /// after `keepalive_requests`; the configuration sets that out of reach.
    fn ended(&mut self, index: usize) -> io::Result<()> {
        let slot = self.slot(index);
        if !matches!(slot.stage, Stage::Leaving) {
            return Err(broken(format!("a {:?} connection was ended", slot.kind), &slot.partial));
        }
        self.slots[index] = None;
        self.gone.push(index);
        self.visits -= 1;
        Ok(())
    }
}

impl Slot {
    /// Sends, through TLS where that is spoken.
    fn send(&mut self, tls: &mut Option<Tls>, bytes: &[u8]) -> io::Result<()> {
        let (Some(secure), Some(tls)) = (&mut self.tls, tls) else {
            return socket::send(&self.fd, &mut self.unsent, bytes);
        };
        if !bytes.is_empty() {
            tls.seal(secure, bytes)?;
        }
        let sent = socket::send(&self.fd, &mut self.unsent, &tls.out);
        tls.out.clear();
        sent
    }
}

fn broken(what: String, bytes: &[u8]) -> io::Error {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    io::Error::other(format!("the proxy's answer: {what}: {start:?}"))
}
