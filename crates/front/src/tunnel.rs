//! The hand-over: a request that became a tunnel leaves the request machine for good (D3).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::log::{Ending, ErrorLog, Frozen, Level, LogProgram};
use http::{Guard, Guards, Request, TunnelPlan};
use reactor::{Lent, Place};
use relay::{
    EndedBy, Goodbye, Handover, Keep, Leave, Limits, Plan, Remote, Report, Side, Timers, Token, Watch,
};

use crate::shared::{Seat, TunnelSeats};
use crate::worker::Worker;

/// Tunnels that a reload closes (`websocket_reload close`); all others are known to their loop alone.
#[derive(Default)]
pub(crate) struct Closing {
    known: Mutex<Known>,
    serial: AtomicU64,
}

#[derive(Default)]
struct Known {
    tunnels: HashMap<u64, Born>,
    /// Those of generations before this were closed, and how: one of them may still come.
    closed_before: u64,
    how: Leave,
}

/// A tunnel, the loop it is in, and the generation it was born in. A token alone names a tunnel of one loop only.
struct Born {
    generation: u64,
    token: Token,
    remote: Remote,
}

impl Closing {
    /// Enters a tunnel; the number is for [`Closing::remove`].
    fn add(&self, born: Born) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut known = self.lock();
        if born.generation < known.closed_before {
            born.remote.close(born.token, known.how.clone());
        }
        known.tunnels.insert(serial, born);
        serial
    }

    fn remove(&self, serial: u64) {
        self.lock().tunnels.remove(&serial);
    }

    /// Closes those of generations before `generation`.
    pub(crate) fn close_before(&self, generation: u64, how: &Leave) {
        let mut known = self.lock();
        for born in known.tunnels.values().filter(|born| born.generation < generation) {
            born.remote.close(born.token, how.clone());
        }
        // A worker may not have heard of it, and still hand one over.
        known.closed_before = known.closed_before.max(generation);
        known.how = how.clone();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// What a worker needs to hand a tunnel over.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) remote: Remote,
    pub(crate) closing: Arc<Closing>,
    /// What one end of a WebSocket is told when the other was lost (`websocket_close lost`).
    pub(crate) goodbye: Arc<Goodbye>,
}

/// Both sides of a hand-over as the request machine gives them up.
pub(crate) struct GivenUp {
    pub(crate) client: Lent,
    /// Bytes of the 101 the client's socket did not take at once.
    pub(crate) unsent: Vec<u8>,
    /// How many of them are of the response: less than all when they are encrypted.
    pub(crate) unsent_bytes: usize,
    /// The client's TLS.
    pub(crate) tls: Option<relay::Tls>,
    /// Bytes the client sent behind its head.
    pub(crate) leftover: Vec<u8>,
    pub(crate) seat: Seat,
}

impl Relay {
    /// Hands a tunnel to the loop of `worker`. Nothing of the request or its snapshot is kept beyond this call.
    pub(crate) fn hand_over(&self, worker: &Worker, request: &mut Request, given: GivenUp, plan: TunnelPlan) {
        let snapshot = request.snapshot.clone();
        let location = snapshot.location(request.location);
        let mut known = Frozen::new();
        known.add(|text| Who::write(request, &plan.upstream_name, text));
        let lines = Lines::of(location.access_log.iter().filter(|log| log.freeze(request, &mut known)));
        let since = |ms: u64| narrow(http::clock::monotonic_ms().saturating_sub(ms));
        let (client, upstream) = (given.client, plan.upstream.lend());
        let keep = Kept {
            lines,
            text: known.kept(),
            error_log: location.core.error_log.clone(),
            guards: Held::of(plan.guards),
            places: [client.place, upstream.place],
            seats: given.seat.for_tunnel(),
            closing: plan.close_on_reload.then(|| {
                let closing = self.closing.clone();
                Box::new(Leaver {
                    closing,
                    remote: self.remote.clone(),
                    born: snapshot.generation,
                    serial: None,
                })
            }),
            started_before_ms: since(request.started_ms),
            connected_before_ms: since(request.connection.started_ms),
            upstream_before_ms: since(plan.upstream_started_ms),
            head_bytes: narrow(request.response.bytes_sent),
            unsent_bytes: narrow(given.unsent_bytes as u64),
            upstream_received: narrow(plan.upstream_received.saturating_sub(plan.leftover.len() as u64)),
            upstream_sent: narrow(plan.upstream_sent),
            received: narrow(request.received),
        };
        let handover = Handover {
            client: relay::End {
                unsent: given.unsent,
                leftover: given.leftover,
                tls: given.tls,
                watch: Watch::Passed { readable: client.readable },
                ..relay::End::new(client.fd)
            },
            upstream: relay::End {
                leftover: plan.leftover,
                tls: plan.upstream_tls.map(|(end, input)| relay::Tls { end, input }),
                watch: Watch::Passed { readable: upstream.readable },
                ..relay::End::new(upstream.fd)
            },
            plan: Plan {
                limits: Limits { buffer_bytes_max: plan.buffer_bytes_max },
                timers: Timers {
                    idle_ms: plan.idle_ms,
                    send_client_ms: plan.send_client_ms,
                    send_upstream_ms: plan.send_upstream_ms,
                    fin_ms: plan.fin_ms,
                },
                scan: plan.websocket,
                goodbye: plan.websocket.then(|| self.goodbye.clone()),
                keep: Box::new(keep),
            },
        };
        worker.insert(handover);
    }
}

