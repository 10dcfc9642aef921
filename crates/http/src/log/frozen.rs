//! The log line of a tunnel.
//!
//! A tunnel outlives its request, so its line is frozen when it starts: every value known by then becomes bytes, and only
//! the few that a tunnel's end decides ([`Late`]) stay open. All that a tunnel keeps in text is one small allocation (D3).

use std::io::Write as _;

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

impl LogProgram {
    /// Freezes the line of a request that becomes a tunnel; false when `if=` says that there is none.
    pub fn freeze(&self, request: &mut Request, known: &mut Frozen<'_>) -> bool {
        let wanted = self.wanted(request);
        if wanted {
            for step in self.steps.iter().filter(|step| !is_open(step)) {
                known.add(|value| step.run(self.format.escaping, request, value));
            }
        }
        wanted
    }

    /// Writes a frozen line; what was known at the start is taken off the front of `known`.
    pub fn write_frozen(&self, known: &mut &[u8], ending: &Ending) {
        self.append(|line| {
            for step in self.steps.iter() {
                match (&step.what, step.late) {
                    (What::Text(text), _) => line.extend_from_slice(text),
                    (_, Some(late)) => ending.value(late, line),
                    (_, None) => line.extend_from_slice(Frozen::next(known)),
                }
            }
        });
    }
}

/// Whether a frozen line does not hold it: text, and what comes later.
fn is_open(step: &Step) -> bool {
    matches!(step.what, What::Text(_)) || step.late.is_some()
}

/// Texts that a tunnel keeps, each behind its length (u16, big endian), to be read in the order in which they were added.
pub struct Frozen<'a>(&'a mut Vec<u8>);

impl Frozen<'_> {
    /// What `fill` adds, allocated once and in its size; and what it returns.
    pub fn collect<R>(fill: impl FnOnce(&mut Frozen<'_>) -> R) -> (R, Box<[u8]>) {
        lend(|bytes| {
            let result = fill(&mut Frozen(bytes));
            (result, bytes.as_slice().into())
        })
    }

    /// Adds the text that `write` appends, cut where its length has no room.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let bytes = &mut *self.0;
        let start = bytes.len() + 2;
        bytes.extend_from_slice(&[0; 2]);
        write(bytes);
        let len = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
        bytes.truncate(start + usize::from(len));
        bytes[start - 2..start].copy_from_slice(&len.to_be_bytes());
    }

    /// Takes the next text off the front of what was collected; empty behind the last.
    pub fn next<'k>(collected: &mut &'k [u8]) -> &'k [u8] {
        let Some((len, rest)) = collected.split_first_chunk::<2>() else { return &[] };
        let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        *collected = rest;
        text
    }
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
