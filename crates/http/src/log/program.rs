//! An access log line as a program: text, and variables escaped as the format says.
//!
//! A tunnel outlives its request, so its line is frozen when it starts: every value known by then becomes bytes, and only
//! the few that a tunnel's end decides ([`Late`]) stay open. Such a line is one small allocation (D3).

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::Arc;

use crate::Template;
use crate::log::LogFile;
use crate::message::Request;
use crate::template::TemplatePart;
use crate::variable::{Late, Source, VarId, Variables, evaluate};

/// `log_format`'s `escape=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Escaping {
    /// `"`, `\`, control and high bytes as `\xXX`; a value that is missing as `-`.
    #[default]
    Default,
    /// As a JSON string's inside; a missing value as nothing.
    Json,
    /// As it is; a missing value as nothing.
    None,
}

/// A `log_format`.
#[derive(Clone, Debug)]
pub struct Format {
    /// Its name.
    pub name: String,
    /// How values are escaped.
    pub escaping: Escaping,
    /// The text.
    pub template: Template,
}

/// One `access_log`: format, file, condition. Self-contained, so that a tunnel may keep it (D3).
pub struct LogProgram {
    /// The format.
    pub format: Arc<Format>,
    /// The file.
    pub file: Arc<LogFile>,
    /// `buffer=`, bytes; 0: each line at once.
    pub buffer: usize,
    /// `flush=`, milliseconds; 0: a buffer waits until it is full.
    pub flush_ms: u64,
    /// `if=`
    pub condition: Option<Template>,
    /// For each variable of the format, whether a tunnel learns it at its end.
    pub late: Vec<Option<Late>>,
}

impl LogProgram {
    /// The late variables of a format, in the order of its parts.
    pub fn late_of(format: &Format, variables: &Variables) -> Vec<Option<Late>> {
        let late = |id: VarId| match variables.source(id) {
            Some(Source::Builtin(variable, _)) => variable.late,
            _ => None,
        };
        format
            .template
            .parts()
            .filter_map(|part| match part {
                TemplatePart::Variable(id) => Some(late(id)),
                _ => None,
            })
            .collect()
    }

    /// Whether `if=` lets this request's line be written.
    pub fn wanted(&self, request: &mut Request) -> bool {
        match &self.condition {
            None => true,
            Some(condition) => {
                let value = condition.value(request);
                !value.is_empty() && value != b"0"
            }
        }
    }

    /// Writes the line of a request that ended.
    pub fn write(&self, request: &mut Request) {
        if !self.wanted(request) {
            return;
        }
        let mut line = LINE.take();
        line.clear();
        for part in self.format.template.parts() {
            self.part(request, part, &mut line);
        }
        line.push(b'\n');
        self.append(&line);
        LINE.set(line);
    }

    /// Freezes the line of a request that becomes a tunnel; `None` when `if=` says no.
    pub fn freeze(self: &Arc<Self>, request: &mut Request) -> Option<FrozenLine> {
        if !self.wanted(request) {
            return None;
        }
        // Made in lent buffers, so that what the tunnel keeps is allocated once and in its size.
        let mut bytes = LINE.take();
        bytes.clear();
        let mut late = self.late.iter();
        let mut value = FROZEN.take();
        for part in self.format.template.parts() {
            let TemplatePart::Variable(_) = part else {
                if let TemplatePart::Capture(_) = part {
                    value.clear();
                    self.part(request, part, &mut value);
                    push_known(&mut bytes, &value);
                }
                continue;
            };
            if late.next().copied().flatten().is_some() {
                continue;
            }
            value.clear();
            self.part(request, part, &mut value);
            push_known(&mut bytes, &value);
        }
        let known = bytes.as_slice().into();
        LINE.set(bytes);
        FROZEN.set(value);
        Some(FrozenLine { program: self.clone(), known })
    }

    fn part(&self, request: &mut Request, part: TemplatePart<'_>, line: &mut Vec<u8>) {
        match part {
            TemplatePart::Text(text) => line.extend_from_slice(text),
            TemplatePart::Variable(id) => {
                let mut value = VALUE.take();
                value.clear();
                let found = evaluate(request, id, &mut value);
                self.escape(found.then_some(&value), line);
                VALUE.set(value);
            }
            TemplatePart::Capture(number) => {
                let mut value = Vec::new();
                request.capture(number, &mut value);
                self.escape(Some(&value), line);
            }
        }
    }

    fn escape(&self, value: Option<&Vec<u8>>, line: &mut Vec<u8>) {
        match (self.format.escaping, value) {
            (Escaping::Default, None) => line.push(b'-'),
            (Escaping::Default, Some(value)) => escape_default(value, line),
            (Escaping::Json, Some(value)) => escape_json(value, line),
            (Escaping::None, Some(value)) => line.extend_from_slice(value),
            (_, None) => {}
        }
    }

    fn append(&self, line: &[u8]) {
        match self.buffer {
            0 => self.file.append(line),
            size => self.file.append_buffered(line, size, self.flush_ms),
        }
    }
}

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
    /// The values known at the start, escaped, each behind its length (u16, big endian), in the order of the format.
    known: Box<[u8]>,
}

impl FrozenLine {
    /// Writes the line.
    pub fn write(&self, ending: &Ending) {
        let mut line = LINE.take();
        line.clear();
        let mut known = &*self.known;
        let mut late = self.program.late.iter();
        for part in self.program.format.template.parts() {
            match part {
                TemplatePart::Text(text) => line.extend_from_slice(text),
                TemplatePart::Capture(_) => pop_known(&mut known, &mut line),
                TemplatePart::Variable(_) => match late.next().copied().flatten() {
                    Some(late) => ending.value(late, &mut line),
                    None => pop_known(&mut known, &mut line),
                },
            }
        }
        line.push(b'\n');
        self.program.append(&line);
        LINE.set(line);
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

fn push_known(bytes: &mut Vec<u8>, value: &[u8]) {
    let len = value.len().min(usize::from(u16::MAX));
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes.extend_from_slice(&value[..len]);
}

fn pop_known(known: &mut &[u8], line: &mut Vec<u8>) {
    let Some((len, rest)) = known.split_first_chunk::<2>() else { return };
    let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    line.extend_from_slice(value);
    *known = rest;
}

/// `escape=default`
pub fn escape_default(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_escaped = |byte: u8| matches!(byte, b'"' | b'\\' | ..0x20 | 0x7f..);
    let mut rest = value;
    // Nearly all values need no escape. To look at every byte takes fewer steps than to stop at the first.
    if value.iter().fold(false, |any, &byte| any | is_escaped(byte)) {
        while let Some(at) = rest.iter().position(|&byte| is_escaped(byte)) {
            let byte = rest[at];
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            rest = &rest[at + 1..];
        }
    }
    out.extend_from_slice(rest);
}

/// `escape=json`
pub fn escape_json(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            ..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static VALUE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static FROZEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