/// What a tunnel's line in the error log says of its request: client, server, request line and upstream, a line each. Most
/// tunnels never write one, so the words between them are not kept.
struct Who<'a>(&'a [u8]);

impl Who<'_> {
    fn write(request: &Request, upstream: &[u8], text: &mut Vec<u8>) {
        // Mostly the upstream was sent the URI of the request line: then that is kept once.
        let line = request.line();
        let own = uri_of(line).and_then(|uri| upstream.strip_suffix(uri));
        let (upstream, same): (_, &[u8]) = own.map_or((upstream, b""), |start| (start, b"="));
        request.connection.write_peer(text);
        for part in [&request.server().name, line, upstream, same] {
            text.push(b'\n');
            text.extend_from_slice(part);
        }
    }
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.split(|byte| *byte == b'\n');
        let mut part = || parts.next().unwrap_or_default();
        let (client, server, line, upstream) = (part(), part(), part(), part());
        let uri = if part().is_empty() { b"" } else { uri_of(line).unwrap_or_default() };
        let text = String::from_utf8_lossy;
        let (client, server, line) = (text(client), text(server), text(line));
        let (upstream, uri) = (text(upstream), text(uri));
        write!(f, "client: {client}, server: {server}, request: \"{line}\", upstream: \"{upstream}{uri}\"")
    }
}

/// The URI of a request line.
fn uri_of(line: &[u8]) -> Option<&[u8]> {
    line.split(|byte| *byte == b' ').nth(1)
}

/// What is kept of a request for the tunnel's end. Every idle tunnel holds one, so its size matters.
struct Kept {
    lines: Lines,
    /// [`Who`], then what the lines knew at the start: see [`Frozen`].
    text: Box<[u8]>,
    error_log: Arc<ErrorLog>,
    guards: Held,
    /// Where the loop learns whose events those of its sockets are; client, upstream.
    places: [Place; 2],
    seats: TunnelSeats,
    closing: Option<Box<Leaver>>,
    started_before_ms: u32,
    connected_before_ms: u32,
    upstream_before_ms: u32,
    head_bytes: u32,
    unsent_bytes: u32,
    upstream_received: u32,
    upstream_sent: u32,
    received: u32,
}

/// Its access log lines: mostly one, which then needs no list.
enum Lines {
    One(Arc<LogProgram>),
    Many(Box<[Arc<LogProgram>]>),
}

impl Lines {
    fn of<'a>(mut lines: impl Iterator<Item = &'a Arc<LogProgram>>) -> Lines {
        match (lines.next(), lines.next()) {
            (Some(one), None) => Lines::One(one.clone()),
            (first, second) => Lines::Many(first.into_iter().chain(second).chain(lines).cloned().collect()),
        }
    }

    fn all(&self) -> &[Arc<LogProgram>] {
        match self {
            Lines::One(line) => std::slice::from_ref(line),
            Lines::Many(lines) => lines,
        }
    }
}

/// Its guards: mostly one, the count of its peer.
enum Held {
    One {
        _guard: Guard,
    },
    /// In a box, so that the one needs no room for more.
    Many {
        _guards: Box<Guards>,
    },
}

impl Held {
    fn of(mut guards: Guards) -> Held {
        match (guards.pop(), guards.is_empty()) {
            (Some(guard), true) => Held::One { _guard: guard },
            (last, _) => {
                guards.extend(last);
                Held::Many { _guards: Box::new(guards) }
            }
        }
    }
}

/// What a tunnel that reloads close needs to be found by them.
struct Leaver {
    closing: Arc<Closing>,
    remote: Remote,
    /// The generation it was born under.
    born: u64,
    /// Its number among those a reload closes.
    serial: Option<u64>,
}

