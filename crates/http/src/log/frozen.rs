//! The log line of a tunnel.
//!
//! A tunnel outlives its request, so its line is frozen when it starts: every value known by then becomes bytes, and only
//! the few that a tunnel's end decides ([`Late`]) stay open. Such a line is one small allocation (D3).

use std::io::Write as _;
use std::sync::Arc;

use crate::log::LogProgram;
use crate::log::program::{Step, What, lend};
use crate::message::Request;
use crate::variable::Late;

/// What a tunnel knows when it ends.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each field is the variable of that name; times in milliseconds")]
pub struct Ending {
    pub bytes_sent: u64,
    pub body_bytes_sent: u64,
    pub request_length: u64,
    pub request_time_ms: u64,
    pub connection_time_ms: u64,
    pub upstream_bytes_received: u64,
    pub upstream_bytes_sent: u64,
    pub upstream_response_length: u64,
    pub upstream_response_time_ms: u64,
}

/// A tunnel's log line, waiting for its end.
pub struct FrozenLine {
    program: Arc<LogProgram>,
    /// The values known at the start, see [`add`], in the order of the format.
    known: Box<[u8]>,
}

impl LogProgram {
    /// Freezes the line of a request that becomes a tunnel; `None` when `if=` says no.
    pub fn freeze(self: &Arc<Self>, request: &mut Request) -> Option<FrozenLine> {
        if !self.wanted(request) {
            return None;
        }
        // Made in a lent buffer, so that what the tunnel keeps is allocated once and in its size.
        let known = lend(|known| {
            for step in self.steps.iter().filter(|step| !is_open(step)) {
                add(known, |value| step.run(self.format.escaping, request, value));
            }
            known.as_slice().into()
        });
        Some(FrozenLine { program: self.clone(), known })
    }
}

/// Whether a frozen line does not hold it: text, and what comes later.
fn is_open(step: &Step) -> bool {
    matches!(step.what, What::Text(_)) || step.late.is_some()
}

impl FrozenLine {
    /// Writes the line.
    pub fn write(&self, ending: &Ending) {
        self.program.append(|line| {
            let mut known = &*self.known;
            for step in self.program.steps.iter() {
                match (&step.what, step.late) {
                    (What::Text(text), _) => line.extend_from_slice(text),
                    (_, Some(late)) => ending.value(late, line),
                    (_, None) => line.extend_from_slice(next_known(&mut known)),
                }
            }
        });
    }
}

/// Adds the value that `write` appends, escaped, behind its length (u16, big endian), cut where that has no room.
fn add(known: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = known.len() + 2;
    known.extend_from_slice(&[0; 2]);
    write(known);
    let len = u16::try_from(known.len() - start).unwrap_or(u16::MAX);
    known.truncate(start + usize::from(len));
    known[start - 2..start].copy_from_slice(&len.to_be_bytes());
}

fn next_known<'k>(known: &mut &'k [u8]) -> &'k [u8] {
    let Some((len, rest)) = known.split_first_chunk::<2>() else { return &[] };
    let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    *known = rest;
    value
}

impl Ending {
    fn value(&self, late: Late, line: &mut Vec<u8>) {
        let seconds = |line: &mut Vec<u8>, ms: u64| {
            let _ = write!(line, "{}.{:03}", ms / 1000, ms % 1000);
        };
        let count =
            |line: &mut Vec<u8>, n: u64| line.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        match late {
            Late::BytesSent => count(line, self.bytes_sent),
            Late::BodyBytesSent => count(line, self.body_bytes_sent),
            Late::RequestLength => count(line, self.request_length),
            Late::UpstreamBytesReceived => count(line, self.upstream_bytes_received),
            Late::UpstreamBytesSent => count(line, self.upstream_bytes_sent),
            Late::UpstreamResponseLength => count(line, self.upstream_response_length),
            Late::RequestTime => seconds(line, self.request_time_ms),
            Late::ConnectionTime => seconds(line, self.connection_time_ms),
            Late::UpstreamResponseTime => seconds(line, self.upstream_response_time_ms),
            Late::Msec => seconds(line, crate::clock::unix_ms()),
            Late::TimeLocal => crate::clock::with_local(|time| line.extend_from_slice(time)),
            Late::TimeIso8601 => crate::clock::with_iso8601(|time| line.extend_from_slice(time)),
            Late::RequestCompletion => line.extend_from_slice(b"OK"),
        }
    }
}
