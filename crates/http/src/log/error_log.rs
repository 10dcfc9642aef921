//! The error log, in nginx's form: `2026/11/23 01:15:45 [error] PID#TID: *CONNECTION message, client: ...`.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use conf::Level;
use wire::http1::FieldId;

use crate::log::LogFile;
use crate::message::Request;

/// Where a block's errors go: files, each with its level.
#[derive(Debug, Default)]
pub struct ErrorLog {
    sinks: Vec<(Level, Arc<LogFile>)>,
}

impl ErrorLog {
    /// A log on these files.
    pub fn new(sinks: Vec<(Level, Arc<LogFile>)>) -> ErrorLog {
        ErrorLog { sinks }
    }

    /// The files, each with its level.
    pub fn sinks(&self) -> impl Iterator<Item = (Level, &Arc<LogFile>)> {
        self.sinks.iter().map(|(level, file)| (*level, file))
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Arc<LogFile>> {
        self.sinks.iter().map(|(_, file)| file)
    }

    /// Whether a message of that level is written anywhere.
    pub fn takes(&self, level: Level) -> bool {
        self.sinks.iter().any(|(max, _)| level <= *max)
    }

    /// Writes a line.
    pub fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        self.line(level, |line| {
            let _ = line.write_fmt(message);
        });
    }

    /// Writes a line about a connection.
    pub fn write_for_connection(
        &self,
        level: Level,
        connection: &crate::Connection,
        message: fmt::Arguments<'_>,
    ) {
        self.line(level, |line| {
            let _ = write!(line, "*{} {message}, client: {}", connection.serial, connection.peer_text());
            let _ = write!(line, ", server: {}", connection.listener);
        });
    }

    /// Writes a line about a request, with client, server, request, host and referrer behind it.
    pub fn write_for(&self, level: Level, request: &Request, message: fmt::Arguments<'_>) {
        self.line(level, |line| {
            let _ = write!(line, "*{} {message}", request.connection.serial);
            let _ = write!(line, ", client: {}", request.connection.peer_text());
            let text = String::from_utf8_lossy;
            let _ = write!(line, ", server: {}", text(&request.server().name));
            if !request.line().is_empty() {
                let _ = write!(line, ", request: \"{}\"", text(request.line()));
            }
            if let Some(upstream) = request.slots.find::<UpstreamInUse>() {
                let _ = write!(line, ", upstream: \"{}\"", upstream.0);
            }
            if let Some(host) = request.field(FieldId::Host) {
                let _ = write!(line, ", host: \"{}\"", text(host));
            }
            if let Some(referrer) = request.field(FieldId::Referer) {
                let _ = write!(line, ", referrer: \"{}\"", text(referrer));
            }
        });
    }

    fn line(&self, level: Level, write: impl FnOnce(&mut String)) {
        if !self.takes(level) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            crate::clock::with_error_log(|time| line.push_str(&String::from_utf8_lossy(time)));
            let pid = std::process::id();
            let tid = THREAD.get();
            let _ = write!(line, " [{}] {pid}#{tid}: ", level.name());
            let start = line.len();
            write(line);
            keep_on_one_line(line, start);
            if line.len() > LINE_MAX {
                let cut = (0..=LINE_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
                line.truncate(cut);
            }
            line.push('\n');
            for (_, file) in self.sinks.iter().filter(|(max, _)| level <= *max) {
                file.append(line.as_bytes());
            }
        });
    }
}

/// What clients and upstreams sent must not look like a line of ours, nor speak to the terminal it is read on. nginx
/// writes it as it came.
fn keep_on_one_line(line: &mut String, start: usize) {
    let is_control = |c: char| c.is_ascii_control() && c != '\t';
    if line.as_bytes()[start..].iter().all(|byte| !is_control(char::from(*byte))) {
        return;
    }
    let message = line.split_off(start);
    for c in message.chars() {
        match is_control(c) {
            true => {
                let _ = write!(line, "\\x{:02x}", c as u32);
            }
            false => line.push(c),
        }
    }
}

/// nginx's longest error line, bytes.
const LINE_MAX: usize = 2047;

/// From now on this thread's lines are those of the process's first thread, `PID#PID`: it works in that one's place, and
/// nginx has none but that.
pub fn write_as_first_thread() {
    THREAD.set(std::process::id());
}

thread_local! {
    /// What stands behind the number of the process.
    static THREAD: Cell<u32> = Cell::new(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The upstream URL a request is at, shown in its error lines.
#[derive(Default)]
pub struct UpstreamInUse(pub String);