/// Heads and the time before a tunnel are small; what is not (49 days, 4 GB) counts as the most there is room for.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Keep for Kept {
    fn started(&mut self, token: Token) {
        for (place, side) in self.places.iter().zip([Side::Client, Side::Upstream]) {
            place.point_to(token.name(side));
        }
        if let Some(leaver) = &mut self.closing {
            let born = Born { generation: leaver.born, token, remote: leaver.remote.clone() };
            leaver.serial = Some(leaver.closing.add(born));
        }
    }

    fn ended(self: Box<Self>, report: Report) {
        let mut known = &*self.text;
        self.say_why(&report, &Who(Frozen::next(&mut known)));
        let to_client = report.client.bytes_sent;
        let ending = Ending {
            bytes_sent: u64::from(self.head_bytes) + to_client,
            body_bytes_sent: to_client.saturating_sub(u64::from(self.unsent_bytes)),
            request_length: u64::from(self.received),
            request_time_ms: u64::from(self.started_before_ms) + report.lasted_ms,
            connection_time_ms: u64::from(self.connected_before_ms) + report.lasted_ms,
            upstream_bytes_received: u64::from(self.upstream_received) + report.upstream.bytes_received,
            upstream_bytes_sent: u64::from(self.upstream_sent) + report.upstream.bytes_sent,
            upstream_response_length: report.upstream.bytes_received,
            upstream_response_time_ms: u64::from(self.upstream_before_ms) + report.lasted_ms,
        };
        for line in self.lines.all() {
            line.write_frozen(&mut known, &ending);
        }
        if let Some(leaver) = &self.closing
            && let Some(serial) = leaver.serial
        {
            leaver.closing.remove(serial);
        }
        drop((self.places, self.seats, self.guards));
    }
}

impl Kept {
    /// One line for an end that was nobody's wish, in nginx's words and at its levels.
    fn say_why(&self, report: &Report, who: &Who<'_>) {
        let say = |level: Level, text: &str| {
            self.error_log.write(level, format_args!("{text} while proxying upgraded connection, {who}"))
        };
        match &report.ended_by {
            EndedBy::ClientClosed | EndedBy::UpstreamClosed | EndedBy::Shutdown => {}
            EndedBy::IdleTimeout => say(Level::Info, "upstream timed out (110: Connection timed out)"),
            EndedBy::SendTimeout(Side::Client) => {
                say(Level::Info, "client timed out (110: Connection timed out)")
            }
            EndedBy::SendTimeout(Side::Upstream) => {
                say(Level::Info, "upstream timed out (110: Connection timed out) in sending");
            }
            EndedBy::FinTimeout => {
                say(
                    Level::Info,
                    "half-closed connection timed out (websocket_fin_timeout, 110: Connection timed out)",
                );
            }
            EndedBy::ClientReset(errno) => say(Level::Info, &failed("client", *errno)),
            EndedBy::UpstreamReset(errno) => say(Level::Error, &failed("upstream", *errno)),
            EndedBy::TlsFailed(side, why) => {
                let level = if *side == Side::Client { Level::Info } else { Level::Error };
                say(level, &format!("SSL_read() failed (SSL: {why})"));
            }
            EndedBy::Failed(what) => say(Level::Alert, &format!("tunnel failed: {what}")),
        }
    }
}

fn failed(side: &str, errno: i32) -> String {
    let error = std::io::Error::from_raw_os_error(errno);
    format!("recv() failed ({}) from {side}", sys::errno::text(&error))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, Instant};

    use super::*;

    /// A tunnel of generation 1 that `websocket_reload close` is about, and where it says that it ended.
    struct Old {
        closing: Arc<Closing>,
        remote: Remote,
        told: Sender<EndedBy>,
    }

    impl Keep for Old {
        fn started(&mut self, token: Token) {
            self.closing.add(Born { generation: 1, token, remote: self.remote.clone() });
        }

        fn ended(self: Box<Self>, report: Report) {
            let _ = self.told.send(report.ended_by);
        }
    }

    /// Whether it was handed over before the reload closed its like or behind that.
    #[test]
    fn no_tunnel_escapes_a_reload_that_closes() {
        for late in [false, true] {
            let closing = Arc::new(Closing::default());
            let (looped, remote) = relay::Loop::new(relay::Budget::new(1 << 20)).expect("a loop");
            let thread = std::thread::spawn(move || looped.run());
            let (told, ended) = channel();
            let ((_client, near), (_upstream, far)) = (pair(), pair());
            let keep = Old { closing: closing.clone(), remote: remote.clone(), told };
            let plan = Plan {
                limits: Limits { buffer_bytes_max: 65_536 },
                timers: Timers::default(),
                scan: false,
                goodbye: None,
                keep: Box::new(keep),
            };
            let handover = Handover { client: relay::End::new(near), upstream: relay::End::new(far), plan };
            if late {
                closing.close_before(2, &Leave::default());
            }
            assert!(remote.insert(handover).is_ok());
            if !late {
                let deadline = Instant::now() + Duration::from_secs(20);
                while closing.lock().tunnels.is_empty() {
                    assert!(Instant::now() < deadline, "the tunnel does not start");
                    std::thread::yield_now();
                }
                closing.close_before(2, &Leave::default());
            }
            assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(EndedBy::Shutdown), "late: {late}");
            remote.stop();
            thread.join().expect("the loop ends");
        }
    }

    fn pair() -> (UnixStream, OwnedFd) {
        let (far, near) = UnixStream::pair().expect("sockets");
        near.set_nonblocking(true).expect("a socket");
        (far, near.into())
    }

    /// What malloc hands out in 128 bytes, its own 8 among them.
    #[test]
    fn what_an_idle_tunnel_keeps_of_its_request_is_small() {
        assert!(size_of::<Kept>() <= 120, "{}", size_of::<Kept>());
    }
}
