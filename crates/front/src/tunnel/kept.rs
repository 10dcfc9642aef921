//! What is kept of a request for its tunnel's end: the log line, the guards, and what a message needs.

use std::fmt;
use std::sync::Arc;

use http::clock::monotonic_ms;
use http::log::{Ending, ErrorLog, Frozen, Level, LogProgram};
use http::{Guard, Guards, Request};
use reactor::Place;
use relay::{EndedBy, Keep, Report, Side, Token};

use crate::shared::{Seat, TunnelSeats};
use crate::tunnel::closing::Leaver;

/// Every idle tunnel holds one, so its size matters.
pub(super) struct Kept {
    lines: Lines,
    /// [`Who`], then what the lines knew at the start: see [`Frozen`].
    text: Box<[u8]>,
    error_log: Arc<ErrorLog>,
    holds: Holds,
    started_before_ms: u32,
    connected_before_ms: u32,
    upstream_before_ms: u32,
    head_bytes: u32,
    unsent_bytes: u32,
    upstream_received: u32,
    upstream_sent: u32,
    received: u32,
}

/// What a tunnel holds of others, given back at its end.
pub(super) struct Holds {
    /// Where the loop learns whose events those of its sockets are; client, upstream.
    places: [Place; 2],
    _seats: TunnelSeats,
    _guards: Held,
    leaver: Option<Box<Leaver>>,
}

/// How the upstream stood when its connection became a tunnel.
pub(super) struct Upstream<'a> {
    /// Its URL in text.
    pub(super) name: &'a [u8],
    /// When it was first written to.
    pub(super) started_ms: u64,
    /// Bytes that came from it for the request.
    pub(super) received: u64,
    /// Bytes of the request it was sent.
    pub(super) sent: u64,
}

impl Holds {
    pub(super) fn new(places: [Place; 2], seat: Seat, guards: Guards, leaver: Option<Box<Leaver>>) -> Holds {
        Holds { places, _seats: seat.for_tunnel(), _guards: Held::of(guards), leaver }
    }
}

impl Kept {
    /// `unsent_bytes` of the response are counted by the tunnel.
    pub(super) fn new(
        request: &mut Request,
        upstream: Upstream<'_>,
        unsent_bytes: usize,
        holds: Holds,
    ) -> Kept {
        let snapshot = request.snapshot.clone();
        let location = snapshot.location(request.location);
        let (lines, text) = Frozen::collect(|frozen| {
            frozen.add(|text| Who::write(request, upstream.name, text));
            Lines::of(location.access_log.iter().filter(|log| log.freeze(request, frozen)))
        });
        let since = |ms: u64| narrow(monotonic_ms().saturating_sub(ms));
        Kept {
            lines,
            text,
            error_log: location.core.error_log.clone(),
            holds,
            started_before_ms: since(request.started_ms),
            connected_before_ms: since(request.connection.started_ms),
            upstream_before_ms: since(upstream.started_ms),
            head_bytes: narrow(request.response.bytes_sent),
            unsent_bytes: narrow(unsent_bytes as u64),
            upstream_received: narrow(upstream.received),
            upstream_sent: narrow(upstream.sent),
            received: narrow(request.received),
        }
    }

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

impl Keep for Kept {
    fn started(&mut self, token: Token) {
        for (place, side) in self.holds.places.iter().zip([Side::Client, Side::Upstream]) {
            place.point_to(token.name(side));
        }
        if let Some(leaver) = &mut self.holds.leaver {
            leaver.started(token);
        }
    }

    fn ended(self: Box<Self>, report: Report) {
        let mut text = &*self.text;
        self.say_why(&report, &Who(Frozen::next(&mut text)));
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
            line.write_frozen(&mut text, &ending);
        }
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

/// Heads and the time before a tunnel are small; what is not (49 days, 4 GB) counts as the most there is room for.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn failed(side: &str, errno: i32) -> String {
    let error = std::io::Error::from_raw_os_error(errno);
    let text = sys::errno::text(&error);
    match error.kind() {
        // What only a write meets: a reset that was told of before.
        std::io::ErrorKind::BrokenPipe => format!("send() failed ({text}) to {side}"),
        _ => format!("recv() failed ({text}) from {side}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_from_a_read() {
        assert_eq!(failed("client", 104), "recv() failed (104: Connection reset by peer) from client");
        assert_eq!(failed("client", 32), "send() failed (32: Broken pipe) to client");
    }

    /// What malloc hands out in 128 bytes, its own 8 among them.
    #[test]
    fn what_an_idle_tunnel_keeps_of_its_request_is_small() {
        assert!(size_of::<Kept>() <= 120, "{}", size_of::<Kept>());
    }
}
